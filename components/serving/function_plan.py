"""What Function and FunctionDecorator share: arguments, checks, the pod and its scaling."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, NotRequired, TypedDict

import pulumi
import pulumi_docker as docker
from pulumi_kubernetes.autoscaling.v2 import HorizontalPodAutoscaler

from components.arguments import Default, DefaultsTo, InputError, Later, between
from components.arguments.constraints import Constraint
from components.arguments.containers import EnvName, EnvValue
from components.arguments.files import Files, SecretFiles, WritableFolders
from components.arguments.images import Image, Registry
from components.arguments.local import LocalPath
from components.arguments.names import LabelValue
from components.pods import labels as pod_labels
from components.pods.companion import Companion
from components.pods.hosting import (
    ApplicationHosting,
    object_metadata,
    with_resources,
    without_service,
)
from components.serving import function_activator as activator
from components.serving.function_source import MainFile, Source, source_of
from components.values.peers import Clients
from components.values.reach import Reach
from components.workloads.application import Application, ApplicationArgs
from components.workloads.arguments import PortArgs

FUNCTION_PORT = 8080
"""Where the function answers."""
HEALTH_PORT = 8081
"""Where ``/healthz``, ``/readyz`` and ``/metrics`` answer, which are not the function's."""
SIGNATURES = ("context", "http", "cloudevent", "typed")

_RUNTIME = "/opt/function"
_FOLDER = f"{_RUNTIME}/source"
_DOCKERFILE = Path(__file__).with_name("function.Dockerfile")
_MAX_SCALE = 3
_LEAST_MEMORY = "64Mi"
_OWN_PREFIX = "FUNCTION_"
_DRAIN_SECONDS = 5


_EnvName = Annotated[
    EnvName,
    Constraint(
        f"without the prefix {_OWN_PREFIX}: those variables are the runtime's",
        lambda name: not name.startswith(_OWN_PREFIX),
        (f"{_OWN_PREFIX}NAME",),
    ),
]


class RunArgs(TypedDict):
    """How a function runs, whatever it is for."""

    image: Later[Image]
    """The runtime: the project's image ``function``."""
    source: NotRequired[LocalPath]
    """A Python file, or a folder with one. A folder with ``requirements.txt`` (each line with
    version and hash), with folders below it, or with other files than text is built into an image
    on top of ``image``; everything else is mounted. What often holds secrets (``.env``, ``*.key``,
    ``.git`` and the like) is left out, with a warning that names it."""
    file: NotRequired[Annotated[MainFile, DefaultsTo("main.py")]]
    """The file of the folder that has the function."""
    registry: NotRequired[Later[Registry]]
    """The registry to push a built image to; needed only where one is built."""
    concurrency: NotRequired[Annotated[int, between(1, 250), Default(8)]]
    """Requests that one pod works on at the same time."""
    waiting: NotRequired[Annotated[int, between(0, 1000), DefaultsTo("four times ``concurrency``")]]
    """Requests that wait in one pod for their turn; more are answered with 503."""
    timeout_seconds: NotRequired[Annotated[int, between(1, 3600), Default(30)]]
    """Seconds for one request, counted from the start of the function; then the caller gets 504 and
    the function an exception."""
    min_scale: NotRequired[Annotated[int, between(0, 1000), Default(1)]]
    """Fewest pods. With 0 an activator stands before the function, which holds requests while a
    first pod starts; with 1 or more a pod is always warm."""
    max_scale: NotRequired[
        Annotated[
            int, between(1, 1000), DefaultsTo(f"{_MAX_SCALE}, or ``min_scale`` if that is more")
        ]
    ]
    """Most pods; equal to ``min_scale``, nothing scales."""
    idle_seconds: NotRequired[
        Annotated[int, between(5, 86400), DefaultsTo(f"{activator.DEFAULTS['idle_seconds']}")]
    ]
    """With ``min_scale`` 0: seconds without any request after which the last pod goes."""
    held: NotRequired[Annotated[int, between(1, 1000), DefaultsTo(f"{activator.DEFAULTS['held']}")]]
    """With ``min_scale`` 0: requests that wait for a pod or for a place at one; more are answered
    with 503."""
    hold_seconds: NotRequired[
        Annotated[int, between(1, 600), DefaultsTo(f"{activator.DEFAULTS['hold_seconds']}")]
    ]
    """With ``min_scale`` 0: seconds that one waits at most; then it is answered with 503 and the
    reason."""
    target_utilization: NotRequired[Annotated[int, between(1, 1000), Default(70)]]
    """Percent of ``cpu`` that the function's containers use on average when their number is
    right."""
    scale_down_seconds: NotRequired[Annotated[int, between(0, 3600), Default(60)]]
    """Seconds for which fewer pods must have been enough before one goes."""
    env: NotRequired[Annotated[Mapping[_EnvName, Later[EnvValue]], Default({})]]
    """Environment variables; a secret belongs into ``secret_files``."""
    files: NotRequired[Annotated[Files, Default({})]]
    """More files, by their absolute paths."""
    secret_files: NotRequired[Annotated[SecretFiles, Default({})]]
    """Secrets that the function reads, by their absolute paths."""
    writable: NotRequired[Annotated[WritableFolders, Default(())]]
    """Folders that the function may write to. All else is read-only."""
    companions: NotRequired[Annotated[Sequence[Companion], Default(())]]
    """Companions of each pod."""
    clients: NotRequired[Clients]
    """Who may call it, beside what has ``reach`` among its ``reaches`` and what delivers events to
    it; ``{}`` is every pod of the namespace."""
    metrics_clients: NotRequired[Clients]
    """Who may ask for ``/metrics`` at port 8081; ``{}`` is every pod of the namespace."""
    reaches: NotRequired[Annotated[Sequence[Reach], Default(())]]
    """What the function connects to, such as ``store.reach``. Everything else but name resolution
    is refused."""
    version: NotRequired[Later[LabelValue]]
    """For the label app.kubernetes.io/version."""
    hosting: NotRequired[Annotated[ApplicationHosting, Default({})]]
    """Namespace, labels, nodes, spread, Service, rollout and resources. Default requests: cpu 100m,
    to which scaling is relative, and memory 64Mi. Default limits: cpu 1, memory 256Mi, and at least
    64Mi. With ``min_scale`` 0 the Service is the activator's, and ``resources`` are the function's
    alone."""


_PASSED = (
    "secret_files", "writable", "companions", "clients", "reaches", "version",
)  # fmt: skip


@dataclass(frozen=True)
class FunctionResources:
    """What was registered."""

    application: Application
    activator: Application | None
    scaler: HorizontalPodAutoscaler | None
    image: docker.Image | None

    @property
    def entrance(self) -> Application:
        """The pods that requests come to."""
        return self.activator or self.application

    @property
    def endpoint(self) -> pulumi.Output[str]:
        """``host:port`` of the Service."""
        if self.entrance.endpoint is None:
            raise RuntimeError("a function has a Service")
        return self.entrance.endpoint


def function_ports(metrics_clients: Clients) -> list[PortArgs]:
    """Where a function's pods listen, and an activator's alike."""
    return [
        {"name": "http", "port": FUNCTION_PORT, "app_protocol": "http"},
        {"name": "health", "port": HEALTH_PORT, "clients": metrics_clients},
    ]


@dataclass(frozen=True)
class FunctionPlan:
    """A function, checked before any resource is registered."""

    name: str
    source: Source
    args: Mapping[str, Any]
    application: ApplicationArgs
    min_scale: int
    max_scale: int
    activator: Callable[[pulumi.Input[str]], ApplicationArgs] | None
    """The activator by the name of the function's Deployment."""

    def register(self, parent: pulumi.Resource) -> FunctionResources:
        """Register the image, the pods and what scales them."""
        if self.source.left_out:
            pulumi.log.warn(
                f"{', '.join(self.source.left_out)} may be secret and is not in the function: what "
                "it needs of that belongs into secret_files",
                parent,
            )
        child = pulumi.ResourceOptions(parent=parent)
        built = self._image(child)
        application: ApplicationArgs = {**self.application}
        if built is not None:
            application["image"] = built.repo_digest
        made = Application(self.name, application, child)
        before = None
        if self.activator is not None:
            workload = self.activator(made.deployment.metadata["name"])
            before = Application(activator.activator_name(self.name), workload, child)
        return FunctionResources(made, before, self._scaler(made, child), built)

    def _image(self, opts: pulumi.ResourceOptions) -> docker.Image | None:
        if self.source.folder is None:
            return None
        registry = pulumi.Output.from_input(self.args["registry"])
        return docker.Image(
            self.name,
            image_name=pulumi.Output.concat(registry, f"/dds/function-{self.name}:current"),
            build={
                "context": str(self.source.folder),
                "dockerfile": str(_DOCKERFILE),
                "target": "dependencies" if self.source.requirements else "plain",
                "args": {"BASE": self.args["image"]},
            },
            registry={"server": registry},
            opts=opts,
        )

    def _scaler(
        self, application: Application, opts: pulumi.ResourceOptions
    ) -> HorizontalPodAutoscaler | None:
        lowest = max(1, self.min_scale)
        if lowest == self.max_scale:
            return None
        return HorizontalPodAutoscaler(
            self.name,
            metadata=object_metadata(
                application.labels, self.args["hosting"], version=self.args.get("version")
            ),
            spec={
                "scale_target_ref": {
                    "api_version": "apps/v1",
                    "kind": "Deployment",
                    "name": application.deployment.metadata["name"],
                },
                # It leaves alone what has none: from 0 to 1 and back is the activator's.
                "min_replicas": lowest,
                "max_replicas": self.max_scale,
                "metrics": [
                    {
                        # The function's own container: what a companion uses does not count.
                        "type": "ContainerResource",
                        "container_resource": {
                            "name": "cpu",
                            "container": self.name,
                            "target": {
                                "type": "Utilization",
                                "average_utilization": self.args["target_utilization"],
                            },
                        },
                    }
                ],
                "behavior": {
                    "scale_up": {"stabilization_window_seconds": 0},
                    "scale_down": {"stabilization_window_seconds": self.args["scale_down_seconds"]},
                },
            },
            opts=opts,
        )


def plan_function(
    where: str,
    name: str,
    args: Mapping[str, Any],
    *,
    component: str,
    functions: Mapping[str, str],
    signature: str,
    runtime: Mapping[str, pulumi.Input[str]],
) -> FunctionPlan:
    """Check what only a function knows: one argument against another, the code, the pods.

    :param args: resolved RunArgs and ``code``
    :param component: for the label app.kubernetes.io/component
    :param functions: names of functions that the code must have, by the argument that names them
    :param runtime: more environment variables for the runtime
    """
    source = source_of(where, args, functions)
    if source.folder is not None and "registry" not in args:
        raise InputError(
            where, "registry", None, f"must be given: {source.folder} is built into an image"
        )
    for argument in ("files", "secret_files", "writable"):
        for path in args[argument]:
            if f"{path}/".startswith(f"{_RUNTIME}/"):
                raise InputError(
                    where, argument, path, f"must not lie in {_RUNTIME}, where the code is"
                )
    concurrency, timeout, min_scale = (
        args[argument] for argument in ("concurrency", "timeout_seconds", "min_scale")
    )
    max_scale = args.get("max_scale", max(_MAX_SCALE, min_scale))
    if min_scale > max_scale:
        raise InputError(
            where, "min_scale", min_scale, f"must not be above max_scale, which is {max_scale}"
        )
    told = activator.told_activator(where, args, needed=min_scale == 0)
    own = {
        "FUNCTION_NAME": name,
        "FUNCTION_CONCURRENCY": str(concurrency),
        "FUNCTION_TIMEOUT_SECONDS": str(timeout),
        "FUNCTION_PORT": str(FUNCTION_PORT),
        "FUNCTION_HEALTH_PORT": str(HEALTH_PORT),
    }
    ports = function_ports(args["metrics_clients"])
    hosting = with_resources(
        where,
        args["hosting"],
        requests={"cpu": "100m", "memory": _LEAST_MEMORY},
        limits={"cpu": "1", "memory": "256Mi"},
        least_memory=(_LEAST_MEMORY, "the runtime needs 50Mi"),
    )
    application: dict[str, Any] = {
        "image": args["image"],
        "component": component,
        "env": {
            **args["env"],
            **own,
            "FUNCTION_FILE": f"{_FOLDER}/{source.main}",
            "FUNCTION_FORM": signature,
            "FUNCTION_WAITING": str(args.get("waiting", 4 * concurrency)),
            **runtime,
        },
        "files": {
            **args["files"],
            **{f"{_FOLDER}/{path}": content for path, content in source.files.items()},
        },
        "hosting": hosting,
        "ports": ports,
        "expose": ["http"],
        "readiness": {"path": "/readyz", "port": "health", "period_seconds": 3},
        "liveness": {"path": "/healthz", "port": "health"},
        # What runs may end, and its answer be sent.
        "grace_seconds": timeout + 10,
        "replicas": max_scale,
        "autoscaled": min_scale != max_scale,
    }
    application |= {key: args[key] for key in _PASSED if key in args}
    waking = None
    if min_scale == 0:
        # The activator alone asks the pods: by their addresses, so the host here is none.
        pods = Reach(
            name,
            tuple(f"{name}:{port['port']}" for port in ports),
            pods=pod_labels.selector(name, name, component),
            isolated=True,
        )
        application |= {
            "clients": [],
            "expose": [],
            "hosting": without_service(hosting),
            # It goes on sending requests until it has heard that a pod was told to end.
            "drain_seconds": _DRAIN_SECONDS,
        }

        def waking(deployment: pulumi.Input[str]) -> ApplicationArgs:
            return activator.activator_pods(
                args,
                told,
                environment=own,
                timeout=timeout,
                ports=ports,
                deployment=deployment,
                pods=pods,
                most_pods=max_scale,
            )

        activator.validate_activator(where, name, waking(name))
    plan = FunctionPlan(name, source, args, _typed(application), min_scale, max_scale, waking)
    Application.validate(where, name, plan.application)
    return plan


def _typed(application: dict[str, Any]) -> ApplicationArgs:
    return application  # type: ignore[return-value]
