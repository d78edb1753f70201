"""The engine: validates a user's values against the declarations, before anything is registered."""

from collections.abc import Mapping
from typing import Any, TypeVar, cast
from weakref import WeakKeyDictionary

import pulumi

from dds_patterns.arguments import plain, shapes
from dds_patterns.arguments.constraints import nearest
from dds_patterns.arguments.declared import Declared, arguments_of
from dds_patterns.arguments.deferred import is_deferred, public
from dds_patterns.arguments.place import Place

T = TypeVar("T")

# Outputs that are checked already. They are not wrapped again, so that a value that is made from
# another has the same Outputs, and comparisons find them equal.
_CHECKED: WeakKeyDictionary[pulumi.Output[Any], Declared] = WeakKeyDictionary()


def resolved(where: str, declaration: type[T], args: Any) -> T:
    """The arguments with their defaults, checked; an Output is checked when it is known.

    ``None`` is an argument that was left out. Whole floats become integers.

    :param where: the component and its name, ``Application "web"``
    :param declaration: the TypedDict
    :raises InputError: an argument that its declaration does not allow
    """
    return cast(T, _arguments(Place(where), declaration, args))


def check_fields(where: str, value: Any) -> None:
    """Validate a dataclass against its declarations, from its ``__post_init__``."""
    for key, declared in arguments_of(value.__class__).items():
        given = getattr(value, key)
        if given is not None or declared.required:
            # The dataclass may be frozen.
            object.__setattr__(value, key, resolved_value(Place(where, key), declared, given))


def resolved_value(place: Place, declared: Declared, value: Any) -> Any:
    """One value as it is declared, or InputError; ``resolved`` is for all arguments."""
    deferrable = declared.deferrable
    if deferrable is not None and deferrable.secret:
        place = place.hidden()
    if not is_deferred(value):
        return _plain(place, declared, value)
    if isinstance(value, pulumi.Output) and _CHECKED.get(value) is declared:
        return value
    if deferrable is None:
        place.refuse_deferred("must be a plain value, known before anything is deployed")
    output = pulumi.Output.from_input(value)
    if not deferrable.secret:
        output = public(place, output)
    checked = output.apply(lambda known: _plain(place, declared, known))
    _CHECKED[checked] = declared
    return checked


def _plain(place: Place, declared: Declared, value: Any) -> Any:
    result = _FORMS[declared.form](place, declared, value)
    for constraint in declared.constraints:
        result = constraint.check(place, result)
    return result


def _scalar(place: Place, declared: Declared, value: Any) -> Any:
    return plain.scalar(place, (declared.type,), value)


def _list(place: Place, declared: Declared, value: Any) -> Any:
    kind = cast(Declared, declared.items)
    return declared.type(resolved_value(at, kind, item) for at, item in plain.items(place, value))


def _mapping(place: Place, declared: Declared, value: Any) -> dict[str, Any]:
    keys, kind = cast(Declared, declared.keys), cast(Declared, declared.items)
    # Pulumi's protocol has no order of keys: it must make no difference in any language.
    entries = sorted(plain.entries(place, value), key=lambda entry: str(entry[0]))
    return {
        resolved_value(place.a_key(), keys, key): resolved_value(place.entry(key), kind, item)
        for key, item in entries
    }


def _nested(place: Place, declared: Declared, value: Any) -> dict[str, Any]:
    return _arguments(place, declared.type, value)


def _arguments(place: Place, declaration: Any, value: Any) -> dict[str, Any]:
    if not isinstance(value, Mapping):
        place.refuse(value, f"must be a mapping as {declaration.__name__} says")
    arguments = arguments_of(declaration)
    given = {key: item for key, item in value.items() if item is not None}
    for key in given:
        if key not in arguments:
            place.unknown(str(key), nearest(str(key), arguments))
    found: dict[str, Any] = {}
    for key, declared in arguments.items():
        if key in given:
            found[key] = resolved_value(place.key(key), declared, given[key])
        elif declared.required:
            place.missing(key, [name for name, each in arguments.items() if each.required])
        elif declared.default is not None:
            found[key] = resolved_value(place.key(key), declared, declared.default.value)
    return found


def _kubernetes(place: Place, declared: Declared, value: Any) -> Any:
    return shapes.shaped(place, declared.type, value, resolved_value)


def _value(place: Place, declared: Declared, value: Any) -> Any:
    if not isinstance(value, declared.type):
        kind = declared.type.__name__
        source = getattr(declared.type, "GIVEN_BY", "")
        place.refuse(
            value, f"must be {_article(kind)} {kind}" + (f", such as {source}" if source else "")
        )
    return value


def _any(_place: Place, _declared: Declared, value: Any) -> Any:
    return value


def _article(noun: str) -> str:
    return "an" if noun[0] in "AEIOU" else "a"


_FORMS = {
    "any": _any,
    "arguments": _nested,
    "kubernetes": _kubernetes,
    "list": _list,
    "mapping": _mapping,
    "scalar": _scalar,
    "tuple": _list,
    "value": _value,
}
