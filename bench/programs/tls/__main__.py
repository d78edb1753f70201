"""Two servers, each reached over plain HTTP and through its TLS sidecar; a load generator."""

import pulumi

from dds_patterns import (
    Application,
    ApplicationArgs,
    Authority,
    Certificate,
    Companion,
    CompanionHosting,
    Reach,
    TlsSidecar,
)
from dds_patterns.arguments import resolved
from dds_patterns.values import nginx
from dds_patterns.workloads.program import TEMPORARY, Program
from tests.live.programs.common import in_namespace

PLAIN_PORT = 8080
RELAY_PORT = 8081
FILE = "/etc/nginx-page/nginx.conf"
# The composition's server, but listening on all addresses.
EVERYWHERE = (
    "import sys; sys.path.insert(0, '/opt/examples'); "
    "import legacy; legacy.LOOPBACK = ''; legacy.main()"
)

config = pulumi.Config()
images = config.require_object("images")
options = in_namespace(config.require("namespace"))

page = nginx.document(
    "Responds at once with 1 KiB.",
    http=[
        nginx.directive("keepalive_requests", 1_000_000),
        nginx.block(
            "server",
            nginx.directive("listen", PLAIN_PORT),
            nginx.block(
                "location /",
                nginx.directive("default_type", "text/plain"),
                nginx.directive("return", 200, "x" * 1024),
            ),
        ),
    ],
)
servers: dict[str, ApplicationArgs] = {
    "quick": {
        "image": images["nginx"],
        "command": nginx.command(FILE),
        "files": {FILE: nginx.text(page)},
        "writable": [nginx.TEMPORARY],
    },
    "legacy": {"image": images["toolbox"], "command": ["python3", "-c", EVERYWHERE]},
}


def relay(name: str) -> Companion:
    """The sidecar without TLS: an nginx that proxies requests."""
    file = "/etc/nginx-relay/nginx.conf"
    server = nginx.block(
        "server",
        nginx.directive("listen", RELAY_PORT),
        nginx.block("location /", nginx.directive("proxy_pass", "http://application")),
    )
    upstream = nginx.block(
        "upstream application",
        nginx.directive("server", f"127.0.0.1:{PLAIN_PORT}"),
        nginx.directive("keepalive", 32),
        nginx.directive("keepalive_requests", 100_000),
    )
    http = [
        nginx.directive("keepalive_requests", 100_000),
        nginx.directive("proxy_http_version", "1.1"),
        nginx.directive("proxy_set_header", "Connection", ""),
        upstream,
        server,
    ]
    return Program(
        name,
        name,
        application="nginx",
        part="sidecar",
        image=images["nginx"],
        hosting=resolved(name, CompanionHosting, {}),
        command=nginx.command(file),
        files={file: nginx.text(nginx.document("Proxies requests.", http=http))},
        writable=TEMPORARY,
        ports=[{"name": "relay", "port": RELAY_PORT}],
        readiness={},
        liveness={"command": ["true"]},
    ).companion(options)


authority = Authority("authority", {}, options)
ways: dict[str, dict[str, Reach]] = {}
for name, server in servers.items():
    certificate = Certificate(name, {"authority": authority, "dns_names": [name]}, options)
    tls = TlsSidecar(
        f"{name}-tls",
        {
            "image": images["nginx"],
            "application_port": PLAIN_PORT,
            "certificate": certificate.certificate,
            "key": certificate.key,
        },
        options,
    )
    application = Application(
        name,
        {
            **server,
            "ports": [{"name": "http", "port": PLAIN_PORT}],
            "expose": ["http", "https", "relay"],
            "companions": [tls.companion, relay(f"{name}-relay")],
        },
        options,
    )
    ways[name] = {
        "plain": application.reach,
        "relay": application.port("relay"),
        "tls": application.port("https"),
    }
Application(
    "client",
    {
        "image": images["wrk"],
        "command": ["sleep", "infinity"],
        "reaches": [reach for reaches in ways.values() for reach in reaches.values()],
        # The load generator must not be what is measured.
        "hosting": {"resources": {"limits": {"cpu": "4", "memory": "256Mi"}}},
        "termination_grace_period_seconds": 1,
    },
    options,
)
pulumi.export(
    "ways",
    {
        name: {
            way: pulumi.Output.concat(
                "https" if way == "tls" else "http", "://", reach.endpoint, "/"
            )
            for way, reach in reaches.items()
        }
        for name, reaches in ways.items()
    },
)
