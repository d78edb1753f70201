"""Function: code that runs when it is called, without a server of its own (chapter 8)."""

from collections.abc import Sequence
from typing import Annotated, NotRequired

import pulumi
from pulumi_kubernetes.autoscaling.v2 import HorizontalPodAutoscaler

from components.arguments import (
    DISTINCT,
    NOT_EMPTY,
    Default,
    DefaultsTo,
    InputError,
    Later,
    one_of,
    resolved,
)
from components.arguments.names import check_name
from components.serving.function_plan import (
    FUNCTION_PORT,
    HEALTH_PORT,
    SIGNATURES,
    TRIGGERS,
    FunctionPlan,
    RunArgs,
    plan_function,
    target_of,
)
from components.serving.function_source import Code, FunctionName
from components.values.bus import BusTopology
from components.values.names import AUTONAME
from components.values.targets import Target
from components.workloads.application import Application

__all__ = ["FUNCTION_PORT", "HEALTH_PORT", "Function", "FunctionArgs"]


class FunctionArgs(RunArgs):
    """Arguments of Function."""

    code: NotRequired[Later[Code]]
    """The text of a Python module; instead of ``source``."""
    target: NotRequired[Annotated[FunctionName, Default("handler")]]
    """Name of the function."""
    signature: NotRequired[Annotated[str, one_of(*SIGNATURES), Default("context")]]
    """What the function takes: ``context`` as in the book, with ``context.json``; ``http`` (a Flask
    request), ``cloudevent`` or ``typed`` as functions-framework has them."""
    triggers: NotRequired[
        Annotated[
            Sequence[Annotated[str, one_of(*TRIGGERS)]],
            NOT_EMPTY,
            DISTINCT,
            DefaultsTo("``http``, and with a ``bus`` ``event``"),
        ]
    ]
    """What calls it: ``http``, the pods that ``clients`` names; ``event``, what delivers the events
    of ``bus``."""
    bus: NotRequired[BusTopology]
    """The bus that its events come from, for the trigger ``event``. Which events these are, say a
    Subscriber or a Pipeline, which take the function's ``target``."""


class Function(pulumi.ComponentResource):
    """A function behind HTTP, in as many pods as its load needs.

    Registers an Application, a HorizontalPodAutoscaler where it scales, an image where the code has
    dependencies, and with ``min_scale`` 0 another Application before it, the activator. Each pod
    answers ``/healthz``, ``/readyz`` and ``/metrics`` on HEALTH_PORT and logs one JSON object a
    line, with the id of the request (``X-Request-Id``, ``traceparent``).
    """

    labels: dict[str, str]
    """Labels that select the pods."""
    endpoint: pulumi.Output[str]
    """``host:port``, from anywhere in the cluster."""
    target: Target
    """Where events are delivered to, for Subscriber and Pipeline."""
    application: Application
    """The pods."""
    activator: Application | None
    """What requests come to, with ``min_scale`` 0; otherwise None."""
    scaler: HorizontalPodAutoscaler | None
    """What scales them; None with a fixed number."""
    image: pulumi.Output[str]
    """The image that runs: by digest where it was built here."""

    def __init__(
        self, name: str, args: FunctionArgs, opts: pulumi.ResourceOptions | None = None
    ) -> None:
        """Register the function.

        :param name: a DNS label of at most 54 characters
        :raises InputError: an argument that cannot be right, before anything is registered
        """
        plan = _plan(f'Function "{name}"', name, args)
        super().__init__("dds:index:Function", name, {"image": plan.args["image"]}, opts)
        made = plan.register(self)
        self.application = made.application
        self.activator = made.activator
        self.scaler = made.scaler
        self.labels = made.application.labels
        self.endpoint = made.endpoint
        self.target = target_of(made)
        self.image = pulumi.Output.from_input(
            plan.args["image"] if made.image is None else made.image.repo_digest
        )
        self.register_outputs({"endpoint": self.endpoint, "image": self.image})


def _plan(where: str, name: str, args: FunctionArgs) -> FunctionPlan:
    check_name(where, name, reserve=AUTONAME, service=True)
    args = resolved(where, FunctionArgs, args)
    bus = args.get("bus")
    triggers = args.get("triggers", ["http"] if bus is None else ["event"])
    if ("event" in triggers) != (bus is not None):
        raise InputError(
            where, "triggers", triggers, "must have event if there is a bus, only then"
        )
    clients = [*args["clients"]]
    if clients and "http" not in triggers:
        raise InputError(where, "clients", clients, "is for the trigger http")
    if bus is not None:
        clients.append(dict([bus.delivery_label]))
    return plan_function(
        where,
        name,
        {**args, "clients": clients},
        component="function",
        functions={"target": args["target"]},
        signature=args["signature"],
        runtime={"FUNCTION_HANDLER": args["target"]},
    )
