"""Reads request bodies completely, with limits on size and time.

Bytes count when they arrive. A slow client occupies memory for the bytes that it has sent, but no
slot of the function; if memory is short, the slowest bodies are dropped.
"""

import asyncio
import pathlib
from types import TracebackType

from aiohttp import web

from function_runtime.answers import Answer, busy, refusal

MOST_BYTES = 4 * 2**20
"""Maximum size of a request's body."""
MOST_HELD_BYTES = 32 * 2**20
"""Maximum size of all bodies in memory."""
BODY_SECONDS = 60.0
"""Timeout of a body."""
SLOW_SECONDS = 5.0
"""After so long an incomplete body may be dropped for others."""

_MEMORY = pathlib.Path("/sys/fs/cgroup/memory.max")
_RUNTIME_BYTES = 48 * 2**20


class RefusedError(Exception):
    """A body that is refused, with the response."""

    def __init__(self, kind: str, answer: Answer) -> None:
        super().__init__(kind)
        self.kind = kind
        """A label for metrics."""
        self.answer = answer


class Body:
    """A body in memory, until the end of ``with``."""

    def __init__(self, bodies: "Bodies") -> None:
        self._bodies = bodies
        self._pieces: list[bytes] = []
        self.size = 0
        self.began = asyncio.get_running_loop().time()
        self.timeout: asyncio.Timeout | None = None
        """Set while it arrives."""
        self.dropped = False
        self.data = b""
        """The complete body, once it has arrived."""

    def add(self, piece: bytes) -> None:
        """Append a piece."""
        self._pieces.append(piece)
        self.size += len(piece)

    def drop(self) -> None:
        """Free its memory."""
        self._pieces, self.size = [], 0

    def whole(self) -> None:
        """Mark it as complete."""
        self.data, self._pieces = b"".join(self._pieces), []

    def __enter__(self) -> "Body":
        """Itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        """Free its memory."""
        self._bodies.free(self)


class Bodies:
    """All bodies in memory."""

    def __init__(
        self,
        most: int | None = None,
        seconds: float = BODY_SECONDS,
        slow_seconds: float = SLOW_SECONDS,
    ) -> None:
        """Set the limits.

        :param most: total bytes. Defaults to a quarter of the pod's memory without the runtime,
            at most MOST_HELD_BYTES
        :param seconds: timeout of a body
        :param slow_seconds: after so long an incomplete body may be dropped for others
        """
        self._most = _memory_limit() if most is None else most
        self._seconds = seconds
        self._slow_seconds = slow_seconds
        self._held: dict[Body, None] = {}
        """Oldest first."""
        self._bytes = 0
        self._closed = ""

    @property
    def held_bytes(self) -> int:
        """Total bytes."""
        return self._bytes

    async def read(self, request: web.BaseRequest) -> Body:
        """The complete body of a request, to be used in a ``with`` statement.

        :raises RefusedError: it is too long, too slow, or memory is short
        :raises ConnectionError: the client disconnected
        """
        held = Body(self)
        self._held[held] = None
        try:
            await self._arrive(held, request)
        except BaseException:
            self.free(held)
            raise
        return held

    async def _arrive(self, held: Body, request: web.BaseRequest) -> None:
        if self._closed:
            raise RefusedError("leaving", busy(self._closed))
        if (request.content_length or 0) > MOST_BYTES:
            raise _too_long()
        if not request.body_exists:
            return
        try:
            async with asyncio.timeout(self._seconds) as held.timeout:
                while piece := await request.content.readany():
                    self._take(held, piece)
        except TimeoutError:
            if self._closed:
                raise RefusedError("leaving", busy(self._closed)) from None
            problem = "the body arrived too slowly" + (", memory is short" * held.dropped)
            raise RefusedError("slow", refusal(408, problem)) from None
        except web.RequestPayloadError as error:
            raise RefusedError("malformed", refusal(400, f"the body: {error}")) from None
        finally:
            held.timeout = None
        held.whole()

    def _take(self, held: Body, piece: bytes) -> None:
        if held.size + len(piece) > MOST_BYTES:
            raise _too_long()
        if self._bytes + len(piece) > self._most:
            self._drop_slow(held, len(piece))
        if self._bytes + len(piece) > self._most:
            raise RefusedError("bytes", busy("too many request bodies at once"))
        held.add(piece)
        self._bytes += len(piece)

    def _drop_slow(self, newer: Body, size: int) -> None:
        """Free memory: drop incomplete bodies that are slow, the oldest first."""
        now = asyncio.get_running_loop().time()
        for one in [*self._held]:
            if one is newer or now < one.began + self._slow_seconds:
                break
            if one.timeout is not None and one.size and not one.dropped:
                one.dropped = True
                one.timeout.reschedule(now)
                self._forget(one)
            if self._bytes + size <= self._most:
                break

    def close(self, reason: str) -> None:
        """Refuse bodies that are still arriving, and all later ones.

        :param reason: text of the 503
        """
        self._closed = reason
        for one in self._held:
            if one.timeout is not None:
                one.timeout.reschedule(0)

    def free(self, held: Body) -> None:
        """Free a body's memory; idempotent."""
        if held in self._held:
            del self._held[held]
            self._forget(held)

    def _forget(self, held: Body) -> None:
        self._bytes -= held.size
        held.drop()


def _too_long() -> RefusedError:
    return RefusedError("length", refusal(413, f"more than {MOST_BYTES} bytes"))


def _memory_limit() -> int:
    try:
        memory = int(_MEMORY.read_text())
    except (OSError, ValueError):
        # Not cgroup v2, or no limit.
        return MOST_HELD_BYTES
    return min(MOST_HELD_BYTES, max(MOST_BYTES, (memory - _RUNTIME_BYTES) // 4))
