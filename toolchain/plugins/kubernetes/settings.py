"""The provider's own arguments."""

from __future__ import annotations

import dataclasses
import difflib
import json
import os
from collections.abc import Mapping
from typing import Any, Final

from toolchain.plugins.provider.provider import CheckFailure, Properties
from toolchain.plugins.provider.values import UNKNOWN, from_json

_FLAGS: Final[Mapping[str, str]] = {
    "deleteUnreachable": "PULUMI_K8S_DELETE_UNREACHABLE",
    "enableConfigMapMutable": "PULUMI_K8S_ENABLE_CONFIGMAP_MUTABLE",
    "enablePatchForce": "PULUMI_K8S_ENABLE_PATCH_FORCE",
    "enableSecretMutable": "PULUMI_K8S_ENABLE_SECRET_MUTABLE",
    "enableServerSideApply": "PULUMI_K8S_ENABLE_SERVER_SIDE_APPLY",
    "suppressDeprecationWarnings": "PULUMI_K8S_SUPPRESS_DEPRECATION_WARNINGS",
    "suppressHelmHookWarnings": "PULUMI_K8S_SUPPRESS_HELM_HOOK_WARNINGS",
    "upsertExistingObjects": "PULUMI_K8S_UPSERT_EXISTING_OBJECTS",
}
_TEXTS: Final = ("cluster", "clusterIdentifier", "context", "kubeconfig", "namespace")
_CLIENT_NUMBERS: Final = ("burst", "qps", "timeout")
_UNSUPPORTED: Final = (
    "alwaysRender",
    "helmReleaseSettings",
    "renderYamlToDirectory",
    "skipUpdateUnreachable",
)
_OF_THE_ENGINE: Final = frozenset({"version", "pluginDownloadURL", "__internal", "__pulumi"})


@dataclasses.dataclass(frozen=True)
class Settings:
    """What a provider was configured with.

    :param known: False while the kubeconfig is made by the same update: nothing is asked of a
        server then
    :param timeout: seconds for one answer of the API server; None: the client's default
    """

    kubeconfig: str | None = None
    context: str | None = None
    cluster: str | None = None
    namespace: str | None = None
    known: bool = True
    timeout: float | None = None
    delete_unreachable: bool = False
    mutable_config: bool = False
    mutable_secret: bool = False
    patch_force: bool = False
    suppress_deprecations: bool = False
    upsert: bool = False


def failures(arguments: Properties) -> list[CheckFailure]:
    """What is wrong with a provider's arguments."""
    found = []
    for name, raw in arguments.items():
        value = from_json(raw)
        why = _wrong(name, value)
        if why:
            found.append(CheckFailure(name, why))
    return found


def _wrong(name: str, value: Any) -> str | None:
    if name in _OF_THE_ENGINE or value is None or value is UNKNOWN:
        return None
    if name in _UNSUPPORTED:
        return "is not supported by this kubernetes plugin" if value not in (False, {}) else None
    if name in _FLAGS:
        if not isinstance(value, bool):
            return f"is {value!r}; true or false"
        if name == "enableServerSideApply" and not value:
            return "is false; this kubernetes plugin only applies on the server's side"
        return None
    if name == "kubeClientSettings":
        return _wrong_client_settings(value)
    if name in _TEXTS:
        return None if isinstance(value, str | dict) else "is not a text"
    known = [*_FLAGS, *_TEXTS, "kubeClientSettings"]
    close = difflib.get_close_matches(name, known, 1)
    hint = f"; is {close[0]} meant?" if close else ""
    return f"is not an argument of the provider{hint} Known are {', '.join(sorted(known))}"


def _wrong_client_settings(value: Any) -> str | None:
    if not isinstance(value, Mapping):
        return f"is {value!r}; an object with {', '.join(_CLIENT_NUMBERS)}"
    for key, number in value.items():
        if key not in _CLIENT_NUMBERS:
            return f"has {key!r}; known are {', '.join(_CLIENT_NUMBERS)}"
        if number is not UNKNOWN and not isinstance(number, int | float):
            return f"has {key} {number!r}; a number"
    return None


def read(arguments: Properties) -> Settings:
    """Reads arguments that were checked, and the environment for those that are not given."""
    values = {name: from_json(value) for name, value in arguments.items()}
    flags = {name: _flag(values.get(name), variable) for name, variable in _FLAGS.items()}
    client = values.get("kubeClientSettings")
    timeout = client.get("timeout") if isinstance(client, Mapping) else None
    kubeconfig = values.get("kubeconfig")
    return Settings(
        kubeconfig=json.dumps(kubeconfig) if isinstance(kubeconfig, dict) else _text(kubeconfig),
        context=_text(values.get("context")),
        cluster=_text(values.get("cluster")),
        namespace=_text(values.get("namespace")),
        known=all(values.get(name) is not UNKNOWN for name in ("kubeconfig", "context", "cluster")),
        timeout=float(timeout) if isinstance(timeout, int | float) else None,
        delete_unreachable=flags["deleteUnreachable"],
        mutable_config=flags["enableConfigMapMutable"],
        mutable_secret=flags["enableSecretMutable"],
        patch_force=flags["enablePatchForce"],
        suppress_deprecations=flags["suppressDeprecationWarnings"],
        upsert=flags["upsertExistingObjects"],
    )


def _flag(value: Any, variable: str) -> bool:
    if isinstance(value, bool):
        return value
    return os.environ.get(variable, "").lower() in {"1", "true"}


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) and value else None
