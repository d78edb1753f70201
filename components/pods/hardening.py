"""What a hardened container and pod are, and how an exception is made.

The rules are those of the Pod Security Standard *restricted*, with a read-only root filesystem, no
service account token and bounded resources on top.
"""

import json
from collections.abc import Collection, Mapping, Sequence
from typing import Any, NotRequired, TypedDict, cast

from pulumi_kubernetes.core.v1 import ContainerArgsDict, PodSecurityContextArgsDict, VolumeArgsDict

from components.arguments.errors import InputError
from components.values import checks

DEFAULT_USER = 10001
"""User and group of containers; above 10000 so that it is no user of the node."""

EXCEPTIONS_ANNOTATION = "dds/exceptions"
"""Annotation of a pod that lists its exceptions with their reasons, as JSON."""


class ExceptionArgs(TypedDict):
    """One hardening rule that a container does not keep, and why."""

    field: str
    """``read_only_root_filesystem``, ``run_as_non_root``, ``allow_privilege_escalation``,
    ``capabilities``, ``seccomp_profile`` or ``service_account_token`` (of the whole pod). A
    namespace that enforces *restricted* admits only the first and the last, and of
    ``capabilities`` only NET_BIND_SERVICE."""
    reason: str
    """Why, for whoever reviews it."""
    container: NotRequired[str]
    """Name of the container. Defaults to the application's."""
    values: NotRequired[Sequence[str]]
    """For ``capabilities``: those to add back."""


_CONTAINER_FIELDS: dict[str, Any] = {
    "read_only_root_filesystem": False,
    "run_as_non_root": False,
    "allow_privilege_escalation": True,
    "seccomp_profile": {"type": "Unconfined"},
}
_FIELDS = (*_CONTAINER_FIELDS, "capabilities", "service_account_token")

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
        argument = f"exceptions[{position}]"
        checks.known_arguments(f"{where}: {argument}", ExceptionArgs, exception)
        field = checks.one_of(where, f"{argument}.field", exception["field"], _FIELDS)
        if not exception["reason"].strip():
            raise InputError(where, f"{argument}.reason", exception["reason"], "must say why")
        container = exception.get("container", containers[0])
        if container not in containers:
            raise InputError(
                where,
                f"{argument}.container",
                container,
                f"must be one of the pod's containers: {', '.join(containers)}",
            )
        if (field == "capabilities") != bool(exception.get("values")):
            raise InputError(
                where,
                f"{argument}.values",
                exception.get("values"),
                "must list capabilities for the field capabilities, and be left out for others",
            )
        result.append({**exception, "container": container})
    return cast(tuple[ExceptionArgs, ...], tuple(result))


def exceptions_annotation(exceptions: Sequence[ExceptionArgs]) -> dict[str, str]:
    """The annotation that keeps the reasons where the pod is."""
    if not exceptions:
        return {}
    return {EXCEPTIONS_ANNOTATION: json.dumps(list(exceptions), sort_keys=True)}


def hardened(
    where: str,
    container: ContainerArgsDict,
    exceptions: Sequence[ExceptionArgs],
    storage: float = 0,
) -> ContainerArgsDict:
    """The container with everything set that the rules ask for.

    :param storage: bytes that it may write to temporary volumes, added to its storage limit
    """
    name = str(container["name"])
    argument = f'container "{name}"'
    checks.known_arguments(f"{where}: {argument}", ContainerArgsDict, container)
    if "image" not in container:
        raise InputError(where, f"{argument}.image", None, "must name an image")
    image: Any = container["image"]
    given = cast(dict[str, Any], container)
    return cast(
        ContainerArgsDict,
        {
            "image_pull_policy": "IfNotPresent",
            # What a failed container said last is then part of the pod's status.
            "termination_message_policy": "FallbackToLogsOnError",
            **given,
            "image": checks.image_reference(where, f"{argument}.image", image),
            "security_context": _security_context(
                where, argument, given.get("security_context") or {}, _excepted(name, exceptions)
            ),
            "resources": _resources(where, argument, given.get("resources") or {}, storage),
        },
    )


def pod_security_context(user: int, group: int) -> PodSecurityContextArgsDict:
    """The pod's part of the rules. Volumes belong to the group, so files in them are readable."""
    return {
        "run_as_non_root": True,
        "run_as_user": user,
        "run_as_group": group,
        "fs_group": group,
        # Without this every start of a pod walks its whole volume.
        "fs_group_change_policy": "OnRootMismatch",
        "seccomp_profile": {"type": "RuntimeDefault"},
    }


def check_volume(where: str, volume: VolumeArgsDict) -> None:
    """Refuse volumes that reach into the node."""
    checks.known_arguments(f"{where}: volume", VolumeArgsDict, volume)
    sources = [key for key in volume if key != "name"]
    if len(sources) != 1 or sources[0] not in _VOLUME_SOURCES:
        raise InputError(
            where,
            f'volume "{volume["name"]}"',
            sources,
            f"must have one source of {', '.join(_VOLUME_SOURCES)}",
        )


def check_mounts(
    where: str,
    container: ContainerArgsDict,
    volumes: Mapping[str, VolumeArgsDict],
    reloading: Collection[str] = (),
) -> None:
    """Refuse mounts of unknown volumes, two at one path, and ``subPath`` of reloading files.

    :param reloading: volumes whose files are replaced, beside those that the kubelet updates
    """
    mounts = container.get("volume_mounts")
    if mounts is None or checks.is_deferred(mounts):
        return
    paths: dict[str, str] = {}
    for mount in cast(Sequence[Mapping[str, Any]], mounts):
        argument = f'container "{container["name"]}".volume_mounts'
        name, path = mount["name"], mount["mount_path"]
        if name not in volumes:
            raise InputError(
                where, argument, name, f"must name a volume; {checks.nearest(name, list(volumes))}"
            )
        if path in paths:
            raise InputError(
                where, argument, path, f"must be one mount, {paths[path]} and {name} are there"
            )
        paths[path] = name
        by_part = mount.get("sub_path") or mount.get("sub_path_expr")
        replaced = name in reloading or any(s in volumes[name] for s in _RELOADING_SOURCES)
        if by_part and replaced:
            raise InputError(
                where,
                f"{argument}: sub_path",
                by_part,
                f"must be left out: a file of {name} mounted so never sees an update; mount the "
                "folder",
            )


def _excepted(container: str, exceptions: Sequence[ExceptionArgs]) -> dict[str, ExceptionArgs]:
    return {e["field"]: e for e in exceptions if e.get("container") == container}


def _security_context(
    where: str, argument: str, given: Mapping[str, Any], excepted: Mapping[str, ExceptionArgs]
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
            lowest = 0 if "run_as_non_root" in excepted else 1
            context[field] = checks.integer(where, f"{argument}.{field}", value, minimum=lowest)
        elif context.get(field) != value:
            raise InputError(
                where,
                f"{argument}.security_context.{field}",
                value,
                "must be left to the template; to relax a rule give it in exceptions with a reason",
            )
    return context


def _resources(
    where: str, argument: str, given: Mapping[str, Any], storage: float
) -> dict[str, dict[str, Any]]:
    for part, quantities in given.items():
        if part not in ("requests", "limits"):
            raise InputError(
                where, f"{argument}.resources", part, "must have only requests and limits"
            )
        for resource, quantity in quantities.items():
            checks.quantity(where, f"{argument}.resources.{part}.{resource}", quantity)
    limits = {**_LIMITS}
    # Temporary volumes count towards the limit; a pod above it is evicted.
    total = checks.amount(limits["ephemeral-storage"]) + storage
    limits["ephemeral-storage"] = f"{-(-int(total) // 2**20)}Mi"
    requests: dict[str, Any] = {**_REQUESTS, **given.get("requests", {})}
    limits.update(given.get("limits", {}))
    for resource, limit in limits.items():
        request = requests.get(resource)
        if not isinstance(request, str) or not isinstance(limit, str):
            continue
        if checks.amount(request) > checks.amount(limit):
            if resource in given.get("requests", {}) and resource in given.get("limits", {}):
                raise InputError(
                    where,
                    f"{argument}.resources.requests.{resource}",
                    request,
                    f"must not be above the limit {limit}",
                )
            # Only one of the two was given: the default of the other follows it.
            if resource in given.get("requests", {}):
                limits[resource] = request
            else:
                requests[resource] = limit
    return {"requests": requests, "limits": limits}
