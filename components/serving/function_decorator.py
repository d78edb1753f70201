"""FunctionDecorator: a function in front of a service, which stays as it is (chapter 8)."""

from typing import NotRequired

import pulumi
from pulumi_kubernetes.autoscaling.v2 import HorizontalPodAutoscaler

from components.arguments.errors import InputError
from components.serving.function_plan import (
    FunctionPlan,
    RunArgs,
    plan_function,
    target_of,
)
from components.values import checks
from components.values.edges import Edge
from components.values.targets import Target
from components.workloads.application import Application

DEFAULTING = """\
# Simple handler function for adding default values
def handler(context):
    # Get the input value
    obj = context.json
    # If the 'name' field is not present, set it randomly
    if obj.get("name", None) is None:
        obj["name"] = random_name()
    # If the 'color' field is not present, set it to 'blue'
    if obj.get("color", None) is None:
        obj["color"] = "blue"
    # Call the actual API, potentially with the new default
    # values, and return the result
    return call_my_api(obj)
"""
"""The book's handler, as it prints it."""

FAILURES = ("closed", "open")


class FunctionDecoratorArgs(RunArgs):
    """Arguments of FunctionDecorator."""

    upstream: pulumi.Input[str]
    """``host:port`` of the service that it stands in front of."""
    upstream_edge: Edge
    """The way to the service's pods, for the NetworkPolicy: their port (not the Service's) and
    labels."""
    code: NotRequired[pulumi.Input[str]]
    """The text of a Python module; instead of ``source``. Without either it is DEFAULTING: an
    object without a name gets one, without a colour it becomes blue."""
    target: NotRequired[str]
    """Name of the function that gets each request whose body is a JSON object, as ``context``. It
    changes ``context.json`` and returns ``call_my_api(obj)``, which asks the service and is there
    without being defined, as is ``random_name()``. Defaults to ``handler``."""
    response: NotRequired[str]
    """Name of a function ``(context, answer)`` that returns the answer for the client. By default
    the service's answer stays as it is."""
    on_failure: NotRequired[str]
    """What becomes of a request when the function fails. ``closed``: the client gets 500; the
    service has not seen the request unless it was the response function that failed. ``open``: the
    request goes to the service as it came, or its answer to the client as it came. Defaults to
    ``closed``."""


class FunctionDecorator(pulumi.ComponentResource):
    """Fills in and changes requests on their way to a service, and answers on their way back.

    Requests without a JSON object as body pass unchanged, as do the service's refusals. A service
    that does not answer is 502. Registers what a Function registers.
    """

    labels: dict[str, str]
    """Labels that select the pods; the service may let in these alone."""
    endpoint: pulumi.Output[str]
    """``host:port`` for clients of the service, from anywhere in the cluster."""
    target: Target
    """The same with the way there, for clients and for deliveries."""
    application: Application
    """The pods."""
    activator: Application | None
    """What requests come to, with ``min_scale`` 0; otherwise None."""
    scaler: HorizontalPodAutoscaler | None
    """What scales them; None with a fixed number."""

    def __init__(
        self, name: str, args: FunctionDecoratorArgs, opts: pulumi.ResourceOptions | None = None
    ) -> None:
        """Register the decorator.

        :param name: a DNS label of at most 54 characters
        :raises InputError: an argument that cannot be right, before anything is registered
        """
        plan = _plan(name, args, f'FunctionDecorator "{name}"')
        super().__init__(
            "dds:index:FunctionDecorator",
            name,
            {"image": args["image"], "upstream": args["upstream"]},
            opts,
        )
        made = plan.register(self)
        self.application = made.application
        self.activator = made.activator
        self.scaler = made.scaler
        self.labels = made.application.labels
        self.endpoint = made.endpoint
        self.target = target_of(made)
        self.register_outputs({"endpoint": self.endpoint})


def decorator_labels(name: str) -> dict[str, str]:
    """Labels of a decorator's pods before it is made, for the service's ``clients``."""
    return {
        "app.kubernetes.io/instance": name,
        "app.kubernetes.io/component": "function-decorator",
    }


def _plan(name: str, args: FunctionDecoratorArgs, where: str) -> FunctionPlan:
    checks.known_arguments(where, FunctionDecoratorArgs, args)
    on_failure = checks.one_of(where, "on_failure", args.get("on_failure", "closed"), FAILURES)
    edge: object = args["upstream_edge"]
    if not isinstance(edge, Edge):
        raise InputError(where, "upstream_edge", edge, "must be an Edge")
    target = args.get("target", "handler")
    functions = {"target": target}
    runtime: dict[str, pulumi.Input[str]] = {
        "FUNCTION_HANDLER": target,
        "FUNCTION_UPSTREAM": checks.checked(
            args["upstream"], lambda text: _address(where, "upstream", text)
        ),
        "FUNCTION_ON_FAILURE": on_failure,
    }
    if "response" in args:
        functions["response"] = args["response"]
        runtime["FUNCTION_RESPONSE"] = args["response"]
    code = args.get("code")
    if code is None and "source" not in args:
        code = DEFAULTING
    return plan_function(
        where,
        name,
        {**args, "code": code, "egress": [*args.get("egress", ()), edge]},
        component="function-decorator",
        functions=functions,
        signature="context",
        runtime=runtime,
    )


def _address(where: str, argument: str, text: str) -> str:
    host, _, port = text.rpartition(":")
    if not host or not port.isdigit():
        raise InputError(where, argument, text, "must be host:port")
    checks.port(where, argument, int(port))
    return text
