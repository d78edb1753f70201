"""Functions of each kind, decorators before one of them, and a pod that calls them."""

import pulumi

from dds_patterns import (
    Application,
    Function,
    FunctionArgs,
    FunctionDecorator,
    FunctionDecoratorArgs,
    Hosting,
    Reach,
)
from dds_patterns.serving.function import FUNCTION_PORT
from tests.live.programs.common import in_namespace
from tests.live.support.kube import InPod

config = pulumi.Config()
images = config.require_object("images")
options = in_namespace(config.require("namespace"))
image = images["function"]
# Counted with little, so that the pods which come by scaling find room beside other tests' pods.
SMALL: Hosting = {"resources": {"requests": {"cpu": "25m"}}}
one: FunctionArgs = {
    "image": image,
    "min_scale": 1,
    "max_scale": 1,
    "hosting": SMALL,
}
reaches: list[Reach] = []
urls: dict[str, pulumi.Output[str]] = {}


def function(name: str, **more: object) -> Function:
    """A function that the client calls."""
    args: FunctionArgs = {**one, **more}  # type: ignore[typeddict-item]
    made = Function(name, args, options)
    reaches.append(made.reach)
    urls[name] = pulumi.Output.concat("http://", made.endpoint)
    return made


# What an API sees: each answer repeats the request, and GET gives all of them.
api = function("api", source="api.py", signature="http", concurrency=1)
function("limited", source="limited.py", concurrency=2, queue_size=2, timeout_seconds=4)
function(
    "scaled",
    source="scaled.py",
    min_scale=1,
    max_scale=3,
    hosting={"resources": {"requests": {"cpu": "40m"}}},
    target_cpu_percent=50,
    scale_down_seconds=0,
)
function("shouts", source="shouts", registry=config.require("registry"))
function("events", source="limited.py", target="on_event", signature="cloudevent")
function("sleepy", source="limited.py", concurrency=2, min_scale=0, max_scale=1, idle_seconds=15)
# Its pod will not get ready; who waits for it is told soon.
function("unlucky", source="api.py", signature="http", min_scale=0, max_scale=1, idle_seconds=5,
         activator_queue_size=3, activator_timeout_seconds=15)  # fmt: skip


def decorator(name: str, **more: object) -> None:
    """A decorator before the API."""
    args: FunctionDecoratorArgs = {
        "image": image,
        "min_scale": 1,
        "max_scale": 1,
        "hosting": SMALL,
        "upstream": api.reach,
        **more,  # type: ignore[typeddict-item]
    }
    made = FunctionDecorator(name, args, options)
    reaches.append(made.reach)
    urls[name] = pulumi.Output.concat("http://", made.endpoint)


decorator("defaults")
decorator("closed", source="failing.py", on_failure="closed", response="answer")
decorator("open", source="failing.py", on_failure="open", response="answer")

Application(
    "client",
    {
        "image": images["toolbox"],
        "command": ["sleep", "infinity"],
        "files": InPod.files(),
        # The last one lets it out to every pod: which of them let it in is for the tests to see.
        "reaches": [*reaches, Reach("pods", (f"pods:{FUNCTION_PORT}",), pods={})],
        "writable": ["/tmp"],
        "termination_grace_period_seconds": 1,
        "hosting": {"resources": {"limits": {"memory": "256Mi"}}},
    },
    options,
)
pulumi.export("urls", urls)
