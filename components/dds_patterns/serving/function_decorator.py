"""FunctionDecorator: a function in front of an unchanged service (chapter 8)."""

from typing import Annotated, NotRequired

import pulumi

from dds_patterns.arguments import Default, DefaultsTo, InputError, Later, one_of, resolved
from dds_patterns.arguments.names import check_name
from dds_patterns.serving.function_plan import (
    FunctionComponent,
    FunctionPlan,
    RunArgs,
    plan_function,
)
from dds_patterns.serving.function_source import Code, FunctionName
from dds_patterns.values.names import AUTONAME
from dds_patterns.values.reach import Reach, speaking

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

    upstream: Annotated[Reach, speaking("http")]
    """The service behind it. It must have no path: each request keeps its own."""
    code: NotRequired[Annotated[Later[Code], DefaultsTo("DEFAULTING, without ``source``")]]
    """The text of a Python module; instead of ``source``. DEFAULTING gives an object without a name
    one, and one without a colour the colour blue."""
    target: NotRequired[Annotated[FunctionName, Default("handler")]]
    """Name of the function that gets each request whose body is a JSON object, as ``context``. It
    changes ``context.json`` and returns ``call_my_api(obj)``, which calls the service. The runtime
    provides it, and ``random_name()``."""
    response: NotRequired[FunctionName]
    """Name of a function ``(context, answer)`` that returns the response for the client. Without it
    the service's response stays unchanged."""
    on_failure: NotRequired[Annotated[str, one_of(*FAILURES), Default("closed")]]
    """What happens to a request if the function fails. ``closed``: the client gets 500; the service
    has not received the request unless the response function failed. ``open``: the unchanged request
    goes to the service, or the unchanged response to the client."""


class FunctionDecorator(FunctionComponent):
    """Completes and changes requests to a service, and its responses.

    Requests without a JSON object as body pass unchanged, as do the service's error responses. If the
    service does not respond, the client gets 502. Registers what a Function registers.
    """

    def __init__(
        self, name: str, args: FunctionDecoratorArgs, opts: pulumi.ResourceOptions | None = None
    ) -> None:
        """Register the decorator.

        :param name: a DNS label of at most 54 characters
        :raises InputError: an invalid argument, before anything is registered
        """
        where = f'FunctionDecorator "{name}"'
        check_name(where, name, reserve=AUTONAME, service=True)
        args = resolved(where, FunctionDecoratorArgs, args)
        plan = _plan(where, name, args)
        super().__init__(
            "dds:index:FunctionDecorator",
            name,
            {"image": args["image"], "upstream": args["upstream"].endpoint},
            opts,
        )
        self._run(plan)
        self.register_outputs({"endpoint": self.endpoint})


def _plan(where: str, name: str, args: FunctionDecoratorArgs) -> FunctionPlan:
    upstream = args["upstream"]
    if upstream.path:
        raise InputError(
            where, "upstream.path", upstream.path,
            "must be left out: each request keeps its own path",
        )  # fmt: skip
    runtime: dict[str, pulumi.Input[str]] = {
        "FUNCTION_UPSTREAM": upstream.endpoint,
        "FUNCTION_ON_FAILURE": args["on_failure"],
    }
    if "response" in args:
        runtime["FUNCTION_RESPONSE"] = args["response"]
    code = {} if "code" in args or "source" in args else {"code": DEFAULTING}
    return plan_function(
        where,
        name,
        {**args, **code, "reaches": [*args["reaches"], upstream]},
        component="function-decorator",
        signature="context",
        runtime=runtime,
    )
