"""Composition ``election``: one of three replicas counts, in a store that checks fencing tokens.

A singleton counts too: it needs no leader election, but has a longer downtime. A smoke test checks
from inside the cluster that exactly one replica leads, that the counter grows, and that the store
refuses an older token.
"""

import json
import pathlib
from collections.abc import Mapping
from typing import Any

import pulumi

from dds_patterns import (
    Application,
    Election,
    ElectionArgs,
    EtcdCluster,
    Hosting,
    Singleton,
    SingletonArgs,
    SmokeTest,
    StorageArgs,
)
from stacks.settings import Settings
from stacks.target import target

STORE_PORT = 8080

_CHECK = pathlib.Path(__file__).parent / "scripts" / "election_check.py"
_STORE = "/opt/examples/fenced_store.py"
_TICKER = "/opt/examples/ticker.py"
_USER = "elections"
_REPLICAS = 3
# From the query of the elector to the write (in any application that takes time), and from one write
# to the next query. A pause most likely begins in the former.
_GAP_SECONDS, _PERIOD_SECONDS = 0.4, 0.1
_WORKER_SECONDS = 10


def fenced_store(
    image: pulumi.Input[str], hosting: Hosting, *, fenced: bool = True
) -> SingletonArgs:
    """The store's arguments: one process with a volume, so itself a singleton."""
    storage: StorageArgs = {"size": "64Mi", "delete_with_workload": True}
    return {
        "image": image,
        "application": "fenced-store",
        "command": ["python3", _STORE],
        "env": {"FENCED": json.dumps(fenced)},
        "ports": [{"name": "http", "port": STORE_PORT}],
        "storage_path": "/data",
        "hosting": hosting | {"storage": storage},
        "readiness": {"path": "/readyz", "period_seconds": 2},
        "liveness": {"path": "/livez"},
        "termination_grace_period_seconds": 5,
    }


def ticker(
    image: pulumi.Input[str], store: Singleton, environment: Mapping[str, pulumi.Input[str]]
) -> Any:
    """The counting program: arguments for an Application with an elector, or for a Singleton."""
    return {
        "image": image,
        "application": "ticker",
        "command": ["python3", _TICKER],
        "env": {"STORE": store.reach.endpoint, **environment},
        "ports": [{"name": "http", "port": 8080}],
        "clients": [{}],
        "reaches": [store.reach],
        "readiness": {"path": "/readyz"},
        "liveness": {"path": "/livez"},
        # No client depends on its Service; at its termination it should hand over at once.
        "drain_seconds": 0,
        "termination_grace_period_seconds": 10,
    }


def deploy(settings: Settings) -> None:
    """Deploy the election, the store and the check; export outputs for the user."""
    etcd = ["etcd"] if settings.backend == "etcd" else []
    here = target(settings, [*etcd, "elector", "toolbox"])
    images = here.images
    election_args: ElectionArgs = {
        "backend": settings.backend,
        "ttl_seconds": settings.ttl_seconds,
        # The ticker queries its elector at least every two seconds, or every five if a write to its
        # store times out.
        "worker_seconds": _WORKER_SECONDS,
        # The ticker learns of changes without it too; with it the pod shares a process namespace, and
        # a user can pause and kill processes. This signal is ignored by default, so it cannot end a
        # process that has no handler yet.
        "on_change": {"signal": "WINCH", "process": "ticker.py"},
        "hosting": here.hosting,
    }
    if settings.backend == "etcd":
        cluster = EtcdCluster(
            "etcd",
            {
                "members": settings.members,
                "users": {_USER: {"prefix": "/elections/"}},
                "hosting": here.hosting | {"storage": {"delete_with_workload": True}},
            },
            here.opts,
        )
        election_args["store"] = cluster.user(_USER)
    election = Election("elector", election_args, here.opts)
    store = Singleton(
        "fenced-store",
        fenced_store(images.reference("toolbox"), here.hosting, fenced=settings.fenced),
        here.opts,
    )
    ticker_args: Any = {
        **ticker(
            images.reference("toolbox"),
            store,
            {
                "COUNTER": _counter(settings),
                "ELECTOR": election.endpoint,
                "GAP_SECONDS": str(_GAP_SECONDS),
                "PERIOD_SECONDS": str(_PERIOD_SECONDS),
            },
        ),
        "replicas": _REPLICAS,
        "companions": [election.companion],
        "hosting": here.hosting,
    }
    tickers = Application("ticker", ticker_args, here.opts)
    alone_args: Any = {
        **ticker(images.reference("toolbox"), store, {"COUNTER": "singleton", "ELECTOR": ""}),
        "hosting": here.hosting,
    }
    alone = Singleton("singleton", alone_args, here.opts)
    plan = {
        "ticker": tickers.endpoint,
        "replicas": _REPLICAS,
        "store": store.reach.endpoint,
        "counter": _counter(settings),
        "fenced": settings.fenced,
        "ttl_seconds": settings.ttl_seconds,
    }
    SmokeTest(
        "election-check",
        {
            "image": images.reference("toolbox"),
            "script": _CHECK.read_text(),
            "env": {"PLAN": pulumi.Output.json_dumps(plan)},
            "reaches": [store.reach, tickers.reach],
            "timeout_seconds": 120 + 4 * settings.ttl_seconds,
            "covers": [
                tickers.deployment.spec,
                store.application.stateful_set.spec,
                alone.application.stateful_set.spec,
            ],
            "hosting": here.hosting,
        },
        here.opts,
    )
    _export(settings, tickers)


def _counter(settings: Settings) -> str:
    # The tokens of two backends cannot be compared: those of a Lease would all be older.
    return f"ticks-{settings.backend}"


def _export(settings: Settings, tickers: Application) -> None:
    kubectl = f"kubectl -n {settings.composition}"
    deployment = tickers.deployment.metadata["name"]
    pulumi.export("backend", settings.backend)
    pulumi.export("ttl_seconds", settings.ttl_seconds)
    pulumi.export("fenced", settings.fenced)
    pulumi.export("endpoint", tickers.endpoint)
    leader = pulumi.Output.concat(
        f"{kubectl} exec deploy/", deployment, f" -c ticker -- python3 {_TICKER} leader"
    )
    in_leader = pulumi.Output.concat(
        f"{kubectl} exec $(", leader, f") -c ticker -- python3 {_TICKER}"
    )
    pulumi.export(
        "try",
        {
            "the leader": leader,
            "the counter": _asked(kubectl, f"/counters/{_counter(settings)}"),
            "hand over": pulumi.Output.concat(f"{kubectl} delete pod $(", leader, ")"),
            "kill the leader": pulumi.Output.concat(in_leader, " crash"),
            "pause the leader beyond its time": pulumi.Output.concat(
                in_leader, f" pause {2 * settings.ttl_seconds}"
            ),
            "refused writes": _asked(kubectl, "/log?accepted=false"),
            "what became of the last writes": _asked(kubectl, "/log?after=-20"),
            "the singleton, and how long it is away": f"{kubectl} delete pod singleton-0",
        },
    )


def _asked(kubectl: str, path: str) -> str:
    return (
        f"{kubectl} exec fenced-store-0 -- python3 -c 'import urllib.request as r; "
        f'print(r.urlopen("http://127.0.0.1:{STORE_PORT}{path}").read().decode())\''
    )
