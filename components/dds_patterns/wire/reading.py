"""From the wire: plain JSON as the values and arguments that the declarations describe."""

from collections.abc import Mapping
from typing import Any, TypeVar, cast

import pulumi
from pulumi.resource import DependencyResource

from dds_patterns.arguments.constraints import nearest
from dds_patterns.arguments.declared import Declared, arguments_of
from dds_patterns.arguments.place import Place
from dds_patterns.wire.leaf import Leaf
from dds_patterns.wire.names import camel

T = TypeVar("T")


def from_wire(kind: type[T], value: Mapping[str, Any]) -> T:
    """A value such as a Companion, from its wire form.

    :param kind: its class
    :raises InputError: the value does not allow it
    """
    place = Place(kind.__name__)
    return cast(T, Reading().value(place, Declared("value", kind), value))


class Reading:
    """Reads the inputs of one component.

    Whether they are allowed is left to the component, except for what it would never see: unknown
    keys, and plain values that depend on other resources.
    """

    def __init__(self) -> None:
        self.dependencies: set[str] = set()
        """URNs of the resources that plain values depend on."""
        # Components give a value that has a secret as a secret as a whole; within it, what is
        # declared as one is.
        self._within_value = False

    def arguments(self, place: Place, declaration: type, value: Any) -> Any:
        """A mapping with known keys, in Python's spelling."""
        if not isinstance(value, Mapping):
            return self._loose(value)
        return self._fields(place, arguments_of(declaration), value)

    def value(self, place: Place, declared: Declared, value: Any) -> Any:
        """An instance of a dataclass, or a dependency."""
        if declared.type is pulumi.Resource and not isinstance(value, Mapping):
            urn = value.value if isinstance(value, Leaf) else value
            return DependencyResource(urn) if isinstance(urn, str) else urn
        if not isinstance(value, Mapping):
            return self._loose(value)
        fields = arguments_of(declared.type)
        outside, self._within_value = self._within_value, True
        try:
            found = self._fields(place, fields, value)
        finally:
            self._within_value = outside
        for key, each in fields.items():
            if each.required and found.get(key) is None:
                place.missing(key, [name for name, other in fields.items() if other.required])
        return declared.type(**{key: item for key, item in found.items() if item is not None})

    def _fields(
        self, place: Place, fields: Mapping[str, Declared], value: Mapping[str, Any]
    ) -> dict[str, Any]:
        names = {camel(key): key for key in fields}
        found: dict[str, Any] = {}
        for name, item in value.items():
            if name not in names:
                place.unknown(name, nearest(name, names))
            key = names[name]
            found[key] = self._read(place.key(key), fields[key], item)
        return found

    def _read(self, place: Place, declared: Declared, value: Any) -> Any:
        if isinstance(value, Leaf):
            return self._leaf(place, declared, value)
        if declared.form == "arguments":
            return self.arguments(place, declared.type, value)
        if declared.form == "value":
            return self.value(place, declared, value)
        if declared.items is not None and isinstance(value, Mapping):
            return {k: self._read(place.entry(k), declared.items, v) for k, v in value.items()}
        if declared.items is not None and isinstance(value, list):
            return [self._read(place.entry(k), declared.items, v) for k, v in enumerate(value)]
        return self._loose(value)

    def _leaf(self, place: Place, declared: Declared, leaf: Leaf) -> Any:
        allowed = declared.deferrable
        if allowed is None and leaf.known and declared.form not in ("any", "kubernetes"):
            if self._is_secret(leaf):
                place.hidden().refuse(None, "must not be a secret: it decides what is deployed")
            self.dependencies |= leaf.dependencies
            return self.value(place, declared, leaf) if declared.form == "value" else leaf.value
        if allowed is None:
            return self._loose(leaf)
        secret = self._is_secret(leaf) or (allowed.secret and leaf.in_secret)
        marked = secret or leaf.dependencies or not leaf.known
        return leaf.output(secret=secret) if marked else leaf.value

    def _is_secret(self, leaf: Leaf) -> bool:
        return leaf.secret or (leaf.in_secret and not self._within_value)

    def _loose(self, value: Any) -> Any:
        """A value whose shape is not known here, such as Kubernetes' own."""
        if isinstance(value, Leaf):
            if (secret := self._is_secret(value)) or not value.known:
                return value.output(secret=secret)
            self.dependencies |= value.dependencies
            return value.value
        if isinstance(value, Mapping):
            return {key: self._loose(item) for key, item in value.items()}
        if isinstance(value, list):
            return [self._loose(item) for item in value]
        return value
