"""Sidecar: who is busy in the pod, at ``/topz`` (chapter 2).

The project's own small server shares the pod's process namespace, so it lists the application's
processes without the application knowing of it.
"""

import ipaddress
from collections.abc import Mapping, Sequence
from typing import Any, NotRequired, TypedDict

import pulumi
from pulumi_kubernetes.core.v1 import ContainerArgsDict, ResourceRequirementsArgsDict

from components.pods.companion import ANYWHERE, Companion, Listener
from components.values import checks
from components.values.edges import Edge
from components.values.errors import InputError

# A port below needs a capability.
_PORTS = (1024, 65535)
_PROGRAM = ("python3", "-m", "companions.topz")


class TopzArgs(TypedDict):
    """Arguments of Topz."""

    image: pulumi.Input[str]
    """The project's image ``companions``, with a tag or digest."""
    address: NotRequired[str]
    """IP address that it binds. Defaults to 0.0.0.0; a loopback address is for the pod only."""
    port: NotRequired[int]
    """Port that it binds. Defaults to 8079."""
    clients: NotRequired[Sequence[Mapping[str, str]]]
    """Labels of pods of the same namespace that may ask; an empty mapping is every pod. By default
    nobody's but the pod's own, and ``kubectl port-forward``."""
    resources: NotRequired[ResourceRequirementsArgsDict]
    """Requests and limits; what is left out keeps the default of every container."""


class Topz(pulumi.ComponentResource):
    """A list of the pod's processes with their CPU time, memory and command, as HTML and JSON.

    Registers nothing by itself. ``companion`` adds the server to any workload and lets the
    containers of its pod see each other's processes; command lines are among what it shows, which
    never hold a secret here.
    """

    companion: Companion
    """What a workload takes in ``companions``."""
    port: int
    """Port of /topz and /topz.json."""

    def __init__(
        self, name: str, args: TopzArgs, opts: pulumi.ResourceOptions | None = None
    ) -> None:
        """Make the companion.

        :param name: a DNS label; names the container
        :raises InputError: an argument that cannot be right, before anything is registered
        """
        where = f'Topz "{name}"'
        listener = _checked(where, name, args)
        super().__init__("dds:index:Topz", name, {"image": args["image"]}, opts)
        self.port = listener.port
        container: ContainerArgsDict = {
            "name": name,
            "image": args["image"],
            "command": command(listener.address, listener.port),
            "startup_probe": _probe(listener, 1, 60),
            # There is no readiness probe: an application serves, whether or not it is looked at.
            "liveness_probe": _probe(listener, 20, 6),
        }
        if "resources" in args:
            container["resources"] = args["resources"]
        self.companion = Companion(
            name=name,
            containers=(container,),
            listeners=(listener,),
            ingress=tuple(
                Edge(ports=(listener.port,), pods=dict(client))
                for client in args.get("clients", ())
            ),
            share_process_namespace=True,
        )
        self.register_outputs({"port": self.port})


def command(address: str, port: int) -> list[str]:
    """The server's command in the image ``companions``."""
    return [*_PROGRAM, address, str(port)]


def _checked(where: str, name: str, args: TopzArgs) -> Listener:
    checks.known_arguments(where, TopzArgs, args)
    checks.dns_label(where, "name", name)
    checks.image_reference(where, "image", args["image"])
    port: int = args.get("port", 8079)
    checks.integer(where, "port", port, minimum=_PORTS[0], maximum=_PORTS[1])
    address: Any = args.get("address", ANYWHERE)
    try:
        ipaddress.ip_address(address)
    except ValueError:
        raise InputError(
            where, "address", address, "must be an IP address such as 127.0.0.1"
        ) from None
    listener = Listener(port, "topz", address)
    if listener.local and args.get("clients"):
        raise InputError(
            where, "clients", list(args["clients"]), f"cannot reach {address}: it is the pod's own"
        )
    return listener


def _probe(listener: Listener, period: int, failures: int) -> Any:
    timing = {"period_seconds": period, "timeout_seconds": 5, "failure_threshold": failures}
    if not listener.local:
        return {"http_get": {"path": "/healthz", "port": listener.port}, **timing}
    # The kubelet connects from outside the pod.
    host = f"[{listener.address}]" if ":" in listener.address else listener.address
    ask = (
        f"import urllib.request as r; r.urlopen('http://{host}:{listener.port}/healthz', timeout=4)"
    )
    return {"exec_": {"command": ["python3", "-c", ask]}, **timing}
