"""Odd values of arguments, from their declarations."""

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

from dds_patterns.arguments.constraints import DISTINCT
from dds_patterns.arguments.declared import Declared, arguments_of
from dds_patterns.arguments.deferred import is_deferred

Put = Callable[[Any], dict[str, Any]]


@dataclasses.dataclass(frozen=True)
class Argument:
    """One argument of an example, at any depth."""

    path: str
    """As a message names it: ``ports[0].name``."""
    declared: Declared
    value: Any
    put: Put
    """All arguments, with another value in this place."""


def arguments(declaration: type, args: Mapping[str, Any]) -> Iterator[Argument]:
    """Every argument that an example gives."""
    yield from _keys("", declaration, args, dict)


def fields(value: Any) -> Iterator[Argument]:
    """Every field of a dataclass that passes between components."""
    given = {key: getattr(value, key) for key in arguments_of(value.__class__)}
    given = {key: item for key, item in given.items() if item is not None}
    yield from _keys("", type(value), given, dict)


def _keys(path: str, declaration: type, args: Mapping[str, Any], put: Put) -> Iterator[Argument]:
    for key, declared in arguments_of(declaration).items():
        if key in args:
            yield from _below(
                f"{path}.{key}" if path else key,
                declared,
                args[key],
                partial(_with_key, put, args, key),
            )


def _below(path: str, declared: Declared, value: Any, put: Put) -> Iterator[Argument]:
    yield Argument(path, declared, value, put)
    if is_deferred(value):
        return
    if declared.form in ("list", "tuple"):
        assert declared.items is not None
        for position, item in enumerate(value):
            yield from _below(
                f"{path}[{position}]",
                declared.items,
                item,
                partial(_with_item, put, value, position),
            )
    elif declared.form == "mapping":
        assert declared.items is not None
        for key, item in value.items():
            yield from _below(
                f"{path}[{key}]",
                declared.items,
                item,
                partial(_with_key, put, value, key),
            )
    elif declared.form == "arguments":
        yield from _keys(path, declared.type, value, put)


def _with_key(put: Put, of: Mapping[str, Any], key: str, new: Any) -> dict[str, Any]:
    return put({**of, key: new})


def _with_item(put: Put, of: Sequence[Any], position: int, new: Any) -> dict[str, Any]:
    return put([*of[:position], new, *of[position + 1 :]])


def odd_values(argument: Argument) -> Iterator[tuple[Any, str]]:
    """Values that are refused, each with the path that the message names."""
    declared, path = argument.declared, argument.path
    for value in _of_another_type(declared):
        yield value, path
    for constraint in declared.constraints:
        if constraint is DISTINCT and argument.value:
            yield [*argument.value, argument.value[0]], path
        for value in constraint.odd:
            if _has_type(declared, value):
                yield value, path
    if declared.form == "mapping":
        assert declared.keys is not None
        entry = next(iter(argument.value.values()), "x") if argument.value else "x"
        for key in (
            1,
            True,
            *(odd for constraint in declared.keys.constraints for odd in constraint.odd),
        ):
            yield {key: entry}, path
    if declared.form in ("arguments", "kubernetes"):
        yield {**argument.value, "nonsense": 1}, f"{path}.nonsense"
        yield {**argument.value, "nonsenseKey": 1}, f"{path}.nonsenseKey"
    if declared.form == "arguments":
        for key, each in arguments_of(declared.type).items():
            if each.required:
                yield {k: v for k, v in argument.value.items() if k != key}, f"{path}.{key}"
                yield {**argument.value, key: None}, f"{path}.{key}"


def _of_another_type(declared: Declared) -> Sequence[Any]:
    single: dict[Any, Sequence[Any]] = {
        int: ("3", "three", True, 3.5, [3], {}, b"3"),
        float: ("3", True, [3], {}, float("nan"), float("inf")),
        str: (3, 3.0, True, ["x"], {"x": "y"}, b"x", "x\ud800"),
        bool: ("false", "true", "", 0, 1, [], 1.0),
    }
    by_form: dict[str, Sequence[Any]] = {
        "list": ("text", "", {"role": "x"}, 3, True, {"x"}, b"x"),
        "tuple": ("text", "", {"role": "x"}, 3, True, {"x"}, b"x"),
        "mapping": ("text", "", [{"role": "x"}], [], 3, True),
        "arguments": ("text", "", [{}], [], 3, True),
        "kubernetes": ("text", "", [{}], [], 3, True),
        "value": ("text", {"name": "x"}, [], 3, True, object()),
        "any": (),
    }
    return single[declared.type] if declared.form == "scalar" else by_form[declared.form]


def _has_type(declared: Declared, value: Any) -> bool:
    wanted: Any = {
        "scalar": declared.type if declared.type is not float else (int, float),
        "list": (list, tuple),
        "tuple": (list, tuple),
        "mapping": dict,
        "arguments": dict,
        "kubernetes": dict,
    }.get(declared.form, object)
    return isinstance(value, wanted) and not isinstance(value, bool)


def changed(
    declaration: type, args: Mapping[str, Any], change: Callable[[Declared, Any], Any]
) -> dict[str, Any]:
    """All arguments, each replaced by the result of ``change``, from the innermost outwards."""
    return {
        key: _changed(arguments_of(declaration)[key], value, change) for key, value in args.items()
    }


def _changed(declared: Declared, value: Any, change: Callable[[Declared, Any], Any]) -> Any:
    if not is_deferred(value):
        if declared.form in ("list", "tuple"):
            assert declared.items is not None
            value = declared.type(_changed(declared.items, item, change) for item in value)
        elif declared.form == "mapping":
            assert declared.items is not None
            value = {k: _changed(declared.items, item, change) for k, item in value.items()}
        elif declared.form == "arguments":
            value = changed(declared.type, value, change)
    return change(declared, value)
