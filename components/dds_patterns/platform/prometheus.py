"""Prometheus: scrapes the adapters and raises alerts (chapter 4)."""

from collections.abc import Sequence
from typing import Annotated, NotRequired, TypedDict, cast

import pulumi
import yaml

from dds_patterns.arguments import DISTINCT, NOT_EMPTY, Default, Later, between, resolved
from dds_patterns.arguments.images import Image
from dds_patterns.arguments.names import check_name
from dds_patterns.arguments.place import Place
from dds_patterns.pods.hosting import SingletonHosting, StatefulHosting, with_resources
from dds_patterns.pods.images import image_of
from dds_patterns.values.metrics import Alert, ScrapeJob, rules_yaml
from dds_patterns.values.peers import Clients
from dds_patterns.values.reach import Reach
from dds_patterns.workloads.stateful import StatefulApplication, StatefulApplicationArgs

PORT = 9090
CONFIG = "/etc/prometheus/prometheus.yml"
RULES = "/etc/prometheus/rules.yml"

_DATA = "/prometheus"
# The StatefulSet's revision and the pod's number add to the name.
_RESERVE = 11


class PrometheusArgs(TypedDict):
    """Arguments of Prometheus."""

    image: NotRequired[Annotated[Later[Image], image_of("prometheus")]]
    """Image with prometheus and promtool."""
    jobs: Annotated[Sequence[ScrapeJob], NOT_EMPTY]
    """Scrape jobs, most often ``exporter.job`` of several, with unique names. Their NetworkPolicies
    admit it, also in other namespaces."""
    alerts: NotRequired[Annotated[Sequence[Alert], Default(())]]
    """Alerting rules, most often ``exporter.alerts``."""
    scrape_interval_seconds: NotRequired[Annotated[int, between(1, 300), Default(15)]]
    """Seconds between two scrapes and two evaluations of the rules."""
    retention_hours: NotRequired[Annotated[int, between(1, 87600), Default(24)]]
    """Hours for which samples are kept."""
    clients: NotRequired[Clients]
    """Peers that may query it, beside workloads with its ``reach``; ``{}`` is every pod of the
    namespace."""
    hosting: NotRequired[Annotated[SingletonHosting, Default({})]]
    """Namespace, labels, nodes and resources, of which default requests are cpu 50m and memory 96Mi,
    and the default limit of memory is 384Mi. With ``storage`` the samples outlive the pod; by
    default they are lost with it."""


class Prometheus(pulumi.ComponentResource):
    """A Prometheus that finds its targets by DNS, so that it needs no access to the API server.

    Registers one StatefulApplication, whose pods each job's NetworkPolicy admits.
    """

    application: StatefulApplication
    """The server."""
    reach: Reach
    """How clients reach its API."""
    endpoint: pulumi.Output[str]
    """``host:port`` of its API."""
    config: pulumi.Output[str]
    """The configuration file."""
    rules: str
    """The file of alerting rules."""

    def __init__(
        self, name: str, args: PrometheusArgs, opts: pulumi.ResourceOptions | None = None
    ) -> None:
        """Register the server.

        :param name: a DNS label of at most 52 characters, unique in its namespace, that does not end
            as replicas' do (-0, -r1)
        :raises InputError: an invalid argument, before anything is registered
        """
        where = f'Prometheus "{name}"'
        args = _checked(where, name, args)
        self.rules = rules_yaml(args["alerts"])
        StatefulApplication.validate(where, name, _workload(args, "", self.rules))
        super().__init__("dds:index:Prometheus", name, {"image": args["image"]}, opts)
        self.config = _config(args)
        self.application = StatefulApplication(
            name, _workload(args, self.config, self.rules), pulumi.ResourceOptions(parent=self)
        )
        self.reach = self.application.reach
        self.endpoint = self.reach.endpoint
        self.register_outputs({"endpoint": self.endpoint})


def _checked(where: str, name: str, args: PrometheusArgs) -> PrometheusArgs:
    check_name(where, name, reserve=_RESERVE, service=True)
    args = resolved(where, PrometheusArgs, args)
    DISTINCT.check(Place(where, "jobs.name"), [job.name for job in args["jobs"]])
    args["hosting"] = with_resources(
        where,
        args["hosting"],
        requests={"cpu": "50m", "memory": "96Mi"},
        limits={"memory": "384Mi"},
    )
    return args


def _config(args: PrometheusArgs) -> pulumi.Output[str]:
    interval = args["scrape_interval_seconds"]
    jobs = args["jobs"]

    def text(endpoints: Sequence[Sequence[str]]) -> str:
        dumped: str = yaml.safe_dump(
            {
                "global": {
                    "scrape_interval": f"{interval}s",
                    # An exporter whose program hangs answers after three seconds.
                    "scrape_timeout": f"{min(interval, 5)}s",
                    "evaluation_interval": f"{interval}s",
                },
                "rule_files": [RULES],
                "scrape_configs": [
                    {
                        "job_name": job.name,
                        "metrics_path": job.reach.path or "/metrics",
                        "dns_sd_configs": [
                            {
                                "names": [host],
                                "type": "A",
                                "port": int(port),
                                "refresh_interval": f"{min(interval, 30)}s",
                            }
                            for host, _, port in (one.rpartition(":") for one in found)
                        ],
                    }
                    for job, found in zip(jobs, endpoints, strict=True)
                ],
            },
            sort_keys=False,
        )
        return dumped

    return pulumi.Output.all(*(pulumi.Output.all(*job.reach.endpoints) for job in jobs)).apply(text)


def _workload(
    args: PrometheusArgs, config: pulumi.Input[str], rules: str
) -> StatefulApplicationArgs:
    workload: StatefulApplicationArgs = {
        "image": args["image"],
        "application": "prometheus",
        "component": "metrics",
        "command": [
            "prometheus",
            f"--config.file={CONFIG}",
            f"--storage.tsdb.path={_DATA}",
            f"--storage.tsdb.retention.time={args['retention_hours']}h",
            f"--web.listen-address=:{PORT}",
        ],
        "files": {CONFIG: config, RULES: rules},
        "ports": [{"name": "http", "port": PORT, "app_protocol": "http"}],
        "clients": args["clients"],
        "reaches": [job.reach for job in args["jobs"]],
        "readiness": {"path": "/-/ready"},
        "liveness": {"path": "/-/healthy"},
        "hosting": cast(StatefulHosting, args["hosting"]),
    }
    if "storage" in args["hosting"]:
        workload["storage_path"] = _DATA
    else:
        workload["writable"] = [_DATA]
        workload["writable_size"] = "512Mi"
    return workload
