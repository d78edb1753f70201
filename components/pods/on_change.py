"""How a companion tells the application of a change: by a signal or by a request."""

from typing import Annotated, NotRequired, TypedDict

from components.arguments import InputError, matching, one_of
from components.arguments.addresses import url

SIGNALS = ("HUP", "INT", "QUIT", "TERM", "USR1", "USR2", "WINCH")

_IN_THE_POD = "of the application in the same pod, such as http://localhost:8080/reload"


class OnChangeArgs(TypedDict):
    """How the application hears of a change: by a signal or by a request, not both."""

    signal: NotRequired[Annotated[str, one_of(*SIGNALS)]]
    """Sent to every process named ``process`` in the pod. The containers of the pod then see each
    other's processes. All but INT, QUIT and TERM are sent only to a process that catches, blocks or
    awaits them; one that is starting is told later."""
    process: NotRequired[
        Annotated[
            str,
            matching(
                r"[A-Za-z0-9][-._A-Za-z0-9]*",
                "the name of a program's file, without its folder",
                most=63,
                odd=("/bin/web", "-web", "web.py --now", "web\n", "we:b"),
            ),
        ]
    ]
    """Name of the program's file, or of the script that an interpreter runs."""
    url: NotRequired[
        Annotated[
            str,
            url("http", says=_IN_THE_POD),
            matching(
                r"http://(localhost|127\.0\.0\.1)(:[0-9]+)?(/[^#]*)?",
                _IN_THE_POD,
                most=1024,
                odd=("https://localhost/", "http://example.org/", "http://localhost/#x"),
            ),
        ]
    ]
    """URL of the application, which gets a POST."""


def check_change(where: str, change: OnChangeArgs) -> None:
    """Refuse what is neither of the two, or not complete."""
    if ("url" in change) == ("signal" in change):
        raise InputError(where, "on_change", change, "must have signal or url, one of them")
    if ("signal" in change) != ("process" in change):
        raise InputError(
            where, "on_change", change, "must have process with signal, and not without"
        )
