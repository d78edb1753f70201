"""Prometheus: scrapes what adapters offer and raises alarms (chapter 4)."""

from collections.abc import Mapping, Sequence
from typing import NotRequired, TypedDict

import pulumi
import yaml
from pulumi_kubernetes.core.v1 import ResourceRequirementsArgsDict

from components.arguments.errors import InputError
from components.values import checks
from components.values.edges import Edge
from components.values.metrics import SCRAPER_LABEL, Alert, ScrapeJob, rules_yaml
from components.workloads.stateful import StatefulApplication, StatefulApplicationArgs, StorageArgs

PORT = 9090
CONFIG = "/etc/prometheus/prometheus.yml"
RULES = "/etc/prometheus/rules.yml"

_DATA = "/prometheus"


class PrometheusArgs(TypedDict):
    """Arguments of Prometheus."""

    image: pulumi.Input[str]
    """Image with prometheus and promtool, with a tag or digest."""
    jobs: Sequence[ScrapeJob]
    """What it scrapes, most often ``exporter.job`` of several; at least one."""
    alerts: NotRequired[Sequence[Alert]]
    """Rules, most often ``exporter.alerts``. By default there are none."""
    scrape_interval_seconds: NotRequired[int]
    """Seconds between two scrapes and two evaluations of the rules, from 1 to 300. Defaults to
    15."""
    retention_hours: NotRequired[int]
    """Hours for which samples are kept, at least 1. Defaults to 24."""
    storage_size: NotRequired[str]
    """Size of a persistent volume. By default samples go with the pod."""
    storage_class: NotRequired[pulumi.Input[str]]
    """StorageClass of that volume. Defaults to the cluster's default one."""
    clients: NotRequired[Sequence[Mapping[str, str]]]
    """Labels of pods that may query it; an empty mapping is every pod. Without any nobody may."""
    resources: NotRequired[ResourceRequirementsArgsDict]
    """Requests and limits; what is left out keeps its default. Default limit of memory: 384Mi."""
    namespace: NotRequired[pulumi.Input[str]]
    """Namespace. Defaults to the provider's."""


class Prometheus(pulumi.ComponentResource):
    """A Prometheus that finds its targets by DNS, so that it needs no access to the API server.

    Registers one StatefulApplication. Its pod has the label by which exporters let it in.
    """

    application: StatefulApplication
    """The server."""
    endpoint: pulumi.Output[str]
    """``host:port`` of its API, for clients."""
    config: pulumi.Output[str]
    """The configuration file."""
    rules: str
    """The file of rules."""

    def __init__(
        self, name: str, args: PrometheusArgs, opts: pulumi.ResourceOptions | None = None
    ) -> None:
        """Register the server.

        :param name: a DNS label of at most 52 characters
        :raises InputError: an argument that cannot be right, before anything is registered
        """
        where = f'Prometheus "{name}"'
        _check(where, args)
        self.rules = rules_yaml(args.get("alerts", ()))
        StatefulApplication.validate(where, name, _workload(args, "", self.rules))
        super().__init__("dds:index:Prometheus", name, {"image": args["image"]}, opts)
        self.config = _config(args)
        self.application = StatefulApplication(
            name, _workload(args, self.config, self.rules), pulumi.ResourceOptions(parent=self)
        )
        self.endpoint = self.application.endpoint
        self.register_outputs({"endpoint": self.endpoint})


def _check(where: str, args: PrometheusArgs) -> None:
    checks.known_arguments(where, PrometheusArgs, args)
    if not args["jobs"]:
        raise InputError(where, "jobs", args["jobs"], "must have at least one")
    for job in args["jobs"]:
        if not isinstance(job, ScrapeJob):
            raise InputError(where, "jobs", job, "must be a ScrapeJob, such as exporter.job")
    checks.unique(where, "jobs.name", [job.name for job in args["jobs"]])
    checks.integer(
        where, "scrape_interval_seconds", args.get("scrape_interval_seconds", 15),
        minimum=1, maximum=300,
    )  # fmt: skip
    checks.integer(where, "retention_hours", args.get("retention_hours", 24), minimum=1)
    if "storage_class" in args and "storage_size" not in args:
        raise InputError(
            where, "storage_class", args["storage_class"], "must be left out without storage_size"
        )


def _config(args: PrometheusArgs) -> pulumi.Output[str]:
    interval = args.get("scrape_interval_seconds", 15)
    jobs = args["jobs"]

    def text(hosts: Sequence[str]) -> str:
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
                        "dns_sd_configs": [
                            {
                                "names": [host],
                                "type": "A",
                                "port": job.port,
                                "refresh_interval": f"{min(interval, 30)}s",
                            }
                        ],
                    }
                    for job, host in zip(jobs, hosts, strict=True)
                ],
            },
            sort_keys=False,
        )
        return dumped

    return pulumi.Output.all(*(job.host for job in jobs)).apply(text)


def _workload(
    args: PrometheusArgs, config: pulumi.Input[str], rules: str
) -> StatefulApplicationArgs:
    limits = {"memory": "384Mi"}
    given: ResourceRequirementsArgsDict = args.get("resources", {})
    workload: StatefulApplicationArgs = {
        "image": args["image"],
        "application": "prometheus",
        "component": "metrics",
        "command": [
            "prometheus",
            f"--config.file={CONFIG}",
            f"--storage.tsdb.path={_DATA}",
            f"--storage.tsdb.retention.time={args.get('retention_hours', 24)}h",
            f"--web.listen-address=:{PORT}",
        ],
        "files": {CONFIG: config, RULES: rules},
        "ports": [{"name": "http", "port": PORT}],
        "clients": args.get("clients", ()),
        "labels": dict([SCRAPER_LABEL]),
        "egress": [Edge(ports=(job.port,), pods=dict(job.pods)) for job in args["jobs"]],
        "readiness": {"path": "/-/ready"},
        "liveness": {"path": "/-/healthy"},
        "resources": {
            "requests": {"cpu": "50m", "memory": "96Mi", **given.get("requests", {})},
            "limits": {**limits, **given.get("limits", {})},
        },
    }
    if "storage_size" in args:
        storage: StorageArgs = {"path": _DATA, "size": args["storage_size"]}
        if "storage_class" in args:
            storage["storage_class"] = args["storage_class"]
        workload["storage"] = storage
    else:
        workload["writable"] = [_DATA]
        workload["writable_size"] = "512Mi"
    if "namespace" in args:
        workload["namespace"] = args["namespace"]
    return workload
