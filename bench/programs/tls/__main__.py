"""Two servers, each reached over plain HTTP and through its TLS sidecar; a load generator."""

import pulumi
from pulumi_kubernetes.core.v1 import ConfigMap

from dds_patterns import (
    Application,
    ApplicationArgs,
    Authority,
    Certificate,
    Companion,
    Listener,
    Reach,
    TlsSidecar,
)
from stacks.parts import NGINX_WRITES, nginx_command, nginx_conf, page_conf
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

servers: dict[str, ApplicationArgs] = {
    "quick": {
        "image": images["nginx"],
        "command": nginx_command(FILE),
        "files": {FILE: page_conf("Answers at once with one KiB.", "x" * 1024)},
        "writable": [NGINX_WRITES],
    },
    "legacy": {"image": images["toolbox"], "command": ["python3", "-c", EVERYWHERE]},
}
RELAY = f"""\
keepalive_requests 100000;
proxy_http_version 1.1;
proxy_set_header Connection "";
upstream application {{
  server 127.0.0.1:{PLAIN_PORT};
  keepalive 32;
  keepalive_requests 100000;
}}
server {{
  listen {RELAY_PORT};
  location / {{
    proxy_pass http://application;
  }}
}}
"""
relay_config = ConfigMap(
    "relay", data={"nginx.conf": nginx_conf("Passes requests on.", RELAY)}, opts=options
)


def relay(name: str) -> Companion:
    """The sidecar without TLS: an nginx that proxies requests."""
    return Companion(
        name=name,
        containers=(
            {
                "name": name,
                "image": images["nginx"],
                "command": nginx_command("/etc/nginx-relay/nginx.conf"),
                "startup_probe": {
                    "tcp_socket": {"port": RELAY_PORT},
                    "period_seconds": 1,
                    "failure_threshold": 60,
                },
                "volume_mounts": [
                    {"name": "relay", "mount_path": "/etc/nginx-relay", "read_only": True},
                    {"name": "relay-tmp", "mount_path": NGINX_WRITES},
                ],
            },
        ),
        listeners=(Listener(RELAY_PORT, "relay"),),
        volumes=(
            {"name": "relay", "config_map": {"name": relay_config.metadata["name"]}},
            {"name": "relay-tmp", "empty_dir": {"size_limit": "16Mi"}},
        ),
    )


authority = Authority("authority", {}, options)
ways: dict[str, dict[str, Reach]] = {}
for name, server in servers.items():
    certificate = Certificate(name, {"authority": authority.issuer, "dns_names": [name]}, options)
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
