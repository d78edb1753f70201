"""nginx's configuration language as values: directives, blocks, and the text that nginx reads.

``document`` has what every nginx of this project has in common: an unprivileged user, a read-only
root filesystem with only TEMPORARY to write to, and logs on the container's output. It needs
``nginx -e stderr``, which ``command`` gives.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

from dds_patterns.arguments import InputError, between
from dds_patterns.arguments.constraints import Constraint
from dds_patterns.values import resolv
from dds_patterns.values.endpoint import Endpoint

TEMPORARY = "/tmp"  # noqa: S108
"""Folder that must be writable, for the pid and temporary files."""

SOCKET = ".sock"
"""Suffix of nginx's Unix sockets in TEMPORARY. ``command`` removes stale ones: a killed nginx
leaves them behind, and the next one would not start."""

RESOLVER_FILE = f"{TEMPORARY}/resolver.conf"
"""Where ``command`` writes the settings from the container's /etc/resolv.conf."""

HeaderKib = Annotated[int, between(8, 256)]
"""Argument of ``passing``."""

# nginx accepts no word of 4096 bytes.
_LONGEST = 256
Literal = Annotated[
    str,
    Constraint(
        f"printable text of at most {_LONGEST} characters on one line, without $",
        lambda text: 0 < len(text) <= _LONGEST and text.isprintable() and "$" not in text,
        ("", "a$b", "a\nb", "a\tb", "a\x7f", "\0", "a" * (_LONGEST + 1)),
    ),
]
"""A text without variables: nginx has no escape for ``$``."""

_COMMANDS = ("Redirect", "Expires", "Limit-Rate", "Charset")
_PLAIN = re.compile(r"[-+*/~^$=!?.,:@%&()|<>\[\]A-Za-z0-9_]+")
_NAME = re.compile(r"[a-z][a-z0-9_]*")
_STORED = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
_INDENT = "  "

# nginx neither reads /etc/resolv.conf nor applies search domains, so ``command`` does both.
_RESOLVER_LINES = r"""
  print "resolver" servers " valid=" valid ";"
  print "map \"\" $namespace { default \"" namespace "\"; }"
  print "map \"\" $cluster_domain { default \"" domain "\"; }"
"""


@dataclass(frozen=True)
class Comment:
    """A comment."""

    text: str


@dataclass(frozen=True)
class Directive:
    """``name value value;``, or with ``inside`` a block ``name value { ... }``.

    Values are words as nginx sees them; ``text`` quotes those that need it. ``$`` starts a
    variable, so what comes from a user is a ``Literal``.
    """

    name: str
    values: tuple[str, ...] = ()
    inside: "tuple[Statement, ...] | None" = None


Statement = Directive | Comment


def directive(name: str, *values: object) -> Directive:
    """A simple directive. Booleans become ``on`` and ``off``."""
    return Directive(_name(name), tuple(_word(value) for value in values))


def block(head: str, *inside: Statement) -> Directive:
    """A block with its statements.

    :param head: its name and values, such as ``location = /healthz``, separated by blanks
    """
    name, *values = head.split()
    return Directive(_name(name), tuple(values), inside)


def mapping(source: str, variable: str, entries: Sequence[tuple[str, str]]) -> Directive:
    """``map source $variable { key value; ... }``; a key may be ``default`` or start with ``~``.

    :param variable: without ``$``
    """
    return table("map", source, f"${variable}", entries=entries)


def table(name: str, *values: object, entries: Sequence[tuple[str, str]]) -> Directive:
    """A block of pairs that are no directives: ``map``, ``split_clients``, ``geo``, ``types``."""
    lines = tuple(Directive(_quoted(key), (value,)) for key, value in entries)
    return Directive(_name(name), tuple(_word(value) for value in values), lines)


def passing(header_kib: int) -> list[Statement]:
    """A proxy's directives that pass through what nginx changes, cuts or refuses by default.

    :param header_kib: most of one request's line or header, and of an answer's headers
        together; four times as much for all headers of a request
    """
    size = f"{header_kib}k"
    return [
        # Headers with an underscore or a dot are silently dropped otherwise.
        directive("ignore_invalid_headers", False),
        directive("underscores_in_headers", True),
        directive("large_client_header_buffers", 4, size),
        directive("proxy_buffer_size", size),
        # nginx requires as much again beside the busy buffers.
        directive("proxy_buffers", 8, f"{header_kib // 4}k"),
        directive("proxy_busy_buffers_size", size),
        directive("proxy_redirect", False),
        # These are the application's own headers, not commands for nginx.
        directive("proxy_ignore_headers", *(f"X-Accel-{what}" for what in _COMMANDS)),
        *(directive("proxy_pass_header", name) for name in ("Server", "Date")),
        *(directive("proxy_pass_header", f"X-Accel-{what}") for what in _COMMANDS),
    ]


def text(statements: Sequence[Statement]) -> str:
    """The configuration file."""
    return "\n".join(_lines(statements, "")) + "\n"


def document(
    title: str,
    *,
    http: Sequence[Statement] = (),
    stream: Sequence[Statement] = (),
    top: Sequence[Statement] = (),
    workers: int = 1,
    connections: int = 1024,
    resolver: bool = False,
) -> list[Statement]:
    """A whole configuration. It logs no request unless ``http`` has an ``access_log``.

    :param title: what it is for; its first line
    :param http: inside of ``http``
    :param stream: inside of ``stream``; needs the image's stream module
    :param top: more directives of the top level
    :param workers: processes
    :param connections: of each process, those to upstreams included
    :param resolver: whether names are looked up at run time, with the container's own name
        servers; needs ``command(resolver=True)``
    """
    statements: list[Statement] = [
        Comment(title),
        directive("worker_processes", workers),
        directive("pid", f"{TEMPORARY}/nginx.pid"),
        directive("error_log", "stderr", "warn"),
        *top,
    ]
    if stream:
        # Debian has it as a module; an nginx with it built in has no such file.
        statements.insert(1, directive("include", "/etc/nginx/modules-enabled/*-stream.conf"))
    statements.append(block("events", directive("worker_connections", connections)))
    found = [directive("include", RESOLVER_FILE)] if resolver else []
    if http:
        own: list[Statement] = [
            directive("access_log", False),
            directive("server_tokens", False),
            *(directive(f"{name}_temp_path", f"{TEMPORARY}/{name}") for name in _STORED),
            *found,
        ]
        statements.append(block("http", *own, *http))
    if stream:
        statements.append(block("stream", *found, *stream))
    return statements


def command(
    file: str, *, resolver: bool = False, valid: str = "5s", check: bool = False
) -> list[str]:
    """A container's command: nginx in the foreground with this configuration.

    :param file: the configuration's path
    :param resolver: whether to write RESOLVER_FILE first, with the name servers and the cluster's
        domain of this pod, and to remove stale sockets
    :param valid: how long an address is cached, in nginx's syntax
    :param check: only check the configuration, as ``nginx -t``
    """
    nginx = ["nginx", "-e", "stderr", "-c", file]
    nginx += ["-t"] if check else ["-g", "daemon off;"]
    if not resolver:
        return nginx
    script = (
        f"awk -v valid={valid} '{resolv.script(_RESOLVER_LINES)}' {resolv.FILE} "
        f"> {RESOLVER_FILE} && rm -f {TEMPORARY}/*{SOCKET} && "
        'exec "$@"'
    )
    return ["sh", "-c", script, "nginx", *nginx]


def lookup_address(endpoint: Endpoint) -> str:
    """``host:port`` with the full name, since nginx applies no search domains."""
    return f"{endpoint.lookup_host('$namespace', '$cluster_domain')}:{endpoint.port}"


def _name(text: str) -> str:
    if not _NAME.fullmatch(text):
        raise InputError("nginx", "directive", text, "must be the name of a directive")
    return text


def _word(value: object) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    return str(value)


def _quoted(word: str) -> str:
    if not word.isprintable():
        raise InputError("nginx", "value", word, "must be printable text on one line")
    if _PLAIN.fullmatch(word):
        return word
    return '"' + word.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _lines(statements: Sequence[Statement], indent: str) -> list[str]:
    lines: list[str] = []
    for statement in statements:
        if isinstance(statement, Comment):
            lines += [f"{indent}# {line}" for line in statement.text.splitlines()]
            continue
        head = " ".join([statement.name, *(_quoted(value) for value in statement.values)])
        if statement.inside is None:
            lines.append(f"{indent}{head};")
        else:
            lines.append(f"{indent}{head} {{")
            lines += _lines(statement.inside, indent + _INDENT)
            lines.append(f"{indent}}}")
    return lines
