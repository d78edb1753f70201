"""A pipeline of two functions, in a program of your own."""

import pulumi
from pulumi_kubernetes.core.v1 import Namespace

from dds_patterns import EventBus, Flow, Function, Hosting, Next, Pipeline

CODE = """
def check(context):
    return {"checked": context.json["order"]}

def wrap(context):
    print("wrapped in", context.json["gift"], "once for", context.headers["Idempotency-Key"])
    return {"wrapped": True}
"""
ORDERS = Flow("orders", "check", {"check": Next(optional={"gift": "wrap"}), "wrap": Next()})

config = pulumi.Config()
events = config.require("events")
namespace = Namespace("pipeline-example").metadata["name"]
hosting: Hosting = {"namespace": namespace}

bus = EventBus(
    "bus", {"image": config.require("nats"), "tools_image": events, "hosting": hosting}
).reach
targets = {
    step: Function(
        step,
        {
            "image": config.require("function"),
            "code": CODE,
            "target": step,
            "hosting": hosting,
        },
    ).reach
    for step in ORDERS.steps
}
orders = Pipeline(
    "orders",
    {
        "image": events,
        "bus": bus,
        "flow": ORDERS,
        "targets": targets,
        "clients": [{}],
        "hosting": hosting,
    },
)
deployment = orders.application.deployment.metadata["name"]
pulumi.export("namespace", namespace)
pulumi.export("url", orders.url)
pulumi.export(
    "try",
    pulumi.Output.format("kubectl -n {0} port-forward deploy/{1} 8080", namespace, deployment),
)
pulumi.export(
    "trace",
    pulumi.Output.format(
        "kubectl -n {0} exec deploy/{1} -- python3 -m events trace", namespace, deployment
    ),
)
