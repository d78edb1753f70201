"""Function: code that runs when it is called, without a server of its own (chapter 8)."""

from typing import Annotated, NotRequired

import pulumi
from pulumi_kubernetes.autoscaling.v2 import HorizontalPodAutoscaler

from components.arguments import Default, Later, one_of, resolved
from components.arguments.names import check_name
from components.serving.function_plan import (
    FUNCTION_PORT,
    HEALTH_PORT,
    SIGNATURES,
    FunctionPlan,
    RunArgs,
    plan_function,
)
from components.serving.function_source import Code, FunctionName
from components.values.names import AUTONAME
from components.values.reach import Reach
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
    reach: Reach
    """How it is reached, by its callers and by Subscriber and Pipeline, which deliver events."""
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
        self.reach = made.entrance.reach
        self.image = pulumi.Output.from_input(
            plan.args["image"] if made.image is None else made.image.repo_digest
        )
        self.register_outputs({"endpoint": self.endpoint, "image": self.image})


def _plan(where: str, name: str, args: FunctionArgs) -> FunctionPlan:
    check_name(where, name, reserve=AUTONAME, service=True)
    args = resolved(where, FunctionArgs, args)
    return plan_function(
        where,
        name,
        args,
        component="function",
        functions={"target": args["target"]},
        signature=args["signature"],
        runtime={"FUNCTION_HANDLER": args["target"]},
    )
