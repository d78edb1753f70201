"""A client of etcd's JSON gateway that runs in a pod: one JSON request on stdin, one answer.

It shares no code with the project's own clients, so that it does not repeat their mistakes.
"""

import base64
import json
import ssl
import sys
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

AUTHORITY = "/etc/etcd-client/ca.crt"
USERS = Path("/etc/etcd-users")
TIMEOUT_SECONDS = 3


def b64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def send(
    url: str, body: dict[str, Any], token: str | None = None, timeout: float = TIMEOUT_SECONDS
) -> dict[str, Any]:
    """Status and answer of one POST; status 0 where there was none."""
    headers = {"Content-Type": "application/json"}
    if token:
        headers["Authorization"] = token
    request = urllib.request.Request(url, json.dumps(body).encode(), headers)  # noqa: S310
    context = ssl.create_default_context(cafile=AUTHORITY) if url.startswith("https") else None
    try:
        with urllib.request.urlopen(request, timeout=timeout, context=context) as answer:  # noqa: S310
            text = answer.read().decode()
            return {"status": answer.status, "body": json.loads(text)}
    except urllib.error.HTTPError as error:
        return {"status": error.code, "error": error.read().decode(errors="replace")}
    except (OSError, ValueError) as error:
        return {"status": 0, "error": f"{type(error).__name__}: {error}"}


def known(user: str) -> list[str]:
    """Name and password of a user that the pod knows."""
    return (USERS / user).read_text().split()


def credentials(request: dict[str, Any]) -> list[str]:
    """The same, for whoever wants to use them elsewhere."""
    return known(request["user"])


class Session:
    """One user at several endpoints; goes on to the next where one does not answer.

    The user is one of those that the pod knows, or a name and a password.
    """

    def __init__(self, endpoints: list[str], user: str | list[str]) -> None:
        self.endpoints = list(endpoints)
        self.name, self.password = known(user) if isinstance(user, str) else user
        self.token: str | None = None
        self.refusal = ""

    def call(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        answer: dict[str, Any] = {"status": 0}
        for _ in range(2 * len(self.endpoints)):
            if self.token is None:
                self.log_in()
            if self.token is None:
                answer = {"status": 0, "error": f"nobody let the user in: {self.refusal}"}
                continue
            answer = send(self.endpoints[0] + path, body, self.token)
            if answer["status"] == 401:
                self.token = None
            elif answer["status"] in (0, 503, 504):
                self.endpoints.append(self.endpoints.pop(0))
            else:
                break
        return answer

    def log_in(self) -> None:
        credentials = {"name": self.name, "password": self.password}
        for endpoint in self.endpoints:
            answer = send(f"{endpoint}/v3/auth/authenticate", credentials)
            if answer["status"] == 200:
                self.token = answer["body"]["token"]
                return
            self.refusal = str(answer.get("error"))


def one(request: dict[str, Any]) -> dict[str, Any]:
    """One request at one ``url`` with a ``token``, that of a ``user``, or none."""
    token = request.get("token")
    if request.get("user"):
        session = Session(request["endpoints"], request["user"])
        session.log_in()
        token = session.token
    return send(request["url"], request["body"], token, request.get("timeout", TIMEOUT_SECONDS))


def token(request: dict[str, Any]) -> str | None:
    """A token of the user."""
    session = Session(request["endpoints"], request["user"])
    session.log_in()
    return session.token


def call(request: dict[str, Any]) -> dict[str, Any]:
    """One request as a user, wherever it is answered."""
    return Session(request["endpoints"], request["user"]).call(request["path"], request["body"])


def write(request: dict[str, Any]) -> dict[str, Any]:
    """Put numbered keys below ``prefix`` one after the other, for ``seconds``.

    The answer has the numbers that were acknowledged, each with its second, and the failures.
    """
    session = Session(request["endpoints"], request["user"])
    session.log_in()
    began = time.monotonic()
    acknowledged: list[list[float]] = []
    failures: list[str] = []
    number = 0
    while time.monotonic() - began < request["seconds"]:
        body = {"key": b64(f"{request['prefix']}{number:06d}"), "value": b64(str(number))}
        answer = session.call("/v3/kv/put", body)
        if answer["status"] == 200:
            acknowledged.append([number, round(time.monotonic() - began, 3)])
        else:
            failures.append(f"{number}: {answer}")
        number += 1
        time.sleep(request.get("pause", 0.01))
    return {"acknowledged": acknowledged, "failures": failures}


def numbers(request: dict[str, Any]) -> list[int]:
    """The numbers that are there below ``prefix``, each with its own value; at one ``url``, or
    wherever it is answered."""
    prefix = request["prefix"]
    body = {
        "key": b64(prefix),
        "range_end": b64(prefix[:-1] + chr(ord(prefix[-1]) + 1)),
        "serializable": bool(request.get("serializable")),
    }
    session = Session(request.get("at") or request["endpoints"], request["user"])
    answer = session.call("/v3/kv/range", body)
    if answer["status"] != 200:
        raise SystemExit(str(answer))
    found = []
    for pair in answer["body"].get("kvs", ()):
        number = int(base64.b64decode(pair["key"]).decode().removeprefix(prefix))
        if base64.b64decode(pair["value"]).decode() == str(number):
            found.append(number)
    return found


def fill(request: dict[str, Any]) -> int:
    """Put ``count`` values of ``size`` bytes to one key each, and delete them; the last revision."""
    session = Session(request["endpoints"], request["user"])
    session.log_in()
    value = b64("x" * request["size"])
    threads = []

    def put(worker: int) -> None:
        own = Session(request["endpoints"], request["user"])
        own.token = session.token
        for number in range(worker, request["count"], 4):
            own.call("/v3/kv/put", {"key": b64(f"{request['prefix']}{number}"), "value": value})

    for worker in range(4):
        threads.append(threading.Thread(target=put, args=(worker,)))
        threads[-1].start()
    for thread in threads:
        thread.join()
    end = request["prefix"][:-1] + chr(ord(request["prefix"][-1]) + 1)
    gone = session.call(
        "/v3/kv/deleterange", {"key": b64(request["prefix"]), "range_end": b64(end)}
    )
    return int(gone["body"]["header"]["revision"])


DO = {f.__name__: f for f in (one, token, credentials, call, write, numbers, fill)}

if __name__ == "__main__":
    asked = json.loads(sys.stdin.readline())
    print(json.dumps(DO[asked["do"]](asked)))
