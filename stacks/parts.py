"""Parts that several compositions have."""

from collections.abc import Mapping

import pulumi

from components.single_node.splitter_settings import ArmArgs
from components.values import nginx
from components.values.edges import Edge
from components.workloads.application import Application, ApplicationArgs

_FILE = "/etc/nginx-page/nginx.conf"
_PORT = 8080


def page(
    name: str,
    image: pulumi.Input[str],
    opts: pulumi.ResourceOptions,
    *,
    clients: tuple[Mapping[str, str], ...] = ({},),
    replicas: int = 1,
    drain_seconds: int = 5,
    namespace: pulumi.Input[str] | None = None,
) -> Application:
    """A web server that answers everything with its own name.

    :param image: nginx
    """
    answer = [
        nginx.directive("default_type", "text/plain"),
        nginx.directive("return", 200, name),
    ]
    http = [
        nginx.directive("keepalive_requests", 1_000_000),
        nginx.block(
            "server",
            inside=[
                nginx.directive("listen", _PORT),
                nginx.block("location", "/", inside=answer),
            ],
        ),
    ]
    args: ApplicationArgs = {
        "image": image,
        "command": nginx.command(_FILE),
        "files": {_FILE: nginx.text(nginx.document(f"Says {name}.", http=http))},
        "writable": [nginx.TEMPORARY],
        "ports": [{"name": "http", "port": _PORT}],
        "clients": list(clients),
        "replicas": replicas,
        "drain_seconds": drain_seconds,
        "readiness": {"path": "/"},
    }
    if namespace is not None:
        args["namespace"] = namespace
    return Application(name, args, opts)


def reached(application: Application) -> pulumi.Output[str]:
    """``host:port`` of an application that has a port."""
    if application.endpoint is None:
        raise RuntimeError("an application without a port cannot be reached")
    return application.endpoint


def arm(application: Application) -> ArmArgs:
    """A page as an arm of a splitter."""
    return {
        "endpoint": reached(application),
        "edge": Edge(ports=(_PORT,), pods=application.labels),
    }
