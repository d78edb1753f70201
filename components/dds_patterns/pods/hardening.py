"""Hardening of containers and pods, and exceptions from it.

The rules are those of the Pod Security Standard *restricted*, with a read-only root filesystem, no
service account token and bounded resources on top.
"""

import json
from collections.abc import Collection, Mapping, Sequence
from typing import Annotated, Any, NotRequired, TypedDict, cast

from pulumi_kubernetes.core.v1 import (
    ContainerArgsDict,
    PodSecurityContextArgsDict,
    VolumeArgsDict,
)

from dds_patterns.arguments import DefaultsTo, is_deferred, matching, nearest, one_of
from dds_patterns.arguments.constraints import Constraint
from dds_patterns.arguments.names import DnsLabel
from dds_patterns.arguments.place import Place
from dds_patterns.arguments.quantities import NO_LIMIT, amount
from dds_patterns.pods.resources import with_defaults

DEFAULT_USER = 10001
"""User and group of containers; above 10000 to differ from the node's users."""

EXCEPTIONS_ANNOTATION = "dds/exceptions"
"""Annotation of a pod that lists its exceptions with their reasons, as JSON."""


_CONTAINER_FIELDS: dict[str, Any] = {
    "read_only_root_filesystem": False,
    "run_as_non_root": False,
    "allow_privilege_escalation": True,
    "seccomp_profile": {"type": "Unconfined"},
}
_FIELDS = (*_CONTAINER_FIELDS, "capabilities", "service_account_token")
_SAID = Constraint(
    "a reason that a reviewer understands", lambda reason: bool(reason.strip()), ("", "  ")
)
_CAPABILITY = matching(
    "[A-Z][A-Z_]*", "a capability such as NET_BIND_SERVICE", most=63, odd=("all",)
)


class ExceptionArgs(TypedDict):
    """An exception: one hardening rule that a container breaks, and the reason."""

    field: Annotated[str, one_of(*_FIELDS)]
    """The rule; ``service_account_token`` applies to the whole pod. A namespace that enforces
    *restricted* admits only exceptions from ``read_only_root_filesystem`` and
    ``service_account_token``, and of ``capabilities`` only NET_BIND_SERVICE."""
    reason: Annotated[str, _SAID]
    """The reason, for the reviewer."""
    container: NotRequired[Annotated[DnsLabel, DefaultsTo("the application's")]]
    """Name of the container."""
    values: NotRequired[Sequence[Annotated[str, _CAPABILITY]]]
    """For ``capabilities``: the capabilities to add."""


_REQUESTS = {"cpu": "25m", "memory": "32Mi", "ephemeral-storage": "32Mi"}
_LIMITS = {"cpu": "1", "memory": "128Mi", "ephemeral-storage": "64Mi"}

_VOLUME_SOURCES = (
    "config_map", "csi", "downward_api", "empty_dir", "ephemeral", "image",
    "persistent_volume_claim", "projected", "secret",
)  # fmt: skip
_RELOADING_SOURCES = ("config_map", "downward_api", "projected", "secret")


def validated_exceptions(
    where: str, exceptions: Sequence[ExceptionArgs], containers: Sequence[str]
) -> tuple[ExceptionArgs, ...]:
    """The exceptions, each with its container; refuses unknown fields and missing reasons.

    :param containers: names of the pod's containers, the application's first
    """
    result = []
    for position, exception in enumerate(exceptions):
        place = Place(where, "exceptions").entry(position)
        container, values = exception.get("container", containers[0]), exception.get("values")
        if container not in containers:
            place.key("container").refuse(
                container, f"must be one of the pod's containers: {', '.join(containers)}"
            )
        if (exception["field"] == "capabilities") != bool(values):
            place.key("values").refuse(
                values,
                "must list capabilities for the field capabilities, and be left out for others",
            )
        result.append({**exception, "container": container})
    return cast(tuple[ExceptionArgs, ...], tuple(result))


def exceptions_annotation(exceptions: Sequence[ExceptionArgs]) -> dict[str, str]:
    """The pod's annotation with the exceptions and their reasons."""
    if not exceptions:
        return {}
    return {EXCEPTIONS_ANNOTATION: json.dumps(list(exceptions), sort_keys=True)}


def hardened(
    where: str,
    container: ContainerArgsDict,
    exceptions: Sequence[ExceptionArgs],
    storage: float = 0,
) -> ContainerArgsDict:
    """The container with all fields that the rules require.

    :param storage: bytes that it may write to temporary volumes, added to its storage limit
    """
    name = str(container["name"])
    place = Place(where, f'container "{name}"')
    given = cast(dict[str, Any], container)
    if "image" not in given:
        place.key("image").refuse(None, "must name an image")
    return cast(
        ContainerArgsDict,
        {
            "image_pull_policy": "IfNotPresent",
            # The last log lines of a failed container become part of the pod's status.
            "termination_message_policy": "FallbackToLogsOnError",
            **given,
            "security_context": _security_context(
                place, given.get("security_context") or {}, _excepted(name, exceptions)
            ),
            "resources": _resources(place, given.get("resources") or {}, storage),
        },
    )


def pod_security_context(user: int, group: int) -> PodSecurityContextArgsDict:
    """The pod's security context. Volumes belong to the group, so files in them are readable."""
    return {
        "run_as_non_root": True,
        "run_as_user": user,
        "run_as_group": group,
        "fs_group": group,
        # Without this the kubelet changes the owner of every file at each start of a pod.
        "fs_group_change_policy": "OnRootMismatch",
        "seccomp_profile": {"type": "RuntimeDefault"},
    }


def check_volume(where: str, volume: VolumeArgsDict) -> None:
    """Refuse volumes of the node, such as hostPath."""
    sources = [key for key in volume if key != "name"]
    if len(sources) != 1 or sources[0] not in _VOLUME_SOURCES:
        Place(where, f'volume "{volume["name"]}"').refuse(
            sources, f"must have one source of {', '.join(_VOLUME_SOURCES)}"
        )


def check_mounts(
    where: str,
    container: ContainerArgsDict,
    volumes: Mapping[str, VolumeArgsDict],
    reloading: Collection[str] = (),
) -> None:
    """Refuse mounts of unknown volumes, two at one path, and ``subPath`` of reloading files.

    :param reloading: volumes whose files are replaced, besides those that the kubelet updates
    """
    mounts = container.get("volume_mounts")
    if mounts is None or is_deferred(mounts):
        return
    argument = f'container "{container["name"]}".volume_mounts'
    place = Place(where, argument)
    paths: dict[str, str] = {}
    for mount in cast(Sequence[Mapping[str, Any]], mounts):
        name, path = mount["name"], mount["mount_path"]
        if name not in volumes:
            place.refuse(name, f"must name a volume; {nearest(name, list(volumes))}")
        if path in paths:
            place.refuse(path, f"must be unique: {paths[path]} and {name} are mounted there")
        paths[path] = name
        by_part = mount.get("sub_path") or mount.get("sub_path_expr")
        replaced = name in reloading or any(s in volumes[name] for s in _RELOADING_SOURCES)
        if by_part and replaced:
            Place(where, f"{argument}: sub_path").refuse(
                by_part,
                f"must be left out: a file of {name} mounted by sub_path never sees an update; mount "
                "the folder",
            )


def _excepted(container: str, exceptions: Sequence[ExceptionArgs]) -> dict[str, ExceptionArgs]:
    return {e["field"]: e for e in exceptions if e.get("container") == container}


def _security_context(
    place: Place, given: Mapping[str, Any], excepted: Mapping[str, ExceptionArgs]
) -> dict[str, Any]:
    context: dict[str, Any] = {
        "allow_privilege_escalation": False,
        "read_only_root_filesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    context |= {f: relaxed for f, relaxed in _CONTAINER_FIELDS.items() if f in excepted}
    if "run_as_non_root" in excepted:
        context["run_as_user"] = 0
    if "capabilities" in excepted:
        context["capabilities"]["add"] = list(excepted["capabilities"].get("values", ()))
    for field, value in given.items():
        if field in ("run_as_user", "run_as_group"):
            context[field] = value
            if value == 0 and "run_as_non_root" not in excepted:
                place.key(field).refuse(value, "must be at least 1")
        elif context.get(field) != value:
            place.key(f"security_context.{field}").refuse(
                value,
                "must be left to the template; to relax a rule, add an exception with a reason",
            )
    return context


def _resources(place: Place, given: Mapping[str, Any], storage: float) -> dict[str, dict[str, Any]]:
    # Temporary volumes count towards the limit; a pod above it is evicted.
    total = amount(_LIMITS["ephemeral-storage"]) + storage
    limits = {**_LIMITS, "ephemeral-storage": f"{-(-int(total) // 2**20)}Mi"}
    found = with_defaults(place.key("resources"), given, requests=_REQUESTS, limits=limits)
    # Kubernetes has no value for "no limit": it is left out.
    kept = {key: limit for key, limit in found["limits"].items() if limit != NO_LIMIT}
    return {**found, "limits": kept}
