"""The annotation ``pulumi.com/waitFor``: conditions that a program sets itself.

Forms, one or a JSON list of them: ``condition=Ready``, ``condition=Ready=False``,
``jsonpath={.status.phase}=Running``, ``jsonpath={.status.address}`` (there is such a value).
"""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from toolchain.plugins.kubernetes import annotation
from toolchain.plugins.kubernetes.failure import condition
from toolchain.plugins.kubernetes.readiness.rule import Object, Rule
from toolchain.plugins.kubernetes.wait import DONE, Objects, Verdict, pending
from toolchain.plugins.provider.errors import ProviderError

_SECONDS = 600.0
_JSONPATH = re.compile(r"jsonpath=(\{.*\})(?:=(.*))?\Z", re.DOTALL)
_CONDITION = re.compile(r"condition=([^=]+)(?:=(.+))?\Z")
_STEP = re.compile(
    r"""\.(?P<field>[A-Za-z_](?:[\w-]|\\.)*)
      | \['(?P<quoted>[^']+)'\]
      | \[(?P<index>\d+)\]
      | \[\?\(@\.(?P<key>[\w.-]+)==["'](?P<equals>[^"']*)["']\)\]""",
    re.VERBOSE,
)


@dataclasses.dataclass(frozen=True)
class _Condition:
    text: str
    kind: str
    status: str

    def holds(self, thing: Object) -> bool:
        return str(condition(thing, self.kind).get("status", "")).lower() == self.status.lower()


@dataclasses.dataclass(frozen=True)
class _JsonPath:
    text: str
    steps: Sequence[re.Match[str]]
    value: str | None

    def holds(self, thing: Object) -> bool:
        found = _walk(thing, self.steps)
        if self.value is None:
            return found is not None
        return found is not None and _text(found) == self.value


def rule(text: str) -> Rule:
    """Reads the annotation.

    Raises:
        ProviderError: It has none of the known forms.
    """
    texts = _texts(text)
    wanted = [_parsed(one) for one in texts]

    def judge(thing: Object, others: Sequence[Objects]) -> Verdict:  # noqa: ARG001
        open_ones = [one.text for one in wanted if not one.holds(thing)]
        return pending(f"{' and '.join(open_ones)} does not hold yet") if open_ones else DONE

    return Rule(judge, _SECONDS)


def _texts(text: str) -> list[str]:
    if not text.lstrip().startswith("["):
        return [text]
    try:
        found = json.loads(text)
    except ValueError:
        found = None
    if not isinstance(found, list) or not found or not all(isinstance(one, str) for one in found):
        raise _refused(text)
    return found


def _parsed(text: str) -> _Condition | _JsonPath:
    match = _CONDITION.match(text)
    if match:
        return _Condition(text, match[1], match[2] or "True")
    match = _JSONPATH.match(text)
    if match is None:
        raise _refused(text)
    path = match[1][1:-1]
    steps = []
    position = 0
    while position < len(path):
        step = _STEP.match(path, position)
        if step is None:
            raise _refused(text)
        steps.append(step)
        position = step.end()
    return _JsonPath(text, steps, match[2])


def _refused(text: str) -> ProviderError:
    return ProviderError(
        f"annotation {annotation.WAIT_FOR} is {text!r}; condition=Type, condition=Type=Status, "
        "jsonpath={.path}, jsonpath={.path}=value, or a JSON list of these"
    )


def _walk(thing: Any, steps: Sequence[re.Match[str]]) -> Any:
    for step in steps:
        if step["index"] is not None:
            index = int(step["index"])
            thing = thing[index] if isinstance(thing, list) and index < len(thing) else None
        elif step["key"] is not None:
            thing = _first(thing, step["key"].split("."), step["equals"])
        else:
            name = step["quoted"] or step["field"].replace("\\.", ".")
            thing = thing.get(name) if isinstance(thing, Mapping) else None
        if thing is None:
            return None
    return thing


def _first(items: Any, keys: Sequence[str], value: str) -> Any:
    for item in items if isinstance(items, list) else ():
        found = item
        for key in keys:
            found = found.get(key) if isinstance(found, Mapping) else None
        if found is not None and _text(found) == value:
            return item
    return None


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)
