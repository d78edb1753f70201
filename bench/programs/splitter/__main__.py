"""Two arms, and a client that reaches one directly and both through splitters at 10 % and 20 %."""

import pulumi

from dds_patterns import Application, Companion, RequestSplitter
from stacks.parts import page
from tests.live.programs.common import in_namespace
from tests.live.support.kube import InPod

config = pulumi.Config()
images = config.require_object("images")
options = in_namespace(config.require("namespace"))

control = page("control", images["nginx"], options)
experiment = page("experiment", images["nginx"], options)


def splitter(number: int, percent: float) -> Companion:
    """One of the two splitters of the same experiment."""
    return RequestSplitter(
        f"split-{percent:g}",
        {
            "image": images["nginx"],
            "metrics_image": images["companions"],
            "control": control.reach,
            "experiment": experiment.reach,
            "percent": percent,
            "salt": "bench",
            "listen_port": 8080 + 10 * number,
            "status_port": 8081 + 10 * number,
            "metrics_port": 9114 + number,
            "line_port": 5140 + number,
        },
        options,
    ).companion


Application(
    "client",
    {
        "image": images["toolbox"],
        "command": ["sleep", "infinity"],
        "files": {**InPod.files("bench.in_pod"), **InPod.files()},
        "companions": [splitter(0, 10), splitter(1, 20)],
        "reaches": [control.reach],
        # The load generator must not be what is measured.
        "hosting": {"resources": {"limits": {"cpu": "4", "memory": "512Mi"}}},
        "termination_grace_period_seconds": 1,
    },
    options,
)
pulumi.export("direct", control.endpoint)
