"""The activator: stands before a function that may have no pod, and wakes it (chapter 8).

It is in the way of every request, not of the first one only: who stands in the way knows whether
anybody asks, and no address has to change hands while requests are under way.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import pulumi

from components.pods.companion import Rule
from components.values.names import child
from components.values.reach import Reach
from components.workloads.application import ApplicationArgs
from components.workloads.arguments import PortArgs

DEFAULTS: Mapping[str, int] = {"idle_seconds": 60, "held": 100, "hold_seconds": 60}
"""What it is told if nothing is said, by the arguments of RunArgs that are for it alone."""


@dataclass(frozen=True)
class Activator:
    """The activator of one function."""

    function: str
    args: Mapping[str, Any]
    """Those of the function, as they were resolved."""
    environment: Mapping[str, str]
    """The runtime's own variables that both know."""
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
        # It alone asks the function's pods: by their addresses, so the host here is none.
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
                **{f"ACTIVATOR_{key.upper()}": str(value) for key, value in told.items()},
            },
            "rules": [
                Rule(
                    group="apps",
                    resources=("deployments/scale",),
                    verbs=("get", "patch"),
                    names=(deployment,),
                ),
                # Where they are, whether they are told to end, and why one does not start.
                Rule(resources=("pods",), verbs=("list", "watch")),
            ],
            "ports": self.ports,
            "expose": ["http"],
            "clients": args["clients"],
            "reaches": [functions],
            "readiness": {"path": "/readyz", "port": "health", "period_seconds": 3},
            "liveness": {"path": "/healthz", "port": "health"},
            # What it holds then is still handed on.
            "grace_seconds": told["hold_seconds"] + args["timeout_seconds"] + 10,
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
