"""The composition ``adapters`` in a namespace of the tests, and a client that may ask everything."""

import pulumi

from dds_patterns import Application, Hosting, LogAdapter
from stacks.adapters import make
from tests.live.programs.common import in_namespace
from tests.live.support import storm
from tests.live.support.kube import InPod

config = pulumi.Config()
namespace = config.require("namespace")
images = config.require_object("images")
options = in_namespace(namespace)
hosting: Hosting = {"namespace": namespace, "images": images}
made = make(hosting, config.require_int("interval"), 10, options)
storm_logs = LogAdapter(
    "storm-logs",
    {
        "sources": [{"name": "storm", "kind": "storm", "interval_seconds": 2}],
        "poll_seconds": 0.5,
        "hosting": hosting,
    },
    options,
)
# What stands in for Storm's UI: the same paths and the same answers.
Application(
    "storm",
    {
        "image": images["toolbox"],
        "command": [
            *("python3", "-m", "http.server", "8080"),
            *("--bind", "127.0.0.1"),
            *("--directory", "/srv/storm"),
        ],
        "files": storm.files("/srv/storm"),
        "companions": [storm_logs.companion],
        "hosting": hosting,
        "termination_grace_period_seconds": 1,
    },
    options,
)
Application(
    "client",
    {
        "image": images["toolbox"],
        "command": ["sleep", "infinity"],
        "files": InPod.files(),
        "reaches": [
            *(each.reach for each in (made.prometheus, made.application, made.web, made.database)),
            *(job.reach for job in made.jobs.values()),
        ],
        "hosting": hosting,
        "termination_grace_period_seconds": 1,
    },
    options,
)
pulumi.export("dashboards", made.dashboards)
pulumi.export("password", made.store.password)
