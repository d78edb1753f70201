"""What the engine keeps of an object. The form is the official plugin's, so either can go on."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from toolchain.plugins.kubernetes import quantity
from toolchain.plugins.provider.values import Secret, keep_secrets, plain, secret

if TYPE_CHECKING:
    from toolchain.plugins.provider.provider import Properties

FIELD_MANAGER: Final = "__fieldManager"
INITIAL_API_VERSION: Final = "__initialApiVersion"
INPUTS: Final = "__inputs"
CREATION_MANAGER: Final = "pulumi-kubernetes"
_SECRET_FIELDS = ("data", "stringData")
_SERVER_METADATA = (
    "creationTimestamp",
    "deletionGracePeriodSeconds",
    "deletionTimestamp",
    "generation",
    "managedFields",
    "resourceVersion",
    "selfLink",
    "uid",
)
_LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"


def identity(namespace: str | None, name: str) -> str:
    """An object's id: ``namespace/name``, or only its name where it has no namespace."""
    return f"{namespace}/{name}" if namespace else name


def split_identity(text: str) -> tuple[str | None, str]:
    """Namespace (None if there is none) and name of an id."""
    namespace, _, name = text.rpartition("/")
    return namespace or None, name


def new_field_manager() -> str:
    """A name under which one resource's fields are applied, from then on."""
    return f"{CREATION_MANAGER}-{secrets.token_hex(4)}"


def field_manager(outputs: Mapping[str, Any]) -> str:
    """The recorded name, or a new one for a state that has none."""
    recorded = plain(outputs.get(FIELD_MANAGER))
    return recorded if isinstance(recorded, str) and recorded else new_field_manager()


def hide(kind: str, properties: Properties) -> Properties:
    """Marks what a Secret holds as secret, whether the program did or not."""
    if kind != "Secret":
        return properties
    return {
        key: secret(item) if key in _SECRET_FIELDS and not isinstance(item, Secret) else item
        for key, item in properties.items()
    }


def outputs(
    inputs: Properties, live: Mapping[str, Any], manager: str, initial_api_version: str
) -> Properties:
    """What the engine remembers of an object.

    Args:
        inputs: With the marks of secrets.
        live: As the API server gave it.
        manager: The field manager for updates.
        initial_api_version: The apiVersion that the object was made with.
    """
    kind = str(live.get("kind") or plain(inputs.get("kind")))
    marked = hide(kind, inputs)
    kept = keep_secrets(marked, dict(live))
    return {
        **hide(kind, kept),
        FIELD_MANAGER: manager,
        INITIAL_API_VERSION: initial_api_version,
        INPUTS: marked,
    }


def body(inputs: Properties) -> dict[str, Any]:
    """Inputs as the API server takes them: no marks of secrets, no keys without a value."""
    cleaned = _without_nulls(plain(inputs))
    return {key: value for key, value in cleaned.items() if key != "status"}


def _without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nulls(item) for key, item in value.items() if item is not None}
    if isinstance(value, list):
        return [_without_nulls(item) for item in value]
    return value


def imported_inputs(live: Mapping[str, Any]) -> Properties:
    """Inputs that describe an object which no program has declared yet."""
    metadata = {
        key: value for key, value in live["metadata"].items() if key not in _SERVER_METADATA
    }
    marks = {
        key: value
        for key, value in (metadata.pop("annotations", None) or {}).items()
        if key != _LAST_APPLIED
    }
    if marks:
        metadata["annotations"] = marks
    rest = {key: value for key, value in live.items() if key not in {"metadata", "status"}}
    return {**rest, "metadata": metadata}


def observed_inputs(inputs: Any, live: Mapping[str, Any]) -> Properties:
    """The inputs (in normal form) as the live object has them: the same unless something drifted.

    Only what the inputs say is looked at: defaults of the server and fields of others stay out.
    """
    declared = plain(inputs)
    observed = {
        key: value if key in {"apiVersion", "kind", "status"} else _observed(value, live.get(key))
        for key, value in declared.items()
    }
    return dict(
        keep_secrets(inputs, {key: value for key, value in observed.items() if _kept(value)})
    )


class _Gone:
    """Marks a declared value that the live object does not have."""


_GONE = _Gone()


def _kept(value: Any) -> bool:
    return value is not _GONE


def _observed(declared: Any, live: Any) -> Any:
    if live is None:
        # The server leaves out what is empty.
        return declared if declared in (None, "", 0, False, [], {}) else _GONE
    if isinstance(declared, dict) and isinstance(live, dict):
        found = {key: _observed(value, live.get(key)) for key, value in declared.items()}
        return {key: value for key, value in found.items() if _kept(value)}
    if isinstance(declared, list) and isinstance(live, list):
        return _observed_list(declared, live)
    return declared if quantity.same(declared, live) else live


def _observed_list(declared: list[Any], live: list[Any]) -> list[Any]:
    key = _identifying_key(declared)
    if key is None or _identifying_key(live) is None:
        if len(declared) != len(live):
            return live
        pairs = zip(declared, live, strict=True)
        return [_observed(one, other) if _kept(other) else one for one, other in pairs]
    by_key = {item[key]: item for item in live if key in item}
    found = [_observed(item, by_key.get(item[key])) for item in declared]
    return [item for item in found if _kept(item)]


def _identifying_key(items: list[Any]) -> str | None:
    if items and all(isinstance(item, dict) and "name" in item for item in items):
        return "name"
    return None
