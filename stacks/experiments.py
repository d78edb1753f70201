"""Composition ``experiments``: a front whose users take part in an experiment, and a counter whose
database is in the cluster or outside of it.

Both connect to localhost only. The splitter decides which users see the experiment, and the broker
connects to the database: with ``dds:database`` the unchanged application uses another one.
"""

import dataclasses
import ipaddress
import pathlib
from collections.abc import Mapping

import pulumi

from dds_patterns import (
    Application,
    BrokerTlsArgs,
    Hosting,
    Reach,
    RequestSplitter,
    RequestSplitterArgs,
    ServiceBroker,
    ServiceBrokerArgs,
    SmokeTest,
)
from dds_patterns.arguments import is_ip_host, namespace_of
from stacks import tries
from stacks.parts import page
from stacks.settings import Settings
from stacks.target import target

IMAGES = ("companions", "haproxy", "nginx", "redis", "toolbox")
"""The images that ``make`` needs."""

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
    hosting: Hosting,
    opts: pulumi.ResourceOptions,
    *,
    percent: float = 10,
    policy: str = "default",
    database: Reach | None = None,
    tls: BrokerTlsArgs | None = None,
) -> Experiments:
    """Deploy the arms, the front, the counter and its database.

    :param images: references by the names in IMAGES
    :param database: a Redis; by default one is deployed
    :param tls: settings of TLS to it; by default without TLS
    """
    control = page("control", images["nginx"], opts, replicas=2, hosting=hosting)
    experiment = page("experiment", images["nginx"], opts, replicas=2, hosting=hosting)
    args: RequestSplitterArgs = {
        "image": images["nginx"],
        "metrics_image": images["companions"],
        "control": control.reach,
        "experiment": experiment.reach,
        "policy": policy,
        "hosting": hosting,
    }
    if policy != "seed":
        args["percent"] = percent
    splitter = RequestSplitter("splitter", args, opts)
    broker_args: ServiceBrokerArgs = {
        "image": images["haproxy"],
        "backend": database or _database(images, hosting, opts),
        "listen_port": DATABASE_PORT,
        "check": "redis",
        "hosting": hosting,
    }
    if tls is not None:
        broker_args["tls"] = tls
    broker = ServiceBroker("broker", broker_args, opts)
    front = Application(
        "front",
        {
            "image": images["toolbox"],
            "command": ["python3", "/opt/examples/front.py"],
            "env": {"PAGES": splitter.endpoint},
            "ports": [{"name": "http", "port": FRONT_PORT}],
            # Every pod of the namespace may connect.
            "clients": [{}],
            "replicas": 2,
            "readiness": {"path": "/readyz"},
            "liveness": {"path": "/livez"},
            "companions": [splitter.companion],
            "hosting": hosting,
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
            "hosting": hosting,
        },
        opts,
    )
    return Experiments(control, experiment, splitter, front, broker, counter)


def _database(
    images: Mapping[str, pulumi.Input[str]],
    hosting: Hosting,
    opts: pulumi.ResourceOptions,
) -> Reach:
    return Application(
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
            "ports": [{"name": "redis", "port": DATABASE_PORT, "app_protocol": "redis"}],
            "readiness": {"command": ["sh", "-c", "redis-cli ping | grep -q PONG"]},
            "hosting": hosting,
        },
        opts,
    ).reach


def _given(settings: Settings) -> Reach | None:
    """The database of ``dds:database``, outside or a Service of the cluster."""
    if not settings.database:
        return None
    host, authority = settings.database.rpartition(":")[0], settings.database_authority or None
    namespace = namespace_of(host)
    if namespace is not None:
        # The labels of the pods behind the Service are unknown here.
        return Reach(
            "database",
            (settings.database,),
            pods={},
            namespace=namespace or None,
            authority=authority,
        )
    # The addresses of a name are unknown too.
    cidrs = ["0.0.0.0/0", "::/0"]
    if is_ip_host(host):
        cidrs = [str(ipaddress.ip_network(host.strip("[]")))]
    return Reach.outside(settings.database, cidrs=cidrs, authority=authority, name="database")


def _tls(settings: Settings) -> BrokerTlsArgs | None:
    if not settings.database_tls:
        return None
    tls: BrokerTlsArgs = {}
    if settings.database_server_name:
        tls["server_name"] = settings.database_server_name
    return tls


def deploy(settings: Settings) -> None:
    """Deploy the experiment, the counter and the check; export outputs for the user."""
    here = target(settings, IMAGES)
    catalog = here.images
    images = {name: catalog.reference(name) for name in IMAGES}
    made = make(
        images,
        here.hosting,
        here.opts,
        percent=settings.percent,
        policy=settings.policy,
        database=_given(settings),
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
            "env": {"PLAN": pulumi.Output.json_dumps(plan)},
            "companions": [made.splitter.companion, made.broker.companion],
            "covers": [made.front.deployment.spec, made.counter.deployment.spec],
            "hosting": here.hosting,
        },
        here.opts,
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
