"""One attempt: posts an event to its step and reads the response."""

from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus

import aiohttp

from events import rules

_MOST_REASON = 300


@dataclass(frozen=True)
class Answer:
    """The response, or the reason why there is none."""

    status: int
    """0 without a response."""
    body: bytes = b""
    kind: str = ""
    """The body's media type."""
    problem: str = ""
    """Why there is no response."""

    @property
    def good(self) -> bool:
        """Whether the status acknowledges the event."""
        return HTTPStatus.OK <= self.status < HTTPStatus.MULTIPLE_CHOICES

    @property
    def reason(self) -> str:
        """Why the event is not acknowledged."""
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

    :param timeout: seconds, including the response's body
    :param wanted: whether the body of a successful response is needed
    :raises rules.PermanentError: a successful response whose body is too long or compressed
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
                raise rules.PermanentError(f"the step's response has Content-Encoding {encoding}")
            return Answer(answer.status, await _whole(response), answer.kind)
    except TimeoutError:
        return Answer(0, problem=f"no response within {timeout:g} s")
    except (aiohttp.ClientError, OSError) as error:
        return Answer(0, problem=f"{type(error).__name__}: {error}"[:_MOST_REASON])


async def _whole(response: aiohttp.ClientResponse) -> bytes:
    # read() may return a part. A truncated body raises.
    body = bytearray()
    async for piece in response.content.iter_any():
        body += piece
        if len(body) > rules.MOST_BYTES:
            raise rules.PermanentError(
                f"the step's response has more than {rules.MOST_BYTES} bytes"
            )
    return bytes(body)
