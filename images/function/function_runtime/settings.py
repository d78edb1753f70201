"""What the environment says."""

import os
from collections.abc import Mapping
from dataclasses import dataclass

SIGNATURES = ("context", "http", "cloudevent", "typed")


@dataclass(frozen=True)
class Settings:
    """How the function is run. The component sets each of these.

    The names of the variables are not those that functions-framework reads and sets itself.
    """

    name: str = "function"
    """In every line of the log."""
    source: str = "/opt/function/source/main.py"
    """The file that has the function."""
    target: str = "handler"
    """Its name in that file."""
    signature: str = "context"
    """One of SIGNATURES."""
    concurrency: int = 8
    """Requests that it works on at the same time."""
    waiting: int = 32
    """Requests that wait for one of these to end; more are answered with 503."""
    timeout: float = 30.0
    """Seconds for one request, from the moment at which the function starts."""
    host: str = "0.0.0.0"  # noqa: S104
    port: int = 8080
    health_port: int = 8081
    upstream: str = ""
    """``host:port`` of the service that a decorator stands in front of; empty without one."""
    on_failure: str = "closed"
    """What a decorator that fails does with the request: ``closed`` or ``open``."""
    response: str = ""
    """Name of the function that changes the service's answers, in the same file."""

    @classmethod
    def load(cls, environment: Mapping[str, str] = os.environ) -> "Settings":
        """Read the environment; what is not set keeps its default."""
        given = {
            "name": environment.get("FUNCTION_NAME"),
            "source": environment.get("FUNCTION_FILE"),
            "target": environment.get("FUNCTION_HANDLER"),
            "signature": environment.get("FUNCTION_FORM"),
            "concurrency": _number(environment.get("FUNCTION_CONCURRENCY"), int),
            "waiting": _number(environment.get("FUNCTION_QUEUE_SIZE"), int),
            "timeout": _number(environment.get("FUNCTION_TIMEOUT_SECONDS"), float),
            "host": environment.get("FUNCTION_HOST"),
            "port": _number(environment.get("FUNCTION_PORT"), int),
            "health_port": _number(environment.get("FUNCTION_HEALTH_PORT"), int),
            "upstream": environment.get("FUNCTION_UPSTREAM"),
            "on_failure": environment.get("FUNCTION_ON_FAILURE"),
            "response": environment.get("FUNCTION_RESPONSE"),
        }
        return cls(**{key: value for key, value in given.items() if value is not None})


def _number(text: str | None, kind: type) -> float | None:
    return None if text is None else kind(text)
