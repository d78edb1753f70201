"""What a cluster's owner decides: where replicas are, who gets in from outside, what marks objects.

One of the nodes has a taint that ``away`` does not tolerate.
"""

import pulumi
from pulumi_kubernetes.scheduling.v1 import PriorityClass

from dds_patterns import (
    Application,
    ApplicationArgs,
    ExistingSecret,
    Hosting,
    StatefulApplication,
)
from tests.live.programs.common import in_namespace

config = pulumi.Config()
images = config.require_object("images")
options = in_namespace(config.require("namespace"))
taint = config.require("taint")
hosting: Hosting = {
    "labels": {"team": config.require("team")},
    "annotations": {"example.com/owner": config.require("team")},
}
tolerant = hosting | {"tolerations": [{"key": taint, "operator": "Exists"}]}


def sleeper(name: str, kept: Hosting, replicas: int) -> Application:
    """Pods that do nothing."""
    args: ApplicationArgs = {
        "image": images["toolbox"],
        "command": ["sleep", "infinity"],
        "replicas": replicas,
        "hosting": kept,
        "termination_grace_period_seconds": 1,
    }
    return Application(name, args, options)


vault = ExistingSecret(
    "vault", {"secret": config.require("secret"), "namespace": config.require("namespace")}, options
)
Application(
    "reader",
    {
        "image": images["toolbox"],
        "command": ["sleep", "infinity"],
        "secret_files": {"/etc/vault/word": vault.value("word")},
        "termination_grace_period_seconds": 1,
        "hosting": tolerant,
    },
    options,
)
important = PriorityClass("important", value=1000, opts=options)
sleeper("apart", tolerant | {"spread": {"nodes": "strict"}}, 2)
sleeper("preferred", tolerant, 3)
sleeper("zoned", tolerant | {"spread": {"nodes": "none", "zones": "even", "min_zones": 3}}, 2)
# The only zone that it tolerates has room for all: the other does not count as an empty one.
sleeper("away", hosting | {"spread": {"nodes": "none", "zones": "even"}}, 3)
sleeper(
    "there",
    tolerant
    | {
        "node_selector": {"kubernetes.io/hostname": config.require("tainted")},
        "priority_class": important.metadata["name"],
    },
    1,
)
StatefulApplication(
    "kept",
    {
        "image": images["toolbox"],
        "command": ["sleep", "infinity"],
        "storage_path": "/data",
        "hosting": tolerant | {"storage": {"size": "64Mi", "delete_with_workload": True}},
        "termination_grace_period_seconds": 1,
    },
    options,
)


def front(name: str, clients: list[str]) -> Application:
    """A server that is reached at a port of every node."""
    return Application(
        name,
        {
            "image": images["toolbox"],
            "command": ["python3", "-m", "http.server", "8080", "--directory", "/opt"],
            "ports": [{"name": "http", "port": 8080, "app_protocol": "http"}],
            "clients": [{"cidr": cidr} for cidr in clients],
            "drain_seconds": 0,
            "termination_grace_period_seconds": 1,
            "hosting": tolerant | {"service_type": "NodePort"},
        },
        options,
    )


opened, shut = front("opened", ["0.0.0.0/0"]), front("shut", [])
for made in (opened, shut):
    assert made.service is not None
    ports = made.service.spec.apply(lambda spec: (spec.ports or [])[0].node_port)
    pulumi.export(made.labels["app.kubernetes.io/name"], ports)
