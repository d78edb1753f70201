"""The cost of a lock on etcd beside a plain write, and the renewals a second of a cluster.

Runs in the image ``elector``. One JSON request on stdin, one JSON response on stdout.
"""

import json
import multiprocessing
import sys
import threading
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, "/opt/elector")

from elector.etcd import Etcd, encoded
from elector.etcd_lock import EtcdLock
from elector.transport import Transport

TTL = 60


def gateway(request: dict[str, Any]) -> Etcd:
    """A client with its own connections."""
    transport = Transport(request["endpoints"], request["ca_file"], 5.0)
    return Etcd(transport, request["username"], Path(request["password_file"]))


def locks(request: dict[str, Any]) -> dict[str, list[float]]:
    """Seconds of a put, and of acquiring and releasing a lock, in turn."""
    etcd = gateway(request)
    prefix = request["prefix"]
    lock = EtcdLock(etcd, f"{prefix}bench-lock", "bench", TTL, 1)
    seconds: dict[str, list[float]] = {"put": [], "lock": []}
    # The first of each connects and authenticates.
    for number in range(request["rounds"] + 1):
        began = time.monotonic()
        etcd.call("kv/put", {"key": encoded(f"{prefix}bench-put"), "value": encoded("x")})
        put = time.monotonic() - began
        began = time.monotonic()
        if not lock.simple_lock() or not lock.unlock():
            raise RuntimeError("another client holds the lock")
        locked = time.monotonic() - began
        if number:
            seconds["put"].append(put)
            seconds["lock"].append(locked)
    lock.close()
    return seconds


def renewals(request: dict[str, Any]) -> dict[str, Any]:
    """Renewals of ``locks`` held locks by ``processes`` times ``threads`` clients in ``seconds``.

    A renewal is complete: the lease is kept alive, and the key is read.
    """
    counts = multiprocessing.Array("l", request["processes"])
    failures = multiprocessing.Value("l", 0)

    all_held = multiprocessing.Barrier(request["processes"] * request["threads"] + 1)
    over = multiprocessing.Event()

    def renew(process: int, numbers: range) -> None:
        client = gateway(request)
        mine = [
            EtcdLock(client, f"{request['prefix']}bench-{number}", "bench", TTL, 1)
            for number in numbers
        ]
        if not all(lock.simple_lock() for lock in mine):
            raise RuntimeError("another client holds a lock")
        all_held.wait()
        done = lost = 0
        while not over.is_set():
            for lock in mine:
                lost += not lock.renew()
                done += 1
        with counts.get_lock():
            counts[process] += done
        with failures.get_lock():
            failures.value += lost
        for lock in mine:
            lock.unlock()

    def work(process: int) -> None:
        own = range(process, request["locks"], request["processes"])
        threads = [
            threading.Thread(target=renew, args=(process, own[n :: request["threads"]]))
            for n in range(request["threads"])
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    workers = [multiprocessing.Process(target=work, args=(n,)) for n in range(request["processes"])]
    for worker in workers:
        worker.start()
    all_held.wait(120)
    began = time.monotonic()
    time.sleep(request["seconds"])
    over.set()
    took = time.monotonic() - began
    for worker in workers:
        worker.join()
    return {"renewals": sum(counts[:]), "seconds": took, "lost": failures.value}


if __name__ == "__main__":
    given = json.loads(sys.stdin.readline())
    print(json.dumps({"locks": locks, "renewals": renewals}[given["do"]](given)))
