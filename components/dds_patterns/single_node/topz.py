"""Sidecar: CPU and memory of the pod's processes, at ``/topz`` (chapter 2).

The project's own small server shares the pod's process namespace, so it lists the application's
processes without a change to the application.
"""

from typing import Annotated, NotRequired

import pulumi

from dds_patterns.arguments import Default, Later, resolved
from dds_patterns.arguments.addresses import IpAddress, UnprivilegedPort, is_loopback
from dds_patterns.arguments.images import Image
from dds_patterns.arguments.names import check_name
from dds_patterns.pods.companion import ANYWHERE, Companion, check_clients
from dds_patterns.pods.images import image_of
from dds_patterns.pods.probes import ProbeArgs
from dds_patterns.values.peers import Clients
from dds_patterns.workloads.program import Program, ProgramArgs

_PROGRAM = ("python3", "-m", "companions.topz")


class TopzArgs(ProgramArgs):
    """Arguments of Topz."""

    image: NotRequired[Annotated[Later[Image], image_of("companions")]]
    """The project's image ``companions``."""
    address: NotRequired[Annotated[IpAddress, Default(ANYWHERE)]]
    """IP address that it binds; a loopback address is for the pod only."""
    port: NotRequired[Annotated[UnprivilegedPort, Default(8079)]]
    """Port that it binds."""
    clients: NotRequired[Clients]
    """Peers that may connect; ``{}`` is every pod of the namespace. Without any, only the pod's own
    containers and ``kubectl port-forward`` may."""


class Topz(pulumi.ComponentResource):
    """A list of the pod's processes with their CPU time, memory and command, as HTML and JSON.

    Registers nothing by itself. ``companion`` adds the server to any workload and lets the
    containers of its pod see each other's processes; it shows command lines, which never contain a
    secret here.
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
        :raises InputError: an invalid argument, before anything is registered
        """
        where = f'Topz "{name}"'
        args = _checked(where, name, args)
        super().__init__("dds:index:Topz", name, {"image": args["image"]}, opts)
        self.port = args["port"]
        self.companion = Program(
            where,
            name,
            application="topz",
            part="sidecar",
            image=args["image"],
            hosting=args["hosting"],
            command=self.command(args["address"], args["port"]),
            ports=[
                {
                    "name": "topz",
                    "port": args["port"],
                    "address": args["address"],
                    "clients": args["clients"],
                }
            ],
            # No readiness probe: a failing topz must not make the pod unready.
            liveness=_liveness(args["address"], args["port"]),
            share_process_namespace=True,
        ).companion(pulumi.ResourceOptions(parent=self))
        self.register_outputs({"port": self.port})

    @staticmethod
    def command(address: str, port: int) -> list[str]:
        """The server's command in the image ``companions``, for a container of your own.

        :param address: IP address that it binds
        """
        return [*_PROGRAM, address, str(port)]


def _checked(where: str, name: str, args: TopzArgs) -> TopzArgs:
    check_name(where, name)
    args = resolved(where, TopzArgs, args)
    check_clients(where, "clients", args["address"], args["clients"])
    return args


def _liveness(address: str, port: int) -> ProbeArgs:
    if not is_loopback(address):
        return {"path": "/healthz", "period_seconds": 20}
    # The kubelet connects from outside the pod.
    host = f"[{address}]" if ":" in address else address
    ask = f"import urllib.request as r; r.urlopen('http://{host}:{port}/healthz', timeout=4)"
    return {"command": ["python3", "-c", ask], "period_seconds": 20}
