"""A Redis client that runs in a pod: one JSON request on stdin, one JSON answer on stdout.

Requests name a ``do`` and its arguments; the functions of the same name say what they are.
"""

import json
import math
import sys
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

from tests.live.in_pod.resp import Connection, ErrorReply, Reply


def connect(address: dict[str, Any], timeout: float) -> Connection:
    """``address``: host, port and optionally user, and password or password_file."""
    file = address.get("password_file")
    password = Path(file).read_text().strip() if file else address.get("password", "")
    return Connection(address["host"], address["port"], timeout, address.get("user", ""), password)


def key_of(request: dict[str, Any], number: int) -> str:
    return str(request["shape"]) % number


def fill(request: dict[str, Any]) -> dict[str, Any]:
    """SET ``count`` keys of the printf form ``shape``, each to its own number."""
    connection = connect(request["at"], request.get("timeout", 20))
    started = time.monotonic()
    answers: Counter[str] = Counter()
    numbers = range(request["count"])
    commands = (("SET", key_of(request, n), str(n)) for n in numbers)
    for answer in connection.pipelined(commands, request.get("depth", 200)):
        answers["ok" if answer == b"OK" else str(answer)] += 1
    connection.close()
    return {"answers": answers, "seconds": time.monotonic() - started}


def read(request: dict[str, Any]) -> dict[str, Any]:
    """GET the same keys; counts right, absent and wrong values."""
    connection = connect(request["at"], request.get("timeout", 20))
    answers: Counter[str] = Counter()
    numbers = range(request["count"])
    commands = (("GET", key_of(request, n)) for n in numbers)
    for number, answer in enumerate(connection.pipelined(commands, request.get("depth", 200))):
        if isinstance(answer, ErrorReply):
            answers[str(answer)] += 1
        elif answer is None:
            answers["absent"] += 1
        else:
            answers["right" if answer == str(number).encode() else "wrong"] += 1
    connection.close()
    return {"answers": answers}


def place(request: dict[str, Any]) -> dict[str, Any]:
    """Ask every shard in ``shards`` for every key.

    ``placement`` has one character a key: the shard's number in base 36, ``-`` for none, ``+`` for
    more than one, ``!`` for a wrong value.
    """
    digits = "0123456789abcdefghijklmnopqrstuvwxyz"
    found = ["-"] * request["count"]
    sizes = []
    for index, address in enumerate(request["shards"]):
        connection = connect(address, request.get("timeout", 20))
        commands = (("GET", key_of(request, n)) for n in range(request["count"]))
        for number, answer in enumerate(connection.pipelined(commands, 500)):
            if isinstance(answer, ErrorReply):
                raise answer
            if answer is None:
                continue
            if answer != str(number).encode():
                found[number] = "!"
            else:
                found[number] = digits[index] if found[number] == "-" else "+"
        sizes.append(connection.command("DBSIZE"))
        connection.close()
    return {"placement": "".join(found), "sizes": sizes}


def flush(request: dict[str, Any]) -> dict[str, Any]:
    """FLUSHALL on every shard."""
    for address in request["shards"]:
        connection = connect(address, 20)
        answer = connection.command("FLUSHALL")
        if answer != b"OK":
            raise ErrorReply(f"FLUSHALL: {answer!r}")
        connection.close()
    return {}


def steps(request: dict[str, Any]) -> dict[str, Any]:
    """Single commands one after another on one connection; a lost connection is made anew."""
    answers = []
    connection: Connection | None = None
    for words in request["commands"]:
        began = time.monotonic()
        try:
            if connection is None:
                connection = connect(request["at"], request.get("timeout", 3))
            answer = _plain(connection.command(*words))
        except (OSError, ErrorReply) as error:
            answer = {"error": _kind(error)}
            connection = None
        answers.append({"answer": answer, "ms": round((time.monotonic() - began) * 1000, 1)})
    return {"answers": answers}


class Watcher(threading.Thread):
    """Writes one group's keys in turn, reads each back, and keeps what the client saw."""

    def __init__(self, name: str, keys: list[str], request: dict[str, Any], until: float) -> None:
        super().__init__(name=name, daemon=True)
        self.keys = keys
        self.request = request
        self.until = until
        self.runs: list[dict[str, Any]] = []
        self.acknowledged: dict[str, int] = {}
        self.attempted: dict[str, int] = {}
        self._connection: Connection | None = None

    def run(self) -> None:
        number = 0
        while time.time() < self.until:
            key = self.keys[number % len(self.keys)]
            number += 1
            self.attempted[key] = number
            outcome, answer = self._do("SET", key, str(number))
            if outcome == "ok":
                if answer == b"OK":
                    self.acknowledged[key] = number
                self._do("GET", key, expected=str(number).encode())
            time.sleep(self.request.get("pause", 0.02))

    def _do(self, *words: str, expected: bytes = b"OK") -> tuple[str, Reply]:
        began = time.time()
        answer: Reply = None
        try:
            if self._connection is None:
                self._connection = connect(self.request["at"], self.request.get("timeout", 2))
            answer = self._connection.command(*words)
            if isinstance(answer, ErrorReply):
                outcome = f"error: {answer}"
            elif answer is None:
                outcome = "absent"
            else:
                outcome = "ok" if answer == expected else "wrong value"
        except (OSError, ErrorReply) as error:
            outcome = _kind(error)
            self._connection = None
            # An instant refusal must not turn into a busy loop on two cores.
            time.sleep(0.05)
        self._note(outcome, began, time.time() - began)
        return outcome, answer

    def _note(self, outcome: str, began: float, took: float) -> None:
        last = self.runs[-1] if self.runs else None
        if last is None or last["outcome"] != outcome:
            last = {"outcome": outcome, "first": began, "count": 0, "slowest": 0.0}
            self.runs.append(last)
        last["last"] = began + took
        last["count"] += 1
        last["slowest"] = max(last["slowest"], took)


def watch(request: dict[str, Any]) -> dict[str, Any]:
    """Traffic for ``seconds`` with one thread and one connection for each of ``groups``.

    Answers, per group, the runs of equal outcomes in order of time (Unix seconds), and for every
    key the last acknowledged and the last attempted number.
    """
    until = time.time() + request["seconds"]
    watchers = [Watcher(name, keys, request, until) for name, keys in request["groups"].items()]
    for watcher in watchers:
        watcher.start()
    for watcher in watchers:
        watcher.join()
    return {
        watcher.name: {
            "runs": watcher.runs,
            "acknowledged": watcher.acknowledged,
            "attempted": watcher.attempted,
        }
        for watcher in watchers
    }


class Teller(Watcher):
    """Says what it sees as it goes on: each outcome unlike the last, and once a second what is."""

    _told = ("", 0.0)

    def _note(self, outcome: str, began: float, took: float) -> None:
        super()._note(outcome, began, took)
        last, at = self._told
        if outcome != last or began >= at + 1:
            self._told = (outcome, began)
            line = json.dumps({"group": self.name, "outcome": outcome, "at": began})
            print(f"{line}\n", end="", flush=True)


def tell(request: dict[str, Any]) -> dict[str, Any]:
    """The traffic of ``watch`` until one more line comes on stdin, told line by line.

    So that of a pod that is replaced meanwhile is known what its client saw.
    """
    tellers = [Teller(name, keys, request, math.inf) for name, keys in request["groups"].items()]
    for teller in tellers:
        teller.start()
    sys.stdin.readline()
    for teller in tellers:
        teller.until = 0
        teller.join()
    return {}


def answering(request: dict[str, Any]) -> dict[str, Any]:
    """Wait until every one of ``addresses`` answers a GET."""
    until = time.monotonic() + request.get("seconds", 90)
    for address in request["addresses"]:
        while True:
            try:
                connection = connect(address, 5)
                reply = connection.command("GET", "nothing")
                connection.close()
                if not isinstance(reply, ErrorReply):
                    break
                error = _kind(reply)
            except (OSError, ErrorReply) as failed:
                error = _kind(failed)
            if time.monotonic() > until:
                raise SystemExit(f"{address}: {error}")
            time.sleep(0.1)
    return {}


def values(request: dict[str, Any]) -> dict[str, Any]:
    """The values of ``keys``, null where absent, {"error": ...} where refused."""
    connection = connect(request["at"], request.get("timeout", 20))
    commands = (("GET", key) for key in request["keys"])
    answers = [_plain(answer) for answer in connection.pipelined(commands, 50)]
    connection.close()
    return {"values": answers}


def _plain(reply: Reply) -> Any:
    if isinstance(reply, ErrorReply):
        return {"error": f"error: {reply}"}
    if isinstance(reply, bytes):
        return reply.decode(errors="replace")
    if isinstance(reply, list):
        return [_plain(item) for item in reply]
    return reply


def _kind(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return "client timeout"
    if isinstance(error, ConnectionRefusedError):
        return "connection refused"
    if isinstance(error, ConnectionError):
        return "connection lost"
    return f"error: {error}"


ACTIONS = {
    action.__name__: action
    for action in (fill, read, place, flush, steps, watch, tell, answering, values)
}

if __name__ == "__main__":
    asked = json.loads(sys.stdin.readline())
    json.dump(ACTIONS[asked["do"]](asked), sys.stdout)
