"""Settings from the environment."""

import os
from collections.abc import Mapping
from dataclasses import dataclass

SIGNATURES = ("context", "http", "cloudevent", "typed")


@dataclass(frozen=True)
class Settings:
    """The function's settings, all set by the component.

    The environment variables differ from those that functions-framework reads and sets itself.
    """

    name: str = "function"
    """The function's name in the log."""
    source: str = "/opt/function/source/main.py"
    """The file with the function."""
    target: str = "handler"
    """Name of the function in the file."""
    signature: str = "context"
    """One of SIGNATURES."""
    concurrency: int = 8
    """Maximum concurrent requests."""
    waiting: int = 32
    """Maximum queued requests; more get a 503."""
    timeout: float = 30.0
    """Seconds for one request, from the start of the function."""
    host: str = "0.0.0.0"  # noqa: S104
    port: int = 8080
    health_port: int = 8081
    upstream: str = ""
    """``host:port`` of a decorator's upstream service; empty without one."""
    on_failure: str = "closed"
    """Whether a failed decorator refuses the request (``closed``) or forwards it (``open``)."""
    response: str = ""
    """Name of the function that changes the service's responses, in the same file."""

    @classmethod
    def load(cls, environment: Mapping[str, str] = os.environ) -> "Settings":
        """Read the environment; unset variables have their defaults."""
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
