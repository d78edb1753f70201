"""What a lock on etcd costs beside a plain write, and how many renewals a cluster carries.

Runs in the image ``elector``. One JSON request on stdin, one JSON answer on stdout.
"""

import json
import multiprocessing
import sys
import threading
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, "/opt/elector")

from elector.etcd import Etcd, encoded, grant_lease, keep_alive, revoke_lease
from elector.etcd_lock import EtcdLock
from elector.transport import Transport

TTL = 60


def gateway(request: dict[str, Any]) -> Etcd:
    """A client with connections of its own."""
    transport = Transport(request["endpoints"], request["ca_file"], 5.0)
    return Etcd(transport, request["username"], Path(request["password_file"]))


def locks(request: dict[str, Any]) -> dict[str, list[float]]:
    """Seconds of one put, and of acquiring and releasing a lock, in turn."""
    etcd = gateway(request)
    prefix = request["prefix"]
    lock = EtcdLock(etcd, f"{prefix}bench-lock", "bench", TTL, 1)
    seconds: dict[str, list[float]] = {"put": [], "lock": []}
    # The first of each connects and gets a token.
    for number in range(request["rounds"] + 1):
        began = time.monotonic()
        etcd.call("kv/put", {"key": encoded(f"{prefix}bench-put"), "value": encoded("x")})
        put = time.monotonic() - began
        began = time.monotonic()
        if not lock.simple_lock() or not lock.unlock():
            raise RuntimeError("the lock is somebody else's")
        held = time.monotonic() - began
        if number:
            seconds["put"].append(put)
            seconds["lock"].append(held)
    lock.close()
    return seconds


def renewals(request: dict[str, Any]) -> dict[str, Any]:
    """Renewals of ``leases`` leases by ``processes`` times ``threads`` clients in ``seconds``."""
    etcd = gateway(request)
    leases = [grant_lease(etcd, TTL)[0] for _ in range(request["leases"])]
    counts = multiprocessing.Array("l", request["processes"])
    failures = multiprocessing.Value("l", 0)

    def renew(client: Etcd, mine: list[str], until: float, process: int) -> None:
        done = 0
        while time.monotonic() < until:
            for lease in mine:
                if keep_alive(client, lease) <= 0:
                    with failures.get_lock():
                        failures.value += 1
                done += 1
        with counts.get_lock():
            counts[process] += done

    def work(process: int) -> None:
        own = leases[process :: request["processes"]]
        until = time.monotonic() + request["seconds"]
        threads = [
            threading.Thread(
                target=renew,
                args=(gateway(request), own[n :: request["threads"]], until, process),
            )
            for n in range(request["threads"])
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    began = time.monotonic()
    workers = [multiprocessing.Process(target=work, args=(n,)) for n in range(request["processes"])]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    took = time.monotonic() - began
    for lease in leases:
        revoke_lease(etcd, lease)
    return {"renewals": sum(counts[:]), "seconds": took, "lost": failures.value}


if __name__ == "__main__":
    given = json.loads(sys.stdin.readline())
    print(json.dumps({"locks": locks, "renewals": renewals}[given["do"]](given)))
