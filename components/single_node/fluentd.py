"""Fluentd's configuration language as values, in its current syntax (``@type``)."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from components.arguments.errors import InputError

_NAME = re.compile(r"[a-z][a-z0-9_]*")
_PARAMETER = re.compile(r"@?[a-z][a-z0-9_]*")
_INDENT = "  "


@dataclass(frozen=True)
class Section:
    """``<name argument> ... </name>``."""

    name: str
    type: str | None = None
    """The plugin, written as ``@type``."""
    argument: str = ""
    """A tag pattern, for ``match`` and ``filter``."""
    parameters: Mapping[str, str | int] = field(default_factory=dict)
    inside: Sequence["Section"] = ()

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise InputError("fluentd", "section", self.name, "must be the name of a section")
        for key, value in self.parameters.items():
            if not _PARAMETER.fullmatch(key):
                raise InputError("fluentd", "parameter", key, "must be the name of a parameter")
            # An old `type` would be taken for a parameter of the plugin.
            if key == "type":
                raise InputError("fluentd", "parameter", key, "must be given as the section's type")
            if not str(value).isprintable() or not str(value):
                raise InputError("fluentd", key, value, "must be printable text on one line")

    def lines(self, indent: str = "") -> list[str]:
        """The section's lines."""
        argument = f" {self.argument}" if self.argument else ""
        inner = indent + _INDENT
        lines = [f"{indent}<{self.name}{argument}>"]
        if self.type is not None:
            lines.append(f"{inner}@type {self.type}")
        lines += [f"{inner}{key} {_value(value)}" for key, value in self.parameters.items()]
        for section in self.inside:
            lines += section.lines(inner)
        return [*lines, f"{indent}</{self.name}>"]


def text(sections: Sequence[Section]) -> str:
    """The configuration file."""
    return "\n".join(line for section in sections for line in section.lines()) + "\n"


def redis_slowlog(host: str, port: int, tag: str) -> Section:
    """The book's source of Redis' slow log, by the plugin of that name."""
    return Section("source", "redis_slowlog", parameters={"host": host, "port": port, "tag": tag})


def storm(url: str, window: int, system: int, tag: str) -> Section:
    """The book's source of Storm's metrics, by the plugin of that name."""
    return Section(
        "source",
        "storm",
        parameters={"tag": tag, "url": url, "window": window, "sys": system},
    )


def nginx_access(path: str, tag: str) -> Section:
    """The access log of nginx in the combined format; Fluentd keeps the position in a file."""
    return Section(
        "source",
        "tail",
        parameters={
            "path": path,
            "pos_file": f"/var/lib/fluentd/{tag}.pos",
            "tag": tag,
            "read_from_head": "true",
        },
        inside=(Section("parse", "nginx"),),
    )


def to_output() -> Section:
    """Everything to the container's output, a line of JSON each."""
    return Section("match", "stdout", argument="**", inside=(Section("format", "json"),))


def _value(value: str | int) -> str:
    # A # after a blank starts a comment, and a leading quote or bracket has a meaning of its own.
    written = str(value)
    if " #" in written or written[0] in "\"'[{#" or written != written.strip():
        return '"' + written.replace("\\", "\\\\").replace('"', '\\"').replace("#{", "\\#{") + '"'
    return written
