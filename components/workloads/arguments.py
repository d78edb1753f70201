"""Arguments that all workloads share."""

from collections.abc import Sequence
from typing import Annotated, NotRequired, TypedDict

from components.arguments import Default, DefaultsTo, Later, between
from components.arguments.addresses import AppProtocol, IpAddress, Port, Protocol
from components.arguments.containers import Command, Env, EnvValue, VolumeMounts, Volumes
from components.arguments.files import Files, SecretFiles, WritableFolders
from components.arguments.images import Image
from components.arguments.names import DnsLabel, LabelValue, PortName
from components.arguments.quantities import Resources, Size
from components.pods.companion import ANYWHERE, Companion, Rule
from components.pods.hardening import DEFAULT_USER, ExceptionArgs
from components.pods.probes import ProbeArgs
from components.values.peers import Clients, Peer
from components.values.reach import Reach

_UserId = Annotated[int, between(1, 2**31 - 1)]


class PreparationArgs(TypedDict):
    """A program that runs to its end before the application starts."""

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
    """Environment variables. A secret is refused: it belongs into ``secret_files``."""
    files: NotRequired[Annotated[Files, Default({})]]
    """Configuration files, absolute path to content. A changed content rolls the pods. Each must
    lie in a folder of its own, which hides what the image has there. A secret is refused."""
    secret_files: NotRequired[Annotated[SecretFiles, Default({})]]
    """The same for secrets; only the pod's group can read them."""
    writable: NotRequired[Annotated[WritableFolders, Default(())]]
    """Absolute paths of folders the program may write to, empty at each start of the pod. All
    else is read-only."""
    writable_size: NotRequired[Annotated[Size, Default("64Mi")]]
    """Size of each; a pod that exceeds it is evicted."""
    user: NotRequired[Annotated[_UserId, Default(DEFAULT_USER)]]
    """Numeric user of the containers."""
    group: NotRequired[Annotated[_UserId, DefaultsTo("user")]]
    """Numeric group, also of the files in volumes."""
    companions: NotRequired[Annotated[Sequence[Companion], Default(())]]
    """Sidecars, ambassadors and adapters, in the order in which they start."""
    preparations: NotRequired[Annotated[Sequence[PreparationArgs], Default(())]]
    """Programs that run to their end first, one after the other and before the companions; the
    pod is started again until each has ended with 0. They mount what the application mounts."""
    reaches: NotRequired[Annotated[Sequence[Reach], Default(())]]
    """What the application connects to, such as ``store.reach``. The pods start when that is ready,
    and the NetworkPolicies of both sides let the connections through. Everything else but name
    resolution is refused."""
    exceptions: NotRequired[Annotated[Sequence[ExceptionArgs], Default(())]]
    """Hardening rules that are not kept, each with its reason."""
    rules: NotRequired[Annotated[Sequence[Rule], Default(())]]
    """What the application may do at the cluster's API. With any, its container gets a token, as
    one of a companion with rules does. By default nothing and no token."""
    grace_seconds: NotRequired[Annotated[int, between(1, 86_400), Default(30)]]
    """Seconds from SIGTERM to SIGKILL."""
    application: NotRequired[Annotated[DnsLabel, DefaultsTo("the component's name")]]
    """What runs, for the label app.kubernetes.io/name."""
    component: NotRequired[Annotated[DnsLabel, DefaultsTo("the kind of workload")]]
    """The part it plays, for the label app.kubernetes.io/component."""
    version: NotRequired[Later[LabelValue]]
    """For the label app.kubernetes.io/version, which is left out without it."""
    volumes: NotRequired[Annotated[Volumes, Default(())]]
    """More volumes. Those that reach into the node are refused."""
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
    """Where it listens; a loopback address is for the pod only and appears in no Service."""
    protocol: NotRequired[Annotated[Protocol, Default("TCP")]]
    """Protocol of the transport layer."""
    app_protocol: NotRequired[Annotated[AppProtocol, Default("tcp")]]
    """What the application speaks there, for the Service's ``appProtocol`` and for its reach."""
    clients: NotRequired[
        Annotated[
            Sequence[Peer],
            DefaultsTo("the workload's ``clients`` if the Service offers it, otherwise nobody"),
        ]
    ]
    """Who may connect, beside what has a reach of it."""


class ReachedArgs(PodArgs):
    """A workload that is reached through a Service."""

    ports: NotRequired[Annotated[Sequence[PortArgs], Default(())]]
    """Ports on which the application listens. Without any an Application has no Service; the headless
    one of a StatefulApplication or Singleton is there all the same, for the names of the pods."""
    expose: NotRequired[
        Annotated[Sequence[PortName], DefaultsTo("all of the application's, except on loopback")]
    ]
    """Names of the ports that the Service offers, the application's or a companion's."""
    clients: NotRequired[Clients]
    """Who may connect to the Service's ports, beside what has ``reach`` among its ``reaches``;
    ``{}`` is every pod of the namespace."""
    drain_seconds: NotRequired[
        Annotated[int, between(0, 3600), DefaultsTo("5 if the Service offers a port, otherwise 0")]
    ]
    """Seconds between the order to stop and SIGTERM, in which load balancers learn of it."""
    readiness: NotRequired[Annotated[ProbeArgs, DefaultsTo("a TCP connection to the first port")]]
    """When a pod gets requests."""
    liveness: NotRequired[
        Annotated[ProbeArgs, DefaultsTo("a TCP connection, unless readiness is that")]
    ]
    """When the container is restarted. It must differ from readiness, and be more patient."""
    startup: NotRequired[
        Annotated[ProbeArgs, DefaultsTo("readiness, tried each second for two minutes")]
    ]
    """When the other two begin."""


class ServingArgs(ReachedArgs):
    """A workload that answers requests, in as many pods as are wanted."""

    replicas: NotRequired[Annotated[Later[Annotated[int, between(1, 10_000)]], Default(1)]]
    """Pods. From 2 on they are spread over nodes and kept from being evicted together. An update
    waits for them as long as replacing one after the other may take: for each its startup probe's
    patience, ``grace_seconds``, ``drain_seconds`` and 30 seconds; at least 10 minutes, and an hour
    for an Output."""
