"""The activator: a proxy in front of a function that scales to zero (chapter 8).

Every request passes through it, not only the first: so it can count the requests in flight, and the
Service's endpoints need not change between the activator and the function under load.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import pulumi

from dds_patterns.pods.companion import Rule
from dds_patterns.values.names import child
from dds_patterns.values.reach import Reach
from dds_patterns.workloads.application import ApplicationArgs
from dds_patterns.workloads.arguments import PortArgs

DEFAULTS: Mapping[str, int] = {
    "idle_seconds": 60,
    "activator_queue_size": 100,
    "activator_timeout_seconds": 60,
}
"""What it is told if nothing is said, by the arguments of RunArgs that are for it alone."""


@dataclass(frozen=True)
class Activator:
    """The activator of one function."""

    function: str
    args: Mapping[str, Any]
    """Those of the function, as they were resolved."""
    environment: Mapping[str, str]
    """The runtime's own variables, for both."""
    ports: Sequence[PortArgs]
    """Of the function and of its health; the activator has the same."""
    selector: Mapping[str, str]
    """Labels of the function's pods."""

    @property
    def name(self) -> str:
        """Its own name."""
        return child(self.function, "activator")

    def pods(self, deployment: pulumi.Input[str]) -> ApplicationArgs:
        """Its pod.

        :param deployment: name of the function's Deployment
        """
        args = self.args
        told = {argument: args.get(argument, default) for argument, default in DEFAULTS.items()}
        # Only the activator connects to the function's pods: by their IP addresses, so no host is
        # resolved here.
        functions = Reach(
            self.function,
            tuple(f"{self.function}:{port['port']}" for port in self.ports),
            pods=self.selector,
            isolated=True,
        )
        workload: dict[str, Any] = {
            "image": args["image"],
            "application": "activator",
            "component": "function-activator",
            "command": ["python3", "-m", "function_runtime.activator"],
            "env": {
                **self.environment,
                "ACTIVATOR_DEPLOYMENT": deployment,
                "ACTIVATOR_SELECTOR": ",".join(f"{k}={v}" for k, v in self.selector.items()),
                "ACTIVATOR_MOST_PODS": str(args["max_scale"]),
                **{
                    f"ACTIVATOR_{key.removeprefix('activator_').upper()}": str(value)
                    for key, value in told.items()
                },
            },
            "rules": [
                Rule(
                    group="apps",
                    resources=("deployments/scale",),
                    verbs=("get", "patch"),
                    names=(deployment,),
                ),
                # For pods' addresses, whether they are terminating, and why one does not start.
                Rule(resources=("pods",), verbs=("list", "watch")),
            ],
            "ports": self.ports,
            "expose": ["http"],
            "clients": args["clients"],
            "reaches": [functions],
            "readiness": {"path": "/readyz", "port": "health", "period_seconds": 3},
            "liveness": {"path": "/healthz", "port": "health"},
            # The requests that it holds at SIGTERM are still forwarded.
            "termination_grace_period_seconds": told["activator_timeout_seconds"]
            + args["timeout_seconds"]
            + 10,
            "hosting": {
                **args["hosting"],
                "resources": {
                    "requests": {"cpu": "25m", "memory": "48Mi"},
                    "limits": {"cpu": "1", "memory": "256Mi"},
                },
            },
        }
        if "version" in args:
            workload["version"] = args["version"]
        return cast(ApplicationArgs, workload)
