"""An application with one leader: while it leads, it counts in a store with fencing.

It uses its elector as any application should:
- It polls before each write, and trusts the response for `valid_for` seconds from before the request,
  on the monotonic clock.
- It sends its token: first to claim the counter, before it reads, then with each write.
- At shutdown it stops, and only then resigns (POST /resign), so that the next one may lead at once.

A pause can always fall between the poll and the write. GAP_SECONDS makes the gap longer, so that it
does; the store then refuses the late write.

GET /        whether it leads, and the results of its writes; /livez, /readyz for probes. It is live
             while its loop runs.

    ticker.py                 runs until SIGTERM
    ticker.py leader          prints the leader, from the elector of this pod
    ticker.py pause SECONDS   stops the ticker and the elector of this pod (SIGSTOP) for so long
    ticker.py crash           kills them (SIGKILL).

The last two need a shared process namespace. SIGWINCH makes it poll its elector at once.

Environment: STORE (host:port), COUNTER (ticks), ELECTOR (127.0.0.1:4040; empty: a singleton, without
a token), IDENTITY (the host's name; for a singleton with a random suffix, because the next pod has
the same name), PERIOD_SECONDS (0.5), GAP_SECONDS (0), PORT (8080), OBSTINATE (false; true ignores
SIGTERM until it is killed, so that a second one would run beside it).
"""

import contextlib
import http
import http.client
import json
import os
import pathlib
import secrets
import signal
import sys
import threading
import time
from collections import deque
from dataclasses import dataclass
from typing import Any

import serving

TIMEOUT = 5.0
# For a turn of the loop without its pauses: a poll, at most three writes, and some reserve.
TURN_SECONDS = 6 * TIMEOUT
REMEMBERED = 100


class RefusedError(Exception):
    """The server refused the request; with the response."""

    def __init__(self, status: int, content: dict[str, Any]) -> None:
        super().__init__(f"{status}: {content.get('error', content)}")
        self.status = status
        self.content = content


class Client:
    """A JSON client with one connection, which reconnects."""

    def __init__(self, address: str, timeout: float = TIMEOUT) -> None:
        host, _, port = address.rpartition(":")
        self._connection = http.client.HTTPConnection(host, int(port), timeout=timeout)

    def close(self) -> None:
        """Close the connection; the next request opens another."""
        self._connection.close()

    def request(self, method: str, path: str, content: Any = None) -> dict[str, Any]:
        """The response; RefusedError for a status other than 200, OSError without a response."""
        body = None if content is None else json.dumps(content)
        try:
            self._connection.request(method, path, body)
            answer = self._connection.getresponse()
            text = answer.read()
        except (OSError, http.client.HTTPException) as error:
            self._connection.close()
            raise OSError(f"{method} {path}: {error or type(error).__name__}") from error
        given = None
        with contextlib.suppress(ValueError, RecursionError):
            given = json.loads(text)
        if not isinstance(given, dict):
            given = None
        if answer.status != http.HTTPStatus.OK:
            content = {"error": text.decode(errors="replace")[:200]} if given is None else given
            raise RefusedError(answer.status, content)
        if given is None:
            raise OSError(f"{method} {path}: not a JSON object: {text[:80]!r}")
        return given


@dataclass(frozen=True)
class Belief:
    """The interval in which this process considers itself the leader (CLOCK_MONOTONIC)."""

    token: int
    since: float
    until: float

    def shown(self) -> dict[str, float]:
        """As JSON for the store."""
        return {"since": self.since, "until": self.until}


class Elector:
    """The elector on localhost."""

    def __init__(self, address: str) -> None:
        self._address = address
        self._client = Client(address)
        self.changed = threading.Event()
        self.responds = False
        self._closed = threading.Event()
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()

    def poll(self) -> Belief | None:
        """Leadership from now on; None if another leads or the elector does not respond."""
        sent = time.monotonic()
        self.changed.clear()
        try:
            answer = self._client.request("GET", "/")
            leading = answer["leading"] is True
            belief = Belief(
                int(answer["token"]) if leading else 0,
                time.monotonic(),
                sent + float(answer["valid_for"]),
            )
        except (OSError, RefusedError, KeyError, TypeError, ValueError, OverflowError):
            # An invalid response counts as none.
            self.responds = False
            return None
        self.responds = True
        return belief if leading else None

    def resign(self) -> None:
        """Resign; the elector may have exited already."""
        try:
            self._client.request("POST", "/resign")
        except (OSError, RefusedError) as error:
            say(f"could not resign: {error}")

    def close(self) -> None:
        """Stop polling."""
        self._closed.set()
        self._client.close()

    def _listen(self) -> None:
        """Wake the loop on every change, so that it need not poll often."""
        host, _, port = self._address.rpartition(":")
        while not self._closed.is_set():
            connection = http.client.HTTPConnection(host, int(port))
            try:
                connection.request("GET", "/events")
                answer = connection.getresponse()
                while not self._closed.is_set() and answer.readline():
                    self.changed.set()
            except (OSError, http.client.HTTPException):
                # The loop polls in any case, only later.
                pass
            finally:
                connection.close()
            self.changed.set()
            self._closed.wait(0.2)


class Alone:
    """Instead of an elector, for a singleton."""

    def __init__(self) -> None:
        self.changed = threading.Event()
        self.responds = True

    def poll(self) -> Belief:
        """Always the leader, always with token 0."""
        now = time.monotonic()
        return Belief(0, now, now)

    def resign(self) -> None:
        """Do nothing."""

    def close(self) -> None:
        """Do nothing."""


class Ticker:
    """The loop."""

    def __init__(
        self,
        elector: Elector | Alone,
        store: Client,
        *,
        counter: str,
        identity: str,
        period: float,
        gap: float,
    ) -> None:
        self.elector = elector
        self._store = store
        self._path = f"/counters/{counter}"
        self._identity = identity
        self._period = period
        self._gap = gap
        self._stop = threading.Event()
        self._turned = time.monotonic()
        self.belief: Belief | None = None
        self.beliefs: deque[Belief] = deque(maxlen=REMEMBERED)
        self.value: int | None = None
        self.accepted = 0
        self.refused = 0

    @property
    def live(self) -> bool:
        """Whether the loop has run recently."""
        return time.monotonic() - self._turned < TURN_SECONDS + self._gap + self._period

    def stop(self) -> None:
        """End the loop after its current turn."""
        self._stop.set()
        self.elector.changed.set()

    def run(self) -> None:
        """Count while leading, until ``stop``."""
        while not self._stop.is_set():
            self._turned = time.monotonic()
            believed = self.elector.poll()
            if believed is None or (self.belief and believed.token != self.belief.token):
                self._end(time.monotonic())
            if believed is None:
                self.elector.changed.wait(1.0)
                continue
            belief = self._believe(believed)
            try:
                self._tick(belief)
            except (OSError, RefusedError) as error:
                # The outcome is unknown, or another leads: read again before the next write.
                self.value = None
                say(str(error))
            if not self._stop.is_set():
                time.sleep(self._period)
        self._end(time.monotonic())
        self.elector.resign()
        self.elector.close()
        self._store.close()

    def _tick(self, belief: Belief) -> None:
        if self.value is None:
            self.value = self._write(belief, "claim")
        if self._gap:
            time.sleep(self._gap)
        self.value = self._write(belief, "increment", **{"from": self.value})

    def _write(self, belief: Belief, action: str, **more: Any) -> int:
        content = {
            "token": belief.token,
            "holder": self._identity,
            "belief": belief.shown(),
            **more,
        }
        try:
            answer = self._store.request("POST", f"{self._path}/{action}", content)
        except RefusedError:
            self.refused += 1
            raise
        self.accepted += 1
        try:
            return int(answer["value"])
        except (KeyError, TypeError, ValueError, OverflowError):
            raise OSError(f"{action}: no value in {answer}") from None

    def _believe(self, believed: Belief) -> Belief:
        if self.belief is None:
            self.value = None
            self.belief = believed
            say(f"leading with token {believed.token}")
        self.belief = Belief(believed.token, self.belief.since, believed.until)
        return self.belief

    def _end(self, now: float) -> None:
        """End leadership, at ``now`` unless it has expired before."""
        belief, self.belief = self.belief, None
        if belief is None:
            return
        ended = belief if now >= belief.until else Belief(belief.token, belief.since, now)
        self.beliefs.append(ended)
        say(
            json.dumps({"led": {"identity": self._identity, "token": ended.token, **ended.shown()}})
        )
        try:
            content = {"token": ended.token, "holder": self._identity, "belief": ended.shown()}
            self._store.request("POST", f"{self._path}/release", content)
        except (OSError, RefusedError) as error:
            say(f"could not release: {error}")

    def state(self) -> dict[str, Any]:
        """The response of GET /."""
        belief = self.belief
        return {
            "identity": self._identity,
            "leading": belief is not None,
            "token": belief.token if belief else None,
            "beliefs": [{"token": b.token, **b.shown()} for b in list(self.beliefs)],
            "value": self.value,
            "accepted": self.accepted,
            "refused": self.refused,
        }


class Handler(serving.Handler):
    """The HTTP API."""

    def do_GET(self) -> None:
        """Respond to one request."""
        ticker: Ticker = self.server.ticker  # type: ignore[attr-defined]
        if self.path == "/livez":
            self.answer(200 if ticker.live else 503, {"live": ticker.live})
        elif self.path == "/readyz":
            self.answer(200 if ticker.elector.responds else 503, {"ready": ticker.elector.responds})
        elif self.path == "/":
            self.answer(200, ticker.state())
        else:
            self.answer(404, {"error": "not one of /, /livez, /readyz"})

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        """Log no requests: the log is for changes of leadership."""


def say(text: str) -> None:
    """One line of the log."""
    print(text, flush=True)


def run(environment: dict[str, str]) -> None:
    """Count until SIGTERM."""
    address = environment.get("ELECTOR", "127.0.0.1:4040")
    name = os.uname().nodename
    ticker = Ticker(
        Elector(address) if address else Alone(),
        Client(environment["STORE"]),
        counter=environment.get("COUNTER", "ticks"),
        identity=environment.get("IDENTITY")
        or (name if address else f"{name}-{secrets.token_hex(3)}"),
        period=float(environment.get("PERIOD_SECONDS", "0.5")),
        gap=float(environment.get("GAP_SECONDS", "0")),
    )
    server = serving.Server("", int(environment.get("PORT", "8080")), Handler)
    # A shutdown does not wait for clients.
    server.daemon_threads = True
    server.ticker = ticker  # type: ignore[attr-defined]
    obstinate = environment.get("OBSTINATE") == "true"
    signal.signal(signal.SIGTERM, lambda *_: None if obstinate else ticker.stop())
    signal.signal(signal.SIGWINCH, lambda *_: ticker.elector.changed.set())
    threading.Thread(target=server.serve_forever, daemon=True).start()
    ticker.run()


def leader(environment: dict[str, str]) -> None:
    """Print the leader."""
    answer = Client(environment.get("ELECTOR") or "127.0.0.1:4040").request("GET", "/")
    if answer["leader"] is None:
        sys.exit("there is no leader")
    print(answer["leader"])


def processes() -> list[int]:
    """The pod's tickers and electors."""
    found = [
        int(process.name)
        for process in pathlib.Path("/proc").glob("[0-9]*")
        if int(process.name) != os.getpid() and _is_ours(process)
    ]
    if not found:
        sys.exit("no process of a ticker or an elector")
    return found


def crash() -> None:
    """Kill the pod's ticker and elector."""
    for process in processes():
        os.kill(process, signal.SIGKILL)


def pause(seconds: float) -> None:
    """Stop the pod's ticker and elector for some seconds."""
    found = processes()
    for process in found:
        os.kill(process, signal.SIGSTOP)
    print(f"stopped {len(found)} processes for {seconds:g} s", flush=True)
    try:
        time.sleep(seconds)
    finally:
        for process in found:
            os.kill(process, signal.SIGCONT)


def _is_ours(process: pathlib.Path) -> bool:
    try:
        command = (process / "cmdline").read_bytes().split(b"\0")
    except OSError:
        return False
    return any(part.endswith(b"ticker.py") or b"elector" in part for part in command[:4])


def main() -> None:
    """Run the command line."""
    match sys.argv[1:]:
        case []:
            run(dict(os.environ))
        case ["leader"]:
            leader(dict(os.environ))
        case ["pause", seconds]:
            pause(float(seconds))
        case ["crash"]:
            crash()
        case _:
            sys.exit(__doc__)


if __name__ == "__main__":
    main()
