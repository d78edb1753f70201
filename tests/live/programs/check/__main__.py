"""A check that passes, or fails when it is told to."""

import pulumi

from dds_patterns import SmokeTest
from tests.live.programs.common import in_namespace

config = pulumi.Config()
check = SmokeTest(
    "speaks",
    {
        "image": config.require("image"),
        "script": 'echo "heard $HEARD"; test "$HEARD" = "hello"',
        "env": {"HEARD": config.get("heard") or "hello"},
        "covers": [config.get("covered") or "first"],
        "backoff_limit": 0,
        "timeout_seconds": 60,
    },
    in_namespace(config.require("namespace")),
)
