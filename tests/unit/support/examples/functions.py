"""What delivers the events of a bus to functions."""

from typing import Any

from components import Pipeline, Subscriber
from components.values.bus import BusTopology
from components.values.edges import Edge
from components.values.flow import Flow, Next
from components.values.targets import Target
from tests.unit.support.examples.example import IMAGE, Example, bus

_FLOW = Flow(
    "orders",
    "check",
    {"check": Next(("mail",), {"gift": "wrap"}), "mail": Next(), "wrap": Next()},
)
_TARGET = Target("http://steps.here.svc:8080/", Edge(ports=(8080,), pods={"app": "steps"}))
_TARGETS = dict.fromkeys(_FLOW.steps, _TARGET)
_DELIVERY = {
    "attempts": 5,
    "first_delay_seconds": 0.5,
    "longest_delay_seconds": 20.0,
    "timeout_seconds": 2,
    "in_flight": 16,
}


def _plain_bus() -> BusTopology:
    """A bus whose password is known, which needs no running program."""
    password: Any = "another-swordfish"
    return BusTopology(
        name="bus",
        server="bus:4222",
        port=4222,
        username="events",
        password=password,
        client_label=("dds/client-of-bus", "true"),
        delivery_label=("dds/delivers-for-bus", "true"),
        server_labels={"app.kubernetes.io/instance": "bus"},
    )


def _pods() -> dict[str, Any]:
    return {
        "image": IMAGE,
        "bus": bus(),
        "clients": [{"role": "client"}],
        "monitors": [{"app": "prometheus"}],
        "replicas": 3,
        "namespace": "here",
    }


EXAMPLES: dict[str, Example] = {
    "Pipeline": Example(
        Pipeline,
        "dds:index:Pipeline",
        {"image": IMAGE, "bus": _plain_bus(), "flow": _FLOW, "targets": _TARGETS},
        lambda: {
            **_pods(),
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
            "bus": _plain_bus(),
            "subscriptions": [{"name": "mail", "topic": "order.placed", "target": _TARGET}],
        },
        lambda: {
            **_pods(),
            "subscriptions": [
                {"name": "mail", "topic": "order.placed", "target": _TARGET, **_DELIVERY},
                {"name": "wrap", "topic": "order.placed", "target": _TARGET},
            ],
            "accepts": ["order.placed"],
        },
    ),
}
