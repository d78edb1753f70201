"""Replicas with a volume each, of a class whose volumes can grow."""

import pulumi

from dds_patterns import StatefulApplication
from tests.live.programs.common import in_namespace

config = pulumi.Config()
images = config.require_object("images")
StatefulApplication(
    "kept",
    {
        "image": images["toolbox"],
        "command": ["sleep", "infinity"],
        "replicas": config.require_int("replicas"),
        "storage_path": "/data",
        "hosting": {
            "storage": {"size": config.require("size"), "storage_class": config.require("class")}
        },
        "termination_grace_period_seconds": 1,
    },
    in_namespace(config.require("namespace")),
)
