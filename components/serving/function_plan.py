"""What Function and FunctionDecorator share: arguments, checks, the pod and its scaling."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NotRequired, TypedDict

import pulumi
import pulumi_docker as docker
from pulumi_kubernetes.autoscaling.v2 import HorizontalPodAutoscaler

from components.arguments.errors import InputError
from components.pods import labels as pod_labels
from components.pods.companion import Companion
from components.serving.function_activator import (
    activator_labels,
    activator_name,
    activator_pods,
    check_activator,
    validate_activator,
)
from components.serving.function_source import Source, source_of
from components.values import checks
from components.values.edges import Edge
from components.values.targets import Target
from components.workloads.application import Application, ApplicationArgs

FUNCTION_PORT = 8080
"""Where the function answers."""
HEALTH_PORT = 8081
"""Where ``/healthz``, ``/readyz`` and ``/metrics`` answer, which are not the function's."""
SIGNATURES = ("context", "http", "cloudevent", "typed")
TRIGGERS = ("http", "event")

_FOLDER = "/opt/function/source"
_DOCKERFILE = Path(__file__).with_name("function.Dockerfile")
_MOST_CONCURRENCY = 250
_MOST_SECONDS = 3600
_REQUESTED_MEMORY = "64Mi"
_OWN_PREFIX = "FUNCTION_"
_DRAIN_SECONDS = 5


class RunArgs(TypedDict):
    """How a function runs, whatever it is for."""

    image: pulumi.Input[str]
    """The runtime: the project's image ``function``, with a tag or digest."""
    source: NotRequired[str]
    """A Python file, or a folder with one. A folder with ``requirements.txt`` (each line with
    version and hash), with folders below it, or with other files than text is built into an image
    on top of ``image``; everything else is mounted."""
    file: NotRequired[str]
    """The file of the folder that has the function. Defaults to ``main.py``."""
    registry: NotRequired[pulumi.Input[str]]
    """host:port of the registry to push a built image to; needed only where one is built."""
    concurrency: NotRequired[int]
    """Requests that one pod works on at the same time, from 1 to 250. Defaults to 8."""
    waiting: NotRequired[int]
    """Requests that wait in one pod for their turn, from 0 to 1000; more are answered with 503.
    Defaults to four times ``concurrency``."""
    timeout_seconds: NotRequired[int]
    """Seconds for one request, from 1 to 3600, counted from the start of the function; then the
    caller gets 504 and the function an exception. Defaults to 30."""
    memory: NotRequired[str]
    """Most memory of a pod, a quantity, at least 64Mi; a pod above it is killed. Defaults to
    256Mi."""
    cpu: NotRequired[str]
    """CPU that a pod is counted with, a quantity; scaling is relative to it. Defaults to 100m."""
    cpu_limit: NotRequired[str]
    """Most CPU of a pod, a quantity. Defaults to 1."""
    min_scale: NotRequired[int]
    """Fewest pods. With 0 an activator stands before the function, which holds requests while a
    first pod starts; with 1 or more a pod is always warm. Defaults to 1."""
    max_scale: NotRequired[int]
    """Most pods. Defaults to 3, or ``min_scale`` if that is more; equal to it, nothing scales."""
    idle_seconds: NotRequired[int]
    """With ``min_scale`` 0: seconds without any request after which the last pod goes, from 5 to
    86400. Defaults to 60."""
    held: NotRequired[int]
    """With ``min_scale`` 0: requests that wait for a pod or for a place at one, from 1 to 1000;
    more are answered with 503. Defaults to 100."""
    hold_seconds: NotRequired[int]
    """With ``min_scale`` 0: seconds that one waits at most, from 1 to 600; then it is answered with
    503 and the reason. Defaults to 60."""
    target_utilization: NotRequired[int]
    """Percent of ``cpu`` that the function's containers use on average when their number is right,
    from 1 to 1000. Defaults to 70."""
    scale_down_seconds: NotRequired[int]
    """Seconds for which fewer pods must have been enough before one goes, from 0 to 3600. Defaults
    to 60."""
    env: NotRequired[Mapping[str, pulumi.Input[str]]]
    """Environment variables; ``FUNCTION_`` begins the runtime's own. A secret is refused: it
    belongs into ``secret_files``."""
    files: NotRequired[Mapping[str, pulumi.Input[str]]]
    """More files, absolute path to content. A secret is refused."""
    secret_files: NotRequired[Mapping[str, pulumi.Input[str]]]
    """Secrets that the function reads, absolute path to content."""
    writable: NotRequired[Sequence[str]]
    """Absolute paths of folders the function may write to. All else is read-only."""
    companions: NotRequired[Sequence[Companion]]
    """Companions of each pod."""
    clients: NotRequired[Sequence[Mapping[str, str]]]
    """Labels of pods of the same namespace that may call it; an empty mapping is every pod.
    Without any nobody may."""
    ingress: NotRequired[Sequence[Edge]]
    """More connections let in."""
    egress: NotRequired[Sequence[Edge]]
    """Connections that the function opens, beside name resolution."""
    namespace: NotRequired[pulumi.Input[str]]
    """Namespace. Defaults to the provider's."""
    labels: NotRequired[Mapping[str, pulumi.Input[str]]]
    """More labels for the pods, for example a store's client label."""
    annotations: NotRequired[Mapping[str, pulumi.Input[str]]]
    """Annotations for the pods."""
    version: NotRequired[pulumi.Input[str]]
    """For the label app.kubernetes.io/version."""


_PASSED = (
    "secret_files", "writable", "companions", "clients", "ingress", "egress", "namespace",
    "annotations", "labels", "version",
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


def target_of(made: FunctionResources) -> Target:
    """Where a function is, and the way there."""
    return Target(
        url=pulumi.Output.concat("http://", made.endpoint, "/"),
        edge=Edge(ports=(FUNCTION_PORT,), pods=made.entrance.labels),
    )


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
        child = pulumi.ResourceOptions(parent=parent)
        built = self._image(child)
        application: ApplicationArgs = {**self.application}
        if built is not None:
            application["image"] = built.repo_digest
        made = Application(self.name, application, child)
        activator = None
        if self.activator is not None:
            workload = self.activator(made.deployment.metadata["name"])
            activator = Application(activator_name(self.name), workload, child)
        return FunctionResources(made, activator, self._scaler(made, child), built)

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
        namespace = {"namespace": self.args["namespace"]} if "namespace" in self.args else {}
        return HorizontalPodAutoscaler(
            self.name,
            metadata={"labels": dict(application.labels), **namespace},
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
                                "average_utilization": self.args.get("target_utilization", 70),
                            },
                        },
                    }
                ],
                "behavior": {
                    "scale_up": {"stabilization_window_seconds": 0},
                    "scale_down": {
                        "stabilization_window_seconds": self.args.get("scale_down_seconds", 60)
                    },
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
    """Check everything that concerns a function.

    :param component: for the label app.kubernetes.io/component
    :param functions: names of functions that the code must have, by the argument that names them
    :param runtime: more environment variables for the runtime
    """
    source = source_of(
        where,
        code=args.get("code"),
        source=args.get("source"),
        file=args.get("file"),
        functions=functions,
    )
    if source.folder is not None and "registry" not in args:
        raise InputError(
            where, "registry", None, f"must be given: {source.folder} is built into an image"
        )
    concurrency = _whole(where, args, "concurrency", 8, 1, _MOST_CONCURRENCY)
    waiting = _whole(where, args, "waiting", 4 * concurrency, 0, 1000)
    timeout = _whole(where, args, "timeout_seconds", 30, 1, _MOST_SECONDS)
    _whole(where, args, "target_utilization", 70, 1, 1000)
    _whole(where, args, "scale_down_seconds", 60, 0, 3600)
    min_scale, max_scale = _scale(where, args)
    held = check_activator(where, args, needed=min_scale == 0)
    env = args.get("env", {})
    for key in env:
        if key.startswith(_OWN_PREFIX):
            raise InputError(
                where, "env", key, f"must not begin with {_OWN_PREFIX}: those are the runtime's"
            )
    own = {
        "FUNCTION_NAME": name,
        "FUNCTION_CONCURRENCY": str(concurrency),
        "FUNCTION_TIMEOUT_SECONDS": str(timeout),
        "FUNCTION_PORT": str(FUNCTION_PORT),
        "FUNCTION_HEALTH_PORT": str(HEALTH_PORT),
    }
    application: dict[str, Any] = {
        "image": args["image"],
        "component": component,
        "env": {
            **env,
            **own,
            "FUNCTION_FILE": f"{_FOLDER}/{source.main}",
            "FUNCTION_FORM": signature,
            "FUNCTION_WAITING": str(waiting),
            **runtime,
        },
        "files": {
            **args.get("files", {}),
            **{f"{_FOLDER}/{path}": content for path, content in source.files.items()},
        },
        "resources": _resources(where, args),
        "ports": [
            {"name": "http", "port": FUNCTION_PORT},
            {"name": "health", "port": HEALTH_PORT},
        ],
        "expose": ["http"],
        "readiness": {"path": "/readyz", "port": "health", "period_seconds": 3},
        "liveness": {"path": "/healthz", "port": "health"},
        # What runs may end, and its answer be sent.
        "grace_seconds": timeout + 10,
        "replicas": max(1, min_scale),
        "autoscaled": min_scale != max_scale,
    }
    for path in args.get("files", {}):
        if str(path).startswith(f"{_FOLDER}/"):
            raise InputError(where, "files", path, f"must not lie in {_FOLDER}, where the code is")
    application |= {key: args[key] for key in _PASSED if key in args}
    activator = None
    if min_scale == 0:
        pods = pod_labels.selector(name, name, component)
        # The activator alone asks the pods, by their addresses.
        edge = Edge(ports=(FUNCTION_PORT, HEALTH_PORT), pods=activator_labels(name))
        application |= {
            "clients": [],
            "expose": [],
            "ingress": [*args.get("ingress", ()), edge],
            # It goes on sending requests until it has heard that a pod was told to end.
            "drain_seconds": _DRAIN_SECONDS,
        }

        def activator(deployment: pulumi.Input[str]) -> ApplicationArgs:
            return activator_pods(
                args,
                held,
                environment=own,
                timeout=timeout,
                ports=(FUNCTION_PORT, HEALTH_PORT),
                deployment=deployment,
                pods=pods,
                most_pods=max_scale,
            )

        validate_activator(where, name, activator(name))
    plan = FunctionPlan(name, source, args, _typed(application), min_scale, max_scale, activator)
    Application.validate(where, name, plan.application)
    return plan


def _typed(application: dict[str, Any]) -> ApplicationArgs:
    return application  # type: ignore[return-value]


def _whole(
    where: str, args: Mapping[str, Any], argument: str, default: int, lowest: int, highest: int
) -> int:
    bounds = (lowest, highest)
    return checks.whole(where, args, argument, default, bounds, "it is checked against the others")


def _scale(where: str, args: Mapping[str, Any]) -> tuple[int, int]:
    low = _whole(where, args, "min_scale", 1, 0, 1000)
    high = _whole(where, args, "max_scale", max(3, low), 1, 1000)
    if low > high:
        raise InputError(where, "min_scale", low, f"must not be above max_scale, which is {high}")
    return low, high


def _resources(where: str, args: Mapping[str, Any]) -> dict[str, Any]:
    memory = checks.quantity(where, "memory", args.get("memory", "256Mi"))
    if not checks.is_deferred(memory) and checks.amount(memory) < checks.amount(_REQUESTED_MEMORY):
        raise InputError(
            where, "memory", memory, f"must be at least {_REQUESTED_MEMORY}, the runtime needs 50Mi"
        )
    cpu = checks.quantity(where, "cpu", args.get("cpu", "100m"))
    limit = checks.quantity(where, "cpu_limit", args.get("cpu_limit", "1"))
    if checks.amount(cpu) > checks.amount(limit):
        raise InputError(where, "cpu", cpu, f"must not be above cpu_limit, which is {limit}")
    return {
        "requests": {"cpu": cpu, "memory": _REQUESTED_MEMORY},
        "limits": {"cpu": limit, "memory": memory},
    }
