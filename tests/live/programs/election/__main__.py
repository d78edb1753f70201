"""Elections side by side, on one etcd and on Leases, that count in a store that fences or does not.

Each entry of ``elections`` is one: ``name``, ``backend``, ``ttl`` (seconds), ``replicas``, ``gap``
(seconds from the question to the write) and ``fenced``. With ``singleton`` there are a Singleton and,
to compare, a Deployment of one replica beside them; with ``obstinate`` both go on after SIGTERM. With
``client`` there is a pod that may use etcd itself.
"""

from typing import Any

import pulumi

from dds_patterns import Application, Election, ElectionArgs, EtcdCluster, Hosting, Singleton
from stacks.election import fenced_store, ticker
from tests.live.programs.common import in_namespace
from tests.live.support.kube import InPod

# Many pods on a small machine: each asks for what it needs.
SMALL: Hosting = {"resources": {"requests": {"cpu": "5m", "memory": "32Mi"}}}

config = pulumi.Config()
images = config.require_object("images")
elections = config.require_object("elections")
options = in_namespace(config.require("namespace"))

cluster = EtcdCluster(
    "etcd",
    {
        "image": images["etcd"],
        "members": config.get_int("members") or 3,
        "users": {"elections": {"prefix": "/elections/"}},
        "hosting": {
            "resources": {
                "requests": {"cpu": "50m", "memory": "64Mi"},
                "limits": {"memory": "768Mi"},
            },
            "storage": {"delete_with_workload": True},
        },
    },
    options,
)
user = cluster.user("elections")
stores = {
    fenced: Singleton(
        "fenced" if fenced else "unfenced",
        fenced_store(images["toolbox"], SMALL, fenced=fenced),
        options,
    )
    for fenced in (True, False)
}
for wanted in elections:
    args: ElectionArgs = {
        "image": images["elector"],
        "backend": wanted["backend"],
        "ttl_seconds": int(wanted["ttl"]),
        "hosting": SMALL,
    }
    if wanted["backend"] == "etcd":
        args["store"] = user
    election = Election(f"elector-{wanted['name']}", args, options)
    candidates: Any = {
        **ticker(
            images["toolbox"],
            stores[wanted["fenced"]],
            {
                "COUNTER": wanted["name"],
                "ELECTOR": election.endpoint,
                "PERIOD_SECONDS": "0.05",
                "GAP_SECONDS": str(wanted["gap"]),
            },
        ),
        "replicas": int(wanted["replicas"]),
        "companions": [election.companion],
        "hosting": SMALL,
    }
    Application(wanted["name"], candidates, options)
if config.get_bool("singleton"):
    alone: Any = {
        **ticker(
            images["toolbox"],
            stores[False],
            {
                "ELECTOR": "",
                "PERIOD_SECONDS": "0.05",
                "OBSTINATE": str(bool(config.get_bool("obstinate"))).lower(),
            },
        ),
        "hosting": SMALL,
        "termination_grace_period_seconds": 2,
    }
    for name, component in (("single", Singleton), ("plain", Application)):
        environment = {**alone["env"], "COUNTER": name}
        args_alone: Any = {**alone, "application": name, "env": environment}
        component(name, args_alone, options)
if config.get_bool("client"):
    authority, credentials = user.authority, user.credentials
    if authority is None or credentials is None:
        raise RuntimeError("the user has nothing to log in with")
    Application(
        "client",
        {
            "image": images["elector"],
            "command": ["sleep", "infinity"],
            "files": {
                **InPod.files("bench.in_pod"),
                "/etc/client/ca/ca.crt": authority,
            },
            "secret_files": {"/etc/client/password/password": credentials.password},
            "reaches": [user],
            # The load generator must not be what is measured.
            "hosting": {"resources": {"limits": {"cpu": "4", "memory": "512Mi"}}},
            "termination_grace_period_seconds": 1,
        },
        options,
    )
    pulumi.export(
        "access",
        {
            "endpoints": [pulumi.Output.concat("https://", place) for place in user.endpoints],
            "ca_file": "/etc/client/ca/ca.crt",
            "username": credentials.username,
            "password_file": "/etc/client/password/password",
            "prefix": user.path,
        },
    )
pulumi.export("stores", {"fenced": "fenced-0", "unfenced": "unfenced-0"})
