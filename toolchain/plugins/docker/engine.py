"""The connection to the Docker Engine, and the context of an operation of Pulumi's engine."""

from __future__ import annotations

import contextlib
import dataclasses
import socket
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import docker
import docker.errors
import requests
import urllib3

from toolchain.plugins.provider.errors import ProviderError

if TYPE_CHECKING:
    from toolchain.plugins.provider.cancellation import Cancellation

DEFAULT_HOST = "unix:///var/run/docker.sock"
_ANSWER_SECONDS = 120
# While a response is streamed, urllib3's errors are not wrapped.
CONNECTION_ERRORS = (
    requests.RequestException,
    urllib3.exceptions.HTTPError,
    docker.errors.StreamParseError,
)


class DockerError(ProviderError):
    """An error for users, in one line or a few."""


@dataclasses.dataclass
class Operation:
    """One call of the engine: the client, progress, cancellation and deadline.

    :param client: a docker.APIClient; most of its calls are untyped in the stubs
    :param deadline: end of all waits on the monotonic clock, or None
    """

    client: Any
    status: Callable[[str], None]
    cancellation: Cancellation
    deadline: float | None = None

    def pause(self, seconds: float) -> None:
        """Sleep between two polls of the daemon; raises CancelledError on cancellation."""
        self.cancellation.sleep(seconds)

    def remaining(self, bound: float) -> float:
        """The smaller of ``bound`` and the time left, in seconds."""
        if self.deadline is None:
            return bound
        return max(0.0, min(bound, self.deadline - time.monotonic()))

    def until(
        self, done: Callable[[], bool], bound: float, late: Callable[[], str], every: float = 0.2
    ) -> None:
        """Poll until ``done``; after ``bound`` seconds raise DockerError with the text of ``late``."""
        end = time.monotonic() + self.remaining(bound)
        while not done():
            if time.monotonic() >= end:
                raise DockerError(late())
            self.pause(every)


@contextlib.contextmanager
def connect(host: str | None) -> Iterator[Any]:
    """A client for one operation; DockerError if no daemon responds."""
    address = host or DEFAULT_HOST
    try:
        _probe(address)
        client: Any = docker.APIClient(base_url=address, version="auto", timeout=_ANSWER_SECONDS)
    except (docker.errors.DockerException, OSError) as error:
        raise DockerError(
            f"no Docker daemon responds at {address} ({_cause(error)}); start it, or set another "
            "address with DOCKER_HOST or the configuration docker:host"
        ) from None
    with contextlib.closing(client):
        try:
            yield client
        except docker.errors.APIError as error:
            raise DockerError(explain(error)) from None
        except CONNECTION_ERRORS as error:
            raise DockerError(
                f"the connection to the Docker daemon at {address} was lost ({_cause(error)})"
            ) from None


def explain(error: docker.errors.APIError) -> str:
    """The daemon's error message."""
    return str(error.explanation or error).strip()


def found(look: Callable[[], Any]) -> dict[str, Any] | None:
    """The result of ``look``, or None if the object does not exist."""
    try:
        answer: dict[str, Any] = look()
    except docker.errors.NotFound:
        return None
    return answer


def _probe(address: str) -> None:
    # Before the SDK, which does not close its socket if the daemon does not respond.
    if address.startswith("unix://"):
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            # A daemon that hangs accepts no more connections after a while.
            connection.settimeout(_ANSWER_SECONDS)
            connection.connect(address.removeprefix("unix://"))


def _cause(error: BaseException) -> str:
    text = str(error)
    for words in ("No such file or directory", "Connection refused", "Permission denied"):
        if words in text:
            return words.lower()
    return text.splitlines()[0][:200] if text else type(error).__name__
