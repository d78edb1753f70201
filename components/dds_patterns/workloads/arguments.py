"""Arguments that all workloads share."""

from collections.abc import Sequence
from typing import Annotated, NotRequired, TypedDict

from dds_patterns.arguments import Default, DefaultsTo, Later, between
from dds_patterns.arguments.addresses import AppProtocol, IpAddress, Port, Protocol
from dds_patterns.arguments.containers import Command, Env, EnvValue, VolumeMounts, Volumes
from dds_patterns.arguments.files import Files, SecretFiles, WritableFolders
from dds_patterns.arguments.images import Image
from dds_patterns.arguments.names import DnsLabel, LabelValue, PortName
from dds_patterns.arguments.quantities import Resources, Size
from dds_patterns.pods.companion import ANYWHERE, Companion, Rule
from dds_patterns.pods.hardening import DEFAULT_USER, ExceptionArgs
from dds_patterns.pods.probes import ProbeArgs
from dds_patterns.values.peers import Clients, Peer
from dds_patterns.values.reach import Reach

_UserId = Annotated[int, between(1, 2**31 - 1)]


class InitContainerArgs(TypedDict):
    """An init container: a program that runs to completion before the application starts."""

    name: DnsLabel
    """Name of its container, unique in the pod."""
    command: Command
    """Program to run. Never give a secret here."""
    image: NotRequired[Annotated[Later[Image], DefaultsTo("the application's")]]
    """Image that it runs in."""
    resources: NotRequired[Annotated[Resources, Default({})]]
    """Requests and limits, with the defaults of every container."""


class PodArgs(TypedDict):
    """The application's container and what its pod needs."""

    image: Later[Image]
    """Image with a tag or, better, a digest."""
    command: NotRequired[Annotated[Command, DefaultsTo("the image's")]]
    """Program to run. A secret is refused."""
    args: NotRequired[Annotated[Sequence[Later[EnvValue]], DefaultsTo("the image's")]]
    """Its arguments. A secret is refused."""
    env: NotRequired[Annotated[Env, Default({})]]
    """Environment variables; a value may refer to others as ``$(NAME)``, an Output to those before
    it in the alphabet. A secret is refused: it belongs in ``secret_files``."""
    files: NotRequired[Annotated[Files, Default({})]]
    """Configuration files, absolute path to content. Changed content triggers a rollout. The folder of
    each is a mount, which hides the image's files there. A secret is refused."""
    secret_files: NotRequired[Annotated[SecretFiles, Default({})]]
    """The same for secrets; only the pod's group can read them."""
    writable: NotRequired[Annotated[WritableFolders, Default(())]]
    """Absolute paths of folders that the program may write to, empty in each new pod. Everything else
    is read-only."""
    writable_size: NotRequired[Annotated[Size, Default("64Mi")]]
    """Size limit of each; a pod that exceeds it is evicted."""
    user: NotRequired[Annotated[_UserId, Default(DEFAULT_USER)]]
    """Numeric user of the containers."""
    group: NotRequired[Annotated[_UserId, DefaultsTo("user")]]
    """Numeric group, also of the files in volumes."""
    companions: NotRequired[Annotated[Sequence[Companion], Default(())]]
    """Sidecars, ambassadors and adapters, in the order in which they start."""
    init_containers: NotRequired[Annotated[Sequence[InitContainerArgs], Default(())]]
    """Init containers: programs that run to completion, one after the other and before the companions,
    and are retried until each has exited with 0. They have the application's mounts."""
    reaches: NotRequired[Annotated[Sequence[Reach], Default(())]]
    """Dependencies: what the application connects to, such as ``store.reach``. The pods start when they
    are ready, and the NetworkPolicies of both sides allow the connections. All other egress but DNS
    is denied."""
    exceptions: NotRequired[Annotated[Sequence[ExceptionArgs], Default(())]]
    """Hardening rules that the pod breaks, each with its reason."""
    rules: NotRequired[Annotated[Sequence[Rule], Default(())]]
    """RBAC rules: what the application may do with the cluster's API. With any, its container gets a
    token, like that of a companion with rules. By default it has no permissions and no token."""
    termination_grace_period_seconds: NotRequired[Annotated[int, between(1, 86_400), Default(30)]]
    """Seconds from SIGTERM to SIGKILL."""
    application: NotRequired[Annotated[DnsLabel, DefaultsTo("the component's name")]]
    """The program, for the label app.kubernetes.io/name."""
    component: NotRequired[Annotated[DnsLabel, DefaultsTo("the kind of workload")]]
    """Its role, for the label app.kubernetes.io/component."""
    version: NotRequired[Later[LabelValue]]
    """Value of the label app.kubernetes.io/version. By default there is no such label."""
    volumes: NotRequired[Annotated[Volumes, Default(())]]
    """More volumes. Those of the node (such as hostPath) are refused."""
    volume_mounts: NotRequired[Annotated[VolumeMounts, Default(())]]
    """Where the application mounts them. ``sub_path`` of reloading files is refused."""


class PortArgs(TypedDict):
    """A port on which the application listens."""

    name: PortName
    """Its name."""
    port: Port
    """Its number."""
    service_port: NotRequired[Annotated[Port, DefaultsTo("port")]]
    """Port of the Service."""
    address: NotRequired[Annotated[IpAddress, Default(ANYWHERE)]]
    """Address on which it listens; a loopback address is for the pod only, and no Service exposes it."""
    protocol: NotRequired[Annotated[Protocol, Default("TCP")]]
    """Transport protocol."""
    app_protocol: NotRequired[Annotated[AppProtocol, Default("tcp")]]
    """Application protocol, for the Service's ``appProtocol`` and for the reach."""
    clients: NotRequired[
        Annotated[
            Sequence[Peer],
            DefaultsTo("the workload's ``clients`` if the Service exposes it, otherwise none"),
        ]
    ]
    """Clients that may connect, besides workloads with a reach of it."""


class ReachedArgs(PodArgs):
    """A workload behind a Service."""

    ports: NotRequired[Annotated[Sequence[PortArgs], Default(())]]
    """Ports on which the application listens. Without any an Application has no Service; a
    StatefulApplication or Singleton always has its headless Service, for the pods' DNS names."""
    expose: NotRequired[
        Annotated[Sequence[PortName], DefaultsTo("all of the application's, except on loopback")]
    ]
    """Names of the ports that the Service exposes, the application's or a companion's."""
    clients: NotRequired[Clients]
    """Clients that may connect to the Service's ports, besides workloads with ``reach`` in ``reaches``;
    ``{}`` is every pod of the namespace."""
    drain_seconds: NotRequired[
        Annotated[int, between(0, 3600), DefaultsTo("5 if the Service exposes a port, otherwise 0")]
    ]
    """Seconds from the deletion of a pod to SIGTERM (a preStop hook), in which load balancers remove
    its endpoint."""
    readiness: NotRequired[Annotated[ProbeArgs, DefaultsTo("a TCP connection to the first port")]]
    """Readiness probe: when a pod gets requests."""
    liveness: NotRequired[
        Annotated[ProbeArgs, DefaultsTo("a TCP connection, unless readiness is that")]
    ]
    """Liveness probe: when the container is restarted. It must differ from readiness, and tolerate
    failures for longer."""
    startup: NotRequired[
        Annotated[ProbeArgs, DefaultsTo("readiness, tried each second for two minutes")]
    ]
    """Startup probe: when the other two begin."""


class ServingArgs(ReachedArgs):
    """A workload that answers requests, with any number of replicas."""

    replicas: NotRequired[Annotated[Later[Annotated[int, between(1, 10_000)]], Default(1)]]
    """Number of pods. From 2 on they are spread over nodes, and a drain evicts one at a time. The
    timeout of an update is the time to replace them one after the other: for each the startup
    probe's maximum, ``termination_grace_period_seconds``, ``drain_seconds`` and 30 seconds; at least 10 minutes, and an
    hour for an Output."""
