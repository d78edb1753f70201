"""Function: code that runs for each request or event, without a server of its own (chapter 8)."""

from typing import Annotated, NotRequired

import pulumi

from dds_patterns.arguments import Default, Later, one_of, resolved
from dds_patterns.arguments.names import check_name
from dds_patterns.serving.function_plan import (
    FUNCTION_PORT,
    HEALTH_PORT,
    SIGNATURES,
    FunctionComponent,
    RunArgs,
    plan_function,
)
from dds_patterns.serving.function_source import Code, FunctionName
from dds_patterns.values.names import AUTONAME

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


class Function(FunctionComponent):
    """A function behind HTTP, in as many pods as its load needs.

    Registers an Application, a HorizontalPodAutoscaler if it scales, an image if the code has
    dependencies, and with ``min_scale`` 0 another Application in front of it, the activator. Each pod
    answers ``/healthz``, ``/readyz`` and ``/metrics`` on HEALTH_PORT and logs one JSON object a
    line, with the id of the request (``X-Request-Id``, ``traceparent``).
    """

    image: pulumi.Output[str]
    """The image that runs: by digest if it was built here."""

    def __init__(
        self, name: str, args: FunctionArgs, opts: pulumi.ResourceOptions | None = None
    ) -> None:
        """Register the function.

        :param name: a DNS label of at most 54 characters
        :raises InputError: an invalid argument, before anything is registered
        """
        where = f'Function "{name}"'
        check_name(where, name, reserve=AUTONAME, service=True)
        args = resolved(where, FunctionArgs, args)
        plan = plan_function(
            where, name, args, component="function", signature=args["signature"], runtime={}
        )
        super().__init__("dds:index:Function", name, {"image": args["image"]}, opts)
        self.image = pulumi.Output.from_input(self._run(plan))
        self.register_outputs({"endpoint": self.endpoint, "image": self.image})
