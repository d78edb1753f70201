"""The provider: what the engine asks, put together from the parts."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from toolchain.plugins.kubernetes import (
    annotation,
    deletion,
    immutable,
    kinds,
    kubeconfig,
    naming,
    normal,
    settings,
    state,
)
from toolchain.plugins.kubernetes import diff as differences
from toolchain.plugins.kubernetes.client import ApiError, Client, UnreachableError
from toolchain.plugins.kubernetes.kinds import Kind
from toolchain.plugins.kubernetes.objects import Server, Target
from toolchain.plugins.kubernetes.readiness.await_ready import NotReadyError, await_ready, look
from toolchain.plugins.kubernetes.readiness.rules import rule_for
from toolchain.plugins.kubernetes.wait import Phase
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
    ResourceRequest,
    UpdateRequest,
)
from toolchain.plugins.provider.values import UNKNOWN, Secret, has_unknown, plain

if TYPE_CHECKING:
    from toolchain.plugins.provider.cancellation import Cancellation
    from toolchain.plugins.provider.engine import Engine


class KubernetesProvider(Provider):
    """Objects of one cluster."""

    name = "kubernetes"
    supports_autonaming = True

    def __init__(self, engine: Engine, cancellation: Cancellation) -> None:
        super().__init__(engine, cancellation)
        self._settings = settings.Settings()
        self._lock = threading.Lock()
        self._access: kubeconfig.Access | None = None
        self._client: Client | None = None
        self._custom: dict[tuple[str, str], Kind] = {}
        # Resources that the state already has: a creation of theirs is a replacement.
        self._existing: set[str] = set()

    def check_config(self, old: Properties, new: Properties) -> CheckResult:  # noqa: ARG002
        """Refuses unknown and unsupported arguments by name."""
        return CheckResult(new, settings.failures(new))

    def diff_config(self, old: Properties, new: Properties) -> Diff:
        """Another cluster replaces the provider and with it all that is in the cluster."""
        changed = sorted(key for key in old.keys() | new.keys() if old.get(key) != new.get(key))
        details = dict.fromkeys(changed, DiffKind.UPDATE)
        if "clusterIdentifier" in changed:
            details["clusterIdentifier"] = DiffKind.UPDATE_REPLACE
        elif "kubeconfig" in changed and "clusterIdentifier" not in new:
            before, after = _server(old), _server(new)
            if before and after and before != after:
                details["kubeconfig"] = DiffKind.UPDATE_REPLACE
        return Diff(details)

    def configure(self, arguments: Properties) -> None:
        """Reads the arguments; the cluster is only asked when a resource needs it."""
        self._settings = settings.read(arguments)

    def check(self, request: CheckRequest) -> CheckResult:
        """Chooses name and namespace; refuses what this plugin does not know."""
        why = kinds.refusal(request.type)
        if why:
            return CheckResult(request.inputs, [CheckFailure("", why)])
        if request.old_inputs:
            self._existing.add(request.urn)
        api_version, kind = kinds.split_token(request.type)
        inputs = {"apiVersion": api_version, "kind": kind, **request.inputs}
        failures = [
            CheckFailure(key, f"is {plain(inputs[key])!r}; {request.type} has {expected!r}")
            for key, expected in (("apiVersion", api_version), ("kind", kind))
            if plain(inputs[key]) != expected
        ]
        metadata = inputs.get("metadata") or {}
        if plain(metadata) is UNKNOWN:
            return CheckResult(state.hide(kind, normal.normal(inputs)), failures)
        if not isinstance(plain(metadata), dict):
            failures.append(CheckFailure("metadata", f"is {plain(metadata)!r}; an object"))
            return CheckResult(inputs, failures)
        inputs["metadata"] = self._completed(request, metadata)
        failures.extend(_wrong_annotations(plain(inputs)))
        return CheckResult(state.hide(kind, normal.normal(inputs)), failures)

    def _completed(self, request: CheckRequest, metadata: Any) -> Any:
        inner = metadata.value if isinstance(metadata, Secret) else metadata
        old = plain(request.old_inputs.get("metadata")) or {}
        named = naming.named(
            inner,
            old if isinstance(old, dict) else {},
            request.name,
            request.random_seed,
            request.autonaming,
        )
        if not named.get("namespace"):
            kind = self._kind(request, patience=0.0)
            if kind is not None and kind.namespaced:
                named = {**named, "namespace": self._default_namespace()}
        return Secret(named) if isinstance(metadata, Secret) else named

    def diff(self, request: DiffRequest) -> Diff:
        """Compares inputs: what the program says with what it said, or with what a refresh saw."""
        self._existing.add(request.urn)
        old = plain(_known_inputs(request.old_inputs, request.state))
        new = plain(request.inputs)
        api_version, kind = kinds.split_token(request.type)
        group_kind = Kind(api_version, kind, "", True).group_kind
        rule = immutable.fixed(
            group_kind,
            old,
            mutable_config=self._settings.mutable_config,
            mutable_secret=self._settings.mutable_secret,
        )
        found = differences.compare(old, new, rule)
        if annotation.is_true(new, annotation.REPLACE_UNREADY):
            live = plain(request.state)
            readiness = rule_for(group_kind, live)
            unready = readiness is not None and readiness.judge(live, ()).phase is not Phase.DONE
            if unready and live.get("metadata"):
                details = {**found.details, "status": DiffKind.UPDATE_REPLACE}
                return Diff(details, found.delete_before_replace)
        return found

    def create(self, request: CreateRequest) -> tuple[str, Properties]:
        """Makes the object and waits until it is ready."""
        inputs = request.inputs
        if request.preview:
            self._preview_creation(request)
            return "", inputs
        self.cancellation.check()
        kind = self._kind(request, patience=30.0)
        if kind is None:
            raise ProviderError(f"the cluster has no {request.type.split(':', 1)[1]}")
        body = state.body(inputs)
        target = _target(kind, body)
        server = self._server(request.urn)
        live = self._created(request, server, target, body)
        target = Target(kind, live["metadata"].get("namespace"), live["metadata"]["name"])
        return target.identity, self._ready(
            request,
            server,
            target,
            live,
            manager=state.new_field_manager(),
            initial_api_version=kind.api_version,
        )

    def _created(
        self, request: CreateRequest, server: Server, target: Target, body: dict[str, Any]
    ) -> dict[str, Any]:
        try:
            return server.create(target, body)
        except ApiError as error:
            if not error.already_exists:
                raise ProviderError(f"{target.where}: {error}") from error
        live = server.read(target)
        if live is None:
            return self._created(request, server, target, body)
        if live["metadata"].get("deletionTimestamp"):
            seconds = annotation.seconds(body, request.timeout, deletion.SECONDS)
            deletion.wait_until_gone(
                server,
                target,
                live,
                seconds=seconds,
                cancellation=self.cancellation,
                progress=self._progress(request.urn),
            )
            return self._created(request, server, target, body)
        if not self._settings.upsert:
            raise ProviderError(_exists(request, target))
        try:
            return server.apply(
                target,
                body,
                state.new_field_manager(),
                observed={},
                force=self._forced(body),
            )
        except ApiError as error:
            raise ProviderError(f"{target.where}: {error}") from error

    def _preview_creation(self, request: CreateRequest) -> None:
        if not self._settings.known or has_unknown(request.inputs):
            return
        kind = self._kind(request, patience=0.0)
        if kind is None:
            return
        body = state.body(request.inputs)
        target = _target(kind, body)
        server = self._server(request.urn)
        try:
            try:
                server.create(target, body, preview=True)
            except ApiError as error:
                if not error.already_exists:
                    raise
                if request.urn not in self._existing and not self._settings.upsert:
                    raise ProviderError(_exists(request, target)) from error
                server.check_replacement(target, body)
        except ApiError as error:
            # The namespace, or the definition of a custom resource, comes with the same update.
            if error.not_found:
                return
            raise ProviderError(f"{target.where}: {error}") from error

    def update(self, request: UpdateRequest) -> Properties:
        """Applies the inputs and waits until the object is ready."""
        inputs = request.inputs
        if request.preview and (not self._settings.known or has_unknown(inputs)):
            return inputs
        self.cancellation.check()
        kind = self._kind(request, patience=0.0)
        if kind is None:
            raise ProviderError(f"the cluster has no {request.type.split(':', 1)[1]}")
        body = state.body(inputs)
        namespace, name = state.split_identity(request.identity)
        target = Target(kind, namespace, name)
        body["metadata"]["name"] = name
        server = self._server(request.urn)
        manager = state.field_manager(request.state)
        observed = plain(_known_inputs(request.old_inputs, request.state))
        try:
            live = server.apply(
                target,
                body,
                manager,
                observed=observed,
                force=self._forced(body),
                preview=request.preview,
            )
        except ApiError as error:
            raise ProviderError(f"{target.where}: {error}") from error
        initial = plain(request.state.get(state.INITIAL_API_VERSION)) or kind.api_version
        if request.preview:
            return state.outputs(inputs, live, manager, initial)
        return self._ready(
            request, server, target, live, manager=manager, initial_api_version=initial
        )

    def delete(self, request: DeleteRequest) -> None:
        """Deletes the object and waits until it is gone."""
        try:
            kind = self._kind(request, patience=0.0)
            if kind is None:
                return
            namespace, name = state.split_identity(request.identity)
            inputs = plain(request.state.get(state.INPUTS) or request.old_inputs)
            deletion.delete(
                self._server(request.urn),
                Target(kind, namespace, name),
                inputs,
                asked_seconds=request.timeout,
                cancellation=self.cancellation,
                progress=self._progress(request.urn),
            )
        except UnreachableError as error:
            self._give_up(request, error)

    def read(self, request: ReadRequest) -> ReadResult:
        """Gives the live object; its inputs show what others have changed."""
        why = kinds.refusal(request.type)
        if why:
            raise ProviderError(why)
        try:
            return self._read(request)
        except UnreachableError as error:
            self._give_up(request, error)
            return ReadResult("")

    def _read(self, request: ReadRequest) -> ReadResult:
        kind = self._kind(request, patience=5.0)
        if kind is None:
            return ReadResult("")
        namespace, name = state.split_identity(request.identity)
        if kind.namespaced and namespace is None:
            namespace = self._default_namespace()
        target = Target(kind, namespace, name)
        server = self._server(request.urn)
        live = server.read(target)
        if live is None:
            return ReadResult("")
        known = _known_inputs(request.inputs, request.state)
        inputs = state.observed_inputs(known, live) if known else state.imported_inputs(live)
        inputs = state.hide(kind.kind, inputs)
        manager = state.field_manager(request.state)
        initial = plain(request.state.get(state.INITIAL_API_VERSION)) or kind.api_version
        properties = state.outputs(inputs, live, manager, initial)
        if known:
            why = look(server.client, target, live)
            if why:
                raise IncompleteError(
                    why, identity=target.identity, properties=properties, inputs=inputs
                )
        return ReadResult(target.identity, properties, inputs)

    def _ready(
        self,
        request: CreateRequest | UpdateRequest,
        server: Server,
        target: Target,
        live: Mapping[str, Any],
        *,
        manager: str,
        initial_api_version: str,
    ) -> Properties:
        """Waits until the object is ready. If it does not get so, the state still has it."""
        inputs = request.inputs
        try:
            live = await_ready(
                server.client,
                target,
                live,
                asked_seconds=request.timeout,
                cancellation=self.cancellation,
                progress=self._progress(request.urn),
            )
        except NotReadyError as error:
            raise IncompleteError(
                str(error),
                identity=target.identity,
                properties=state.outputs(inputs, error.live, manager, initial_api_version),
                inputs=inputs,
            ) from error
        return state.outputs(inputs, live, manager, initial_api_version)

    def _give_up(self, request: ResourceRequest, error: UnreachableError) -> None:
        if not self._settings.delete_unreachable:
            raise ProviderError(
                f"{error}. If the cluster is gone for good, run again with "
                "PULUMI_K8S_DELETE_UNREACHABLE=true to drop its objects from the state"
            ) from error
        self.engine.warning(request.urn, f"dropped from the state: {error}")

    def _forced(self, body: Mapping[str, Any]) -> bool:
        return self._settings.patch_force or annotation.is_true(body, annotation.PATCH_FORCE)

    def _progress(self, urn: str) -> Callable[[str], None]:
        return lambda message: self.engine.progress(urn, message)

    def _server(self, urn: str) -> Server:
        def warn(message: str) -> None:
            if not (self._settings.suppress_deprecations and "deprecated" in message):
                self.engine.warning(urn, message)

        return Server(self._connected(), warn)

    def _connected(self) -> Client:
        with self._lock:
            if self._client is None:
                self._client = Client(self._loaded(), self.cancellation, self._settings.timeout)
            return self._client

    def _loaded(self) -> kubeconfig.Access:
        if self._access is None:
            chosen = self._settings
            self._access = kubeconfig.load(chosen.kubeconfig, chosen.context, chosen.cluster)
        return self._access

    def _default_namespace(self) -> str:
        if self._settings.namespace:
            return self._settings.namespace
        if not self._settings.known:
            return "default"
        with self._lock:
            return self._loaded().namespace

    def _kind(self, request: ResourceRequest, patience: float) -> Kind | None:
        """The kind of a resource; None for a custom one that the cluster does not know (yet)."""
        api_version, name = kinds.split_token(request.type)
        if not kinds.is_custom(api_version):
            return kinds.get(api_version, name)
        with self._lock:
            known = self._custom.get((api_version, name))
        if known is not None or not self._settings.known:
            return known
        found = _discovered(self._connected(), api_version, name, patience)
        if found is not None:
            with self._lock:
                self._custom[api_version, name] = found
        return found


def _wrong_annotations(inputs: Mapping[str, Any]) -> list[CheckFailure]:
    """What an update would only stumble over once the object exists."""
    readers: dict[str, Callable[[], object]] = {
        annotation.WAIT_FOR: lambda: rule_for("", inputs),
        annotation.TIMEOUT_SECONDS: lambda: annotation.seconds(inputs, 0.0, 1.0),
        annotation.DELETION_PROPAGATION: lambda: deletion.propagation("", inputs),
    }
    found = []
    for name, read in readers.items():
        try:
            read()
        except ProviderError as error:
            found.append(CheckFailure(f'metadata.annotations["{name}"]', str(error)))
    return found


def _discovered(client: Client, api_version: str, kind: str, patience: float) -> Kind | None:
    try:
        answer = client.request("GET", f"/apis/{api_version}", patience=patience)
    except ApiError as error:
        if error.not_found:
            return None
        raise
    for item in answer.get("resources") or ():
        if item.get("kind") == kind and "/" not in item["name"]:
            return Kind(api_version, kind, item["name"], bool(item["namespaced"]))
    return None


def _known_inputs(given: Properties, kept: Properties) -> Properties:
    """The last inputs in normal form: an older version of this plugin kept them as they came.

    Args:
        given: As the engine gives them, if it does.
        kept: The state, which has them too; they may be secret as a whole.
    """
    inputs = given or kept.get(state.INPUTS) or {}
    return normal.normal(inputs.value if isinstance(inputs, Secret) else inputs)


def _target(kind: Kind, body: Mapping[str, Any]) -> Target:
    metadata = body["metadata"]
    return Target(kind, metadata.get("namespace"), metadata.get("name") or "")


def _exists(request: ResourceRequest, target: Target) -> str:
    return (
        f"{target.where} exists already and does not belong to this stack under this name. If the "
        "resource was renamed or moved, give its former name in the option aliases; else take the "
        f"object in with pulumi import {request.type} {request.name} {target.identity}, or delete it, or set "
        "upsertExistingObjects on the provider to take over whatever exists"
    )


def _server(arguments: Properties) -> str | None:
    chosen = settings.read(arguments)
    if not chosen.known or not chosen.kubeconfig:
        return None
    try:
        return kubeconfig.load(chosen.kubeconfig, chosen.context, chosen.cluster).server
    except kubeconfig.KubeconfigError:
        return None
