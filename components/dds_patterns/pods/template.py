"""The pod template: the only code that assembles and hardens pods."""

from collections.abc import Callable, Mapping, Sequence
from itertools import combinations
from typing import Any, TypeVar, cast

import pulumi
from pulumi_kubernetes.core.v1 import (
    ContainerArgsDict,
    PodTemplateSpecArgsDict,
    VolumeArgsDict,
)

from dds_patterns.arguments import is_deferred
from dds_patterns.arguments.declared import read
from dds_patterns.arguments.engine import resolved_value
from dds_patterns.arguments.names import DnsLabel
from dds_patterns.arguments.place import Place
from dds_patterns.arguments.plain import filled
from dds_patterns.arguments.quantities import amount
from dds_patterns.pods import hardening
from dds_patterns.pods.account import with_token
from dds_patterns.pods.companion import Companion, Listener
from dds_patterns.pods.hosting import PodHosting
from dds_patterns.pods.spread import SpreadArgs, spread_constraints

T = TypeVar("T")
Named = TypeVar("Named", ContainerArgsDict, VolumeArgsDict)

_NAME = read(DnsLabel)


def pod_template(
    where: str,
    containers: Sequence[ContainerArgsDict],
    companions: Sequence[Companion] = (),
    *,
    init_containers: Sequence[ContainerArgsDict] = (),
    listeners: Sequence[Listener] = (),
    labels: Mapping[str, pulumi.Input[str]],
    hosting: PodHosting,
    volumes: Sequence[VolumeArgsDict] = (),
    claims: Sequence[str] = (),
    service_account: pulumi.Input[str] | None = None,
    user: int = hardening.DEFAULT_USER,
    group: int | None = None,
    restart_policy: str = "Always",
    termination_grace_period_seconds: int = 30,
    drain_seconds: int = 0,
    spread: SpreadArgs | None = None,
    selector: Mapping[str, str] | None = None,
    match_label: str | None = None,
    exceptions: Sequence[hardening.ExceptionArgs] = (),
) -> PodTemplateSpecArgsDict:
    """A hardened pod of the given containers, with the companions as native sidecars before them.

    :param where: the component in messages, ``Application "web"``
    :param containers: the application's containers
    :param companions: in the order in which they start
    :param init_containers: init containers, which run one after the other before all others
    :param listeners: ports on which the application listens; companions have their own
    :param labels: labels of the pod; companions may add to them but not change them
    :param hosting: as it was resolved; its resources are not used here, the containers have them
    :param volumes: volumes besides those of the companions
    :param claims: names of volumes from a StatefulSet's claim templates
    :param user: numeric user of all containers that name no other; at least 1
    :param group: their group, also of the files in volumes. Defaults to ``user``
    :param restart_policy: ``Always``, ``OnFailure`` or ``Never``
    :param termination_grace_period_seconds: seconds from SIGTERM to SIGKILL
    :param drain_seconds: seconds before SIGTERM in which load balancers remove the endpoint
    :param spread: how the pods that ``selector`` selects are distributed
    :param match_label: key of a label, if only pods with the same value count for the spread
    :param exceptions: hardening rules that the pod breaks, each with its reason
    :raises InputError: two containers that listen on the same port, two volumes or containers of
        one name, a volume of the node, a mount that never sees an update
    """
    companions = [with_token(companion) for companion in companions]
    owned = _owned([*containers, *init_containers], companions, lambda each: each.containers)
    names = list(_by_name(where, "container", owned))
    excepted = hardening.validated_exceptions(where, exceptions, names)
    _refuse_collisions(where, containers, companions, listeners)
    claimed: list[VolumeArgsDict] = [
        {"name": name, "persistent_volume_claim": {"claim_name": name}} for name in claims
    ]
    owned_volumes = _owned([*claimed, *volumes], companions, lambda each: each.volumes)
    for _, volume in owned_volumes:
        hardening.check_volume(where, volume)
    all_volumes = _by_name(where, "volume", owned_volumes)

    reloading = {name for companion in companions for name in companion.reloading}

    def harden(container: ContainerArgsDict) -> ContainerArgsDict:
        hardening.check_mounts(where, container, all_volumes, reloading)
        storage = _temporary_bytes(container, all_volumes)
        return hardening.hardened(where, container, excepted, storage)

    first = [harden(container) for container in init_containers]
    for companion in companions:
        first += [_sidecar(harden(container)) for container in companion.containers]
    mains = [_drained(harden(container), drain_seconds) for container in containers]

    token = any(e["field"] == "service_account_token" for e in excepted)
    constraints = spread_constraints(spread, selector or {}, match_label) if spread else []
    spec = {
        "containers": mains,
        "security_context": hardening.pod_security_context(user, user if group is None else group),
        "automount_service_account_token": token,
        # Otherwise the pod gets environment variables for every Service of the namespace.
        "enable_service_links": False,
        "restart_policy": restart_policy,
        # The time in preStop counts towards the grace period.
        "termination_grace_period_seconds": termination_grace_period_seconds + drain_seconds,
        "init_containers": first,
        "volumes": [volume for name, volume in all_volumes.items() if name not in claims],
        "service_account_name": service_account,
        **_scheduling(hosting),
        "share_process_namespace": any(c.share_process_namespace for c in companions) or None,
        "topology_spread_constraints": constraints,
    }
    all_labels = {**labels, **hosting["labels"], **hosting["pod_labels"]}
    annotations = {
        **{k: v for companion in companions for k, v in companion.pod_annotations.items()},
        **hosting["annotations"],
        **hosting["pod_annotations"],
        **hardening.exceptions_annotation(excepted),
    }
    metadata = {"labels": _labels(where, all_labels, companions), "annotations": annotations}
    return cast(PodTemplateSpecArgsDict, {"metadata": filled(metadata), "spec": filled(spec)})


def _sidecar(container: ContainerArgsDict) -> ContainerArgsDict:
    container["restart_policy"] = "Always"
    return container


def _drained(container: ContainerArgsDict, seconds: int) -> ContainerArgsDict:
    if seconds and "lifecycle" not in container:
        container["lifecycle"] = {"pre_stop": {"sleep": {"seconds": seconds}}}
    return container


def _owned(
    own: Sequence[T], companions: Sequence[Companion], of: Callable[[Companion], Sequence[T]]
) -> list[tuple[str, T]]:
    """The application's and the companions', each with its owner, for messages."""
    owned = [("the application", each) for each in own]
    for companion in companions:
        owned += [(f'companion "{companion.name}"', each) for each in of(companion)]
    return owned


def _by_name(where: str, kind: str, owned: Sequence[tuple[str, Named]]) -> dict[str, Named]:
    """Containers or volumes by their names, which are unique in the pod."""
    owners: dict[str, str] = {}
    found: dict[str, Named] = {}
    for owner, each in owned:
        name = resolved_value(Place(where, f"the name of a {kind} of {owner}"), _NAME, each["name"])
        if name in owners:
            Place(where, f"{kind}s.name").refuse(
                name, f"must be unique in the pod, {owners[name]} and {owner} have it"
            )
        owners[name], found[name] = owner, each
    return found


def _refuse_collisions(
    where: str,
    containers: Sequence[ContainerArgsDict],
    companions: Sequence[Companion],
    listeners: Sequence[Listener],
) -> None:
    bound = _owned(listeners, companions, lambda each: each.listeners)
    stated = {(owner, listener.port, listener.protocol) for owner, listener in bound}
    for owner, container in _owned(containers, companions, lambda each: each.containers):
        for listener in _declared(where, container):
            # A declared port repeats a listener of the same owner, which knows its address.
            if (owner, listener.port, listener.protocol) not in stated:
                bound.append((f'{owner}, container "{container["name"]}"', listener))
    for (owner, first), (other, second) in combinations(bound, 2):
        if first.collides(second):
            Place(where, "companions").refuse(
                f"{second.address}:{second.port}",
                f"must be free, but {owner} listens on {first.address}:{first.port} "
                f"({first.name}) and {other} on the same port ({second.name}) in one pod",
            )


def _declared(where: str, container: ContainerArgsDict) -> list[Listener]:
    ports = container.get("ports") or []
    listeners = []
    for port in [] if is_deferred(ports) else cast(Sequence[Mapping[str, Any]], ports):
        place = Place(where, f'container "{container["name"]}".ports')
        for key in ("host_port", "host_ip"):
            if key in port:
                place.key(key).refuse(port[key], "must be left out: it binds to the node")
        number = port["container_port"]
        if not is_deferred(number):
            name = port.get("name") or f"port-{number}"
            listeners.append(Listener(number, name, protocol=port.get("protocol") or "TCP"))
    return listeners


def _temporary_bytes(container: ContainerArgsDict, volumes: Mapping[str, VolumeArgsDict]) -> float:
    total = 0.0
    mounts = container.get("volume_mounts")
    if mounts is None or is_deferred(mounts):
        return total
    for mount in cast(Sequence[Mapping[str, Any]], mounts):
        empty: Any = volumes[mount["name"]].get("empty_dir")
        size = empty.get("size_limit") if isinstance(empty, Mapping) else None
        if isinstance(size, str):
            total += amount(size)
    return total


def _labels(
    where: str, labels: Mapping[str, pulumi.Input[str]], companions: Sequence[Companion]
) -> dict[str, pulumi.Input[str]]:
    merged = dict(labels)
    for companion in companions:
        for key, value in companion.pod_labels.items():
            if merged.setdefault(key, value) != value:
                Place(where, f'companion "{companion.name}".pod_labels').refuse(
                    f"{key}={value}", "must not change a label that the pod already has"
                )
    return merged


def _scheduling(hosting: PodHosting) -> dict[str, Any]:
    """Nodes, priority, runtime class and pull secrets of the pod."""
    return {
        "node_selector": dict(hosting["node_selector"]),
        "tolerations": list(hosting["tolerations"]),
        "affinity": hosting.get("affinity"),
        "priority_class_name": hosting.get("priority_class"),
        "runtime_class_name": hosting.get("runtime_class"),
        "image_pull_secrets": [{"name": name} for name in hosting["image_pull_secrets"]],
    }
