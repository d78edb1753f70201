"""Composition ``companions``: four companions of different patterns on one pod.

A counter serves plain HTTP on loopback and uses a Redis on localhost. An ambassador routes each key to
its shard, an adapter exports the ambassador's statistics to Prometheus, one sidecar adds HTTPS and
another lists the busiest processes. ``make`` registers the resources on any cluster: the live tests
deploy the same.
"""

import dataclasses
import json
import pathlib
from collections.abc import Mapping, Sequence
from functools import partial

import pulumi

from dds_patterns import (
    Application,
    ApplicationArgs,
    Authority,
    Certificate,
    Companion,
    Hosting,
    MetricsExporter,
    ShardedRedis,
    SmokeTest,
    TlsSidecar,
    Topz,
    TwemproxyAmbassador,
)
from stacks import tries
from stacks.settings import Settings
from stacks.target import target

IMAGES = ("companions", "nginx", "redis", "toolbox", "twemproxy")
"""The images that ``make`` needs."""

APPLICATION_PORT = 8080
HTTPS_PORT = 8443
TOPZ_PORT = 8079
METRICS_PORT = 9151

_CHECK = pathlib.Path(__file__).parent / "scripts" / "companions_check.py"
_CA_FILE = "/etc/check-ca/ca.crt"
_PASSWORD_FILE = "/etc/redis-client/password"  # noqa: S105 (a path)


@dataclasses.dataclass(frozen=True)
class Companions:
    """What was deployed."""

    authority: Authority
    application: Application
    exporter: MetricsExporter
    companions: tuple[Companion, ...]


def make(
    images: Mapping[str, pulumi.Input[str]],
    hosting: Hosting,
    opts: pulumi.ResourceOptions,
    *,
    more: Sequence[Companion] = (),
) -> Companions:
    """Deploy the store, and the application with its companions.

    :param images: references by the names in IMAGES
    :param more: further companions, whose ports must be free
    """
    store = ShardedRedis("store", {"image": images["redis"], "shards": 2, "hosting": hosting}, opts)
    ambassador = TwemproxyAmbassador(
        "twemproxy",
        {
            "image": images["twemproxy"],
            "store": store.reach,
            "hosting": hosting,
        },
        opts,
    )
    exporter = MetricsExporter(
        "twemproxy-metrics",
        {
            "image": images["companions"],
            "kind": "twemproxy",
            "server": ambassador.statistics,
            "port": METRICS_PORT,
            "hosting": hosting,
        },
        opts,
    )
    authority = Authority("companions-ca", {}, opts)
    certificate = Certificate(
        "counter",
        {
            "authority": authority.issuer,
            # Every Service of the namespace: auto-naming makes their names unknown here.
            "dns_names": [pulumi.Output.concat("*.", hosting["namespace"], ".svc"), "localhost"],
        },
        opts,
    )
    tls = TlsSidecar(
        "tls",
        {
            "image": images["nginx"],
            "application_port": APPLICATION_PORT,
            "port": HTTPS_PORT,
            "readiness_path": "/readyz",
            "certificate": certificate.certificate,
            "key": certificate.key,
            "hosting": hosting,
        },
        opts,
    )
    topz = Topz("topz", {"image": images["companions"], "port": TOPZ_PORT}, opts)
    companions = (
        ambassador.companion, exporter.companion, tls.companion, topz.companion, *more,
    )  # fmt: skip
    args: ApplicationArgs = {
        "image": images["toolbox"],
        "command": ["python3", "/opt/examples/counter.py"],
        "env": {"REDIS": ambassador.endpoint, "PASSWORD_FILE": _PASSWORD_FILE},
        "secret_files": {_PASSWORD_FILE: store.password},
        "ports": [{"name": "http", "port": APPLICATION_PORT}],
        "expose": ["https", "topz"],
        # Every pod of the namespace may connect.
        "clients": [{}],
        "replicas": 2,
        "readiness": {"path": "/readyz"},
        "liveness": {"path": "/livez"},
        "companions": list(companions),
        "hosting": hosting,
    }
    return Companions(authority, Application("counter", args, opts), exporter, companions)


def check(
    images: Mapping[str, pulumi.Input[str]],
    made: Companions,
    hosting: Hosting,
    opts: pulumi.ResourceOptions,
) -> SmokeTest:
    """A check that hits counted over HTTPS went through all companions."""
    metrics = made.exporter.job.reach
    plan = {"endpoint": made.application.endpoint, "ca": _CA_FILE, "metrics": metrics.endpoint}
    return SmokeTest(
        "companions-check",
        {
            "image": images["toolbox"],
            "script": _CHECK.read_text(),
            "env": {"PLAN": pulumi.Output.json_dumps(plan)},
            "files": {_CA_FILE: made.authority.certificate},
            "reaches": [made.application.reach, made.application.port("topz"), metrics],
            "covers": [made.application.deployment.spec],
            "hosting": hosting,
        },
        opts,
    )


def deploy(settings: Settings) -> None:
    """Deploy the application and the check; export outputs for the user."""
    here = target(settings, IMAGES)
    catalog = here.images
    images = {name: catalog.reference(name) for name in IMAGES}
    made = make(images, here.hosting, here.opts)
    check(images, made, here.hosting, here.opts)
    endpoint = made.application.endpoint
    namespace = settings.composition
    name = made.application.deployment.metadata["name"]
    pulumi.export("endpoint", endpoint)
    pulumi.export("companions", [companion.name for companion in made.companions])
    pulumi.export("authority", made.authority.certificate)

    forwarded = partial(tries.forwarded, namespace, pulumi.Output.concat("deploy/", name))

    pulumi.export(
        "try",
        {
            "count a hit over HTTPS": pulumi.Output.concat(
                tries.output(settings.composition, "authority", "ca.crt"),
                " && ",
                forwarded(
                    HTTPS_PORT,
                    f"{tries.CURL} --cacert ca.crt https://localhost:{HTTPS_PORT}/hits/me",
                ),
            ),
            "see the busiest processes": forwarded(
                TOPZ_PORT, f"{tries.CURL} localhost:{TOPZ_PORT}/topz.json"
            ),
            "metrics of the ambassador": forwarded(
                METRICS_PORT, f"{tries.CURL} localhost:{METRICS_PORT}/metrics"
            ),
            "its containers": pulumi.Output.concat(
                f"kubectl -n {namespace} get pods -l app.kubernetes.io/instance=counter -o ",
                json.dumps("jsonpath={.items[0].spec.initContainers[*].name}"),
            ),
        },
    )
