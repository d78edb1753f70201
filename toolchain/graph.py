"""Run a Pulumi program against a monitor in this process and return its resource graph.

Used by the unit tests and by ``render``. Nothing is started or deployed: mocks replace the providers
and generate their outputs (names, ids, digests) deterministically.
"""

import asyncio
import base64
import contextvars
import dataclasses
import hashlib
import json
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pulumi
from google.protobuf import empty_pb2, struct_pb2
from pulumi.runtime import config as pulumi_config
from pulumi.runtime import mocks, rpc
from pulumi.runtime.settings import SETTINGS, configure, set_root_resource
from pulumi.runtime.stack import Stack, run_pulumi_func

STACK_TYPE = "pulumi:pulumi:Stack"
PROJECT = "dds"
_ORGANIZATION = "organization"

_WITHOUT_NAMESPACE = frozenset(
    {
        "ClusterRole", "ClusterRoleBinding", "CustomResourceDefinition", "IngressClass",
        "Namespace", "PersistentVolume", "PriorityClass", "StorageClass",
    }
)  # fmt: skip
_DYNAMIC = "pulumi-python:"
# Outputs of their providers, except those that are declared secret.
_DYNAMIC_OUTPUTS = {
    "Authority": ("certificate", "created"),
    "Certificate": ("certificate", "serial"),
}
_OBJECT_KEYS = ("metadata", "data", "spec", "status")
# The wire format of a secret (sdk/go/common/resource/properties.go).
_SIGNATURE = "4dabf18193072939515e22adb298388d"
_SECRET = "1b47061264138c4ac30d75fd1eb44270"  # noqa: S105


class GraphError(Exception):
    """The program did something that the engine would refuse, or a mock is missing."""


@dataclasses.dataclass(frozen=True)
class Node:
    """One registered resource, as the engine would receive it."""

    urn: str
    type: str
    name: str
    inputs: Mapping[str, Any]
    """Inputs by wire name (camelCase), secrets unwrapped."""
    secrets: frozenset[str]
    """Paths of secret inputs, such as ``data.password``."""
    outputs: Mapping[str, Any]
    """Outputs of the provider."""
    parent: str
    """URN of the parent, empty at the root."""
    dependencies: tuple[str, ...]
    aliases: tuple[Any, ...]
    protect: bool
    provider: str
    """Reference of an explicit provider, empty for the default one."""
    hooks: Mapping[str, tuple[str, ...]]
    """Names of resource hooks by event."""
    timeouts: Mapping[str, str]
    custom: bool
    delete_before_replace: bool
    replace_on_changes: tuple[str, ...]
    ignore_changes: tuple[str, ...]
    """Paths in the provider's spelling. ``inputs`` has these values too, because there is no former
    state."""
    retain_on_delete: bool
    additional_secret_outputs: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Graph:
    """All resources of one run, in the order of registration."""

    nodes: Mapping[str, Node]
    """By URN."""
    outputs: Mapping[str, Mapping[str, Any]]
    """Registered outputs by URN; the stack's under the empty string."""
    output_secrets: Mapping[str, frozenset[str]]
    """Paths of the registered outputs that are secret."""

    def __iter__(self) -> Iterator[Node]:
        return iter(self.nodes.values())

    def all(self, type_: str, name: str | None = None) -> list[Node]:
        """Every resource of a type (its token, or the part after the last colon)."""
        return [
            node
            for node in self
            if type_ in (node.type, node.type.rsplit(":", 1)[-1])
            and (name is None or node.name == name)
        ]

    def one(self, type_: str, name: str | None = None) -> Node:
        """The only resource of a type, or of a type and name."""
        found = self.all(type_, name)
        if len(found) != 1:
            there = ", ".join(sorted(f"{n.type} {n.name}" for n in self)) or "nothing"
            raise GraphError(f"expected one {type_} {name or ''}, found {len(found)} in: {there}")
        return found[0]

    def children(self, parent: Node) -> list[Node]:
        """The direct children of a resource."""
        return [node for node in self if node.parent == parent.urn]

    def child(self, parent: Node, type_: str) -> Node:
        """The only descendant of a type."""
        found = [node for node in self.all(type_) if self._below(node, parent)]
        if len(found) != 1:
            raise GraphError(f"expected one {type_} below {parent.urn}, found {len(found)}")
        return found[0]

    def _below(self, node: Node, ancestor: Node) -> bool:
        while node.parent:
            if node.parent == ancestor.urn:
                return True
            if node.parent not in self.nodes:
                return False
            node = self.nodes[node.parent]
        return False


def mark(*parts: str) -> str:
    """Eight hexadecimal digits instead of a provider's random value."""
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:8]


class Providers(mocks.Mocks):
    """Mocks of the providers. For more, subclass it, or pass ``calls`` to ``build``."""

    def __init__(
        self,
        preview: bool = False,
        calls: Mapping[str, Callable[[Mapping[str, Any]], Mapping[str, Any]]] | None = None,
        references: Mapping[str, Mapping[str, Any]] | None = None,
    ) -> None:
        self._preview = preview
        self._registering = threading.local()
        self._calls = calls or {}
        self._references = references or {}

    def enter(self, urn: str) -> None:
        """Set the resource of the next response, for this thread."""
        self._registering.urn = urn

    def position(self) -> str:
        """The types and names of the resource's URN, without stack and project."""
        urn: str = self._registering.urn
        return urn.split("::", 2)[2]

    def new_resource(self, args: mocks.MockResourceArgs) -> tuple[str | None, dict[str, Any]]:
        """Respond to a registration with an id and the state."""
        state = dict(args.inputs)
        if args.typ == "pulumi:pulumi:StackReference":
            return self._stack_reference(args, state)
        if not args.custom and not args.resource_id:
            return None, state
        if args.typ.startswith("kubernetes:") and args.resource_id:
            return args.resource_id, {**state, **self._existing(args)}
        if args.typ.startswith("kubernetes:"):
            identity, state = self._kubernetes(args, state)
        elif args.typ.startswith(_DYNAMIC):
            identity, state = self._dynamic(args, state)
        elif args.typ.startswith("docker:"):
            identity, state = self._docker(args, state)
        else:
            identity = f"{args.name}-{mark(self.position())}"
        # In a preview the id of a new resource is unknown.
        return "" if self._preview else identity, state

    def call(self, args: mocks.MockCallArgs) -> dict[str, Any]:  # type: ignore[override]
        """Respond to an invoke."""
        if args.token not in self._calls:
            raise GraphError(f"no mock for the invoke {args.token}; pass it in calls")
        return dict(self._calls[args.token](args.args))

    def _stack_reference(
        self, args: mocks.MockResourceArgs, state: dict[str, Any]
    ) -> tuple[str, dict[str, Any]]:
        name = state.get("name", args.name)
        if name not in self._references:
            raise GraphError(f"no outputs for the referenced stack {name}; pass them in references")
        outputs = dict(self._references[name])
        secret = sorted(key for key, value in outputs.items() if isinstance(value, Secret))
        plain = {k: v.value if isinstance(v, Secret) else v for k, v in outputs.items()}
        return name, {"name": name, "outputs": plain, "secretOutputNames": secret}

    def _existing(self, args: mocks.MockResourceArgs) -> dict[str, Any]:
        """Contents of an existing object: a Secret has a password."""
        if self._preview or not args.typ.endswith(":Secret"):
            return dict.fromkeys(_OBJECT_KEYS, rpc.UNKNOWN)
        word = _made_up(args.name, "password").encode()
        return {"data": {"password": base64.b64encode(word).decode()}}

    def _kubernetes(
        self, args: mocks.MockResourceArgs, state: dict[str, Any]
    ) -> tuple[str, dict[str, Any]]:
        metadata = dict(state.get("metadata") or {})
        metadata.setdefault("name", f"{args.name}-{mark(self.position())}")
        kind = args.typ.rsplit(":", 1)[-1]
        if kind in _WITHOUT_NAMESPACE:
            return str(metadata["name"]), {**state, "metadata": metadata}
        metadata.setdefault("namespace", "default")
        return f"{metadata['namespace']}/{metadata['name']}", {**state, "metadata": metadata}

    def _dynamic(
        self, args: mocks.MockResourceArgs, state: dict[str, Any]
    ) -> tuple[str, dict[str, Any]]:
        known = {key: value for key, value in state.items() if key != "__provider"}
        if not self._preview:
            for key in _DYNAMIC_OUTPUTS.get(args.typ.rsplit(":", 1)[-1], ()):
                known[key] = _made_up(args.name, key)
            if args.typ.endswith(":Password"):
                generation = int(known["generation"])
                known["former_generation"] = generation - 1
                known["former"] = _made_up(args.name, "former") if generation > 1 else ""
        return mark(self.position()), known

    def _docker(
        self, args: mocks.MockResourceArgs, state: dict[str, Any]
    ) -> tuple[str, dict[str, Any]]:
        identity = f"{args.name}-{mark(self.position())}"
        kind = args.typ.rsplit(":", 1)[-1]
        if kind not in {"Image", "RemoteImage"}:
            state.setdefault("name", identity)
            return identity, state
        if self._preview:
            # The digest is known only after the build.
            return identity, state
        name = str(state.get("imageName") or state.get("name") or args.name)
        digest = f"sha256:{_contents(state)}"
        made = {"baseImageName": name} if kind == "Image" else {"imageId": digest}
        return identity, {**state, **made, "repoDigest": f"{_repository(name)}@{digest}"}


def _made_up(name: str, key: str) -> str:
    """A value of a dynamic provider: as long as a password, or PEM, because components check it."""
    content = f"{key}-{mark(name, key)}-{mark(key, name)}"
    kind = {"certificate": "CERTIFICATE", "key": "PRIVATE KEY"}.get(key)
    return content if kind is None else f"-----BEGIN {kind}-----\n{content}\n-----END {kind}-----\n"


def _contents(state: Mapping[str, Any]) -> str:
    """A digest of an image's build context: the files, not their location."""
    digest = hashlib.sha256()
    build = state.get("build")
    given = dict(build) if isinstance(build, Mapping) else {}
    folder = Path(str(given.pop("context", "")))
    given.pop("dockerfile", None)
    digest.update(json.dumps([given, state.get("name")], sort_keys=True, default=str).encode())
    if given or folder.name:
        for path in sorted(folder.rglob("*")):
            if path.is_file() and "__pycache__" not in path.parts:
                digest.update(path.relative_to(folder).as_posix().encode() + b"\0")
                digest.update(path.read_bytes())
    return digest.hexdigest()


def _repository(image: str) -> str:
    """The image name without its tag."""
    repository, colon, tag = image.rpartition(":")
    return repository if colon and "/" not in tag else image


@dataclasses.dataclass(frozen=True)
class Secret:
    """Marks an output of a referenced stack as secret."""

    value: Any


class _Monitor(mocks.MockMonitor):
    def __init__(self, providers: Providers, preview: bool) -> None:
        super().__init__(providers)
        self._providers = providers
        self._preview = preview
        self._transforms: dict[str, list[Any]] = {}
        self.nodes: dict[str, Node] = {}
        self.outputs: dict[str, Mapping[str, Any]] = {}
        self.output_secrets: dict[str, frozenset[str]] = {}

    def make_urn(self, parent: str, type_: str, name: str) -> str:
        # The base class keeps only the nearest parent's type; the engine keeps the whole chain.
        chain = parent.split("::")[2] if parent else ""
        if chain and chain != STACK_TYPE:
            type_ = f"{chain}${type_}"
        return f"urn:pulumi:{pulumi.get_stack()}::{pulumi.get_project()}::{type_}::{name}"

    def RegisterResource(self, request: Any) -> Any:  # noqa: N802
        """Record a resource and respond with the mock's outputs."""
        urn = self.make_urn(request.parent, request.type, request.name)
        if request.type == STACK_TYPE:
            return super().RegisterResource(request)  # type: ignore[no-untyped-call]
        if urn in self.nodes:
            raise GraphError(f"duplicate URN {urn}")
        self._transform(urn, request)
        raw = rpc.deserialize_properties(request.object, keep_unknowns=True)
        inputs, secrets = _reveal(raw)
        self._providers.enter(urn)
        response = super().RegisterResource(request)  # type: ignore[no-untyped-call]
        self._add_secret_outputs(request, response)
        outputs, _ = _reveal(rpc.deserialize_properties(response.object, keep_unknowns=True))
        parent = "" if f"::{STACK_TYPE}::" in request.parent else request.parent
        self.nodes[urn] = Node(
            urn=urn,
            type=request.type,
            name=request.name,
            inputs=inputs,
            secrets=secrets,
            outputs=outputs,
            parent=parent,
            dependencies=tuple(request.dependencies),
            aliases=tuple(request.aliases),
            protect=request.protect,
            provider=request.provider,
            hooks={field.name: tuple(hooks) for field, hooks in request.hooks.ListFields()},
            timeouts={field.name: value for field, value in request.customTimeouts.ListFields()},
            custom=request.custom,
            delete_before_replace=request.deleteBeforeReplace,
            replace_on_changes=tuple(request.replaceOnChanges),
            ignore_changes=tuple(request.ignoreChanges),
            retain_on_delete=request.retainOnDelete,
            additional_secret_outputs=tuple(request.additionalSecretOutputs),
        )
        return response

    def _transform(self, urn: str, request: Any) -> None:
        """Apply the transforms of the resource, of its parents and of the stack, innermost first.

        The base class only records them; the engine calls them before the provider.
        """
        own = mocks._resolve_callbacks(request.transforms)  # noqa: SLF001
        inherited = self._transforms.get(request.parent, [])
        self._transforms[urn] = [*own, *inherited]
        for transform in [*self._transforms[urn], *self.get_registered_transforms()]:
            args = pulumi.ResourceTransformArgs(
                custom=request.custom,
                type_=request.type,
                name=request.name,
                props=rpc.deserialize_properties(request.object),
                opts=pulumi.ResourceOptions(),
            )
            result = transform(args)
            if result is not None:
                loop = asyncio.new_event_loop()
                try:
                    changed = loop.run_until_complete(rpc.serialize_properties(result.props, {}))
                finally:
                    loop.close()
                request.object.CopyFrom(changed)

    def _add_secret_outputs(self, request: Any, response: Any) -> None:
        """Wrap the outputs that the program declared secret, as the engine does."""
        for key in request.additionalSecretOutputs:
            if key not in response.object:
                # A dynamic resource's provider, which does not run here, would set them; in a
                # preview they are unknown.
                if self._preview or not request.type.startswith(_DYNAMIC):
                    continue
                response.object[key] = _made_up(request.name, key)
            value = response.object[key]
            if not (isinstance(value, struct_pb2.Struct) and _SIGNATURE in value):
                secret = struct_pb2.Struct()
                secret.update({_SIGNATURE: _SECRET})
                secret.fields["value"].CopyFrom(response.object.fields[key])
                response.object.fields[key].struct_value.CopyFrom(secret)

    def ReadResource(self, request: Any) -> Any:  # noqa: N802
        """Respond to the read of an existing resource, such as another stack."""
        self._providers.enter(self.make_urn(request.parent, request.type, request.name))
        return super().ReadResource(request)  # type: ignore[no-untyped-call]

    def RegisterResourceOutputs(self, request: Any) -> Any:  # noqa: N802
        """Record the outputs of a component or the stack."""
        outputs, secrets = _reveal(rpc.deserialize_properties(request.outputs, keep_unknowns=True))
        urn = "" if f"::{STACK_TYPE}::" in request.urn else request.urn
        self.outputs[urn] = outputs
        self.output_secrets[urn] = secrets
        return empty_pb2.Empty()


def _reveal(properties: Any) -> tuple[Any, frozenset[str]]:
    """The properties with secrets unwrapped, and the paths of the secrets."""
    found: set[str] = set()

    def walk(value: Any, path: str) -> Any:
        if rpc.is_rpc_secret(value):
            found.add(path)
            return walk(rpc.unwrap_rpc_secret(value), path)
        if isinstance(value, Mapping):
            return {k: walk(v, f"{path}.{k}" if path else str(k)) for k, v in value.items()}
        if isinstance(value, Sequence) and not isinstance(value, str | bytes):
            return [walk(v, f"{path}[{i}]") for i, v in enumerate(value)]
        if isinstance(value, float) and value.is_integer():
            return int(value)
        return value

    return walk(properties, ""), frozenset(found)


def build(
    program: Callable[[], object],
    *,
    preview: bool = False,
    config: Mapping[str, str] | None = None,
    secret_config: Mapping[str, str] | None = None,
    stack: str = "test",
    references: Mapping[str, Mapping[str, Any]] | None = None,
    calls: Mapping[str, Callable[[Mapping[str, Any]], Mapping[str, Any]]] | None = None,
    providers: Providers | None = None,
) -> Graph:
    """Run ``program`` and return its resource graph. Runs are independent of each other.

    :param preview: whether values that are known only after an update are unknown
    :param config: configuration by full key, ``{"dds:shards": "3"}``
    :param stack: name of the stack
    :param references: outputs of other stacks, by ``organization/project/stack``; wrap a secret
        one in ``Secret``
    :param calls: mocks of invokes, by token
    :param providers: mocks of resources. Defaults to ``Providers``
    :raises GraphError: a URN registered twice, an invoke or a reference without a mock
    """
    # Before its first update a stack has no outputs, but may reference itself.
    known = {f"{_ORGANIZATION}/{PROJECT}/{stack}": {}, **(references or {})}
    monitor = _Monitor(providers or Providers(preview, calls, known), preview)
    features = monitor.GetDeploymentInfo(empty_pb2.Empty())  # type: ignore[no-untyped-call]
    settings = mocks.MockSettings(  # type: ignore[no-untyped-call]
        monitor=monitor,
        monitor_features=set(features.supportedFeatures),
        engine=mocks.MockEngine(None),
        project=PROJECT,
        stack=stack,
        dry_run=preview,
        organization=_ORGANIZATION,
        callbacks=None,
        root_directory=str(Path.cwd()),
    )
    # Pulumi keeps its state in context variables; a separate context isolates the runs.
    contextvars.copy_context().run(
        _run, program, settings, {**(config or {}), **(secret_config or {})}, secret_config or {}
    )
    return Graph(monitor.nodes, monitor.outputs, monitor.output_secrets)


def _run(
    program: Callable[[], object],
    settings: mocks.MockSettings,
    config: Mapping[str, str],
    secrets: Mapping[str, str],
) -> None:
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    # The SDK calls the monitor from threads and leaves an event loop in each; with a single thread
    # there is one loop to close, and registrations keep their order.
    executor = ThreadPoolExecutor(1)
    loop.set_default_executor(executor)
    # A failure propagates to every dependent resource; the first is raised, the others would only
    # be printed.
    loop.set_exception_handler(lambda _loop, _context: None)
    try:
        pulumi_config.set_all_config(dict(config), list(secrets))
        configure(settings)
        set_root_resource(None)  # type: ignore[arg-type]
        SETTINGS.rpc_manager.clear()
        SETTINGS.outputs.clear()
        root = Stack()

        def run() -> None:
            program()
            root._finish()  # noqa: SLF001

        loop.run_until_complete(run_pulumi_func(run))
    finally:
        pending = asyncio.all_tasks(loop)
        for task in pending:
            task.cancel()
        loop.run_until_complete(asyncio.gather(*pending, return_exceptions=True))
        SETTINGS.rpc_manager.clear()
        SETTINGS.outputs.clear()
        executor.submit(_close_event_loop).result()
        executor.shutdown()
        loop.close()
        asyncio.set_event_loop(None)


def _close_event_loop() -> None:
    try:
        loop = asyncio.get_event_loop_policy().get_event_loop()
    except RuntimeError:
        return
    loop.close()
    asyncio.set_event_loop(None)
