"""The book's lock without its last step: a value, a time to live, and no version.

For comparison. A process that stalls for longer than the time to live releases the lock of the next
holder, and a third one acquires it too (the scenario of chapter 9, in six steps).
"""

from typing import Any

from elector.etcd import Gateway, decoded, encoded, grant_lease

FREE, TAKEN = "0", "1"


class SeedLock:
    """``simpleLock``, ``unlock`` and ``renew`` as printed, on etcd.

    "Taken" is the value 1 with a lease; when the lease ends, the key is gone.
    """

    def __init__(self, etcd: Gateway, lock_name: str, ttl: int) -> None:
        """Describe the lock.

        :param ttl: seconds, at least 2
        """
        self._etcd = etcd
        self.lock_name = lock_name
        self.ttl = ttl

    def simple_lock(self) -> bool:
        """Compare and swap "1" for "0", or for nothing."""
        return self.compare_and_swap(TAKEN, FREE, self.ttl) or self.compare_and_swap(
            TAKEN, None, self.ttl
        )

    def unlock(self) -> bool:
        """Compare and swap "0" for "1", whichever holder wrote that 1."""
        return self.compare_and_swap(FREE, TAKEN)

    def renew(self) -> bool:
        """Compare and swap "1" for "1" with a new time to live."""
        return self.compare_and_swap(TAKEN, TAKEN, self.ttl)

    def compare_and_swap(
        self, next_value: str, current: str | None, ttl: int | None = None
    ) -> bool:
        """Write ``next_value`` if the key has the value ``current``, or does not exist for None."""
        put: dict[str, Any] = {"key": encoded(self.lock_name), "value": encoded(next_value)}
        if ttl is not None:
            put["lease"], _ = grant_lease(self._etcd, ttl)
        compare: dict[str, Any] = {"key": encoded(self.lock_name), "result": "EQUAL"}
        if current is None:
            compare |= {"target": "CREATE", "create_revision": 0}
        else:
            compare |= {"target": "VALUE", "value": encoded(current)}
        answer = self._etcd.call(
            "kv/txn", {"compare": [compare], "success": [{"request_put": put}]}
        )
        return bool(answer.get("succeeded"))

    def value(self) -> str | None:
        """The key's value; None if it does not exist."""
        answer = self._etcd.call("kv/range", {"key": encoded(self.lock_name)})
        entries = answer.get("kvs", [])
        return decoded(entries[0]["value"]) if entries else None
