"""How a companion tells the application of a change: by a signal or by a request."""

import re
from typing import NotRequired, TypedDict

from components.arguments.errors import InputError
from components.values import checks

SIGNALS = ("HUP", "INT", "QUIT", "TERM", "USR1", "USR2", "WINCH")

_URL = re.compile(r"http://(localhost|127\.0\.0\.1)(:[0-9]{1,5})?(/[!-~]*)?")
_PROCESS = re.compile(r"[A-Za-z0-9][-._A-Za-z0-9]{0,62}")


class OnChangeArgs(TypedDict):
    """How the application hears of a change: by a signal or by a request, not both."""

    signal: NotRequired[str]
    """Sent to every process named ``process`` in the pod: HUP, INT, QUIT, TERM, USR1, USR2 or
    WINCH. The containers of the pod then see each other's processes. All but INT, QUIT and TERM are
    sent only to a process that catches, blocks or awaits them; one that is starting is told later."""
    process: NotRequired[str]
    """Name of the program's file, or of the script that an interpreter runs."""
    url: NotRequired[str]
    """``http://localhost:<port>/<path>`` of the application, which gets a POST."""


def check_change(where: str, change: OnChangeArgs) -> None:
    """Refuse what is neither of the two, or not complete."""
    checks.known_arguments(f"{where}: on_change", OnChangeArgs, change)
    if ("url" in change) == ("signal" in change):
        raise InputError(where, "on_change", dict(change), "must have signal or url, one of them")
    if ("signal" in change) != ("process" in change):
        raise InputError(
            where, "on_change", dict(change), "must have process with signal, and not without"
        )
    if "url" in change:
        if not _URL.fullmatch(change["url"]):
            raise InputError(
                where,
                "on_change.url",
                change["url"],
                "must be of the application in the same pod: http://localhost:<port>/<path>",
            )
        return
    checks.one_of(where, "on_change.signal", change["signal"], SIGNALS)
    if not _PROCESS.fullmatch(change["process"]):
        raise InputError(
            where,
            "on_change.process",
            change["process"],
            "must be the name of a program's file, without its folder",
        )
