"""The lock on a Kubernetes Lease, which needs no other store than the cluster's own.

The API server has compare-and-swap (``resourceVersion``) and watches, but it does not expire a
Lease: each candidate considers it expired ``leaseDurationSeconds`` after it has *seen* the last
change. Clocks of different machines are not compared; ``renewTime`` is informational. The version
is ``leaseTransitions``, which each acquisition increments; it starts again when the Lease is
recreated.
"""

import datetime
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from elector.belief import Clock, monotonic
from elector.errors import RefusedError, StoreError
from elector.lock import Grant, Lock, Record, Seen
from elector.transport import Transport

ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
_CONFLICT = 409
_NOT_FOUND = 404
_GONE = 410
_WATCH_SECONDS = 300
_SILENCE_SECONDS = _WATCH_SECONDS + 10.0


class LeaseLock(Lock):
    """A lock on an existing Lease."""

    def __init__(
        self,
        transport: Transport,
        namespace: str,
        key: str,
        owner: str,
        ttl: float,
        margin: float,
        clock: Clock = monotonic,
        token_file: Path = ACCOUNT / "token",
    ) -> None:
        """Describe the lock.

        :param key: name of the Lease
        :param ttl: whole seconds
        :param token_file: read at each request, since the kubelet rotates it
        """
        super().__init__(key, owner, ttl, margin, clock)
        self._transport = transport
        self._folder = f"/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases"
        self._path = f"{self._folder}/{key}"
        self._token_file = token_file
        self._lease: dict[str, Any] | None = None
        self._unanswered: tuple[int, str] | None = None
        self._outdated = ""

    def _acquire(self, seen: Record | None) -> Grant | None:
        raw = None if seen is None else seen.raw
        if raw is not None and raw["metadata"]["resourceVersion"] != self._outdated:
            lease: dict[str, Any] = raw
        else:
            # A stalled watch would offer the same outdated version again and again.
            lease = self._get()
            if _holder(lease):
                return None
        seconds = math.ceil(self.ttl)
        version = _transitions(lease) + 1
        now = _now()
        taken = _with_spec(
            lease,
            holderIdentity=self.owner,
            leaseDurationSeconds=seconds,
            leaseTransitions=version,
            acquireTime=now,
            renewTime=now,
        )
        self._unanswered = (version, now)
        try:
            self._lease = self._put(taken)
        except RefusedError as error:
            self._unanswered = None
            if error.status == _CONFLICT:
                self._outdated = lease["metadata"]["resourceVersion"]
                return None
            raise
        self._unanswered = None
        return Grant(version, self.ttl, _revision(self._lease))

    def _extend(self, version: int, within: float | None) -> float | None:
        lease = self._lease
        if lease is None:
            return None
        for _ in range(2):
            try:
                self._lease = self._put(_with_spec(lease, renewTime=_now()), within)
            except RefusedError as error:
                if error.status == _NOT_FOUND:
                    return None
                if error.status != _CONFLICT:
                    raise StoreError(str(error)) from None
                # Another writer has changed it, or a renewal of ours whose response was lost.
                lease = self._get(within)
                if not self._ours(lease, version):
                    return None
            else:
                return self.ttl
        raise StoreError("the Lease changed again while it was renewed")

    def _release(self, version: int) -> bool:
        lease = self._lease
        self._lease = None
        if lease is None:
            return False
        for _ in range(2):
            try:
                self._put(_with_spec(lease, holderIdentity="", renewTime=_now()))
            except RefusedError as error:
                if error.status == _NOT_FOUND:
                    return False
                if error.status != _CONFLICT:
                    raise StoreError(str(error)) from None
                lease = self._get()
                if not self._ours(lease, version):
                    return False
            else:
                return True
        return False

    def _abandon(self, version: int | None) -> None:
        if version is not None:
            self._release(version)
        self._lease = None

    def close(self) -> None:
        """As ``Lock``; also releases an attempt without a response, which may have succeeded."""
        super().close()
        if self._unanswered is None:
            return
        try:
            lease = self._get()
            if self.claims(_record(lease)):
                self._put(_with_spec(lease, holderIdentity="", renewTime=_now()))
        except (StoreError, RefusedError):
            return

    def claims(self, record: Record) -> bool:
        """As ``Lock``: recognized by its version and its ``acquireTime``."""
        if self._unanswered is None or record.owner != self.owner or record.raw is None:
            return False
        version, at = self._unanswered
        return record.version == version and record.raw["spec"].get("acquireTime") == at

    def _ours(self, lease: Mapping[str, Any], version: int) -> bool:
        return _holder(lease) == self.owner and _transitions(lease) == version

    def observe(self) -> Iterator[Seen]:
        """The current Lease, then each change of it."""
        try:
            lease = self._get()
            yield Seen(_record(lease), _revision(lease))
            query = urlencode(
                {
                    "watch": "1",
                    # RBAC allows a watch of this one name only with this selector.
                    "fieldSelector": f"metadata.name={self.key}",
                    "resourceVersion": lease["metadata"]["resourceVersion"],
                    "timeoutSeconds": _WATCH_SECONDS,
                }
            )
            with self._transport.lines(
                "GET",
                f"{self._folder}?{query}",
                None,
                self._headers(),
                # A leader renews it more often than once a TTL.
                min(_SILENCE_SECONDS, self.ttl),
                self._opened,
            ) as lines:
                for line in lines:
                    lease = line["object"]
                    if line["type"] == "ERROR":
                        if lease.get("code") == _GONE:
                            return
                        raise StoreError(str(lease.get("message", lease)))
                    if line["type"] == "BOOKMARK":
                        continue
                    gone = line["type"] == "DELETED"
                    yield Seen(None if gone else _record(lease), _revision(lease))
        except RefusedError as error:
            raise StoreError(str(error)) from None

    def _get(self, within: float | None = None) -> dict[str, Any]:
        return self._transport.request("GET", self._path, None, self._headers(), within).content

    def _put(self, lease: Mapping[str, Any], within: float | None = None) -> dict[str, Any]:
        return self._transport.request("PUT", self._path, lease, self._headers(), within).content

    def _headers(self) -> dict[str, str]:
        try:
            token = self._token_file.read_text(encoding="utf-8").strip()
        except FileNotFoundError:
            return {}
        return {"Authorization": f"Bearer {token}"}


def _with_spec(lease: Mapping[str, Any], **spec: Any) -> dict[str, Any]:
    return {**lease, "spec": {**lease.get("spec", {}), **spec}}


def _holder(lease: Mapping[str, Any]) -> str:
    return str(lease.get("spec", {}).get("holderIdentity") or "")


def _transitions(lease: Mapping[str, Any]) -> int:
    return int(lease.get("spec", {}).get("leaseTransitions") or 0)


def _revision(lease: Mapping[str, Any]) -> int:
    return int(lease["metadata"]["resourceVersion"])


def _record(lease: Mapping[str, Any]) -> Record:
    spec = lease.get("spec", {})
    return Record(
        owner=_holder(lease),
        version=_transitions(lease),
        mark=str(spec.get("renewTime", "")),
        # The holder's duration, which may differ from ours during a rollout.
        expires_in=float(spec.get("leaseDurationSeconds") or 0),
        raw=lease,
    )


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
