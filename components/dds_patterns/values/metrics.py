"""Metrics as values: scrape jobs, alerts, dashboards."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Annotated, Any, ClassVar

import yaml

from dds_patterns.arguments import NOT_EMPTY, between, check_fields, matching, one_of
from dds_patterns.arguments.constraints import some
from dds_patterns.values.reach import NO_QUERY, Reach, speaking

SEVERITIES = ("info", "warning", "critical")

_COLUMNS = 24
_WIDTH = 12
_HEIGHT = 7
_LETTERS = 26
# Grafana prompts for the data source when a dashboard is imported.
_DATA_SOURCE = {
    "name": "datasource",
    "label": "Data source",
    "type": "datasource",
    "query": "prometheus",
}

Query = Annotated[
    str, matching(r"[\s\S]*\S[\s\S]*", "a query in PromQL, not blank", odd=(" ", "\n"))
]
"""PromQL."""


def _of_job(query: str, job: str) -> str:
    return query.replace("$job", f'job="{job}"')


@dataclass(frozen=True)
class ScrapeJob:
    """The pods of one exporter, as Prometheus discovers them."""

    GIVEN_BY: ClassVar[str] = "exporter.job"

    name: Annotated[
        str,
        matching(
            r"[a-zA-Z0-9][-_a-zA-Z0-9]*",
            "letters, digits, - and _",
            most=128,
            odd=("-a", "a b", "a\n", 'a"'),
        ),
    ]
    """The job's name, the label ``job`` of all its series."""
    reach: Annotated[Reach, speaking("http"), NO_QUERY]
    """The exporter. Its endpoint's host is a DNS name that resolves to the address of every pod,
    ready or not. The default path is ``/metrics``."""

    def __post_init__(self) -> None:
        check_fields(f'ScrapeJob "{self.name}"', self)


@dataclass(frozen=True)
class Alert:
    """An alerting rule."""

    GIVEN_BY: ClassVar[str] = "exporter.alerts"

    name: Annotated[
        str,
        matching(
            r"[A-Z][a-zA-Z0-9]*",
            "CamelCase, for example RedisDown",
            most=128,
            odd=("redisDown", "Redis down", "RedisDown\n"),
        ),
    ]
    """In CamelCase, by convention."""
    expression: Query
    """PromQL; the alert fires for every series that it returns."""
    summary: Annotated[
        str,
        matching(
            # Prometheus refuses a file with a template that is not closed.
            r"(?:(?!\{\{)[\s\S]|\{\{[\s\S]+?\}\})+",
            "a sentence, in which every {{ has its }}",
            most=1024,
            odd=("of {{ $labels.instance", "{{ $value }} of {{"),
        ),
    ]
    """One sentence for the person on call; templates such as ``{{ $labels.instance }}`` are filled
    in."""
    for_seconds: Annotated[int, between(0, 366 * 86_400)] = 60
    """Seconds for which the expression must hold before the alert fires."""
    severity: Annotated[str, one_of(*SEVERITIES)] = "warning"
    """Value of the label ``severity``."""

    def __post_init__(self) -> None:
        check_fields(f'Alert "{self.name}"', self)

    def of(self, job: str) -> "Alert":
        """The same for one job, which replaces ``$job`` in the expression."""
        return replace(self, expression=_of_job(self.expression, job))


@dataclass(frozen=True)
class Panel:
    """One diagram of a dashboard."""

    title: Annotated[str, NOT_EMPTY]
    expressions: Annotated[Mapping[str, Query], some(_LETTERS, "queries")]
    """PromQL by legend; ``{{instance}}`` and the like are filled in by Grafana."""
    unit: Annotated[str, NOT_EMPTY] = "short"
    """Grafana's name of the unit: ``short``, ``s``, ``bytes``, ``ops``, ``percentunit``, ..."""

    def __post_init__(self) -> None:
        check_fields(f'Panel "{self.title}"', self)

    def of(self, job: str) -> "Panel":
        """The same for one job, which replaces ``$job`` in the expressions."""
        expressions = {legend: _of_job(query, job) for legend, query in self.expressions.items()}
        return replace(self, expressions=expressions)


@dataclass(frozen=True)
class Dashboard:
    """A dashboard for Grafana."""

    title: Annotated[str, NOT_EMPTY]
    panels: Sequence[Panel] = field(default_factory=tuple)

    def __post_init__(self) -> None:
        check_fields(f'Dashboard "{self.title}"', self)

    def json(self) -> str:
        """The dashboard as Grafana imports it, with a prompt for the data source."""
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
            "templating": {"list": [_DATA_SOURCE]},
            "panels": panels,
        }
        return json.dumps(dashboard, indent=1) + "\n"


def rules_yaml(alerts: Sequence[Alert]) -> str:
    """A file of alerting rules for Prometheus."""
    rules = [
        {
            "alert": alert.name,
            "expr": alert.expression,
            "for": f"{alert.for_seconds}s",
            "labels": {"severity": alert.severity},
            "annotations": {"summary": alert.summary},
        }
        for alert in alerts
    ]
    text: str = yaml.safe_dump(
        {"groups": [{"name": "dds", "rules": rules}]}, sort_keys=False, width=100
    )
    return text
