"""Function: code that runs when it is called, without a server of its own (chapter 8)."""

from collections.abc import Sequence
from typing import NotRequired

import pulumi
from pulumi_kubernetes.autoscaling.v2 import HorizontalPodAutoscaler

from components.arguments.errors import InputError
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
from components.values import checks
from components.values.bus import BusTopology
from components.values.targets import Target
from components.workloads.application import Application

__all__ = ["FUNCTION_PORT", "HEALTH_PORT", "Function", "FunctionArgs"]


class FunctionArgs(RunArgs):
    """Arguments of Function."""

    code: NotRequired[pulumi.Input[str]]
    """The text of a Python module; instead of ``source``. A secret is refused."""
    target: NotRequired[str]
    """Name of the function. Defaults to ``handler``."""
    signature: NotRequired[str]
    """What the function takes: ``context`` (default) as in the book, with ``context.json``;
    ``http`` (a Flask request), ``cloudevent`` or ``typed`` as functions-framework has them."""
    triggers: NotRequired[Sequence[str]]
    """What calls it: ``http``, the pods that ``clients`` names; ``event``, what delivers the events
    of ``bus``. Defaults to ``http``, and with a ``bus`` to ``event``."""
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
        plan = _plan(name, args, f'Function "{name}"')
        super().__init__("dds:index:Function", name, {"image": args["image"]}, opts)
        made = plan.register(self)
        self.application = made.application
        self.activator = made.activator
        self.scaler = made.scaler
        self.labels = made.application.labels
        self.endpoint = made.endpoint
        self.target = target_of(made)
        self.image = pulumi.Output.from_input(
            args["image"] if made.image is None else made.image.repo_digest
        )
        self.register_outputs({"endpoint": self.endpoint, "image": self.image})

    @staticmethod
    def validate(where: str, name: str, args: FunctionArgs) -> None:
        """Check the arguments for a component that is made of a Function.

        :param where: that component, so that messages name it
        """
        _plan(name, args, where)


def _plan(name: str, args: FunctionArgs, where: str) -> FunctionPlan:
    checks.known_arguments(where, FunctionArgs, args)
    target = args.get("target", "handler")
    signature = checks.one_of(where, "signature", args.get("signature", "context"), SIGNATURES)
    bus: object = args.get("bus")
    if bus is not None and not isinstance(bus, BusTopology):
        raise InputError(where, "bus", bus, "must be a BusTopology, most often bus.topology")
    triggers = [*args.get("triggers", ("http",) if bus is None else ("event",))]
    if not triggers:
        raise InputError(where, "triggers", triggers, f"must have one of {', '.join(TRIGGERS)}")
    for position, trigger in enumerate(triggers):
        checks.one_of(where, f"triggers[{position}]", trigger, TRIGGERS)
    checks.unique(where, "triggers", triggers)
    if ("event" in triggers) != (bus is not None):
        raise InputError(
            where, "triggers", triggers, "must have event if there is a bus, only then"
        )
    clients = [*args.get("clients", ())]
    if clients and "http" not in triggers:
        raise InputError(where, "clients", clients, "is for the trigger http")
    if bus is not None:
        clients.append(dict([bus.delivery_label]))
    return plan_function(
        where,
        name,
        {**args, "clients": clients},
        component="function",
        functions={"target": target},
        signature=signature,
        runtime={"FUNCTION_HANDLER": target},
    )
