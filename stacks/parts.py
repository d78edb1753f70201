"""Parts that several compositions share."""

import pulumi

from dds_patterns import Application, ApplicationArgs, Hosting
from dds_patterns.values import nginx

_FILE = "/etc/nginx-page/nginx.conf"
_PORT = 8080


def page(
    name: str,
    image: pulumi.Input[str],
    opts: pulumi.ResourceOptions,
    *,
    replicas: int = 1,
    drain_seconds: int = 5,
    hosting: Hosting | None = None,
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
        nginx.block("server", nginx.directive("listen", _PORT), nginx.block("location /", *answer)),
    ]
    args: ApplicationArgs = {
        "image": image,
        "command": nginx.command(_FILE),
        "files": {_FILE: nginx.text(nginx.document(f"Says {name}.", http=http))},
        "writable": [nginx.TEMPORARY],
        "ports": [{"name": "http", "port": _PORT, "app_protocol": "http"}],
        "replicas": replicas,
        "drain_seconds": drain_seconds,
        "readiness": {"path": "/"},
        "hosting": hosting or {},
    }
    return Application(name, args, opts)
