"""What a hardened pod must have: a separate checker, independent of the code that makes pods.

The first part mirrors the Pod Security Standard *restricted* (policy/check_*.go of the
pod-security-admission module), the second adds what this project promises on top.
"""

from collections.abc import Collection, Iterator
from typing import Any

SERVES = {"restartPolicy", "ports", "startupProbe", "readinessProbe", "livenessProbe"}
_VOLUMES = {
    "configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "image", "persistentVolumeClaim",
    "projected", "secret",
}  # fmt: skip


def violations(
    template: dict[str, Any], *, restarts: bool = True, init_containers: Collection[str] = ()
) -> list[str]:
    """All violations of a pod template.

    :param restarts: whether its containers serve (a Job's do not, and have no probes)
    :param init_containers: names of the containers that run to their end before the others
    """
    spec = template["spec"]
    found = [*_pod(spec), *_volumes(spec)]
    for container in spec["containers"] + spec.get("initContainers", []):
        name = container["name"]
        found += [f"{name}: {text}" for text in _container(spec, container)]
        found += [f"{name}: {text}" for text in _beyond_the_standard(container)]
    for container in spec.get("initContainers", []):
        if container["name"] in init_containers:
            if SERVES & set(container):
                found.append(f"{container['name']}: serves before it has ended")
        elif container.get("restartPolicy") != "Always":
            found.append(f"{container['name']}: not a native sidecar")
    if restarts:
        for container in spec["containers"]:
            found += [f"{container['name']}: {text}" for text in _serving(spec, container)]
    return found


def _pod(spec: dict[str, Any]) -> Iterator[str]:
    for key in ("hostNetwork", "hostPID", "hostIPC"):
        if spec.get(key):
            yield key
    context = spec.get("securityContext", {})
    for key in ("sysctls", "seLinuxOptions", "windowsOptions", "appArmorProfile"):
        if context.get(key):
            yield key
    if spec.get("automountServiceAccountToken") is not False:
        yield "service account token"
    if spec.get("enableServiceLinks") is not False:
        yield "service links"
    if not spec.get("serviceAccountName"):
        yield "default service account"
    if context.get("runAsGroup", 0) <= 10000:
        yield "group of the node"
    if context.get("fsGroup", 0) <= 10000:
        yield "volumes of another group"
    if context.get("fsGroupChangePolicy") != "OnRootMismatch":
        yield "volumes walked at each start"


def _volumes(spec: dict[str, Any]) -> Iterator[str]:
    for volume in spec.get("volumes", []):
        (source,) = set(volume) - {"name"}
        if source not in _VOLUMES:
            yield f"volume of type {source}"
        if source == "emptyDir" and "sizeLimit" not in volume["emptyDir"]:
            yield f"volume {volume['name']} has no limit"
        if source == "secret" and volume["secret"].get("defaultMode", 0o644) & 0o007:
            yield f"others can read {volume['name']}"


def _container(spec: dict[str, Any], container: dict[str, Any]) -> Iterator[str]:
    pod = spec.get("securityContext", {})
    own = container.get("securityContext", {})
    if own.get("privileged"):
        yield "privileged"
    if own.get("allowPrivilegeEscalation") is not False:
        yield "privilege escalation"
    capabilities = own.get("capabilities", {})
    if capabilities.get("drop") != ["ALL"]:
        yield "capabilities not dropped"
    if set(capabilities.get("add", [])) - {"NET_BIND_SERVICE"}:
        yield "capabilities added"
    if own.get("runAsNonRoot", pod.get("runAsNonRoot")) is not True:
        yield "may run as root"
    if own.get("runAsUser", pod.get("runAsUser", 0)) <= 10000:
        yield "user of the node"
    profile = own.get("seccompProfile", pod.get("seccompProfile", {})).get("type")
    if profile not in {"RuntimeDefault", "Localhost"}:
        yield "no seccomp profile"
    if own.get("procMount", "Default") != "Default":
        yield "procMount"
    if any("hostPort" in port for port in container.get("ports", [])):
        yield "port of the node"


def _beyond_the_standard(container: dict[str, Any]) -> Iterator[str]:
    own = container.get("securityContext", {})
    if own.get("readOnlyRootFilesystem") is not True:
        yield "writable root filesystem"
    for part in ("requests", "limits"):
        for resource in ("cpu", "memory", "ephemeral-storage"):
            if resource not in container.get("resources", {}).get(part, {}):
                yield f"no {part} for {resource}"
    if container.get("imagePullPolicy") != "IfNotPresent":
        yield "pull policy"
    if ":" not in container["image"].rpartition("/")[2]:
        yield "image without tag"
    if container.get("terminationMessagePolicy") != "FallbackToLogsOnError":
        yield "last words lost"
    for entry in container.get("env", []):
        # The program may get the pod's own fields; a Secret or ConfigMap is mounted.
        if "value" not in entry and set(entry["valueFrom"]) != {"fieldRef"}:
            yield "environment from elsewhere"


def _serving(spec: dict[str, Any], container: dict[str, Any]) -> Iterator[str]:
    probes = {kind: container.get(f"{kind}Probe") for kind in ("startup", "readiness", "liveness")}
    if container.get("ports"):
        for kind in ("startup", "readiness"):
            if probes[kind] is None:
                yield f"no {kind} probe"
        drain = container.get("lifecycle", {}).get("preStop", {}).get("sleep", {}).get("seconds", 0)
        if not drain:
            yield "no drain"
        if spec.get("terminationGracePeriodSeconds", 0) <= drain:
            yield "killed while it drains"
    readiness, liveness = probes["readiness"], probes["liveness"]
    if readiness and liveness:
        if _question(readiness) == _question(liveness):
            yield "liveness asks what readiness asks"
        if _patience(liveness) <= _patience(readiness):
            yield "liveness less patient than readiness"


def _question(probe: dict[str, Any]) -> dict[str, Any]:
    return {k: v for k, v in probe.items() if k in {"httpGet", "tcpSocket", "exec"}}


def _patience(probe: dict[str, Any]) -> int:
    seconds: int = probe["periodSeconds"] * probe["failureThreshold"]
    return seconds
