"""The one way to wait for anything: follow objects until they are judged, within a bound.

Each source is listed and then watched on a thread of its own. A watch that ends is taken up again,
a server that goes away is waited for, a cancelled update ends the wait at once.
"""

from __future__ import annotations

import dataclasses
import enum
import queue
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

from toolchain.plugins.kubernetes.client import ApiError, Client, UnreachableError
from toolchain.plugins.provider.errors import CancelledError, ProviderError

if TYPE_CHECKING:
    from toolchain.plugins.provider.cancellation import Cancellation

Objects = Mapping[str, Mapping[str, Any]]
_WATCH_SECONDS = 240.0
_BACKOFF_SECONDS = (0.1, 0.3, 1.0, 2.0)
_HTTP_GONE = 410


class Phase(enum.Enum):
    """How far an object is."""

    DONE = "done"
    PENDING = "pending"
    FAILED = "failed"


@dataclasses.dataclass(frozen=True)
class Verdict:
    """How far an object is, and what it waits for or why it failed."""

    phase: Phase
    message: str = ""


DONE = Verdict(Phase.DONE)


def pending(message: str) -> Verdict:
    """It may still come."""
    return Verdict(Phase.PENDING, message)


def failed(message: str) -> Verdict:
    """It will not come, whatever one waits."""
    return Verdict(Phase.FAILED, message)


@dataclasses.dataclass(frozen=True)
class Source:
    """Objects to follow.

    :param path: their collection
    :param query: ``fieldSelector`` or ``labelSelector``
    """

    path: str
    query: Mapping[str, str] = dataclasses.field(default_factory=dict)

    @staticmethod
    def one(collection: str, name: str) -> Source:
        """The object of a name."""
        return Source(collection, {"fieldSelector": f"metadata.name={name}"})

    @staticmethod
    def labelled(collection: str, labels: Mapping[str, str]) -> Source:
        """The objects that carry all these labels."""
        pairs = ",".join(f"{key}={value}" for key, value in sorted(labels.items()))
        return Source(collection, {"labelSelector": pairs})


class WaitError(ProviderError):
    """The wait ended without success; says what was waited for."""


class WaitFailedError(WaitError):
    """What was waited for cannot come any more."""


class WaitTimeoutError(WaitError):
    """The bound passed; the message starts with it (``after 10 s: ...``)."""


Judge = Callable[[Sequence[Objects]], Verdict]


def wait(
    client: Client,
    sources: Sequence[Source],
    judge: Judge,
    *,
    seconds: float,
    cancellation: Cancellation,
    progress: Callable[[str], None] = lambda _: None,
) -> Sequence[Objects]:
    """Waits until ``judge`` says done and gives the objects as they were then.

    Args:
        client: Where they are.
        sources: What to follow.
        judge: Looks at the objects of each source, by name, after every change of them.
        seconds: The bound.
        cancellation: Ends the wait.
        progress: Told whenever the reason for waiting changes.

    Raises:
        WaitFailedError: ``judge`` said failed.
        WaitTimeoutError: The bound passed.
        CancelledError: The user cancelled.
        ApiError: The server refused to show the objects.
    """
    deadline = time.monotonic() + seconds
    changes: queue.Queue[ApiError | None] = queue.Queue()
    said = ""
    with ExitStack() as stack:
        stack.enter_context(cancellation.calling(lambda: changes.put(None)))
        followers = [stack.enter_context(_following(client, source, changes)) for source in sources]
        while True:
            cancellation.check()
            views = [follower.view() for follower in followers]
            known = [view for view in views if view is not None]
            complete = len(known) == len(views)
            verdict = judge(known) if complete else pending("")
            away = next((one.away for one in followers if one.away), None)
            if verdict.phase is Phase.DONE:
                return known
            if verdict.phase is Phase.FAILED:
                raise WaitFailedError(verdict.message)
            message = away or verdict.message
            if message and message != said:
                said = message
                progress(message)
            left = deadline - time.monotonic()
            if left <= 0:
                raise WaitTimeoutError(f"after {seconds:g} s: {message or 'no answer yet'}")
            _drain(changes, left)


def _drain(changes: queue.Queue[ApiError | None], seconds: float) -> None:
    """Waits for a change, and takes all that have come by then: one look at them is enough."""
    try:
        error = changes.get(timeout=seconds)
        while error is None:
            error = changes.get_nowait()
    except queue.Empty:
        return
    raise error


class _Follower:
    def __init__(
        self, client: Client, source: Source, changes: queue.Queue[ApiError | None]
    ) -> None:
        self._client = client
        self._source = source
        self._changes = changes
        self._lock = threading.Lock()
        self._listed = False
        self._objects: dict[str, Mapping[str, Any]] = {}
        self._stopped = threading.Event()
        self._shut: Callable[[], None] = lambda: None
        self.away: str | None = None

    def view(self) -> Objects | None:
        with self._lock:
            return dict(self._objects) if self._listed else None

    def stop(self) -> None:
        self._stopped.set()
        self._shut()

    def run(self) -> None:
        attempt = 0
        while not self._stopped.is_set():
            try:
                self._follow(self._list())
                attempt = 0
            except UnreachableError as error:
                self.away = str(error)
                self._changes.put(None)
                pause = _BACKOFF_SECONDS[min(attempt, len(_BACKOFF_SECONDS) - 1)]
                attempt += 1
                self._stopped.wait(pause)
            except ApiError as error:
                if error.code != _HTTP_GONE:
                    self._changes.put(error)
                    return
            except CancelledError:
                return

    def _list(self) -> str:
        answer = self._client.request(
            "GET", self._source.path, query=self._source.query, patience=0.0
        )
        shared = {"apiVersion": answer["apiVersion"], "kind": answer["kind"].removesuffix("List")}
        objects: dict[str, Mapping[str, Any]] = {
            item["metadata"]["name"]: {**shared, **item} for item in answer["items"] or ()
        }
        self.away = None
        with self._lock:
            self._listed = True
            self._objects = objects
        self._changes.put(None)
        return str(answer["metadata"]["resourceVersion"])

    def _follow(self, version: str) -> None:
        query = {**self._source.query, "resourceVersion": version}
        events, self._shut = self._client.watch(self._source.path, query, _WATCH_SECONDS)
        if self._stopped.is_set():
            self._shut()
        for event in events:
            if self._stopped.is_set() or event.type == "ERROR":
                return
            if event.type == "BOOKMARK":
                continue
            name = event.object["metadata"]["name"]
            with self._lock:
                if event.type == "DELETED":
                    self._objects.pop(name, None)
                else:
                    self._objects[name] = event.object
            self._changes.put(None)


@contextmanager
def _following(
    client: Client, source: Source, changes: queue.Queue[ApiError | None]
) -> Iterator[_Follower]:
    follower = _Follower(client, source, changes)
    threading.Thread(target=follower.run, daemon=True).start()
    try:
        yield follower
    finally:
        follower.stop()
