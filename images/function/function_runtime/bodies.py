"""Bodies of requests: read here and nowhere else, to their end, within bounds and in time.

A byte counts when it arrives. A client that is slow costs the bytes that it has sent and nobody's
place; where there is no room for others' bytes, it is the slow ones that go.
"""

import asyncio
import pathlib
from types import TracebackType

from aiohttp import web

from function_runtime.answers import Answer, busy, refusal

MOST_BYTES = 4 * 2**20
"""Longest body of a request."""
MOST_HELD_BYTES = 32 * 2**20
"""Most bytes of all bodies that are here at a time."""
BODY_SECONDS = 60.0
"""Longest that a body may take to arrive."""
SLOW_SECONDS = 5.0
"""After as long a body that has not arrived gives room to others."""

_MEMORY = pathlib.Path("/sys/fs/cgroup/memory.max")
_RUNTIME_BYTES = 48 * 2**20


class RefusedError(Exception):
    """A body that is not taken, and the answer to it."""

    def __init__(self, kind: str, answer: Answer) -> None:
        super().__init__(kind)
        self.kind = kind
        """In one word, for metrics."""
        self.answer = answer


class Held:
    """A body that is here; its room is free again at the end of ``with``."""

    def __init__(self, bodies: "Bodies") -> None:
        self._bodies = bodies
        self._pieces: list[bytes] = []
        self.size = 0
        self.began = asyncio.get_running_loop().time()
        self.timeout: asyncio.Timeout | None = None
        """While it arrives."""
        self.pushed_out = False
        self.data = b""
        """All of it, once it has arrived."""

    def add(self, piece: bytes) -> None:
        """Keep what has arrived."""
        self._pieces.append(piece)
        self.size += len(piece)

    def drop(self) -> None:
        """Keep nothing of it."""
        self._pieces, self.size = [], 0

    def whole(self) -> None:
        """It has arrived."""
        self.data, self._pieces = b"".join(self._pieces), []

    def __enter__(self) -> "Held":
        """Itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        """Free its room."""
        self._bodies.free(self)


class Bodies:
    """All bodies that are here."""

    def __init__(
        self,
        most: int | None = None,
        seconds: float = BODY_SECONDS,
        slow_seconds: float = SLOW_SECONDS,
    ) -> None:
        """Bound them.

        :param most: bytes of all together; a quarter of what the pod's memory has beside the
            runtime by default, and MOST_HELD_BYTES at most
        :param seconds: longest that one may take to arrive
        :param slow_seconds: after as long, one that has not arrived gives room to others
        """
        self._most = _room() if most is None else most
        self._seconds = seconds
        self._slow_seconds = slow_seconds
        self._held: dict[Held, None] = {}
        """In the order in which they began."""
        self._bytes = 0
        self._closed = ""

    @property
    def held_bytes(self) -> int:
        """Bytes that are here."""
        return self._bytes

    async def read(self, request: web.BaseRequest) -> Held:
        """The body of a request; it must be used in a ``with`` statement.

        :raises RefusedError: it is too long, too slow, or there is no room for it
        :raises ConnectionError: the client went away before its end
        """
        held = Held(self)
        self._held[held] = None
        try:
            await self._arrive(held, request)
        except BaseException:
            self.free(held)
            raise
        return held

    async def _arrive(self, held: Held, request: web.BaseRequest) -> None:
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
            said = "the body came too slowly" + (", others need its room" * held.pushed_out)
            raise RefusedError("slow", refusal(408, said)) from None
        except web.RequestPayloadError as error:
            raise RefusedError("malformed", refusal(400, f"the body: {error}")) from None
        finally:
            held.timeout = None
        held.whole()

    def _take(self, held: Held, piece: bytes) -> None:
        if held.size + len(piece) > MOST_BYTES:
            raise _too_long()
        if self._bytes + len(piece) > self._most:
            self._push_out(held, len(piece))
        if self._bytes + len(piece) > self._most:
            raise RefusedError("bytes", busy("too much is held"))
        held.add(piece)
        self._bytes += len(piece)

    def _push_out(self, newer: Held, size: int) -> None:
        """Make room: bodies that have not arrived for long go, the slowest first."""
        now = asyncio.get_running_loop().time()
        for one in [*self._held]:
            if one is newer or now < one.began + self._slow_seconds:
                break
            if one.timeout is not None and one.size and not one.pushed_out:
                one.pushed_out = True
                one.timeout.reschedule(now)
                self._forget(one)
            if self._bytes + size <= self._most:
                break

    def close(self, said: str) -> None:
        """Refuse those that are still arriving, and all that come.

        :param said: why
        """
        self._closed = said
        for one in self._held:
            if one.timeout is not None:
                one.timeout.reschedule(0)

    def free(self, held: Held) -> None:
        """Forget one; more than once is as good."""
        if held in self._held:
            del self._held[held]
            self._forget(held)

    def _forget(self, held: Held) -> None:
        self._bytes -= held.size
        held.drop()


def _too_long() -> RefusedError:
    return RefusedError("length", refusal(413, f"more than {MOST_BYTES} bytes"))


def _room() -> int:
    try:
        memory = int(_MEMORY.read_text())
    except (OSError, ValueError):
        # Another version of cgroups, or no limit.
        return MOST_HELD_BYTES
    return min(MOST_HELD_BYTES, max(MOST_BYTES, (memory - _RUNTIME_BYTES) // 4))
