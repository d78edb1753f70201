"""The pod template: the one place where pods are put together and hardened."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, cast

import pulumi
from pulumi_kubernetes.core.v1 import (
    ContainerArgsDict,
    PodTemplateSpecArgsDict,
    VolumeArgsDict,
)

from components.arguments import InputError, is_deferred
from components.arguments.declared import read
from components.arguments.engine import resolve
from components.arguments.names import DnsLabel
from components.arguments.place import Place
from components.arguments.quantities import amount
from components.pods import hardening
from components.pods.account import with_token
from components.pods.companion import Companion, Listener
from components.pods.hosting import PodHosting
from components.pods.spread import SpreadArgs, spread_constraints

_NAME = read(DnsLabel)


class _Bound(NamedTuple):
    owner: str
    listener: Listener


def pod_template(
    where: str,
    containers: Sequence[ContainerArgsDict],
    companions: Sequence[Companion] = (),
    *,
    preparations: Sequence[ContainerArgsDict] = (),
    listeners: Sequence[Listener] = (),
    labels: Mapping[str, pulumi.Input[str]],
    hosting: PodHosting,
    volumes: Sequence[VolumeArgsDict] = (),
    claims: Sequence[str] = (),
    service_account: pulumi.Input[str] | None = None,
    user: int = hardening.DEFAULT_USER,
    group: int | None = None,
    restart_policy: str = "Always",
    grace_seconds: int = 30,
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
    :param preparations: containers that run to their end, one after the other, before all others
    :param listeners: where the application listens; those of companions come with them
    :param labels: labels of the pod; companions may add to them but not change them
    :param hosting: as it was resolved; but for its resources, which are those of a container
    :param volumes: volumes beside those of the companions
    :param claims: names of volumes that a StatefulSet's claim templates bring
    :param user: numeric user of all containers that name no other; at least 1
    :param group: their group, also of the files in volumes. Defaults to ``user``
    :param restart_policy: ``Always``, ``OnFailure`` or ``Never``
    :param grace_seconds: seconds from SIGTERM to SIGKILL
    :param drain_seconds: seconds before SIGTERM in which endpoints leave the load balancers
    :param spread: how the pods that ``selector`` selects are kept apart
    :param match_label: key of the label that tells which of them are kept apart; by default all
    :param exceptions: hardening rules not kept, each with its reason
    :raises InputError: two containers that listen on the same port, two volumes or containers of
        one name, a volume that reaches into the node, a mount that never sees an update
    """
    companions = [with_token(companion) for companion in companions]
    names = _container_names(where, [*containers, *preparations], companions)
    excepted = hardening.validated_exceptions(where, exceptions, names)
    _refuse_collisions(where, containers, companions, listeners)
    claimed: list[VolumeArgsDict] = [
        {"name": name, "persistent_volume_claim": {"claim_name": name}} for name in claims
    ]
    all_volumes = _volumes(where, [*claimed, *volumes], companions)

    reloading = {name for companion in companions for name in companion.reloading}

    def harden(container: ContainerArgsDict) -> ContainerArgsDict:
        hardening.check_mounts(where, container, all_volumes, reloading)
        storage = _temporary_bytes(container, all_volumes)
        return hardening.hardened(where, container, excepted, storage)

    first = [harden(container) for container in preparations]
    for companion in companions:
        first += [_sidecar(harden(container)) for container in companion.containers]
    mains = [_drained(harden(container), drain_seconds) for container in containers]

    token = any(e["field"] == "service_account_token" for e in excepted)
    spec: dict[str, Any] = {
        "containers": mains,
        "security_context": hardening.pod_security_context(user, user if group is None else group),
        "automount_service_account_token": token,
        # Otherwise every Service of the namespace becomes environment variables of the pod.
        "enable_service_links": False,
        "restart_policy": restart_policy,
        # The time in preStop counts towards the grace period.
        "termination_grace_period_seconds": grace_seconds + drain_seconds,
    }
    if first:
        spec["init_containers"] = first
    own_volumes = [volume for name, volume in all_volumes.items() if name not in claims]
    if own_volumes:
        spec["volumes"] = own_volumes
    if service_account is not None:
        spec["service_account_name"] = service_account
    spec |= _scheduling(hosting)
    if any(companion.share_process_namespace for companion in companions):
        spec["share_process_namespace"] = True
    if spread is not None and (
        constraints := spread_constraints(spread, selector or {}, match_label)
    ):
        spec["topology_spread_constraints"] = constraints

    all_labels = {**labels, **hosting["labels"], **hosting["pod_labels"]}
    metadata: dict[str, Any] = {"labels": _labels(where, all_labels, companions)}
    merged = {
        **{k: v for companion in companions for k, v in companion.pod_annotations.items()},
        **hosting["annotations"],
        **hosting["pod_annotations"],
        **hardening.exceptions_annotation(excepted),
    }
    if merged:
        metadata["annotations"] = merged
    return cast(PodTemplateSpecArgsDict, {"metadata": metadata, "spec": spec})


def _sidecar(container: ContainerArgsDict) -> ContainerArgsDict:
    container["restart_policy"] = "Always"
    return container


def _drained(container: ContainerArgsDict, seconds: int) -> ContainerArgsDict:
    if seconds and "lifecycle" not in container:
        container["lifecycle"] = {"pre_stop": {"sleep": {"seconds": seconds}}}
    return container


def _container_names(
    where: str, containers: Sequence[ContainerArgsDict], companions: Sequence[Companion]
) -> list[str]:
    owners: dict[str, str] = {}
    for owner, container in _owned_containers(containers, companions):
        place = Place(where, f"the name of a container of {owner}")
        name = resolve(place, _NAME, container["name"])
        if name in owners:
            raise InputError(
                where,
                "containers.name",
                name,
                f"must be unique in the pod, {owners[name]} and {owner} have it",
            )
        owners[name] = owner
    return list(owners)


def _owned_containers(
    containers: Sequence[ContainerArgsDict], companions: Sequence[Companion]
) -> list[tuple[str, ContainerArgsDict]]:
    owned = [("the application", container) for container in containers]
    for companion in companions:
        owned += [(f'companion "{companion.name}"', c) for c in companion.containers]
    return owned


def _refuse_collisions(
    where: str,
    containers: Sequence[ContainerArgsDict],
    companions: Sequence[Companion],
    listeners: Sequence[Listener],
) -> None:
    bound = [_Bound("the application", listener) for listener in listeners]
    for companion in companions:
        owner = f'companion "{companion.name}"'
        bound += [_Bound(owner, listener) for listener in companion.listeners]
    stated = {(b.owner, b.listener.port, b.listener.protocol) for b in bound}
    for owner, container in _owned_containers(containers, companions):
        for listener in _declared(where, container):
            # A declared port repeats a listener of the same owner, which knows its address.
            if (owner, listener.port, listener.protocol) not in stated:
                bound.append(_Bound(f'{owner}, container "{container["name"]}"', listener))
    for position, first in enumerate(bound):
        for second in bound[position + 1 :]:
            if first.listener.collides(second.listener):
                raise InputError(
                    where,
                    "companions",
                    f"{second.listener.address}:{second.listener.port}",
                    f"must be free, but {first.owner} listens on "
                    f"{first.listener.address}:{first.listener.port} ({first.listener.name}) and "
                    f"{second.owner} on the same port ({second.listener.name}) in one pod",
                )


def _declared(where: str, container: ContainerArgsDict) -> list[Listener]:
    ports = container.get("ports") or []
    listeners = []
    for port in [] if is_deferred(ports) else cast(Sequence[Mapping[str, Any]], ports):
        argument = f'container "{container["name"]}".ports'
        for key in ("host_port", "host_ip"):
            if key in port:
                raise InputError(
                    where, f"{argument}.{key}", port[key], "must be left out: it binds to the node"
                )
        number = port["container_port"]
        if not is_deferred(number):
            name = port.get("name") or f"port-{number}"
            listeners.append(Listener(number, name, protocol=port.get("protocol") or "TCP"))
    return listeners


def _volumes(
    where: str, volumes: Sequence[VolumeArgsDict], companions: Sequence[Companion]
) -> dict[str, VolumeArgsDict]:
    owned = [("the application", volume) for volume in volumes]
    for companion in companions:
        owned += [(f'companion "{companion.name}"', volume) for volume in companion.volumes]
    owners: dict[str, str] = {}
    result: dict[str, VolumeArgsDict] = {}
    for owner, volume in owned:
        hardening.check_volume(where, volume)
        name = resolve(Place(where, f"the name of a volume of {owner}"), _NAME, volume["name"])
        if name in owners:
            raise InputError(
                where,
                "volumes.name",
                name,
                f"must be unique in the pod, {owners[name]} and {owner} have it",
            )
        owners[name] = owner
        result[name] = volume
    return result


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
                raise InputError(
                    where,
                    f'companion "{companion.name}".pod_labels',
                    f"{key}={value}",
                    "must not change a label that the pod already has",
                )
    return merged


def _scheduling(hosting: PodHosting) -> dict[str, Any]:
    """Which nodes take the pod, what goes first, and how its images are pulled."""
    found: dict[str, Any] = {}
    if hosting["node_selector"]:
        found["node_selector"] = dict(hosting["node_selector"])
    if hosting["tolerations"]:
        found["tolerations"] = list(hosting["tolerations"])
    if "affinity" in hosting:
        found["affinity"] = hosting["affinity"]
    if "priority_class" in hosting:
        found["priority_class_name"] = hosting["priority_class"]
    if "runtime_class" in hosting:
        found["runtime_class_name"] = hosting["runtime_class"]
    if hosting["pull_secrets"]:
        found["image_pull_secrets"] = [{"name": name} for name in hosting["pull_secrets"]]
    return found
