"""What Function and FunctionDecorator share: arguments, checks, the pod and its scaling."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, NotRequired, TypedDict, cast

import pulumi
import pulumi_docker as docker
from pulumi_kubernetes.autoscaling.v2 import HorizontalPodAutoscaler

from dds_patterns.arguments import Default, DefaultsTo, InputError, Later, between
from dds_patterns.arguments.constraints import Constraint
from dds_patterns.arguments.containers import EnvName, EnvValue
from dds_patterns.arguments.files import Files, SecretFiles, WritableFolders
from dds_patterns.arguments.images import Image, Registry
from dds_patterns.arguments.local import LocalPath
from dds_patterns.arguments.names import LabelValue
from dds_patterns.pods import labels as pod_labels
from dds_patterns.pods.companion import Companion
from dds_patterns.pods.hosting import (
    ApplicationHosting,
    object_metadata,
    with_resources,
    without_service,
)
from dds_patterns.serving.function_activator import DEFAULTS, Activator
from dds_patterns.serving.function_source import MainFile, Source, source_of
from dds_patterns.values.peers import Clients
from dds_patterns.values.reach import Reach
from dds_patterns.workloads.application import Application, ApplicationArgs
from dds_patterns.workloads.arguments import PortArgs

FUNCTION_PORT = 8080
"""Port of the function."""
HEALTH_PORT = 8081
"""Port of ``/healthz``, ``/readyz`` and ``/metrics``, which the runtime answers."""
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
    """How a function runs: arguments of Function and FunctionDecorator."""

    image: Later[Image]
    """The runtime: the project's image ``function``."""
    source: NotRequired[LocalPath]
    """A Python file, or a folder with one. A folder with ``requirements.txt`` (each line with
    version and hash), with subfolders, or with files other than text is built into an image on top
    of ``image``; everything else is mounted. Files that often hold secrets (``.env``, ``*.key``,
    ``.git`` and the like) are left out, with a warning that names them."""
    file: NotRequired[Annotated[MainFile, DefaultsTo("main.py")]]
    """The file in the folder that defines the function."""
    registry: NotRequired[Later[Registry]]
    """The registry to push a built image to; needed only if one is built."""
    concurrency: NotRequired[Annotated[int, between(1, 250), Default(8)]]
    """Requests that one pod handles at the same time."""
    queue_size: NotRequired[
        Annotated[int, between(0, 1000), DefaultsTo("four times ``concurrency``")]
    ]
    """Requests that wait in one pod for their turn; more are answered with 503."""
    timeout_seconds: NotRequired[Annotated[int, between(1, 3600), Default(30)]]
    """Timeout of one request in seconds, from the call of the function; then the client gets 504 and
    the function an exception."""
    min_scale: NotRequired[Annotated[int, between(0, 1000), Default(1)]]
    """Minimum number of pods. With 0 an activator in front of the function holds requests while the
    first pod starts (cold start); with 1 or more a pod is always warm."""
    max_scale: NotRequired[
        Annotated[
            int, between(1, 1000), DefaultsTo(f"{_MAX_SCALE}, or ``min_scale`` if that is more")
        ]
    ]
    """Maximum number of pods; if equal to ``min_scale``, there is no autoscaling."""
    idle_seconds: NotRequired[
        Annotated[int, between(5, 86400), DefaultsTo(f"{DEFAULTS['idle_seconds']}")]
    ]
    """With ``min_scale`` 0: seconds without any request after which it scales to zero."""
    activator_queue_size: NotRequired[
        Annotated[int, between(1, 1000), DefaultsTo(f"{DEFAULTS['activator_queue_size']}")]
    ]
    """With ``min_scale`` 0: requests that wait for a pod or for a place at one; more are answered
    with 503."""
    activator_timeout_seconds: NotRequired[
        Annotated[int, between(1, 600), DefaultsTo(f"{DEFAULTS['activator_timeout_seconds']}")]
    ]
    """With ``min_scale`` 0: seconds that one waits at most; then it is answered with 503 and the
    reason."""
    target_cpu_percent: NotRequired[Annotated[int, between(1, 1000), Default(70)]]
    """The autoscaler's target: average CPU use of the function's containers, in percent of their cpu
    request."""
    scale_down_seconds: NotRequired[Annotated[int, between(0, 3600), Default(60)]]
    """Stabilization window: seconds for which fewer pods must have been enough before it scales
    down."""
    env: NotRequired[Annotated[Mapping[_EnvName, Later[EnvValue]], Default({})]]
    """Environment variables; secrets belong in ``secret_files``."""
    files: NotRequired[Annotated[Files, Default({})]]
    """More files, by their absolute paths."""
    secret_files: NotRequired[Annotated[SecretFiles, Default({})]]
    """Secrets that the function reads, by their absolute paths."""
    writable: NotRequired[Annotated[WritableFolders, Default(())]]
    """Folders that the function may write to. All else is read-only."""
    companions: NotRequired[Annotated[Sequence[Companion], Default(())]]
    """Companions of each pod."""
    clients: NotRequired[Clients]
    """Clients that may call it, besides workloads with ``reach`` in ``reaches`` and those that deliver
    events to it; ``{}`` is every pod of the namespace."""
    metrics_clients: NotRequired[Clients]
    """Clients that may scrape ``/metrics`` on port 8081; ``{}`` is every pod of the namespace."""
    reaches: NotRequired[Annotated[Sequence[Reach], Default(())]]
    """What the function connects to, such as ``store.reach``. All other egress but DNS is denied."""
    version: NotRequired[Later[LabelValue]]
    """For the label app.kubernetes.io/version."""
    hosting: NotRequired[Annotated[ApplicationHosting, Default({})]]
    """Namespace, labels, nodes, spread, Service, rollout and resources. Default requests: cpu 100m,
    to which scaling is relative, and memory 64Mi. Default limits: cpu 1, and memory 256Mi, which must
    be at least 64Mi. With ``min_scale`` 0 the Service is the activator's, and ``resources`` apply to
    the function only."""


_PASSED = (
    "secret_files", "writable", "companions", "clients", "reaches", "version",
)  # fmt: skip


@dataclass(frozen=True)
class FunctionPlan:
    """A function, checked before any resource is registered."""

    name: str
    source: Source
    args: Mapping[str, Any]
    application: ApplicationArgs
    activator: Activator | None


class FunctionComponent(pulumi.ComponentResource):
    """What Function and FunctionDecorator have in common."""

    labels: dict[str, str]
    """Labels that select the pods."""
    endpoint: pulumi.Output[str]
    """``host:port`` for its clients, from anywhere in the cluster."""
    reach: Reach
    """How clients reach it, and Subscriber and Pipeline, which deliver events."""
    application: Application
    """The pods."""
    activator: Application | None
    """The proxy that gets all requests with ``min_scale`` 0; otherwise None."""
    scaler: HorizontalPodAutoscaler | None
    """The autoscaler; None with a fixed number of pods."""

    def _run(self, plan: FunctionPlan) -> pulumi.Input[str]:
        """Register the image, the pods and their autoscaler; return the image."""
        if plan.source.left_out:
            pulumi.log.warn(
                f"{', '.join(plan.source.left_out)} may be secret and is not in the function: put "
                "secrets that it needs into secret_files",
                self,
            )
        own = pulumi.ResourceOptions(parent=self)
        image = _image(plan, own)
        self.application = Application(plan.name, {**plan.application, "image": image}, own)
        self.labels = self.application.labels
        self.activator = None
        if plan.activator is not None:
            workload = plan.activator.pods(self.application.deployment.metadata["name"])
            self.activator = Application(plan.activator.name, workload, own)
        self.scaler = _scaler(plan, self.application, own)
        entrance = self.activator or self.application
        self.reach = entrance.reach
        self.endpoint = cast(pulumi.Output[str], entrance.endpoint)
        return image


def _image(plan: FunctionPlan, opts: pulumi.ResourceOptions) -> pulumi.Input[str]:
    """The image that runs: by digest if it is built here."""
    given: pulumi.Input[str] = plan.args["image"]
    if plan.source.folder is None:
        return given
    registry = pulumi.Output.from_input(plan.args["registry"])
    built = docker.Image(
        plan.name,
        image_name=pulumi.Output.concat(registry, f"/dds/function-{plan.name}:current"),
        build={
            "context": str(plan.source.folder),
            "dockerfile": str(_DOCKERFILE),
            "target": "dependencies" if plan.source.requirements else "plain",
            "args": {"BASE": given},
        },
        registry={"server": registry},
        opts=opts,
    )
    return built.repo_digest


def _scaler(
    plan: FunctionPlan, application: Application, opts: pulumi.ResourceOptions
) -> HorizontalPodAutoscaler | None:
    lowest = max(1, plan.args["min_scale"])
    if lowest == plan.args["max_scale"]:
        return None
    return HorizontalPodAutoscaler(
        plan.name,
        metadata=object_metadata(
            application.labels, plan.args["hosting"], version=plan.args.get("version")
        ),
        spec={
            "scale_target_ref": {
                "api_version": "apps/v1",
                "kind": "Deployment",
                "name": application.deployment.metadata["name"],
            },
            # It does nothing at 0 replicas: the activator scales from 0 to 1 and back.
            "min_replicas": lowest,
            "max_replicas": plan.args["max_scale"],
            "metrics": [
                {
                    # Only the function's container counts, not its companions.
                    "type": "ContainerResource",
                    "container_resource": {
                        "name": "cpu",
                        "container": plan.name,
                        "target": {
                            "type": "Utilization",
                            "average_utilization": plan.args["target_cpu_percent"],
                        },
                    },
                }
            ],
            "behavior": {
                "scale_up": {"stabilization_window_seconds": 0},
                "scale_down": {"stabilization_window_seconds": plan.args["scale_down_seconds"]},
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
    signature: str,
    runtime: Mapping[str, pulumi.Input[str]],
) -> FunctionPlan:
    """Check the arguments against each other, the code and the pods.

    :param args: resolved RunArgs, ``code`` and ``target``, and ``response`` if there is one
    :param component: for the label app.kubernetes.io/component
    :param runtime: more environment variables for the runtime
    """
    functions = {each: args[each] for each in ("target", "response") if each in args}
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
    concurrency, timeout, lowest = (
        args[argument] for argument in ("concurrency", "timeout_seconds", "min_scale")
    )
    highest = args.get("max_scale", max(_MAX_SCALE, lowest))
    if lowest > highest:
        raise InputError(
            where, "min_scale", lowest, f"must not be above max_scale, which is {highest}"
        )
    for argument in DEFAULTS:
        if lowest and argument in args:
            raise InputError(where, argument, args[argument], "is for min_scale 0")
    args = {**args, "max_scale": highest}
    own = {
        "FUNCTION_NAME": name,
        "FUNCTION_CONCURRENCY": str(concurrency),
        "FUNCTION_TIMEOUT_SECONDS": str(timeout),
        "FUNCTION_PORT": str(FUNCTION_PORT),
        "FUNCTION_HEALTH_PORT": str(HEALTH_PORT),
    }
    ports: list[PortArgs] = [
        {"name": "http", "port": FUNCTION_PORT, "app_protocol": "http"},
        {"name": "health", "port": HEALTH_PORT, "clients": args["metrics_clients"]},
    ]
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
            "FUNCTION_QUEUE_SIZE": str(args.get("queue_size", 4 * concurrency)),
            "FUNCTION_HANDLER": args["target"],
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
        # Requests in flight at SIGTERM are completed.
        "termination_grace_period_seconds": timeout + 10,
        "replicas": highest,
        "autoscaled": lowest != highest,
        **{key: args[key] for key in _PASSED if key in args},
    }
    activator = None
    if lowest == 0:
        application |= {
            "clients": [],
            "expose": [],
            "hosting": without_service(hosting),
            # The activator sends requests until its watch shows that the pod is terminating.
            "drain_seconds": _DRAIN_SECONDS,
        }
        selector = pod_labels.selector(name, name, component)
        activator = Activator(name, args, own, ports, selector)
        Application.validate(where, activator.name, activator.pods(name))
    plan = FunctionPlan(name, source, args, cast(ApplicationArgs, application), activator)
    Application.validate(where, name, plan.application)
    return plan
