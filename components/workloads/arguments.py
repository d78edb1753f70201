"""Arguments that all workloads share."""

from collections.abc import Mapping, Sequence
from typing import NotRequired, TypedDict

import pulumi
from pulumi_kubernetes.core.v1 import (
    ResourceRequirementsArgsDict,
    VolumeArgsDict,
    VolumeMountArgsDict,
)

from components.pods.companion import Companion, Rule
from components.pods.hardening import ExceptionArgs
from components.pods.probes import ProbeArgs
from components.values.edges import Edge


class PreparationArgs(TypedDict):
    """A program that runs to its end before the application starts."""

    name: str
    """Name of its container, unique in the pod."""
    command: Sequence[pulumi.Input[str]]
    """Program to run. Never give a secret here."""
    image: NotRequired[pulumi.Input[str]]
    """Image with a tag or digest. Defaults to the application's."""
    resources: NotRequired[ResourceRequirementsArgsDict]
    """Requests and limits, with the defaults of every container."""


class PodArgs(TypedDict):
    """The application's container and what its pod needs."""

    image: pulumi.Input[str]
    """Image with a tag or, better, a digest. ``latest`` and no tag are refused."""
    command: NotRequired[Sequence[pulumi.Input[str]]]
    """Program to run. Defaults to the image's. Never give a secret here."""
    args: NotRequired[Sequence[pulumi.Input[str]]]
    """Its arguments. Default to the image's. Never give a secret here."""
    env: NotRequired[Mapping[str, pulumi.Input[str]]]
    """Environment variables. A secret is refused: it belongs into ``secret_files``."""
    files: NotRequired[Mapping[str, pulumi.Input[str]]]
    """Configuration files, absolute path to content. A changed content rolls the pods. Each must
    lie in a folder of its own, which hides what the image has there. A secret is refused."""
    secret_files: NotRequired[Mapping[str, pulumi.Input[str]]]
    """The same for secrets; only the pod's group can read them."""
    writable: NotRequired[Sequence[str]]
    """Absolute paths of folders the program may write to, empty at each start of the pod. All
    else is read-only."""
    writable_size: NotRequired[str]
    """Size of each, a Kubernetes quantity; a pod that exceeds it is evicted. Defaults to 64Mi."""
    resources: NotRequired[ResourceRequirementsArgsDict]
    """Requests and limits; what is left out keeps its default. Default requests: cpu 25m, memory
    32Mi, ephemeral-storage 32Mi. Default limits: cpu 1, memory 128Mi, ephemeral-storage 64Mi and
    the writable folders."""
    user: NotRequired[int]
    """Numeric user of the containers, at least 1. Defaults to 10001."""
    group: NotRequired[int]
    """Numeric group, also of the files in volumes. Defaults to ``user``."""
    companions: NotRequired[Sequence[Companion]]
    """Sidecars, ambassadors and adapters, in the order in which they start."""
    preparations: NotRequired[Sequence[PreparationArgs]]
    """Programs that run to their end first, one after the other and before the companions; the
    pod is started again until each has ended with 0. They mount what the application mounts."""
    namespace: NotRequired[pulumi.Input[str]]
    """Namespace of all objects. Defaults to the provider's."""
    ingress: NotRequired[Sequence[Edge]]
    """Connections let in, beside those of companions. Everything else is refused."""
    egress: NotRequired[Sequence[Edge]]
    """Connections let out, beside those of companions and name resolution."""
    exceptions: NotRequired[Sequence[ExceptionArgs]]
    """Hardening rules that are not kept, each with its reason."""
    rules: NotRequired[Sequence[Rule]]
    """What the application may do at the cluster's API. With any, its container gets a token, as
    one of a companion with rules does. By default nothing and no token."""
    grace_seconds: NotRequired[int]
    """Seconds from SIGTERM to SIGKILL, at least 1. Defaults to 30."""
    application: NotRequired[str]
    """What runs, for the label app.kubernetes.io/name. Defaults to the component's name."""
    component: NotRequired[str]
    """The part it plays, for the label app.kubernetes.io/component. Defaults to the kind of
    workload."""
    version: NotRequired[pulumi.Input[str]]
    """For the label app.kubernetes.io/version, which is left out without it."""
    labels: NotRequired[Mapping[str, pulumi.Input[str]]]
    """More labels for the pods."""
    annotations: NotRequired[Mapping[str, pulumi.Input[str]]]
    """Annotations for the pods."""
    node_selector: NotRequired[Mapping[str, pulumi.Input[str]]]
    """Labels a node must have."""
    volumes: NotRequired[Sequence[VolumeArgsDict]]
    """More volumes. Those that reach into the node are refused."""
    volume_mounts: NotRequired[Sequence[VolumeMountArgsDict]]
    """Where the application mounts them. ``sub_path`` of reloading files is refused."""


class PortArgs(TypedDict):
    """A port on which the application listens."""

    name: str
    """At most 15 lower-case letters, digits and dashes, with a letter."""
    port: int
    """From 1 to 65535."""
    service_port: NotRequired[int]
    """Port of the Service. Defaults to ``port``."""
    address: NotRequired[str]
    """Where it listens. Defaults to 0.0.0.0; a loopback address is for the pod only and appears in
    no Service."""
    protocol: NotRequired[str]
    """``TCP`` (default), ``UDP`` or ``SCTP``."""


class ReachedArgs(PodArgs):
    """A workload that is reached through a Service."""

    ports: NotRequired[Sequence[PortArgs]]
    """Ports on which the application listens. Without any there is no Service."""
    expose: NotRequired[Sequence[str]]
    """Names of the ports that the Service offers, the application's or a companion's. Defaults to
    all of the application's that are not on loopback."""
    clients: NotRequired[Sequence[Mapping[str, str]]]
    """Labels of pods of the same namespace that may reach the Service's ports; an empty mapping
    is every pod. Without any nobody may."""
    drain_seconds: NotRequired[int]
    """Seconds between the order to stop and SIGTERM, in which load balancers learn of it. Defaults
    to 5 with a Service, 0 without."""
    readiness: NotRequired[ProbeArgs]
    """When a pod gets requests. Defaults to a TCP connection to the first port."""
    liveness: NotRequired[ProbeArgs]
    """When the container is restarted. Defaults to a TCP connection, unless readiness is that. Must
    ask something else than readiness, and be more patient."""
    startup: NotRequired[ProbeArgs]
    """When the other two begin. Defaults to readiness, asked each second for two minutes."""


class ServingArgs(ReachedArgs):
    """A workload that answers requests, in as many pods as are wanted."""

    replicas: NotRequired[pulumi.Input[int]]
    """Pods, at least 1. Defaults to 1. From 2 on they are spread over nodes and kept from being
    evicted together."""
    spread: NotRequired[str]
    """``soft`` spreads replicas over nodes as far as possible, ``strict`` leaves a pod pending
    rather than putting it beside another, ``none`` does not care. Defaults to ``soft``."""
