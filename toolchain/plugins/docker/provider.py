"""The provider: maps the engine's requests to the resource types."""

from __future__ import annotations

import difflib
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from toolchain.plugins.docker import schema
from toolchain.plugins.docker.container import CONTAINER
from toolchain.plugins.docker.engine import Operation, connect
from toolchain.plugins.docker.image import IMAGE
from toolchain.plugins.docker.network import NETWORK
from toolchain.plugins.docker.remote_image import REMOTE_IMAGE
from toolchain.plugins.docker.resources import PartlyDoneError, ResourceType
from toolchain.plugins.docker.volume import VOLUME
from toolchain.plugins.provider.errors import IncompleteError, ProviderError
from toolchain.plugins.provider.provider import (
    CheckFailure,
    CheckRequest,
    CheckResult,
    CreateRequest,
    DeleteRequest,
    Diff,
    DiffKind,
    DiffRequest,
    Properties,
    Provider,
    ReadRequest,
    ReadResult,
    UpdateRequest,
)
from toolchain.plugins.provider.values import keep_secrets, plain, secret

RESOURCE_TYPES = {one.type_name: one for one in (NETWORK, VOLUME, CONTAINER, REMOTE_IMAGE, IMAGE)}
_CONFIGURATION = ("host",)
_RANDOM_DIGITS = 7


class DockerProvider(Provider):
    """Networks, volumes, containers and images of one Docker Engine."""

    name = "docker"
    supports_autonaming = True
    _host: str | None = None

    def check_config(self, old: Properties, new: Properties) -> CheckResult:  # noqa: ARG002
        """Only the daemon's address can be configured."""
        return CheckResult(
            new,
            [
                CheckFailure(
                    name,
                    f"this plugin does not support {name}, only {', '.join(_CONFIGURATION)}",
                )
                for name in new
                if name not in _CONFIGURATION and name != "version"
            ],
        )

    def configure(self, arguments: Properties) -> None:
        """Set the daemon's address."""
        host = plain(arguments.get("host"))
        self._host = host if isinstance(host, str) and host else os.environ.get("DOCKER_HOST")

    def check(self, request: CheckRequest) -> CheckResult:
        """Fill in defaults and names, and refuse unknown properties."""
        kind = RESOURCE_TYPES.get(request.type)
        if kind is None:
            raise ProviderError(_unknown_type(request.type))
        inputs, failures = schema.check(request.type, kind.fields, plain(request.inputs))
        if kind.auto_named and "name" not in inputs:
            inputs["name"] = _name(request)
            inputs["__defaults"] = sorted([*inputs["__defaults"], "name"])
        if not failures:
            failures = kind.complete(inputs)
        return CheckResult(
            keep_secrets(request.inputs, inputs),
            [CheckFailure(failure.path, failure.reason) for failure in failures],
        )

    def diff(self, request: DiffRequest) -> Diff:
        """Compare the recorded state with the inputs."""
        kind = _kind(request.type)
        state, old, new = (
            plain(one) for one in (request.state, request.old_inputs, request.inputs)
        )
        if kind.changes is not None:
            changes = kind.changes(state, new)
        else:
            changes = schema.diff(kind.fields, state, old or None, new)
        ignored = {path.split(".")[0].split("[")[0] for path in request.ignore_changes}
        named = "name" in new and "name" not in new.get("__defaults", [])
        same_name = state.get("name") == new.get("name")
        return Diff(
            {
                change.name: DiffKind[change.kind.upper() + ("_REPLACE" if change.replace else "")]
                for change in changes
                if change.name not in ignored
            },
            delete_before_replace=kind.delete_first or (named and same_name),
        )

    def create(self, request: CreateRequest) -> tuple[str, Properties]:
        """Create the object; in a preview, return its known properties."""
        kind = _kind(request.type)
        inputs = plain(request.inputs)
        if request.preview:
            return "", _marked(kind, request.inputs, inputs)
        with self._operation(request.urn, request.timeout) as operation:
            try:
                identity, state = kind.create(operation, inputs)
            except PartlyDoneError as incomplete:
                raise _incomplete(kind, request.inputs, incomplete) from None
        return identity, _marked(kind, request.inputs, state)

    def update(self, request: UpdateRequest) -> Properties:
        """Update the object to the inputs."""
        kind = _kind(request.type)
        inputs = plain(request.inputs)
        if request.preview:
            # An update of an image changes its digest.
            kept = {} if kind.changes is not None else plain(request.state)
            return _marked(kind, request.inputs, kept | inputs)
        with self._operation(request.urn, request.timeout) as operation:
            try:
                state = kind.update(operation, request.identity, plain(request.state), inputs)
            except PartlyDoneError as incomplete:
                raise _incomplete(kind, request.inputs, incomplete) from None
        return _marked(kind, request.inputs, state)

    def delete(self, request: DeleteRequest) -> None:
        """Delete the object and wait until it is gone."""
        kind = _kind(request.type)
        with self._operation(request.urn, request.timeout) as operation:
            kind.delete(operation, request.identity, plain(request.state))

    def read(self, request: ReadRequest) -> ReadResult:
        """The object's current state."""
        kind = _kind(request.type)
        with self._operation(request.urn, 0) as operation:
            current = kind.read(operation, request.identity, plain(request.state))
        if current is None:
            return ReadResult("")
        identity, state = current
        inputs = _inputs(kind, state, plain(request.inputs))
        return ReadResult(
            identity,
            _marked(kind, request.state, state),
            keep_secrets(request.inputs, inputs),
        )

    @contextmanager
    def _operation(self, urn: str, timeout: float) -> Iterator[Operation]:
        self.cancellation.check()
        deadline = time.monotonic() + timeout if timeout else None
        with connect(self._host) as client:
            yield Operation(
                client,
                lambda message: self.engine.progress(urn, message),
                self.cancellation,
                deadline,
            )


def _kind(token: str) -> ResourceType:
    if token not in RESOURCE_TYPES:
        raise ProviderError(_unknown_type(token))
    return RESOURCE_TYPES[token]


def _unknown_type(token: str) -> str:
    close = difflib.get_close_matches(token, RESOURCE_TYPES, n=1)
    hint = f"did you mean {close[0]}? " if close else ""
    known = ", ".join(sorted(RESOURCE_TYPES))
    return f"this docker plugin does not support the type {token}; {hint}supported are {known}"


def _name(request: CheckRequest) -> str:
    old = plain(request.old_inputs)
    if "name" in (old.get("__defaults") or []) and old.get("name"):
        return str(old["name"])
    if request.autonaming is not None:
        if request.autonaming.name is None:
            raise ProviderError(f"{request.name}: name is missing, and autonaming is disabled")
        return request.autonaming.name
    return f"{request.name}-{request.random_seed.hex()[:_RANDOM_DIGITS]}"


def _marked(kind: ResourceType, source: Properties, state: Properties) -> Properties:
    marked: Properties = keep_secrets(source, _without_defaults(state))
    if kind.meta:
        marked["__meta"] = kind.meta
    for name in kind.secret_outputs:
        if name in marked:
            marked[name] = secret(marked[name])
    return marked


def _without_defaults(value: Any) -> Any:
    """The value without ``__defaults``, which only inputs have (and those in ``__inputs``)."""
    if isinstance(value, dict):
        return {
            key: item if key == "__inputs" else _without_defaults(item)
            for key, item in value.items()
            if key != "__defaults"
        }
    if isinstance(value, list):
        return [_without_defaults(item) for item in value]
    return value


def _incomplete(kind: ResourceType, inputs: Properties, cause: PartlyDoneError) -> IncompleteError:
    return IncompleteError(
        cause.reason,
        identity=cause.identity,
        properties=_marked(kind, inputs, cause.state),
        inputs=inputs,
    )


def _inputs(kind: ResourceType, state: Properties, recorded: Properties) -> Properties:
    """Inputs for this state: the recorded ones, updated where the object differs."""
    if kind.changes is not None:
        return recorded
    if recorded:
        return recorded | {
            name: state[name]
            for name, field in kind.fields.items()
            if name in recorded
            and name in state
            and schema.canonical(field, recorded[name]) != schema.canonical(field, state[name])
        }
    inputs = {
        name: state[name]
        for name, field in kind.fields.items()
        if schema.canonical(field, state.get(name)) is not None or field.required
    }
    # A value may be the daemon's default, so a program may omit it.
    chosen = sorted(name for name in inputs if kind.fields[name].computed)
    return {**inputs, "__defaults": chosen}
