"""Base of components whose companion Prometheus scrapes and has alerts for."""

from collections.abc import Sequence

import pulumi

from dds_patterns.pods.companion import Companion
from dds_patterns.values.metrics import Alert, ScrapeJob
from dds_patterns.workloads.program import Program


class Scraped:
    """A companion with its scrape job and alerts."""

    companion: Companion
    """What a workload takes in ``companions``."""
    job: ScrapeJob
    """What Prometheus scrapes."""
    alerts: tuple[Alert, ...]
    """Alerting rules for Prometheus."""

    def _run(self, program: Program, alerts: Sequence[Alert], opts: pulumi.ResourceOptions) -> None:
        """Register the program's files and the Service by which it is scraped."""
        self.companion = program.companion(opts)
        self.job = program.job(opts)
        self.alerts = tuple(alert.of(program.name) for alert in alerts)
