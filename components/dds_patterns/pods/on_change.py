"""How a companion notifies the application of a change: by a signal or by an HTTP request."""

from typing import Annotated, NotRequired, TypedDict

from dds_patterns.arguments import InputError, matching, one_of
from dds_patterns.arguments.addresses import url

SIGNALS = ("HUP", "INT", "QUIT", "TERM", "USR1", "USR2", "WINCH")

_IN_THE_POD = "of the application in the same pod, such as http://localhost:8080/reload"


class OnChangeArgs(TypedDict):
    """How the application is notified of a change: by a signal or by an HTTP request, not both."""

    signal: NotRequired[Annotated[str, one_of(*SIGNALS)]]
    """Sent to every process named ``process`` in the pod. The pod's containers then share a process
    namespace. All but INT, QUIT and TERM are sent only to a process that catches, blocks or awaits
    them; a process that is starting gets it later."""
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
    """File name of the program, or of the script that an interpreter runs."""
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
    """URL of the application that gets a POST request."""


def check_change(where: str, change: OnChangeArgs) -> None:
    """Refuse both or neither of signal and url, and a signal without its process."""
    if ("url" in change) == ("signal" in change):
        raise InputError(where, "on_change", change, "must have signal or url, one of them")
    if ("signal" in change) != ("process" in change):
        raise InputError(
            where, "on_change", change, "must have process with signal, and not without"
        )
