"""The same code as a Function and as a plain Deployment of functions-framework; a client."""

from pathlib import Path

import pulumi

from dds_patterns import Application, ApplicationHosting, Function, FunctionArgs
from tests.live.programs.common import in_namespace
from tests.live.support.kube import InPod

SOURCE = "handler.py"
THREADS = 8
TEMPORARY = "/tmp"  # noqa: S108 (a folder of the pod)
AS_FUNCTION: ApplicationHosting = {
    "resources": {"requests": {"cpu": "100m"}, "limits": {"cpu": "1", "memory": "256Mi"}}
}

config = pulumi.Config()
images = config.require_object("images")
options = in_namespace(config.require("namespace"))
image = images["function"]
common: FunctionArgs = {
    "image": image,
    "source": SOURCE,
    "concurrency": THREADS,
    "min_scale": 1,
    "max_scale": 1,
}
function = Function("function", {**common, "signature": "http"}, options)
book = Function("book", {**common, "target": "book"}, options)
zero = Function("zero", {**common, "signature": "http", "min_scale": 0, "idle_seconds": 5}, options)
scaled = Function(
    "scaled",
    {
        **common,
        "source": "scaled.py",
        "max_scale": 3,
        "hosting": {"resources": {"requests": {"cpu": "40m"}}},
        "target_cpu_percent": 50,
        "scale_down_seconds": 0,
    },
    options,
)
plain = Application(
    "plain",
    {
        "image": image,
        "command": [
            "python3", "-m", "functions_framework", "--target", "handler", "--source",
            f"/opt/plain/{SOURCE}",
        ],
        "env": {"THREADS": str(THREADS), "HOME": TEMPORARY},
        "files": {f"/opt/plain/{SOURCE}": Path(SOURCE).read_text()},
        "writable": [TEMPORARY],
        "ports": [{"name": "http", "port": 8080}],
        # As the function has it.
        "readiness": {"period_seconds": 3},
        "hosting": AS_FUNCTION,
    },
    options,
)  # fmt: skip
# The least time until a pod is ready.
Application(
    "bare",
    {
        "image": image,
        "command": ["python3", "-m", "http.server", "8080"],
        # It does not handle SIGTERM.
        "termination_grace_period_seconds": 1,
        "ports": [{"name": "http", "port": 8080}],
        "readiness": {"period_seconds": 3},
        "hosting": AS_FUNCTION,
    },
    options,
)
Application(
    "client",
    {
        "image": images["toolbox"],
        "command": ["sleep", "infinity"],
        "files": InPod.files(),
        "reaches": [function.reach, book.reach, plain.reach, zero.reach, scaled.reach],
        "writable": [TEMPORARY],
        "termination_grace_period_seconds": 1,
        # The load generator must not be what is measured.
        "hosting": {"resources": {"limits": {"cpu": "2", "memory": "256Mi"}}},
    },
    options,
)


def url(endpoint: pulumi.Output[str] | None) -> pulumi.Output[str]:
    """URL of a Service."""
    return pulumi.Output.concat("http://", endpoint or "")


pulumi.export(
    "urls",
    {
        "function": url(function.endpoint),
        "book": url(book.endpoint),
        "plain": url(plain.endpoint),
        "zero": url(zero.endpoint),
        "scaled": url(scaled.endpoint),
    },
)
