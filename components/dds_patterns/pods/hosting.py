"""``hosting``: a component's settings for its cluster, in one nested argument.

Each kind of component takes the keys that have an effect on it and refuses the rest. A component that
consists of others passes the argument on unchanged.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, NotRequired, TypedDict, TypeVar, cast

import pulumi
from pulumi_kubernetes.meta.v1 import ObjectMetaArgsDict

from dds_patterns.arguments import Default, DefaultsTo, Later, between, checked, one_of, resolved
from dds_patterns.arguments.constraints import Constraint
from dds_patterns.arguments.declared import arguments_of
from dds_patterns.arguments.names import Annotations, Labels, Namespace, ObjectName
from dds_patterns.arguments.place import Place
from dds_patterns.arguments.quantities import Resources, VolumeSize, amount
from dds_patterns.arguments.scheduling import Affinity, Tolerations
from dds_patterns.pods import labels as pod_labels
from dds_patterns.pods.images import Images
from dds_patterns.pods.resources import with_defaults
from dds_patterns.pods.spread import SpreadArgs

T = TypeVar("T")

STRATEGIES = ("rolling", "recreate")
SERVICE_TYPES = ("ClusterIP", "NodePort", "LoadBalancer")
TRAFFIC_POLICIES = ("Cluster", "Local")


def _own(labels: Mapping[str, Any]) -> list[str]:
    return [key for key in labels if pod_labels.is_own(key)]


_Labels = Annotated[
    Labels,
    Constraint(
        "none that a component or a controller sets",
        lambda labels: not _own(labels),
        tuple({key: "x"} for key in (*pod_labels.OWN, "pod-template-hash")),
        lambda labels: f"must leave out {_own(labels)[0]}: a component or a controller sets it",
    ),
]


class ObjectHosting(TypedDict):
    """For every component: settings of all its objects on the cluster."""

    namespace: NotRequired[Annotated[Later[Namespace], DefaultsTo("the provider's")]]
    """Namespace of all objects; for a companion, that of its pods."""
    labels: NotRequired[Annotated[_Labels, Default({})]]
    """More labels for all objects, including pods and volume claims."""
    annotations: NotRequired[Annotated[Annotations, Default({})]]
    """Annotations of all objects, including pods and volume claims."""
    images: NotRequired[Annotated[Images, Default({})]]
    """Images by the names of their programs, for each component whose ``image`` is left out."""


class CompanionHosting(ObjectHosting):
    """For a companion: also its container. The workload's hosting sets the rest of the pod."""

    resources: NotRequired[Annotated[Resources, Default({})]]
    """Requests and limits; what is left out keeps its default. Default requests: cpu 25m, memory
    32Mi, ephemeral-storage 32Mi. Default limits: cpu 1, memory 128Mi, ephemeral-storage 64Mi plus
    the writable folders. Without a cpu limit (``none``) it may use all idle cpu of its node."""


class PodHosting(CompanionHosting):
    """For every workload: where and how its pods run."""

    pod_labels: NotRequired[Annotated[_Labels, Default({})]]
    """More labels for the pods only."""
    pod_annotations: NotRequired[Annotated[Annotations, Default({})]]
    """Annotations for the pods only."""
    node_selector: NotRequired[Annotated[Labels, Default({})]]
    """Labels that a node must have."""
    tolerations: NotRequired[Annotated[Tolerations, Default(())]]
    """Taints of nodes that the pods tolerate."""
    affinity: NotRequired[Affinity]
    """Node affinity, and affinity and anti-affinity to other pods. For replicas use ``spread``."""
    priority_class: NotRequired[Annotated[Later[ObjectName], DefaultsTo("the cluster's default")]]
    """PriorityClass, for scheduling order and preemption."""
    runtime_class: NotRequired[Annotated[Later[ObjectName], DefaultsTo("the nodes' default")]]
    """RuntimeClass, such as one with a sandbox."""
    image_pull_secrets: NotRequired[Annotated[Sequence[Later[ObjectName]], Default(())]]
    """Secrets of the namespace with which images are pulled."""


class ServerHosting(PodHosting):
    """For long-running pods behind a Service."""

    min_ready_seconds: NotRequired[Annotated[int, between(0, 3600), Default(0)]]
    """Seconds that a new pod must be ready before a rollout continues."""
    service_annotations: NotRequired[Annotated[Annotations, Default({})]]
    """Annotations for the Service only."""


class ReplicaHosting(ServerHosting):
    """For any number of replicas of them."""

    spread: NotRequired[Annotated[SpreadArgs, Default({})]]
    """Topology spread of the replicas, over nodes and zones."""


class RolloutArgs(TypedDict):
    """How an update replaces the pods."""

    strategy: NotRequired[
        Annotated[
            str,
            one_of(*STRATEGIES),
            DefaultsTo(
                "``recreate`` with a PersistentVolumeClaim among the volumes, also of companions, "
                "otherwise ``rolling``"
            ),
        ]
    ]
    """``rolling``: old pods are terminated as new ones get ready. ``recreate``: all old ones are
    terminated before the first new one starts, which is a downtime. With a ReadWriteOnce claim,
    which one node mounts at a time, a rolling update would be a deadlock; with a claim that all
    nodes can mount, ``rolling`` is right."""
    max_surge: NotRequired[
        Annotated[int, between(0, 10_000), DefaultsTo("1, or 0 with ``max_unavailable``")]
    ]
    """With ``rolling``: maximum number of pods above ``replicas``."""
    max_unavailable: NotRequired[
        Annotated[int, between(0, 10_000), DefaultsTo("0, or 1 with ``max_surge: 0``")]
    ]
    """With ``rolling``: maximum number of ``replicas`` that are not ready."""


class ApplicationHosting(ReplicaHosting):
    """For interchangeable pods."""

    rollout: NotRequired[Annotated[RolloutArgs, Default({})]]
    """How an update replaces the pods."""
    service_type: NotRequired[Annotated[str, one_of(*SERVICE_TYPES), Default("ClusterIP")]]
    """Type of the Service. Clients outside the cluster must be in ``clients`` as well, by their
    addresses or those of the nodes (see ``external_traffic_policy``). The update waits for a
    LoadBalancer."""
    external_traffic_policy: NotRequired[
        Annotated[str, one_of(*TRAFFIC_POLICIES), DefaultsTo("``Cluster``")]
    ]
    """With a NodePort or LoadBalancer: with ``Cluster`` every node routes to the pods, and may replace
    a client's address by its own; ``Local`` keeps client addresses, and only nodes with a pod
    answer."""


class StorageArgs(TypedDict):
    """A persistent volume for each replica, which outlives the pod."""

    size: NotRequired[Annotated[Later[VolumeSize], Default("2Gi")]]
    """Its size. A larger one expands the volumes while their pods run, if the StorageClass has
    ``allowVolumeExpansion``; the cluster refuses a smaller one. So it follows no other argument. If
    ``replicas`` is an Output, a changed size replaces the StatefulSet and expands nothing."""
    storage_class: NotRequired[Annotated[Later[ObjectName], DefaultsTo("the cluster's default")]]
    """StorageClass. The cluster refuses a change while the volumes exist."""
    delete_with_workload: NotRequired[Annotated[bool, Default(False)]]
    """Whether destroying the workload deletes the data. Otherwise the claims stay until they or
    their namespace are deleted."""


class SingletonHosting(ServerHosting):
    """For a single pod with a stable name, and a volume if it has one."""

    storage: NotRequired[StorageArgs]
    """The pod's volume."""


class StatefulHosting(ReplicaHosting):
    """For pods with stable names, and volumes if they have any."""

    storage: NotRequired[StorageArgs]
    """The volume of each pod."""


class Hosting(ApplicationHosting):
    """All keys, for a variable that a program passes to components of several kinds. Each of them
    refuses a key that has no effect on it.
    """

    storage: NotRequired[StorageArgs]
    """The volume of each pod, for workloads with volumes."""


KINDS: tuple[type, ...] = (
    ObjectHosting,
    CompanionHosting,
    PodHosting,
    ServerHosting,
    ReplicaHosting,
    ApplicationHosting,
    SingletonHosting,
    StatefulHosting,
    Hosting,
)
"""The types of ``hosting``; docs/hosting.md describes each."""


def object_metadata(
    selector: Mapping[str, str],
    hosting: ObjectHosting,
    *,
    version: pulumi.Input[str] | None = None,
    annotations: Mapping[str, pulumi.Input[str]] | None = None,
) -> ObjectMetaArgsDict:
    """Metadata of an object of a component; auto-naming adds the name.

    :param selector: labels that select the component's pods
    :param hosting: as it was resolved
    :param annotations: more of them, for this object
    """
    found: ObjectMetaArgsDict = {
        "labels": {**pod_labels.standard(selector, version), **hosting["labels"]}
    }
    if "namespace" in hosting:
        found["namespace"] = hosting["namespace"]
    if merged := {**hosting["annotations"], **(annotations or {})}:
        found["annotations"] = merged
    return found


def marks(metadata: ObjectMetaArgsDict) -> ObjectMetaArgsDict:
    """Its labels and annotations, for an object in another namespace or in a template."""
    found = {key: value for key, value in metadata.items() if key in ("labels", "annotations")}
    return cast(ObjectMetaArgsDict, found)


def narrowed(hosting: ObjectHosting, kind: type[T], *, without: Sequence[str] = ()) -> T:
    """The keys of it that another kind of component takes.

    :param without: keys for the first component only, such as its ``resources``
    """
    known = arguments_of(cast(type, kind))
    return cast(T, {k: v for k, v in hosting.items() if k in known and k not in without})


def without_service(hosting: ApplicationHosting) -> ApplicationHosting:
    """The same for pods without a Service, such as those behind another workload's."""
    return narrowed(
        hosting,
        ApplicationHosting,
        without=("service_type", "external_traffic_policy", "service_annotations"),
    )


def with_pod_annotations(hosting: T, annotations: Mapping[str, pulumi.Input[str]]) -> T:
    """The same with a component's own annotations for the pods."""
    given = cast(PodHosting, hosting)
    return cast(T, {**given, "pod_annotations": {**given["pod_annotations"], **annotations}})


def with_resources(
    where: str,
    hosting: T,
    *,
    requests: Mapping[str, str] | None = None,
    limits: Mapping[str, str] | None = None,
    least_memory: tuple[str, str] | None = None,
) -> T:
    """The same with a component's own defaults of requests and limits.

    :param least_memory: minimum memory limit, and the reason as a clause
    :raises InputError: a request above its limit, or too little memory
    """
    given = cast(Mapping[str, Any], hosting)
    place = Place(where, "hosting.resources")
    resources = given["resources"]
    if least_memory and "memory" in (of := resources.get("limits", {})):
        enough = _at_least(place.key("limits.memory"), *least_memory)
        resources = {**resources, "limits": {**of, "memory": checked(of["memory"], enough)}}
    completed = with_defaults(place, resources, requests=requests or {}, limits=limits or {})
    return cast(T, {**given, "resources": completed})


def storage_of(hosting: StatefulHosting) -> StorageArgs:
    """The volume settings of each pod, given or default."""
    return hosting["storage"] if "storage" in hosting else resolved("hosting", StorageArgs, {})


def with_storage(where: str, hosting: T, least_mib: int, because: str) -> T:
    """The same with a volume for each pod, of the default size unless another is given.

    :param least_mib: minimum size, from the component's other arguments
    :param because: the reason, as a clause
    :raises InputError: a smaller size
    """
    given = cast(StatefulHosting, hosting)
    storage = storage_of(given)
    enough = _at_least(
        Place(where, "hosting.storage.size"),
        f"{least_mib}Mi",
        f"{because}; it follows no other argument, since a volume cannot shrink",
    )
    roomy: StorageArgs = {**storage, "size": checked(storage["size"], enough)}
    return cast(T, {**given, "storage": roomy})


def _at_least(place: Place, least: str, because: str) -> Callable[[str], str]:
    """A check that refuses a smaller quantity."""

    def enough(quantity: str) -> str:
        if amount(quantity) < amount(least):
            place.refuse(quantity, f"must be at least {least}, {because}")
        return quantity

    return enough
