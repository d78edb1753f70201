"""One attempt: an event is posted to the step that it is for, and its answer is read."""

from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus

import aiohttp

from events import rules

_MOST_REASON = 300


@dataclass(frozen=True)
class Answer:
    """What came of it."""

    status: int
    """0 where there was no answer."""
    body: bytes = b""
    kind: str = ""
    """The body's media type."""
    problem: str = ""
    """Why there was none."""

    @property
    def good(self) -> bool:
        """Whether it acknowledges the event."""
        return HTTPStatus.OK <= self.status < HTTPStatus.MULTIPLE_CHOICES

    @property
    def reason(self) -> str:
        """Why it does not."""
        return f"status {self.status}" if self.status else self.problem


async def post(
    http: aiohttp.ClientSession,
    url: str,
    data: bytes,
    headers: Mapping[str, str],
    timeout: float,
    *,
    wanted: bool,
) -> Answer:
    """Post an event.

    :param timeout: seconds, the answer's body included
    :param wanted: whether the body of a good answer matters
    :raises rules.HopelessError: a good answer whose body is too long, or encoded unasked
    """
    try:
        async with http.post(
            url,
            data=data,
            headers={**headers, "accept-encoding": "identity"},
            timeout=aiohttp.ClientTimeout(total=timeout),
            allow_redirects=False,
        ) as response:
            answer = Answer(response.status, kind=response.headers.get("content-type", ""))
            if not (wanted and answer.good):
                return answer
            encoding = response.headers.get("content-encoding", "identity")
            if encoding != "identity":
                raise rules.HopelessError(f"the step's answer has Content-Encoding {encoding}")
            return Answer(answer.status, await _whole(response), answer.kind)
    except TimeoutError:
        return Answer(0, problem=f"no answer within {timeout:g} s")
    except (aiohttp.ClientError, OSError) as error:
        return Answer(0, problem=f"{type(error).__name__}: {error}"[:_MOST_REASON])


async def _whole(response: aiohttp.ClientResponse) -> bytes:
    # A single read gives what is there. One that is cut short raises.
    body = bytearray()
    async for piece in response.content.iter_any():
        body += piece
        if len(body) > rules.MOST_BYTES:
            raise rules.HopelessError(f"the step's answer has more than {rules.MOST_BYTES} bytes")
    return bytes(body)
