"""A client of memcached: one JSON request on stdin, JSON on stdout.

Requests name a ``do``; the functions of the same name say what they are. Keys are ``shape % number`` for
the numbers below ``count``.
"""

import json
import socket
import sys
from collections import Counter
from typing import Any

# Proxies keep all commands of a pipeline in memory.
PART = 500


def answers(address: str, commands: list[str]) -> list[str]:
    """The first line of each answer, over one connection."""
    host, _, port = address.rpartition(":")
    found: list[str] = []
    with (
        socket.create_connection((host, int(port)), 30) as connection,
        connection.makefile("rb") as stream,
    ):
        for start in range(0, len(commands), PART):
            part = commands[start : start + PART]
            connection.sendall("".join(f"{command}\r\n" for command in part).encode())
            for _ in part:
                line = stream.readline().decode().strip()
                if line.startswith("VALUE"):
                    line = stream.readline().decode().strip()
                    stream.readline()
                found.append(line or "closed")
    return found


def keys(request: dict[str, Any]) -> list[str]:
    """The keys of a request."""
    return [request["shape"] % number for number in range(request["count"])]


def fill(request: dict[str, Any]) -> dict[str, Any]:
    """Write every key through ``at``, its own name as its value; the answers, counted."""
    commands = [f"set {key} 0 0 {len(key)}\r\n{key}" for key in keys(request)]
    return dict(Counter(answers(request["at"], commands)))


def read(request: dict[str, Any]) -> list[str]:
    """Read every key through ``at``: ``right``, or what else was answered, in order."""
    names = keys(request)
    found = answers(request["at"], [f"get {key}" for key in names])
    return ["right" if text == key else text for key, text in zip(names, found, strict=True)]


def place(request: dict[str, Any]) -> list[list[int]]:
    """For each key the numbers of the ``shards`` that have it."""
    held = [read({**request, "at": shard}) for shard in request["shards"]]
    return [
        [shard for shard, found in enumerate(held) if found[number] == "right"]
        for number in range(request["count"])
    ]


ACTIONS = {action.__name__: action for action in (fill, read, place)}

if __name__ == "__main__":
    asked = json.loads(sys.stdin.readline())
    json.dump(ACTIONS[asked["do"]](asked), sys.stdout)
