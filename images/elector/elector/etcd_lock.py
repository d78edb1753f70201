"""The lock on etcd: one key with a lease, created if it does not exist.

Only the holder has a lease, so an election costs one keepalive and one read a renewal for any
number of candidates, which wait on one watch each. The version is the key's create revision, which
increases over the whole store, also after the key was deleted by hand.
"""

import math
from collections.abc import Iterator
from typing import Any

from elector.belief import Clock, monotonic
from elector.errors import RefusedError, StoreError
from elector.etcd import (
    Gateway,
    decoded,
    encoded,
    get,
    grant_lease,
    keep_alive,
    revision,
    revoke_lease,
)
from elector.lock import Grant, Lock, Record, Seen

# A stalled watch looks like a lock without changes, so it is reopened after so long, and at the
# latest after a TTL.
_SILENCE_SECONDS = 30.0


class EtcdLock(Lock):
    """A lock in etcd."""

    def __init__(
        self,
        etcd: Gateway,
        key: str,
        owner: str,
        ttl: float,
        margin: float,
        clock: Clock = monotonic,
    ) -> None:
        """Describe the lock.

        :param ttl: etcd knows whole seconds only, at least 2
        """
        super().__init__(key, owner, ttl, margin, clock)
        self._etcd = etcd
        self._lease = ""
        self._newest = 0

    def _acquire(self, seen: Record | None) -> Grant | None:  # noqa: ARG002 (etcd itself expires)
        lease, seconds = self._fresh_lease()
        answer = self._etcd.call(
            "kv/txn",
            {
                "compare": [_created(self.key, 0)],
                "success": [
                    {
                        "request_put": {
                            "key": encoded(self.key),
                            "value": encoded(self.owner),
                            "lease": lease,
                        }
                    }
                ],
                "failure": [{"request_range": {"key": encoded(self.key)}}],
            },
        )
        if answer.get("succeeded"):
            self._newest = revision(answer)
            return Grant(self._newest, seconds, self._newest)
        entries = answer["responses"][0].get("response_range", {}).get("kvs", [])
        if entries and entries[0].get("lease") == lease:
            created = int(entries[0]["create_revision"])
            if created > self._newest:
                # An attempt that was retried at another member had succeeded at the first one.
                self._newest = created
                return Grant(created, seconds, created)
            # A release without a response has failed. A new term needs a new version.
            self._abandon(None)
        return None

    def _fresh_lease(self) -> tuple[str, float]:
        """The lease of the last attempt if it still exists, else a new one."""
        lease, self._lease = self._lease, ""
        seconds = keep_alive(self._etcd, lease) if lease else 0.0
        if seconds <= 0:
            lease, seconds = grant_lease(self._etcd, math.ceil(self.ttl))
        self._lease = lease
        return lease, min(seconds, self.ttl)

    def _extend(self, version: int, within: float | None) -> float | None:
        began = self._clock()
        # The lease belongs to this acquisition, so it renews no other holder's lock.
        seconds = keep_alive(self._etcd, self._lease, within)
        if seconds <= 0:
            return None
        # A lease outlives its key if that is deleted by hand. The watch reports the deletion too,
        # but not while its connection is stalled.
        left = None if within is None else within - (self._clock() - began)
        if left is not None and left <= 0:
            raise StoreError("no time was left to check the lock's owner")
        entry, _ = get(self._etcd, self.key, left)
        ours = entry is not None and int(entry["create_revision"]) == version
        return min(seconds, self.ttl) if ours else None

    def _release(self, version: int) -> bool:
        answer = self._etcd.call(
            "kv/txn",
            {
                "compare": [_created(self.key, version)],
                "success": [{"request_delete_range": {"key": encoded(self.key)}}],
            },
        )
        return bool(answer.get("succeeded"))

    def _abandon(self, version: int | None) -> None:  # noqa: ARG002
        lease, self._lease = self._lease, ""
        if lease:
            revoke_lease(self._etcd, lease)

    def observe(self) -> Iterator[Seen]:
        """The current key, then each change of it."""
        entry, at = get(self._etcd, self.key)
        yield Seen(_record(entry), at)
        request = {"create_request": {"key": encoded(self.key), "start_revision": at + 1}}
        try:
            silence = min(_SILENCE_SECONDS, self.ttl)
            with self._etcd.stream("watch", request, silence, self._opened) as results:
                for result in results:
                    for event in result.get("events", []):
                        entry = event["kv"]
                        gone = event.get("type") == "DELETE"
                        yield Seen(None if gone else _record(entry), int(entry["mod_revision"]))
        except RefusedError as error:
            # The member has no leader, or the token has been replaced meanwhile.
            raise StoreError(str(error)) from None


def _created(key: str, at: int) -> dict[str, Any]:
    return {
        "key": encoded(key),
        "target": "CREATE",
        "result": "EQUAL",
        "create_revision": at,
    }


def _record(entry: dict[str, Any] | None) -> Record | None:
    if entry is None:
        return None
    return Record(
        owner=decoded(entry.get("value", "")),
        version=int(entry["create_revision"]),
        mark=str(entry["mod_revision"]),
    )
