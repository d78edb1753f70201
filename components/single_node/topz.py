"""Sidecar: who is busy in the pod, at ``/topz`` (chapter 2).

The project's own small server shares the pod's process namespace, so it lists the application's
processes without the application knowing of it.
"""

from typing import Annotated, Any, NotRequired, TypedDict

import pulumi
from pulumi_kubernetes.core.v1 import ContainerArgsDict

from components.arguments import Default, Later, resolved
from components.arguments.addresses import IpAddress, UnprivilegedPort
from components.arguments.images import Image
from components.arguments.names import check_name
from components.pods.companion import ANYWHERE, Companion, Listener, check_clients
from components.pods.hosting import CompanionHosting
from components.values.peers import Clients

_PROGRAM = ("python3", "-m", "companions.topz")


class TopzArgs(TypedDict):
    """Arguments of Topz."""

    image: Later[Image]
    """The project's image ``companions``."""
    address: NotRequired[Annotated[IpAddress, Default(ANYWHERE)]]
    """IP address that it binds; a loopback address is for the pod only."""
    port: NotRequired[Annotated[UnprivilegedPort, Default(8079)]]
    """Port that it binds."""
    clients: NotRequired[Clients]
    """Who may ask; ``{}`` is every pod of the namespace. Without any only the pod's own containers
    may, and ``kubectl port-forward``."""
    hosting: NotRequired[Annotated[CompanionHosting, Default({})]]
    """Namespace, labels and resources."""


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
        args, listener = _checked(f'Topz "{name}"', name, args)
        super().__init__("dds:index:Topz", name, {"image": args["image"]}, opts)
        self.port = listener.port
        container: ContainerArgsDict = {
            "name": name,
            "image": args["image"],
            "command": command(listener.address, listener.port),
            "startup_probe": _probe(listener, 1, 60),
            # There is no readiness probe: an application serves, whether or not it is looked at.
            "liveness_probe": _probe(listener, 20, 6),
            "resources": args["hosting"]["resources"],
        }
        self.companion = Companion(
            name=name,
            containers=(container,),
            listeners=(listener,),
            share_process_namespace=True,
        )
        self.register_outputs({"port": self.port})


def command(address: str, port: int) -> list[str]:
    """The server's command in the image ``companions``."""
    return [*_PROGRAM, address, str(port)]


def _checked(where: str, name: str, args: TopzArgs) -> tuple[TopzArgs, Listener]:
    check_name(where, name)
    args = resolved(where, TopzArgs, args)
    check_clients(where, "clients", args["address"], args["clients"])
    return args, Listener(args["port"], "topz", args["address"], clients=tuple(args["clients"]))


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
