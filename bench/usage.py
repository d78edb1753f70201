"""Memory and CPU of containers, from the kubelet's statistics."""

import json
import time
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from tests.live.support.kube import Kube
from tests.live.support.waiting import eventually

WINDOW_SECONDS = 30
"""Seconds of one window; the kubelet samples a container every 10 to 15 s."""

Sample = dict[str, tuple[float, float, float]]
"""By container: Unix seconds, total CPU seconds, bytes of the working set."""


@dataclass(frozen=True)
class Watched:
    """Containers of some pods, each with a unique name."""

    kube: Kube
    namespace: str
    containers: Collection[str]
    pods: Collection[str] | None = None
    """Names of the pods. By default all pods of the namespace."""

    def window(self) -> dict[str, dict[str, float]]:
        """Usage of each container over one window: ``mib`` at its end, ``millicores`` on average."""

        def newer(than: Sample) -> Sample:
            now = self._sample()
            # The kubelet omits containers without a sample.
            assert all(  # noqa: S101
                now.get(name, (0,))[0] > than.get(name, (0,))[0] for name in self.containers
            )
            return now

        what = "the kubelet has a new sample of every container"
        first = eventually(lambda: newer({}), 120, what, interval=2)
        time.sleep(WINDOW_SECONDS)
        last = eventually(lambda: newer(first), 120, what, interval=2)
        return {
            name: {
                "mib": last[name][2] / 2**20,
                "millicores": 1000
                * (last[name][1] - first[name][1])
                / (last[name][0] - first[name][0]),
            }
            for name in self.containers
        }

    def _sample(self) -> Sample:
        found: Sample = {}
        for node in self.kube.nodes():
            raw: Any = self.kube.core.connect_get_node_proxy_with_path(
                node, "stats/summary", _preload_content=False
            )
            summary: dict[str, Any] = json.loads(raw.data)
            for pod in summary["pods"]:
                if pod["podRef"]["namespace"] != self.namespace:
                    continue
                if self.pods is not None and pod["podRef"]["name"] not in self.pods:
                    continue
                for container in pod["containers"]:
                    cpu, memory = container["cpu"], container["memory"]
                    found[container["name"]] = (
                        datetime.fromisoformat(cpu["time"]).timestamp(),
                        cpu["usageCoreNanoSeconds"] / 1e9,
                        float(memory["workingSetBytes"]),
                    )
        return found
