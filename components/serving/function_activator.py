"""The activator: stands before a function that may have no pod, and wakes it (chapter 8).

It is in the way of every request, not of the first one only: who stands in the way knows whether
anybody asks, and no address has to change hands while requests are under way.
"""

from collections.abc import Mapping, Sequence
from typing import Any, cast

import pulumi

from components.arguments import InputError
from components.pods.companion import Rule
from components.values.names import child
from components.values.reach import Reach
from components.workloads.application import Application, ApplicationArgs
from components.workloads.arguments import PortArgs

DEFAULTS: Mapping[str, int] = {"idle_seconds": 60, "held": 100, "hold_seconds": 60}
"""What it is told if nothing is said, by the arguments of RunArgs that are for it alone."""

_APPLICATION, _COMPONENT = "activator", "function-activator"


def activator_name(name: str) -> str:
    """Its own name."""
    return child(name, "activator")


def told_activator(where: str, args: Mapping[str, Any], *, needed: bool) -> dict[str, int]:
    """What an activator is told; refuses what is said to one where there is none."""
    given = {argument: args[argument] for argument in DEFAULTS if argument in args}
    for argument, value in given.items():
        if not needed:
            raise InputError(where, argument, value, "is for min_scale 0")
    return {**DEFAULTS, **given}


def activator_pods(
    args: Mapping[str, Any],
    told: Mapping[str, int],
    *,
    environment: Mapping[str, pulumi.Input[str]],
    timeout: int,
    ports: Sequence[PortArgs],
    deployment: pulumi.Input[str],
    pods: Reach,
    most_pods: int,
) -> ApplicationArgs:
    """The activator's pod.

    :param args: those of the function
    :param told: what ``told_activator`` returned
    :param environment: the runtime's own variables that both know
    :param timeout: seconds that the function may take
    :param ports: of the function and of its health; the activator has the same
    :param deployment: name of the function's Deployment
    :param pods: the function's
    """
    workload: dict[str, Any] = {
        "image": args["image"],
        "application": _APPLICATION,
        "component": _COMPONENT,
        "command": ["python3", "-m", "function_runtime.activator"],
        "env": {
            **environment,
            "ACTIVATOR_DEPLOYMENT": deployment,
            "ACTIVATOR_SELECTOR": ",".join(f"{k}={v}" for k, v in (pods.pods or {}).items()),
            "ACTIVATOR_MOST_PODS": str(most_pods),
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
        "ports": ports,
        "expose": ["http"],
        "clients": args["clients"],
        "reaches": [pods],
        "readiness": {"path": "/readyz", "port": "health", "period_seconds": 3},
        "liveness": {"path": "/healthz", "port": "health"},
        # What it holds then is still handed on.
        "grace_seconds": told["hold_seconds"] + timeout + 10,
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


def validate_activator(where: str, name: str, workload: ApplicationArgs) -> None:
    """Check it before anything is registered."""
    Application.validate(where, activator_name(name), workload)
