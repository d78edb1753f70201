"""Declares the Docker objects that a test has written to objects.json."""

import json
from pathlib import Path
from typing import Any

import pulumi
import pulumi_docker as docker

_made: dict[str, pulumi.CustomResource] = {}


def _resolved(value: Any) -> Any:
    """Values with what stands for a secret or for another object's output put in."""
    if isinstance(value, list):
        return [_resolved(item) for item in value]
    if not isinstance(value, dict):
        return value
    if "$secret" in value:
        return pulumi.Output.secret(value["$secret"])
    if "$output" in value:
        name, output = value["$output"]
        return getattr(_made[name], output)
    return {key: _resolved(item) for key, item in value.items()}


for one in json.loads((Path(__file__).parent / "objects.json").read_text()):
    made = getattr(docker, one["type"])(
        one["name"],
        **_resolved(one["properties"]),
        opts=pulumi.ResourceOptions(import_=one.get("import")),
    )
    _made[one["name"]] = made
