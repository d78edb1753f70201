"""Startup, readiness and liveness: three different probes.

The startup probe delays the other two until the program has started. A failed readiness probe soon
removes a pod from its Service. A failed liveness probe restarts the container, so it checks less and
tolerates failures for longer.
"""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, NotRequired, TypedDict, cast

from pulumi_kubernetes.core.v1 import ProbeArgsDict

from dds_patterns.arguments import DefaultsTo, Later, between
from dds_patterns.arguments.addresses import HttpPath
from dds_patterns.arguments.containers import Command
from dds_patterns.arguments.names import PortName
from dds_patterns.arguments.place import Place
from dds_patterns.pods.companion import Listener


class ProbeArgs(TypedDict):
    """One probe: an HTTP path, a command, or (with neither) a TCP connection."""

    path: NotRequired[Later[HttpPath]]
    """HTTP path that must answer with a status from 200 to 399."""
    command: NotRequired[Command]
    """Command in the container that must exit with 0."""
    port: NotRequired[Annotated[PortName, DefaultsTo("the first that is not on loopback")]]
    """Name of the port to probe by HTTP or TCP."""
    period_seconds: NotRequired[
        Annotated[int, between(1, 3600), DefaultsTo("startup 1, readiness 5, liveness 10")]
    ]
    """Seconds between two probes."""
    timeout_seconds: NotRequired[
        Annotated[int, between(1, 3600), DefaultsTo("startup 5, readiness 3, liveness 5")]
    ]
    """Timeout of a probe in seconds."""
    failure_threshold: NotRequired[
        Annotated[int, between(1, 10_000), DefaultsTo("startup 120, readiness 2, liveness 6")]
    ]
    """Failures in a row after which the probe counts as failed."""


_DEFAULTS: dict[str, dict[str, int]] = {
    "startup": {"period_seconds": 1, "timeout_seconds": 5, "failure_threshold": 120},
    "readiness": {"period_seconds": 5, "timeout_seconds": 3, "failure_threshold": 2},
    "liveness": {"period_seconds": 10, "timeout_seconds": 5, "failure_threshold": 6},
}


def probes(
    where: str,
    listeners: Sequence[Listener],
    *,
    startup: ProbeArgs | None = None,
    readiness: ProbeArgs | None = None,
    liveness: ProbeArgs | None = None,
) -> dict[str, ProbeArgsDict]:
    """The probes of a container, as its ``startup_probe``, ``readiness_probe``, ``liveness_probe``.

    Without ``readiness`` a container with ports is ready when the first one accepts a connection.
    Without ``startup`` the readiness probe runs with a shorter period. Without ``liveness`` the port
    must accept a connection, unless that is already the readiness probe: the same probe for both
    would restart a container that is only busy.
    """
    reachable = [listener for listener in listeners if not listener.local]
    given = {"startup": startup, "readiness": readiness, "liveness": liveness}
    for kind, probe in given.items():
        if probe is not None:
            _validate(Place(where, kind), probe, listeners)

    if readiness is None and reachable:
        readiness = {}
    if startup is None and readiness is not None:
        startup = _question(readiness)
    if liveness is None and readiness is not None and reachable and not _is_tcp(readiness):
        liveness = {"port": reachable[0].name}
        if "port" in readiness:
            liveness["port"] = readiness["port"]

    if readiness is not None and liveness is not None:
        _differ(where, readiness, liveness, reachable)
    return {
        f"{kind}_probe": as_probe(kind, probe, listeners)
        for kind, probe in (("startup", startup), ("readiness", readiness), ("liveness", liveness))
        if probe is not None
    }


def _validate(place: Place, probe: ProbeArgs, listeners: Sequence[Listener]) -> None:
    if "path" in probe and "command" in probe:
        place.refuse(dict(probe), "must have path or command, not both")
    if "command" in probe:
        return
    reachable = [listener.name for listener in listeners if not listener.local]
    if not reachable:
        place.refuse(
            dict(probe),
            "needs a port that is not on loopback, or a command: the kubelet connects from outside "
            "the pod",
        )
    if "port" in probe and probe["port"] not in reachable:
        place.key("port").refuse(probe["port"], f"must be one of {', '.join(reachable)}")


def _differ(
    where: str, readiness: ProbeArgs, liveness: ProbeArgs, reachable: Sequence[Listener]
) -> None:
    place = Place(where, "liveness")
    if _handler(readiness, reachable) == _handler(liveness, reachable):
        place.refuse(
            dict(liveness),
            "must not be the probe of readiness: a busy container would be restarted",
        )
    least, given = _patience("readiness", readiness), _patience("liveness", liveness)
    if given <= least:
        place.refuse(
            f"{given} s",
            "must tolerate failures for longer (period_seconds x failure_threshold) than readiness, "
            f"which fails after {least} s",
        )


def _question(probe: ProbeArgs) -> ProbeArgs:
    """The same probe without its timing."""
    asked = {key: value for key, value in probe.items() if key in ("path", "command", "port")}
    return cast(ProbeArgs, asked)


def _is_tcp(probe: ProbeArgs) -> bool:
    return "path" not in probe and "command" not in probe


def _times(kind: str, probe: Mapping[str, Any]) -> dict[str, int]:
    return {key: probe.get(key, default) for key, default in _DEFAULTS[kind].items()}


def _patience(kind: str, probe: ProbeArgs) -> int:
    times = _times(kind, probe)
    return times["period_seconds"] * times["failure_threshold"]


def _handler(probe: ProbeArgs, reachable: Sequence[Listener]) -> ProbeArgsDict:
    if "command" in probe:
        return {"exec_": {"command": list(probe["command"])}}
    # By number, since a companion's container need not name its port.
    port = next(p.port for p in reachable if p.name == probe.get("port", reachable[0].name))
    if "path" in probe:
        return {"http_get": {"path": probe["path"], "port": port}}
    return {"tcp_socket": {"port": port}}


def as_probe(kind: str, probe: ProbeArgs, listeners: Sequence[Listener]) -> ProbeArgsDict:
    """The probe as Kubernetes has it.

    :param kind: ``startup``, ``readiness`` or ``liveness``, for the defaults
    :param listeners: of its container
    """
    handler = _handler(probe, [listener for listener in listeners if not listener.local])
    return cast(ProbeArgsDict, {**handler, **_times(kind, probe)})
