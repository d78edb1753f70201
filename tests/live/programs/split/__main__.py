"""Two arms, a front with a splitter whose percentage changes, and pods with the other variants."""

import dataclasses

import pulumi

from dds_patterns import (
    Application,
    Companion,
    Hosting,
    PeerArgs,
    Reach,
    RequestSplitter,
    RequestSplitterArgs,
    ServiceBroker,
    ServiceBrokerArgs,
    Topz,
)
from stacks import companions
from stacks.parts import page
from tests.live.programs.common import DRAIN_SECONDS, in_namespace
from tests.live.support.kube import InPod

VISITOR: PeerArgs = {"pods": {"app.kubernetes.io/instance": "visitor"}}

config = pulumi.Config()
images = config.require_object("images")
options = in_namespace(config.require("namespace"))

control = page("control", images["nginx"], options, drain_seconds=DRAIN_SECONDS)
experiment = page("experiment", images["nginx"], options, drain_seconds=DRAIN_SECONDS)
# There is no Service of this name until a test makes one.
later = dataclasses.replace(experiment.reach, endpoints=("later:8080",))


def splitter(number: int, name: str, args: RequestSplitterArgs) -> Companion:
    """One of several in a pod."""
    ports: RequestSplitterArgs = {
        "listen_port": 8080 + 10 * number,
        "status_port": 8081 + 10 * number,
        **args,
    }
    if args.get("policy") != "seed":
        ports["metrics_port"] = 9114 + number
        ports["line_port"] = 5140 + number
    return RequestSplitter(name, ports, options).companion


def given(**more: object) -> RequestSplitterArgs:
    """What all have."""
    args: RequestSplitterArgs = {
        "image": images["nginx"],
        "metrics_image": images["companions"],
        "control": control.reach,
        "experiment": experiment.reach,
    }
    args.update(more)  # type: ignore[typeddict-item]
    return args


def client(name: str, beside: list[Companion]) -> None:
    """A pod in which tests run their client."""
    Application(
        name,
        {
            "image": images["toolbox"],
            "command": ["sleep", "infinity"],
            "files": InPod.files(),
            "companions": beside,
            "termination_grace_period_seconds": 1,
            "drain_seconds": 0,
        },
        options,
    )


front = Application(
    "front",
    {
        "image": images["toolbox"],
        "command": ["python3", "/opt/examples/front.py"],
        "files": InPod.files(),
        "ports": [{"name": "http", "port": 8000}],
        "readiness": {"path": "/readyz"},
        "liveness": {"path": "/livez"},
        "companions": [
            splitter(
                0,
                "split",
                given(percent=config.require_int("percent"), metrics_clients=[VISITOR]),
            )
        ],
        "drain_seconds": DRAIN_SECONDS,
    },
    options,
)
client(
    "options",
    [
        splitter(0, "off", given(percent=0)),
        splitter(1, "full", given(percent=100)),
        splitter(2, "cookie", given(sticky={"by": "cookie", "without": "random"}, percent=50)),
        splitter(3, "address", given(sticky={"by": "address"}, percent=50)),
    ],
)
client(
    "others",
    [
        splitter(0, "absent", given(experiment=later, percent=50)),
        splitter(1, "seed", given(policy="seed")),
    ],
)

# The same application, with its database in the cluster and outside of it.
DATABASE_PORT = 6379

database = Application(
    "database",
    {
        "image": images["redis"],
        "command": ["redis-server", "--save", "", "--protected-mode", "no"],
        "writable": ["/data"],
        "ports": [{"name": "redis", "port": DATABASE_PORT, "app_protocol": "redis"}],
        "drain_seconds": 0,
    },
    options,
)
# There is no Service of this name until a test makes one.
not_yet = dataclasses.replace(database.reach, endpoints=("not-yet:6379",))
address = config.require("outside")
outside = Reach.outside(
    f"{address}:{DATABASE_PORT}", cidrs=[f"{address}/32"], authority=config.require("authority")
)


def broker(name: str, backend: Reach, number: int = 0, server_name: str = "") -> Companion:
    """One of several in a pod, over TLS with a name."""
    args: ServiceBrokerArgs = {
        "image": images["haproxy"],
        "backend": backend,
        "listen_port": DATABASE_PORT + number,
        "status_port": 8405 + number,
        "metrics_clients": [VISITOR],
        "check": "redis",
        # A busy machine is no reason to open it.
        "breaker": {"probe_ms": 1000, "probe_timeout_ms": 2000},
    }
    if server_name:
        args["tls"] = {"server_name": server_name}
    return ServiceBroker(name, args, options).companion


def counter(name: str, beside: list[Companion]) -> Application:
    """The application, which is told nothing of its database."""
    return Application(
        name,
        {
            "image": images["toolbox"],
            "application": "counter",
            "command": ["python3", "/opt/examples/counter.py"],
            "files": InPod.files(),
            "ports": [{"name": "http", "port": 8080}],
            "readiness": {"path": "/readyz"},
            "liveness": {"path": "/livez"},
            "companions": beside,
            "drain_seconds": DRAIN_SECONDS,
        },
        options,
    )


topz = Topz("top", {"image": images["companions"], "clients": [{}]}, options)
local_topz = Topz(
    "own-topz", {"image": images["companions"], "address": "127.0.0.1", "port": 8078}, options
)
counters = [
    counter(
        "inside", [broker("broker", database.reach), broker("early", not_yet, 1), topz.companion]
    ),
    counter(
        "outside",
        [
            broker("broker-out", outside, 0, "database.example"),
            broker("mistrust", outside, 1, "elsewhere.example"),
            local_topz.companion,
        ],
    ),
]
# Its own policy lets it out to every pod, also where nobody is let in.
everywhere = Reach("pods", ("front:8000",), pods={}, ports=(8000, 8079, 8080, 8405, 8406, 9114))
Application(
    "visitor",
    {
        "image": images["toolbox"],
        "command": ["sleep", "infinity"],
        "files": InPod.files(),
        "reaches": [front.reach, *(each.reach for each in counters), everywhere],
        "termination_grace_period_seconds": 1,
    },
    options,
)

# Four companions of different patterns on one pod, and at a test's word a fifth on a taken port.
hosting: Hosting = {"namespace": config.require("namespace"), "images": images}
fifth: list[Companion] = []
if config.get_bool("fifth"):
    fifth.append(splitter(9, "fifth", given(listen_port=companions.HTTPS_PORT)))
made = companions.make(hosting, options, more=fifth)
companions.check(made, hosting, options)
