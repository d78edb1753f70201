"""Fluentd's configuration language as values, in its current syntax (``@type``)."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from dds_patterns.arguments.errors import InputError

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


def source(given: Mapping[str, Any]) -> Section | None:
    """A source of the log adapter with the plugin of its kind; None if there is no plugin.

    The plugins of redis_slowlog and storm are the book's. For nginx's log, in the combined format,
    Fluentd keeps its position in a file.
    """
    kind, tag = given["kind"], given["name"].replace("-", ".")
    if kind == "redis_slowlog":
        host, _, port = given["address"].rpartition(":")
        parameters = {"host": host.strip("[]"), "port": port, "tag": tag}
        return Section("source", "redis_slowlog", parameters=parameters)
    if kind == "storm":
        parameters = {"tag": tag, **{key: given[key] for key in ("url", "window", "sys")}}
        return Section("source", "storm", parameters=parameters)
    if kind == "nginx_access":
        parameters = {
            "path": given["path"],
            "pos_file": f"/var/lib/fluentd/{tag}.pos",
            "tag": tag,
            "read_from_head": "true",
        }
        parse = Section("parse", "nginx")
        return Section("source", "tail", parameters=parameters, inside=(parse,))
    return None


def configuration(sources: Sequence[Mapping[str, Any]]) -> str:
    """The log adapter's sources as a configuration file; entries go to stdout as JSON lines."""
    sections = [section for given in sources if (section := source(given)) is not None]
    output = Section("match", "stdout", argument="**", inside=(Section("format", "json"),))
    lines = [line for section in (*sections, output) for line in section.lines()]
    return "\n".join(lines) + "\n"


def _value(value: str | int) -> str:
    # A # after a blank starts a comment, and a leading quote or bracket has a meaning of its own.
    written = str(value)
    if " #" in written or written[0] in "\"'[{#" or written != written.strip():
        return '"' + written.replace("\\", "\\\\").replace('"', '\\"').replace("#{", "\\#{") + '"'
    return written
