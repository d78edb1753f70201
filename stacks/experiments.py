"""Composition ``experiments``: a front whose users take part in an experiment, and a counter whose
database is in the cluster or outside of it.

Both know localhost only. Which users see the experiment is the splitter's business, and where the
database is the broker's: with ``dds:database`` the same application has another one.
"""

import contextlib
import dataclasses
import ipaddress
import json
import pathlib
from collections.abc import Mapping

import pulumi

from components.platform.smoke import SmokeTest
from components.single_node.request_splitter import RequestSplitter, RequestSplitterArgs
from components.single_node.service_broker import BackendArgs, BrokerTlsArgs, ServiceBroker
from components.values.edges import Edge
from components.values.endpoint import Endpoint
from components.arguments.errors import InputError
from components.workloads.application import Application
from stacks import tries
from stacks.parts import arm, page, reached
from stacks.settings import Settings
from stacks.target import target

IMAGES = ("companions", "haproxy", "nginx", "redis", "toolbox")
"""The images that ``make`` wants."""

FRONT_PORT = 8000
COUNTER_PORT = 8080
DATABASE_PORT = 6379

_CHECK = pathlib.Path(__file__).parent / "scripts" / "experiments_check.py"


@dataclasses.dataclass(frozen=True)
class Experiments:
    """What was deployed."""

    control: Application
    experiment: Application
    splitter: RequestSplitter
    front: Application
    broker: ServiceBroker
    counter: Application


def make(
    images: Mapping[str, pulumi.Input[str]],
    namespace: pulumi.Input[str],
    opts: pulumi.ResourceOptions,
    *,
    percent: float = 10,
    policy: str = "default",
    database: str = "",
    tls: BrokerTlsArgs | None = None,
) -> Experiments:
    """Deploy the arms, the front, the counter and its database.

    :param images: references by the names in IMAGES
    :param database: ``host:port`` of a Redis outside; empty makes one in the cluster
    :param tls: how that outside is spoken to over TLS; by default in plain
    """
    control = page("control", images["nginx"], opts, replicas=2, namespace=namespace)
    experiment = page("experiment", images["nginx"], opts, replicas=2, namespace=namespace)
    args: RequestSplitterArgs = {
        "image": images["nginx"],
        "metrics_image": images["companions"],
        "control": arm(control),
        "experiment": arm(experiment),
        "policy": policy,
        "namespace": namespace,
    }
    if policy == "seed":
        # Its nginx does not start before both names resolve.
        args["after"] = [control, experiment]
    else:
        args["percent"] = percent
    splitter = RequestSplitter("splitter", args, opts)
    broker = ServiceBroker(
        "broker",
        {
            "image": images["haproxy"],
            "backend": _outside(database, tls) if database else _database(images, namespace, opts),
            "listen_port": DATABASE_PORT,
            "check": "redis",
            "namespace": namespace,
        },
        opts,
    )
    front = Application(
        "front",
        {
            "image": images["toolbox"],
            "command": ["python3", "/opt/examples/front.py"],
            "env": {"PAGES": splitter.endpoint},
            "ports": [{"name": "http", "port": FRONT_PORT}],
            # Every pod of the namespace may ask.
            "clients": [{}],
            "replicas": 2,
            "readiness": {"path": "/readyz"},
            "liveness": {"path": "/livez"},
            "companions": [splitter.companion],
            "namespace": namespace,
        },
        opts,
    )
    counter = Application(
        "counter",
        {
            "image": images["toolbox"],
            "command": ["python3", "/opt/examples/counter.py"],
            "env": {"REDIS": broker.endpoint},
            "ports": [{"name": "http", "port": COUNTER_PORT}],
            "clients": [{}],
            "replicas": 2,
            "readiness": {"path": "/readyz"},
            "liveness": {"path": "/livez"},
            "companions": [broker.companion],
            "namespace": namespace,
        },
        opts,
    )
    return Experiments(control, experiment, splitter, front, broker, counter)


def _database(
    images: Mapping[str, pulumi.Input[str]],
    namespace: pulumi.Input[str],
    opts: pulumi.ResourceOptions,
) -> BackendArgs:
    made = Application(
        "database",
        {
            "image": images["redis"],
            "command": [
                "redis-server",
                "--save",
                "",
                "--appendonly",
                "no",
                "--protected-mode",
                "no",
            ],
            "writable": ["/data"],
            "ports": [{"name": "redis", "port": DATABASE_PORT}],
            "clients": [{}],
            "readiness": {"command": ["sh", "-c", "redis-cli ping | grep -q PONG"]},
            "namespace": namespace,
        },
        opts,
    )
    return {"endpoint": reached(made), "edge": Edge(ports=(DATABASE_PORT,), pods=made.labels)}


def _outside(database: str, tls: BrokerTlsArgs | None) -> BackendArgs:
    endpoint = Endpoint.parse("Configuration", "dds:database", database)
    backend: BackendArgs = {"endpoint": database, "edge": Edge(ports=(endpoint.port,))}
    # A name's addresses nobody knows here.
    with contextlib.suppress(ValueError):
        network = ipaddress.ip_network(endpoint.host.strip("[]"))
        backend["edge"] = Edge(ports=(endpoint.port,), cidr=str(network))
    if tls is not None:
        backend["tls"] = tls
    return backend


def _tls(settings: Settings) -> BrokerTlsArgs | None:
    """What the configuration says of TLS; refuses what would have no effect."""
    given = {
        "dds:database_tls": settings.database_tls,
        "dds:database_server_name": settings.database_server_name,
        "dds:database_authority": settings.database_authority,
    }
    needed = "dds:database_tls" if settings.database else "dds:database"
    if not (settings.database and settings.database_tls):
        for key, value in given.items():
            if value:
                raise InputError("Configuration", key, value, f"has no effect without {needed}")
        return None
    tls: BrokerTlsArgs = {}
    if settings.database_server_name:
        tls["server_name"] = settings.database_server_name
    if settings.database_authority:
        tls["authority"] = settings.database_authority
    return tls


def deploy(settings: Settings) -> None:
    """Deploy the experiment, the counter and the check; export what a user wants to know."""
    here = target(settings)
    catalog = here.images(IMAGES)
    images = {name: catalog.reference(name) for name in IMAGES}
    made = make(
        images,
        here.namespace,
        here.opts,
        percent=settings.percent,
        policy=settings.policy,
        database=settings.database,
        tls=_tls(settings),
    )
    plan = {
        "splitter": made.splitter.endpoint,
        "database": made.broker.endpoint,
        "percent": settings.percent,
        "policy": settings.policy,
    }
    SmokeTest(
        "experiments-check",
        {
            "image": images["toolbox"],
            "script": _CHECK.read_text(),
            "env": {"PLAN": json.dumps(plan)},
            "companions": [made.splitter.companion, made.broker.companion],
            "covers": [made.front.deployment.spec, made.counter.deployment.spec],
            "namespace": here.namespace,
        },
        pulumi.ResourceOptions.merge(
            here.opts, pulumi.ResourceOptions(depends_on=[made.control, made.experiment])
        ),
    )
    _export(settings, made)


def _export(settings: Settings, made: Experiments) -> None:
    namespace = settings.composition

    def inside(application: Application, container: str, program: str) -> pulumi.Output[str]:
        name = application.deployment.metadata["name"]
        return pulumi.Output.concat(
            f"kubectl -n {namespace} exec deploy/",
            name,
            f" -c {container} -- python3 -c '{program}'",
        )

    pulumi.export("percent", settings.percent)
    pulumi.export("policy", settings.policy)
    pulumi.export("endpoint", made.front.endpoint)
    pulumi.export("counter", made.counter.endpoint)
    get = "import urllib.request as r; print(r.urlopen({}).read().decode())"
    front, counter = f"http://127.0.0.1:{FRONT_PORT}", f"http://127.0.0.1:{COUNTER_PORT}"
    pulumi.export(
        "try",
        {
            "one user's page": inside(made.front, "front", get.format(f'"{front}/page?user=ann"')),
            "a hundred users": inside(
                made.front,
                "front",
                "import collections, json, urllib.request as r; "
                "print(collections.Counter(json.load("
                f'r.urlopen("{front}/page?user=" + str(n)))["page"] for n in range(100)))',
            ),
            "more users in the experiment": tries.reconfigured(settings.composition, "percent", 20),
            "requests by arm": tries.forwarded(
                namespace,
                pulumi.Output.concat("deploy/", made.front.deployment.metadata["name"]),
                9114,
                f"{tries.CURL} localhost:9114/metrics | grep ^splitter_requests",
            ),
            "count a hit": inside(made.counter, "counter", get.format(f'"{counter}/hits/me"')),
            "another database": tries.reconfigured(settings.composition, "database", "HOST:PORT"),
        },
    )
