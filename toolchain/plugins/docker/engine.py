"""The Docker Engine, and what the engine of Pulumi lets an operation say and know."""

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
# While an answer is read in parts, urllib3's errors come as they are.
BROKEN_OFF = (
    requests.RequestException,
    urllib3.exceptions.HTTPError,
    docker.errors.StreamParseError,
)


class DockerError(ProviderError):
    """Something that a user can act upon, in one line or a few."""


@dataclasses.dataclass
class Operation:
    """One call of the engine: the client, a way to report progress, and a way to notice the end.

    :param client: a docker.APIClient; the stubs leave most of its calls untyped
    :param deadline: seconds on the monotonic clock after which waiting ends, or None
    """

    client: Any
    status: Callable[[str], None]
    cancellation: Cancellation
    deadline: float | None = None

    def pause(self, seconds: float) -> None:
        """Wait between two looks at the daemon; raises Cancelled as soon as that is asked for."""
        self.cancellation.sleep(seconds)

    def remaining(self, bound: float) -> float:
        """The smaller of ``bound`` and the time left, in seconds."""
        if self.deadline is None:
            return bound
        return max(0.0, min(bound, self.deadline - time.monotonic()))

    def until(
        self, done: Callable[[], bool], bound: float, late: Callable[[], str], every: float = 0.2
    ) -> None:
        """Look until ``done``; after ``bound`` seconds raise DockerError with the text of ``late``."""
        end = time.monotonic() + self.remaining(bound)
        while not done():
            if time.monotonic() >= end:
                raise DockerError(late())
            self.pause(every)


@contextlib.contextmanager
def connect(host: str | None) -> Iterator[Any]:
    """A client for one operation; DockerError where no daemon answers."""
    address = host or DEFAULT_HOST
    try:
        _knock(address)
        client: Any = docker.APIClient(base_url=address, version="auto", timeout=_ANSWER_SECONDS)
    except (docker.errors.DockerException, OSError) as error:
        raise DockerError(
            f"no Docker daemon answers at {address} ({_cause(error)}); start it, or name another "
            "with DOCKER_HOST or the configuration docker:host"
        ) from None
    with contextlib.closing(client):
        try:
            yield client
        except docker.errors.APIError as error:
            raise DockerError(explain(error)) from None
        except BROKEN_OFF as error:
            raise DockerError(
                f"the Docker daemon at {address} went away ({_cause(error)})"
            ) from None


def explain(error: docker.errors.APIError) -> str:
    """The daemon's own words."""
    return str(error.explanation or error).strip()


def found(look: Callable[[], Any]) -> dict[str, Any] | None:
    """What ``look`` gives, or None where the daemon does not know the object."""
    try:
        answer: dict[str, Any] = look()
    except docker.errors.NotFound:
        return None
    return answer


def _knock(address: str) -> None:
    # The SDK does not close its socket where the daemon does not answer.
    if address.startswith("unix://"):
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as knocking:
            # A daemon that hangs takes no more connections after a while.
            knocking.settimeout(_ANSWER_SECONDS)
            knocking.connect(address.removeprefix("unix://"))


def _cause(error: BaseException) -> str:
    text = str(error)
    for words in ("No such file or directory", "Connection refused", "Permission denied"):
        if words in text:
            return words.lower()
    return text.splitlines()[0][:200] if text else type(error).__name__
