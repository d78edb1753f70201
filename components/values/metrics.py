"""Metrics as values: what to scrape, when to raise an alarm, what to draw."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pulumi
import yaml

from components.arguments.errors import InputError
from components.values import checks

SCRAPER_LABEL = ("dds/scrapes", "true")
"""Pods with this label are let in by exporters, unless they are told otherwise."""
SEVERITIES = ("info", "warning", "critical")

_JOB = re.compile(r"[a-zA-Z0-9][-_a-zA-Z0-9]*")
_ALERT = re.compile(r"[A-Z][a-zA-Z0-9]*")
_COLUMNS = 24
_WIDTH = 12
_HEIGHT = 7


@dataclass(frozen=True)
class ScrapeJob:
    """Pods that one exporter stands in, as Prometheus finds them."""

    name: str
    """The job's name, the label ``job`` of all its series."""
    host: pulumi.Input[str]
    """DNS name that resolves to the address of every pod, ready or not."""
    port: int
    """Port of the exporter."""
    pods: Mapping[str, str]
    """Labels that select the pods."""

    def __post_init__(self) -> None:
        if not _JOB.fullmatch(self.name):
            raise InputError("ScrapeJob", "name", self.name, "must be letters, digits, - and _")
        checks.port(f'ScrapeJob "{self.name}"', "port", self.port)


@dataclass(frozen=True)
class Alert:
    """An alerting rule."""

    name: str
    """In CamelCase, as is the custom."""
    expression: str
    """PromQL; the alert is raised for every series that it answers."""
    summary: str
    """One sentence for whoever is woken; ``{{ $labels.instance }}`` and the like are filled in."""
    hold_seconds: int = 60
    """Seconds for which it must hold, from 0."""
    severity: str = "warning"
    """``info``, ``warning`` or ``critical``."""

    def __post_init__(self) -> None:
        where = f'Alert "{self.name}"'
        if not _ALERT.fullmatch(self.name):
            raise InputError(where, "name", self.name, "must be CamelCase, for example RedisDown")
        if not self.expression.strip():
            raise InputError(where, "expression", self.expression, "must not be empty")
        checks.integer(where, "hold_seconds", self.hold_seconds, minimum=0)
        checks.one_of(where, "severity", self.severity, SEVERITIES)


@dataclass(frozen=True)
class Panel:
    """One diagram of a dashboard."""

    title: str
    expressions: Mapping[str, str]
    """PromQL by legend; ``{{instance}}`` and the like are filled in by Grafana."""
    unit: str = "short"
    """Grafana's name of the unit: ``short``, ``s``, ``bytes``, ``ops``, ``percentunit``, ..."""


@dataclass(frozen=True)
class Dashboard:
    """A dashboard for Grafana."""

    title: str
    panels: Sequence[Panel] = field(default_factory=tuple)

    def json(self) -> str:
        """The dashboard as Grafana imports it; its data source is asked for there."""
        panels: list[dict[str, Any]] = []
        for number, panel in enumerate(self.panels):
            column, row = number % (_COLUMNS // _WIDTH), number // (_COLUMNS // _WIDTH)
            panels.append(
                {
                    "id": number + 1,
                    "type": "timeseries",
                    "title": panel.title,
                    "datasource": {"type": "prometheus", "uid": "${datasource}"},
                    "gridPos": {
                        "x": column * _WIDTH, "y": row * _HEIGHT, "w": _WIDTH, "h": _HEIGHT,
                    },
                    "fieldConfig": {"defaults": {"unit": panel.unit}, "overrides": []},
                    "targets": [
                        {
                            "refId": chr(ord("A") + place),
                            "expr": expression,
                            "legendFormat": legend,
                            "datasource": {"type": "prometheus", "uid": "${datasource}"},
                        }
                        for place, (legend, expression) in enumerate(panel.expressions.items())
                    ],
                }
            )  # fmt: skip
        dashboard = {
            "uid": re.sub(r"[^a-z0-9]+", "-", self.title.lower()).strip("-")[:40],
            "title": self.title,
            "tags": ["designing-distributed-systems"],
            "schemaVersion": 39,
            "editable": True,
            "refresh": "10s",
            "time": {"from": "now-30m", "to": "now"},
            "templating": {
                "list": [
                    {
                        "name": "datasource",
                        "label": "Data source",
                        "type": "datasource",
                        "query": "prometheus",
                    }
                ]
            },
            "panels": panels,
        }
        return json.dumps(dashboard, indent=1) + "\n"


def rules_yaml(alerts: Sequence[Alert]) -> str:
    """A file of alerting rules for Prometheus."""
    rules = [
        {
            "alert": alert.name,
            "expr": alert.expression,
            "for": f"{alert.hold_seconds}s",
            "labels": {"severity": alert.severity},
            "annotations": {"summary": alert.summary},
        }
        for alert in alerts
    ]
    text: str = yaml.safe_dump(
        {"groups": [{"name": "dds", "rules": rules}]}, sort_keys=False, width=100
    )
    return text
