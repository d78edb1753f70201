"""docker:index/container:Container: properties, and their conversion to and from the daemon's."""

from __future__ import annotations

import base64
import binascii
import re
from typing import TYPE_CHECKING, Any

from toolchain.plugins.docker.engine import DockerError
from toolchain.plugins.docker.ownership import labels_of
from toolchain.plugins.docker.schema import (
    Failure,
    Field,
    at_least,
    labels,
    matching,
    one_of,
)
from toolchain.plugins.provider.values import UNKNOWN

if TYPE_CHECKING:
    from toolchain.plugins.provider.provider import Properties

MEBIBYTE = 1024 * 1024
_ANYWHERE = "0.0.0.0"  # noqa: S104 - the official plugin's default
_DURATION = re.compile(r"([0-9]*\.?[0-9]+)(ns|us|µs|ms|s|m|h)")
_NANOSECONDS = {
    "ns": 1, "us": 10**3, "µs": 10**3, "ms": 10**6, "s": 10**9, "m": 60 * 10**9, "h": 3600 * 10**9,
}  # fmt: skip


def nanoseconds(duration: str) -> int:
    """A duration such as ``1m30s`` in nanoseconds; raises ValueError."""
    if duration == "0":
        return 0
    total, end = 0, 0
    for part in _DURATION.finditer(duration):
        if part.start() != end:
            break
        total += int(float(part[1]) * _NANOSECONDS[part[2]])
        end = part.end()
    if not duration or end != len(duration):
        raise ValueError(f"not a duration: {duration!r}")
    return total


def duration(amount: int) -> str:
    """Nanoseconds in Go's format, in which the official plugin records them."""
    if amount < 10**9:
        for unit in ("ms", "us", "ns"):
            if amount and amount % _NANOSECONDS[unit] == 0:
                return f"{amount // _NANOSECONDS[unit]}{'µs' if unit == 'us' else unit}"
        return "0s"
    hours, rest = divmod(amount, _NANOSECONDS["h"])
    minutes, rest = divmod(rest, _NANOSECONDS["m"])
    seconds = f"{rest / 10**9:.9f}".rstrip("0").rstrip(".")
    text = f"{hours}h" if hours else ""
    return text + (f"{minutes}m" if hours or minutes else "") + f"{seconds}s"


def _no_duration(value: str) -> str | None:
    try:
        nanoseconds(value)
    except ValueError:
        return "must be a duration such as 500ms or 1m30s"
    return None


def _duration_field() -> Field:
    return Field("string", default="0s", reject=_no_duration)


FIELDS = {
    "name": Field("string"),
    "image": Field("string", required=True),
    "hostname": Field("string", computed=True),
    "domainname": Field("string"),
    "command": Field("strings", computed=True),
    "entrypoints": Field("strings", computed=True),
    "envs": Field("strings_set", computed=True),
    "user": Field("string", computed=True),
    "workingDir": Field("string", computed=True),
    "labels": labels(computed=True),
    "tty": Field("boolean", default=False),
    "stdinOpen": Field("boolean", default=False),
    "init": Field("boolean", computed=True),
    "rm": Field("boolean", default=False),
    "readOnly": Field("boolean", default=False),
    "privileged": Field("boolean"),
    "capabilities": Field(
        "object", fields={"adds": Field("strings_set"), "drops": Field("strings_set")}
    ),
    "securityOpts": Field("strings_set", computed=True),
    "groupAdds": Field("strings_set"),
    "runtime": Field("string", computed=True),
    "platform": Field("string", computed=True),
    "start": Field("boolean", replace=False, default=True),
    "mustRun": Field("boolean", replace=False, default=True),
    "wait": Field("boolean", replace=False, default=False),
    "waitTimeout": Field("integer", replace=False, default=60, reject=at_least(1)),
    "removeVolumes": Field("boolean", replace=False, default=True),
    "destroyGraceSeconds": Field("integer", replace=False, reject=at_least(0)),
    "stopSignal": Field("string", computed=True),
    "stopTimeout": Field("integer", computed=True),
    "restart": Field(
        "string",
        replace=False,
        default="no",
        reject=one_of("no", "on-failure", "always", "unless-stopped"),
    ),
    "maxRetryCount": Field("integer", replace=False, reject=at_least(0)),
    "memory": Field("integer", replace=False, lasting=True, reject=at_least(0)),
    "memoryReservation": Field(
        "integer", replace=False, lasting=True, default=0, reject=at_least(0)
    ),
    "memorySwap": Field("integer", replace=False, lasting=True, reject=at_least(-1)),
    "shmSize": Field("integer", computed=True, reject=at_least(0)),
    "cpuShares": Field("integer", replace=False, lasting=True, reject=at_least(0)),
    "cpuSet": Field(
        "string",
        replace=False,
        lasting=True,
        reject=matching(r"\d+([,-]\d+)*", "must be a list such as 0-2,5"),
    ),
    "cpus": Field("string", reject=matching(r"\d+(\.\d+)?", "must be a number such as 1.5")),
    "dns": Field("strings_set"),
    "dnsOpts": Field("strings_set"),
    "dnsSearches": Field("strings_set"),
    "hosts": Field(
        "objects_set",
        fields={"host": Field("string", required=True), "ip": Field("string", required=True)},
    ),
    "ulimits": Field(
        "objects_set",
        fields={
            "name": Field("string", required=True),
            "soft": Field("integer", required=True),
            "hard": Field("integer", required=True),
        },
    ),
    "sysctls": Field("map"),
    "tmpfs": Field("map"),
    "volumes": Field(
        "objects_set",
        fields={
            "containerPath": Field("string"),
            "volumeName": Field("string"),
            "hostPath": Field("string"),
            "fromContainer": Field("string"),
            "readOnly": Field("boolean"),
        },
    ),
    "ports": Field(
        "objects_set",
        fields={
            "internal": Field("integer", required=True, reject=at_least(1)),
            "external": Field("integer", required=True, reject=at_least(1)),
            "ip": Field("string", default=_ANYWHERE),
            "protocol": Field("string", default="tcp", reject=one_of("tcp", "udp", "sctp")),
        },
    ),
    "publishAllPorts": Field("boolean"),
    "networkMode": Field("string", default="bridge"),
    "networksAdvanced": Field(
        "objects_set",
        fields={
            "name": Field("string", required=True),
            "aliases": Field("strings_set"),
            "ipv4Address": Field("string"),
            "ipv6Address": Field("string"),
        },
    ),
    "pidMode": Field("string"),
    "ipcMode": Field("string", computed=True),
    "usernsMode": Field("string"),
    "cgroupnsMode": Field("string", reject=one_of("private", "host")),
    "cgroupParent": Field("string"),
    "logDriver": Field("string", computed=True),
    "logOpts": Field("map"),
    "healthcheck": Field(
        "object",
        computed=True,
        fields={
            "tests": Field("strings"),
            "interval": _duration_field(),
            "timeout": _duration_field(),
            "startPeriod": _duration_field(),
            "startInterval": _duration_field(),
            "retries": Field("integer", default=0, reject=at_least(0)),
        },
    ),
    "uploads": Field(
        "objects_set",
        fields={
            "file": Field("string", required=True),
            "content": Field("string"),
            "contentBase64": Field("string"),
            "executable": Field("boolean", default=False),
            "permissions": Field(
                "string", reject=matching(r"0[0-7]{3}", "must be an octal mode such as 0644")
            ),
        },
    ),
}
"""The supported properties of a container. Others of the official schema are refused."""

UPDATABLE_LIMITS = (
    "restart", "maxRetryCount", "memory", "memoryReservation", "memorySwap", "cpuShares", "cpuSet",
)  # fmt: skip


def complete(inputs: Properties) -> list[Failure]:
    """Failures that concern several properties."""
    failures: list[Failure] = []
    for position, upload in enumerate(_known(inputs, "uploads")):
        if upload is UNKNOWN:
            continue
        contents = [upload.get("content"), upload.get("contentBase64")]
        if sum(content is not None for content in contents) != 1:
            failures.append(
                Failure(f"uploads[{position}]", "needs either content or contentBase64")
            )
        elif "" in contents:
            # The official plugin treats an empty content as missing.
            failures.append(Failure(f"uploads[{position}]", "must not be empty"))
    for position, volume in enumerate(_known(inputs, "volumes")):
        if volume is UNKNOWN:
            continue
        if bool(volume.get("containerPath")) == bool(volume.get("fromContainer")):
            failures.append(
                Failure(f"volumes[{position}]", "needs either containerPath or fromContainer")
            )
    health = inputs.get("healthcheck")
    if inputs.get("wait") is True and health is not UNKNOWN:
        tests = (health or {}).get("tests")
        if tests is not UNKNOWN and tests and tests[0] == "NONE":
            failures.append(Failure("healthcheck.tests", "is NONE, but wait needs a health check"))
    return failures


def _known(inputs: Properties, name: str) -> list[Any]:
    value = inputs.get(name)
    return [] if value is None or value is UNKNOWN else value


def limits(inputs: Properties) -> dict[str, Any]:
    """The part of the host configuration that can be changed in a running container."""
    result: dict[str, Any] = {
        "RestartPolicy": {
            "Name": inputs.get("restart") or "no",
            "MaximumRetryCount": inputs.get("maxRetryCount") or 0,
        },
        "Memory": (inputs.get("memory") or 0) * MEBIBYTE,
        "MemoryReservation": (inputs.get("memoryReservation") or 0) * MEBIBYTE,
        "CpuShares": inputs.get("cpuShares") or 0,
        "CpusetCpus": inputs.get("cpuSet") or "",
    }
    swap = inputs.get("memorySwap") or 0
    result["MemorySwap"] = swap * MEBIBYTE if swap > 0 else swap
    return result


def container(inputs: Properties) -> dict[str, Any]:
    """The body of the daemon's create call."""
    body: dict[str, Any] = {
        "Image": inputs["image"],
        "Hostname": inputs.get("hostname") or "",
        "Domainname": inputs.get("domainname") or "",
        "Tty": bool(inputs.get("tty")),
        "OpenStdin": bool(inputs.get("stdinOpen")),
        "User": inputs.get("user") or "",
        "WorkingDir": inputs.get("workingDir") or "",
        "Labels": labels_of(inputs.get("labels")),
        "HostConfig": host(inputs),
    }
    for name, theirs in (
        ("command", "Cmd"), ("entrypoints", "Entrypoint"), ("envs", "Env"),
        ("stopSignal", "StopSignal"), ("stopTimeout", "StopTimeout"),
    ):  # fmt: skip
        if inputs.get(name):
            body[theirs] = inputs[name]
    if inputs.get("ports"):
        body["ExposedPorts"] = {_port_key(port): {} for port in inputs["ports"]}
    paths = [volume["containerPath"] for volume in _anonymous(inputs)]
    if paths:
        body["Volumes"] = {path: {} for path in paths}
    if inputs.get("healthcheck"):
        body["Healthcheck"] = health(inputs["healthcheck"])
    return body


def health(check: Properties) -> dict[str, Any]:
    """The health check in the daemon's format: durations in nanoseconds."""
    result: dict[str, Any] = {
        "Test": check.get("tests") or [],
        "Interval": nanoseconds(check.get("interval") or "0s"),
        "Timeout": nanoseconds(check.get("timeout") or "0s"),
        "StartPeriod": nanoseconds(check.get("startPeriod") or "0s"),
        "Retries": check.get("retries") or 0,
    }
    start_interval = nanoseconds(check.get("startInterval") or "0s")
    if start_interval:
        result["StartInterval"] = start_interval
    return result


def host(inputs: Properties) -> dict[str, Any]:
    """The host configuration of the daemon's create call."""
    result = limits(inputs)
    result |= {
        "Privileged": bool(inputs.get("privileged")),
        "PublishAllPorts": bool(inputs.get("publishAllPorts")),
        "AutoRemove": bool(inputs.get("rm")),
        "ReadonlyRootfs": bool(inputs.get("readOnly")),
        "NetworkMode": inputs.get("networkMode") or "bridge",
        "Init": bool(inputs.get("init")),
        "LogConfig": {"Type": inputs.get("logDriver") or "", "Config": inputs.get("logOpts") or {}},
    }
    for name, theirs in (
        ("runtime", "Runtime"), ("pidMode", "PidMode"), ("ipcMode", "IpcMode"),
        ("usernsMode", "UsernsMode"), ("cgroupnsMode", "CgroupnsMode"),
        ("cgroupParent", "CgroupParent"), ("sysctls", "Sysctls"), ("tmpfs", "Tmpfs"),
        ("dns", "Dns"), ("dnsOpts", "DnsOptions"), ("dnsSearches", "DnsSearch"),
        ("groupAdds", "GroupAdd"), ("securityOpts", "SecurityOpt"),
    ):  # fmt: skip
        if inputs.get(name):
            result[theirs] = inputs[name]
    capabilities = inputs.get("capabilities") or {}
    result["CapAdd"] = capabilities.get("adds") or []
    result["CapDrop"] = capabilities.get("drops") or []
    if inputs.get("shmSize"):
        result["ShmSize"] = inputs["shmSize"] * MEBIBYTE
    if inputs.get("cpus"):
        result["NanoCpus"] = int(float(inputs["cpus"]) * 10**9)
    result["ExtraHosts"] = [f"{one['host']}:{one['ip']}" for one in inputs.get("hosts") or []]
    result["Ulimits"] = [
        {"Name": one["name"], "Soft": int(one["soft"]), "Hard": int(one["hard"])}
        for one in inputs.get("ulimits") or []
    ]
    result["PortBindings"] = _bindings(inputs)
    result["Binds"], result["VolumesFrom"] = _mounts(inputs)
    return result


def _bindings(inputs: Properties) -> dict[str, list[dict[str, str]]]:
    bindings: dict[str, list[dict[str, str]]] = {}
    for port in inputs.get("ports") or []:
        bindings.setdefault(_port_key(port), []).append(
            {"HostIp": port.get("ip") or _ANYWHERE, "HostPort": str(int(port["external"]))}
        )
    return bindings


def _mounts(inputs: Properties) -> tuple[list[str], list[str]]:
    binds, sources = [], []
    for volume in inputs.get("volumes") or []:
        source = volume.get("hostPath") or volume.get("volumeName")
        if volume.get("fromContainer"):
            sources.append(volume["fromContainer"])
        elif source:
            mode = "ro" if volume.get("readOnly") else "rw"
            binds.append(f"{source}:{volume['containerPath']}:{mode}")
    return binds, sources


def _anonymous(inputs: Properties) -> list[Properties]:
    return [
        volume
        for volume in inputs.get("volumes") or []
        if not (volume.get("hostPath") or volume.get("volumeName") or volume.get("fromContainer"))
    ]


def _port_key(port: Properties) -> str:
    return f"{int(port['internal'])}/{port.get('protocol') or 'tcp'}"


def state(details: dict[str, Any], recorded: Properties) -> Properties:
    """The state of a container from the daemon.

    Properties that the daemon merges with the image's (environment, labels) or does not return
    (uploads, networks' aliases, wait) keep their recorded values.
    """
    config, host_config = details["Config"], details["HostConfig"]
    network = details.get("NetworkSettings") or {}
    result = {name: value for name, value in recorded.items() if name != "__defaults"}
    is_id = str(recorded.get("image", "")).startswith("sha256:")
    swap = host_config.get("MemorySwap") or 0
    result |= {
        "name": details["Name"].lstrip("/"),
        "image": details["Image"] if is_id else config["Image"],
        "hostname": config.get("Hostname") or "",
        "domainname": config.get("Domainname") or "",
        "command": config.get("Cmd") or [],
        "entrypoints": config.get("Entrypoint") or [],
        "user": config.get("User") or "",
        "workingDir": config.get("WorkingDir") or "",
        "tty": bool(config.get("Tty")),
        "stdinOpen": bool(config.get("OpenStdin")),
        "stopSignal": config.get("StopSignal") or "",
        "stopTimeout": config.get("StopTimeout") or 0,
        "bridge": network.get("Bridge") or "",
        "networkDatas": [
            {
                "networkName": name,
                "ipAddress": one.get("IPAddress") or "",
                "ipPrefixLength": one.get("IPPrefixLen") or 0,
                "gateway": one.get("Gateway") or "",
                "globalIpv6Address": one.get("GlobalIPv6Address") or "",
                "globalIpv6PrefixLength": one.get("GlobalIPv6PrefixLen") or 0,
                "ipv6Gateway": one.get("IPv6Gateway") or "",
                "macAddress": one.get("MacAddress") or "",
            }
            for name, one in sorted((network.get("Networks") or {}).items())
        ],
        "rm": bool(host_config.get("AutoRemove")),
        "readOnly": bool(host_config.get("ReadonlyRootfs")),
        "privileged": bool(host_config.get("Privileged")),
        "publishAllPorts": bool(host_config.get("PublishAllPorts")),
        "restart": host_config["RestartPolicy"]["Name"] or "no",
        "maxRetryCount": host_config["RestartPolicy"].get("MaximumRetryCount") or 0,
        "init": bool(host_config.get("Init")),
        "runtime": host_config.get("Runtime") or "",
        "tmpfs": host_config.get("Tmpfs") or {},
        "sysctls": host_config.get("Sysctls") or {},
        "ipcMode": host_config.get("IpcMode") or "",
        "usernsMode": host_config.get("UsernsMode") or "",
        "securityOpts": host_config.get("SecurityOpt") or [],
        "dns": host_config.get("Dns") or [],
        "dnsOpts": host_config.get("DnsOptions") or [],
        "dnsSearches": host_config.get("DnsSearch") or [],
        "groupAdds": host_config.get("GroupAdd") or [],
        "logDriver": (host_config.get("LogConfig") or {}).get("Type") or "",
        "networkMode": host_config.get("NetworkMode") or "bridge",
        "memory": (host_config.get("Memory") or 0) // MEBIBYTE,
        "memoryReservation": (host_config.get("MemoryReservation") or 0) // MEBIBYTE,
        "shmSize": (host_config.get("ShmSize") or 0) // MEBIBYTE,
        "cpuShares": host_config.get("CpuShares") or 0,
        "cpuSet": host_config.get("CpusetCpus") or "",
        "hosts": [
            dict(zip(("host", "ip"), entry.split(":", 1), strict=True))
            for entry in host_config.get("ExtraHosts") or []
        ],
    }
    # The daemon's default of swap is twice the memory.
    if recorded.get("memorySwap"):
        result["memorySwap"] = swap // MEBIBYTE if swap > 0 else swap
    if config.get("Healthcheck"):
        check = config["Healthcheck"]
        result["healthcheck"] = {
            "tests": check.get("Test") or [],
            "interval": duration(check.get("Interval") or 0),
            "timeout": duration(check.get("Timeout") or 0),
            "startPeriod": duration(check.get("StartPeriod") or 0),
            "startInterval": duration(check.get("StartInterval") or 0),
            "retries": check.get("Retries") or 0,
        }
    if recorded.get("ports"):
        result["ports"] = published(host_config.get("PortBindings") or {})
    if recorded.get("ulimits"):
        result["ulimits"] = [
            {"name": one["Name"], "soft": one["Soft"], "hard": one["Hard"]}
            for one in host_config.get("Ulimits") or []
        ]
    return result


def published(bindings: dict[str, list[dict[str, str]] | None]) -> list[Properties]:
    """Port bindings in the format of the state."""
    return [
        {
            "internal": int(key.partition("/")[0]),
            "external": int(binding["HostPort"] or 0),
            "ip": binding.get("HostIp") or _ANYWHERE,
            "protocol": key.partition("/")[2],
        }
        for key in sorted(bindings, key=lambda key: (int(key.partition("/")[0]), key))
        for binding in bindings[key] or []
    ]


def uploaded(upload: Properties) -> tuple[str, bytes, int]:
    """Path in the container, content and mode of a file to upload."""
    if upload.get("contentBase64") is not None:
        try:
            content = base64.b64decode(upload["contentBase64"], validate=True)
        except binascii.Error:
            raise DockerError(
                f"uploads: contentBase64 of {upload['file']!r} is not base64"
            ) from None
    else:
        content = (upload.get("content") or "").encode()
    if upload.get("permissions"):
        mode = int(upload["permissions"], 8)
    else:
        mode = 0o744 if upload.get("executable") else 0o644
    return upload["file"], content, mode
