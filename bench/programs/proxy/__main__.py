"""One Redis, and a client of it: direct, through a TCP relay, and through the ambassador."""

import pulumi
from pulumi_kubernetes.core.v1 import ConfigMap

from dds_patterns import Application, Companion, Listener, ShardedRedis, TwemproxyAmbassador
from tests.live.programs.common import in_namespace
from tests.live.support.kube import InPod

RELAY_PORT = 6380
FOLDER = "/etc/haproxy"

config = pulumi.Config()
images = config.require_object("images")
options = in_namespace(config.require("namespace"))

store = ShardedRedis("store", {"image": images["redis"], "shards": 1, "auth": False}, options)
ambassador = TwemproxyAmbassador(
    "proxy",
    {"image": images["twemproxy"], "store": store.reach, "role": "cache"},
    options,
)
relay_config = ConfigMap(
    "relay",
    data={
        "haproxy.cfg": pulumi.Output.concat(
            f"""\
global
  # As many threads as twemproxy has.
  nbthread 1
  maxconn 1000
defaults
  mode tcp
  timeout connect 5s
  timeout client 1h
  timeout server 1h
listen redis
  bind 127.0.0.1:{RELAY_PORT}
  server shard """,
            store.reach.endpoint,
            "\n",
        )
    },
    opts=options,
)
relay = Companion(
    name="relay",
    containers=(
        {
            "name": "relay",
            "image": images["haproxy"],
            "startup_probe": {
                "exec_": {"command": ["bash", "-c", f"</dev/tcp/127.0.0.1/{RELAY_PORT}"]},
                "period_seconds": 1,
                "failure_threshold": 60,
            },
            "volume_mounts": [{"name": "relay", "mount_path": FOLDER, "read_only": True}],
        },
    ),
    listeners=(Listener(RELAY_PORT, "relay", "127.0.0.1"),),
    volumes=({"name": "relay", "config_map": {"name": relay_config.metadata["name"]}},),
    reaches=(store.reach,),
)
Application(
    "client",
    {
        "image": images["toolbox"],
        "command": ["sleep", "infinity"],
        "files": InPod.files("bench.in_pod"),
        "companions": [ambassador.companion, relay],
        # The load generator must not be what is measured.
        "hosting": {"resources": {"limits": {"cpu": "4", "memory": "512Mi"}}},
        "termination_grace_period_seconds": 1,
    },
    options,
)
pulumi.export(
    "ways",
    {
        "direct": {
            "host": store.reach.endpoint.apply(lambda known: known.rpartition(":")[0]),
            "port": store.reach.ports[0],
        },
        "relay": {"host": "127.0.0.1", "port": RELAY_PORT},
        "ambassador": {"host": "127.0.0.1", "port": 6379},
    },
)
