"""The schema of the package: all components, and the types of their arguments and outputs."""

import inspect
from importlib import metadata
from typing import Any

import pulumi

from dds_patterns.arguments import describe
from dds_patterns.arguments.declared import Declared, arguments_of
from dds_patterns.wire.components import PACKAGE, components, declaration, outputs, token
from dds_patterns.wire.names import camel

DISTRIBUTION = "dds-patterns"
_ANY = {"$ref": "pulumi.json#/Any"}
_SCALARS = {int: "integer", float: "number", str: "string", bool: "boolean"}


def version() -> str:
    """The version of the package, also that of the plugin."""
    return metadata.version(DISTRIBUTION)


def schema() -> dict[str, Any]:
    """The schema as `pulumi package get-schema` prints it."""
    types = _Types()
    resources = {name: _resource(types, kind) for name, kind in components().items()}
    languages = ("csharp", "go", "nodejs", "python")
    return {
        "name": PACKAGE,
        "displayName": "Designing Distributed Systems",
        "version": version(),
        "description": metadata.metadata(DISTRIBUTION)["Summary"],
        "license": metadata.metadata(DISTRIBUTION)["License-Expression"],
        "language": {language: {"respectSchemaVersion": True} for language in languages},
        "resources": resources,
        "types": dict(sorted(types.found.items())),
    }


def _resource(types: "_Types", kind: type[pulumi.Resource]) -> dict[str, Any]:
    given = outputs(kind)
    inputs = types.fields(declaration(kind))
    return {
        "isComponent": True,
        "description": inspect.getdoc(kind),
        "inputProperties": inputs["properties"],
        "requiredInputs": inputs["required"],
        "properties": {
            camel(key): {**types.of(each.declared), **_said(each.says)}
            for key, each in sorted(given.items())
        },
        "required": sorted(camel(key) for key, each in given.items() if each.declared.required),
    }


def _said(text: str | None) -> dict[str, str]:
    return {"description": text} if text else {}


class _Types:
    """The types that the schema of the package needs, by token."""

    def __init__(self) -> None:
        self.found: dict[str, dict[str, Any]] = {}

    def fields(self, kind: type) -> dict[str, Any]:
        """The properties of a TypedDict or dataclass."""
        fields = arguments_of(kind)
        return {
            "properties": {camel(key): self._property(kind, key) for key in sorted(fields)},
            "required": sorted(camel(key) for key, each in fields.items() if each.required),
        }

    def _property(self, kind: type, key: str) -> dict[str, Any]:
        declared = arguments_of(kind)[key]
        row = describe.row(kind, key)
        default = "" if declared.required else f" Default: {row.default}."
        secret = declared.deferrable is not None and declared.deferrable.secret
        return {
            **self.of(declared),
            "description": f"{row.says}\n\nTakes {row.takes}.{default}".strip(),
            **({"secret": True} if secret else {}),
        }

    def of(self, declared: Declared) -> dict[str, Any]:
        """The type of what is declared."""
        if declared.form == "scalar":
            return {"type": _SCALARS[declared.type]}
        if declared.keys is not None and declared.items is not None:
            return {"type": "object", "additionalProperties": self.of(declared.items)}
        if declared.items is not None:
            return {"type": "array", "items": self.of(declared.items)}
        if declared.form == "kubernetes":
            return {"type": "object", "additionalProperties": _ANY}
        if declared.type is pulumi.Resource:
            return {"type": "string"}
        if declared.form == "any" or not declared.has_keys:
            return _ANY
        return self._reference(declared.type)

    def _reference(self, kind: type) -> dict[str, Any]:
        name = token(kind.__name__.removesuffix("Args"))
        if name not in self.found:
            # First a place for it: a type may have parts of its own kind.
            self.found[name] = {}
            self.found[name] = {
                "type": "object",
                **_said(inspect.getdoc(kind)),
                **self.fields(kind),
            }
        return {"$ref": f"#/types/{name}"}
