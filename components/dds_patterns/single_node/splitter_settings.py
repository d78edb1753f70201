"""Arguments of the request splitter, and the checks across them."""

from typing import Annotated, NotRequired, TypedDict

from dds_patterns.arguments import (
    Default,
    DefaultsTo,
    InputError,
    Later,
    between,
    matching,
    one_of,
    resolved,
)
from dds_patterns.arguments.addresses import HeaderName, UnprivilegedPort
from dds_patterns.arguments.constraints import Constraint
from dds_patterns.arguments.images import Image
from dds_patterns.arguments.names import check_name
from dds_patterns.arguments.quantities import Percent
from dds_patterns.arguments.together import different, left_out
from dds_patterns.values.nginx import HeaderKib, Literal
from dds_patterns.values.reach import ONE_ENDPOINT, Reach, speaking
from dds_patterns.workloads.program import RESERVE, ScrapedArgs

CONTROL = "control"
"""Name of the arm that all other users see."""
EXPERIMENT = "experiment"
"""Name of the arm that ``percent`` of the users see."""
ARMS = (CONTROL, EXPERIMENT)
"""Both arms."""

KEYS = {"header": "X-User-Id", "cookie": "user", "address": "X-Forwarded-For"}
"""What can identify a user, with the default name of the header or cookie."""

# Headers of framing and routing, which do not identify a user.
_OF_MESSAGES = frozenset(
    (
        "connection", "content-encoding", "content-length", "content-type", "cookie",
        "expect", "host", "keep-alive", "proxy-connection", "te", "trailer",
        "transfer-encoding", "upgrade",
    )
)  # fmt: skip
# An arm's name in one of these would mislead, and overwrite the application's value.
_OF_HTTP = _OF_MESSAGES | frozenset(
    (
        "accept", "accept-charset", "accept-encoding", "accept-language", "accept-ranges",
        "age", "allow", "authorization", "cache-control", "content-disposition",
        "content-language", "content-location", "content-range", "date", "etag", "expires",
        "forwarded", "from", "if-match", "if-modified-since", "if-none-match", "if-range",
        "if-unmodified-since", "last-modified", "link", "location", "max-forwards",
        "origin", "pragma", "proxy-authenticate", "proxy-authorization", "range", "referer",
        "retry-after", "server", "set-cookie", "strict-transport-security", "user-agent",
        "vary", "via", "warning", "www-authenticate", "x-forwarded-for", "x-forwarded-host",
        "x-forwarded-port", "x-forwarded-proto", "x-real-ip",
    )
)  # fmt: skip
# nginx does not start if a header that it sets has a much longer name.
_LONGEST_FORCE = 40
_OwnHeader = Annotated[
    HeaderName,
    Constraint(
        f"a header of its own, of at most {_LONGEST_FORCE} characters, such as X-Arm: none that "
        "HTTP, proxies or nginx use",
        lambda name: (
            len(name) <= _LONGEST_FORCE
            and name.lower() not in _OF_HTTP
            and not name.lower().startswith("x-accel-")
        ),
        (
            "Host", "content-length", "Connection", "Transfer-Encoding", "COOKIE", "Set-Cookie",
            "X-Accel-Redirect", "X" * (_LONGEST_FORCE + 1),
        ),
    ),
]  # fmt: skip


class StickyArgs(TypedDict):
    """What identifies a user, so that each sees one arm only (sticky sessions)."""

    by: Annotated[str, one_of(*KEYS)]
    """The address comes from a header that the application sends: all connections come from
    localhost, so their own address identifies no user."""
    name: NotRequired[
        Annotated[
            str,
            matching(
                r"[A-Za-z0-9_][-_A-Za-z0-9]*",
                "the name of a header or cookie, such as X-User-Id or user",
                most=64,
                odd=("X User", "a;b", "$a", "a:b", "-a", "ä", "a\n", "a\r\nb: c", '"a"'),
            ),
            DefaultsTo("X-User-Id, user or X-Forwarded-For"),
        ]
    ]
    """Name of the header or cookie. Of a list of addresses the first counts."""
    without: NotRequired[Annotated[str, one_of(CONTROL, "random"), Default(CONTROL)]]
    """Arm of a request without it; ``random`` chooses for each request."""


class RequestSplitterArgs(ScrapedArgs):
    """Arguments of RequestSplitter."""

    image: Later[Image]
    """Image with nginx, sh and awk."""
    metrics_image: Later[Image]
    """The project's image ``companions``, whose program counts requests by arm."""
    control: Annotated[Reach, speaking("http"), ONE_ENDPOINT]
    """What all other users see, most often ``application.reach``. Requests keep their path; the
    reach's own path is ignored."""
    experiment: Annotated[Reach, speaking("http"), ONE_ENDPOINT]
    """What ``percent`` of the users see."""
    percent: NotRequired[Annotated[Percent, Default(10)]]
    """Share of the users in the experiment, in percent; 0 is off."""
    sticky: NotRequired[Annotated[StickyArgs, Default({"by": "header"})]]
    """What identifies a user."""
    salt: NotRequired[Annotated[Literal, DefaultsTo("the component's name")]]
    """Hashed with the user, so that each experiment has other users. Another salt chooses other
    users."""
    force_header: NotRequired[Annotated[_OwnHeader, Default("X-Arm")]]
    """Header that chooses the arm by name, ``control`` or ``experiment``, for any user. It is also
    sent to the arms, and to the application with the response."""
    policy: NotRequired[Annotated[str, one_of("default", "seed"), Default("default")]]
    """``seed`` is the configuration that the book prints, which sends all users to one arm: only
    ports and ``resources`` can be set with it, and there are no metrics."""
    listen_port: NotRequired[Annotated[UnprivilegedPort, Default(8080)]]
    """Port on 127.0.0.1 for the application."""
    status_port: NotRequired[Annotated[UnprivilegedPort, Default(8081)]]
    """Port for the kubelet's probes, on all addresses."""
    metrics_port: NotRequired[Annotated[UnprivilegedPort, Default(9114)]]
    """Port for Prometheus, on all addresses."""
    line_port: NotRequired[Annotated[UnprivilegedPort, Default(5140)]]
    """UDP port on 127.0.0.1 from nginx to the counter."""
    connect_timeout_ms: NotRequired[Annotated[int, between(1, 600_000), Default(2000)]]
    """Milliseconds for an arm to accept a connection."""
    timeout_seconds: NotRequired[Annotated[int, between(1, 86_400), Default(60)]]
    """Seconds without a byte from an arm after which the response is 504."""
    header_kib: NotRequired[Annotated[HeaderKib, Default(32)]]
    """Largest header line of a request, and largest total of a response's headers, in KiB. Larger
    ones fail with 414 or 400, and 502. Each request in progress takes as much memory."""


_FIXED_BY_SEED = (
    "percent", "sticky", "salt", "force_header", "metrics_port", "line_port",
    "metrics_clients", "connect_timeout_ms", "timeout_seconds", "header_kib",
)  # fmt: skip


def checked(where: str, name: str, given: RequestSplitterArgs) -> RequestSplitterArgs:
    """The arguments, complete, or InputError."""
    check_name(where, name, reserve=RESERVE, service=True)
    args = resolved(where, RequestSplitterArgs, given)
    if args["policy"] == "seed":
        left_out(where, given, _FIXED_BY_SEED, 'policy "seed" is what the book prints')
    args.setdefault("salt", name)
    _check_key(where, args["sticky"], args["force_header"])
    different(where, args, "listen_port", "status_port", "metrics_port")
    return args


def _check_key(where: str, sticky: StickyArgs, force_header: str) -> None:
    key = sticky.get("name", KEYS[sticky["by"]])
    if sticky["by"] == "cookie":
        if "-" in key:
            raise InputError(
                where, "sticky.name", key, "must be letters, digits and underscores for a cookie"
            )
        return
    if "_" in key or key.lower() in _OF_MESSAGES:
        raise InputError(
            where, "sticky.name", key, "must be a header that identifies a user, such as X-User-Id"
        )
    if key.lower() == force_header.lower():
        raise InputError(
            where,
            "force_header",
            force_header,
            "must differ from the header that identifies the user",
        )
