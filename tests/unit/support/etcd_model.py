"""A small model of etcd behind its JSON gateway, on a clock that only tests move."""

import base64
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from typing import Any

from elector.errors import RefusedError, StoreError


class FakeClock:
    """Seconds that pass when a test says so."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


class EtcdModel:
    """Leases that expire exactly in time, keys with revisions, transactions.

    A request takes no time, unless ``on_the_way`` or ``on_the_way_back`` let some pass. It knows
    the transactions that locks use.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self.revision = 1
        self.keys: dict[str, dict[str, Any]] = {}
        self.leases: dict[str, tuple[float, int]] = {}
        """End and time to live, by id."""
        self._next_lease = 7000
        self.calls: list[str] = []
        self.on_the_way: Callable[[], None] = lambda: None
        self.on_the_way_back: Callable[[], None] = lambda: None

    def call(
        self, path: str, body: Mapping[str, Any], within: float | None = None
    ) -> dict[str, Any]:
        assert within is None or within > 0
        self.calls.append(path)
        self.on_the_way()
        self.expire()
        answer = getattr(self, "_" + path.replace("/", "_"))(body)
        self.on_the_way_back()
        return {"header": {"revision": str(self.revision)}, **answer}

    def stream(
        self,
        path: str,
        body: Mapping[str, Any],
        silence: float = 30.0,
        opened: Callable[[Callable[[], None]], None] | None = None,
    ) -> AbstractContextManager[Iterator[dict[str, Any]]]:
        raise StoreError(f"the model has no {path}, silence {silence}, {opened}, {body}")

    def expire(self) -> None:
        for lease in [i for i, (end, _) in self.leases.items() if end <= self._clock()]:
            self._drop(lease)

    def owner(self, key: str) -> dict[str, Any] | None:
        self.expire()
        return self.keys.get(key)

    def _drop(self, lease: str) -> None:
        del self.leases[lease]
        gone = [key for key, entry in self.keys.items() if entry.get("lease") == lease]
        if gone:
            self.revision += 1
        for key in gone:
            del self.keys[key]

    def _lease_grant(self, body: Mapping[str, Any]) -> dict[str, Any]:
        self._next_lease += 1
        lease = str(self._next_lease)
        self.leases[lease] = (self._clock() + body["TTL"], body["TTL"])
        return {"ID": lease, "TTL": str(body["TTL"])}

    def _lease_keepalive(self, body: Mapping[str, Any]) -> dict[str, Any]:
        lease = body["ID"]
        if lease not in self.leases:
            return {"result": {"ID": lease}}
        ttl = self.leases[lease][1]
        self.leases[lease] = (self._clock() + ttl, ttl)
        return {"result": {"ID": lease, "TTL": str(ttl)}}

    def _lease_revoke(self, body: Mapping[str, Any]) -> dict[str, Any]:
        if body["ID"] not in self.leases:
            raise RefusedError(404, 5, "etcdserver: requested lease not found")
        self._drop(body["ID"])
        return {}

    def _kv_range(self, body: Mapping[str, Any]) -> dict[str, Any]:
        entry = self.keys.get(_text(body["key"]))
        return {"kvs": [dict(entry)], "count": "1"} if entry else {}

    def _kv_txn(self, body: Mapping[str, Any]) -> dict[str, Any]:
        good = all(self._holds(compare) for compare in body["compare"])
        responses = [
            self._operation(operation)
            for operation in body.get("success" if good else "failure", [])
        ]
        return {**({"succeeded": True} if good else {}), "responses": responses}

    def _holds(self, compare: Mapping[str, Any]) -> bool:
        assert compare["result"] == "EQUAL"
        entry = self.keys.get(_text(compare["key"]))
        if compare["target"] == "CREATE":
            created = 0 if entry is None else int(entry["create_revision"])
            return created == int(compare["create_revision"])
        assert compare["target"] == "VALUE"
        return entry is not None and entry["value"] == compare["value"]

    def _operation(self, operation: Mapping[str, Any]) -> dict[str, Any]:
        ((kind, body),) = operation.items()
        key = _text(body["key"])
        if kind == "request_range":
            return {"response_range": self._kv_range(body)}
        if kind == "request_delete_range":
            self.revision += 1
            self.keys.pop(key, None)
            return {"response_delete_range": {}}
        assert kind == "request_put"
        if "lease" in body and body["lease"] not in self.leases:
            raise RefusedError(404, 5, "etcdserver: requested lease not found")
        self.revision += 1
        before = self.keys.get(key)
        self.keys[key] = {
            "key": body["key"],
            "value": body["value"],
            "create_revision": before["create_revision"] if before else str(self.revision),
            "mod_revision": str(self.revision),
            **({"lease": body["lease"]} if "lease" in body else {}),
        }
        return {"response_put": {}}


def _text(encoded: str) -> str:
    return base64.b64decode(encoded).decode()
