"""Delivery of a bus's events to functions."""

from typing import Any

import pulumi

from dds_patterns import Pipeline, Subscriber
from dds_patterns.values.flow import Flow, Next
from dds_patterns.values.reach import Credentials, Reach
from tests.unit.support.examples.example import IMAGE, Example, bus, hosting, reach

_FLOW = Flow(
    "orders",
    "check",
    {"check": Next(("mail",), {"gift": "wrap"}), "mail": Next(), "wrap": Next()},
)
_TARGET = reach("steps", app_protocol="http", path="/check")
_HOOK = Reach.outside("https://hooks.example.org/in", cidrs=["203.0.113.0/24"])
_TARGETS = {**dict.fromkeys(_FLOW.steps, _TARGET), "mail": _HOOK}
_DELIVERY = {
    "attempts": 5,
    "first_delay_seconds": 0.5,
    "max_delay_seconds": 20.0,
    "timeout_seconds": 2,
    "in_flight": 16,
}


# A bus whose password is known, which needs no running program.
_BUS = reach("bus", 4222, credentials=Credentials("another-swordfish", "events"))


def _pods(component: type[pulumi.Resource]) -> dict[str, Any]:
    return {
        "image": IMAGE,
        "bus": bus(),
        "clients": [{"pods": {"role": "client"}}],
        "metrics_clients": [{"namespace": "monitoring", "pods": {"app": "prometheus"}}],
        "replicas": 3,
        "hosting": hosting(component),
    }


EXAMPLES: dict[str, Example] = {
    "Pipeline": Example(
        Pipeline,
        "dds:index:Pipeline",
        {"image": IMAGE, "bus": _BUS, "flow": _FLOW, "targets": _TARGETS},
        lambda: {
            **_pods(Pipeline),
            "flow": _FLOW,
            "targets": _TARGETS,
            "delivery": _DELIVERY,
            "deliveries": {"mail": _DELIVERY},
        },
    ),
    "Subscriber": Example(
        Subscriber,
        "dds:index:Subscriber",
        {
            "image": IMAGE,
            "bus": _BUS,
            "subscriptions": [{"name": "mail", "topic": "order.placed", "target": _TARGET}],
        },
        lambda: {
            **_pods(Subscriber),
            "subscriptions": [
                {"name": "mail", "topic": "order.placed", "target": _TARGET, **_DELIVERY},
                {"name": "wrap", "topic": "order.placed", "target": _TARGET},
            ],
            "accepts": ["order.placed"],
        },
    ),
}
