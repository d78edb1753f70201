"""`make trace ID=...`: the path of an event through a pipeline, with times."""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
from collections.abc import Sequence
from typing import Any

from toolchain import runner
from toolchain.errors import ToolchainError
from toolchain.paths import Checkout

DEFAULT_STACK = "functions"
OUTPUT = "trace"
"""Output of a stack with the ``namespace`` and ``deployment`` of the pipeline."""
_ID = re.compile(r"[A-Za-z0-9][-_A-Za-z0-9]{0,63}")


def main(arguments: Sequence[str]) -> int:
    """Print the path of an event; the exit status is 1 without records of it."""
    parser = argparse.ArgumentParser(prog="trace", description=__doc__)
    parser.add_argument(
        "--id", required=True, help="id in the response to publishing, or the header ce-id"
    )
    parser.add_argument(
        "--stack", default=os.environ.get("STACK") or DEFAULT_STACK, help="composition"
    )
    given = parser.parse_args(arguments)
    if not _ID.fullmatch(given.id):
        raise ToolchainError(
            f"trace: ID is {given.id!r}; must be 1 to 64 letters, digits, dashes and "
            "underscores: make trace ID=..."
        )
    checkout = Checkout()
    with runner.session(checkout) as (_, cli):
        if given.stack not in cli.stacks():
            raise ToolchainError(
                f"trace: there is no stack {given.stack}; create it with make up STACK={given.stack}"
            )
        outputs = json.loads(cli.capture(["stack", "output", "--json", "--stack", given.stack]))
        environment = {**os.environ, **cli.environment}
    line = command(given.stack, outputs, given.id, runner.foreign_context(checkout, given.stack))
    return subprocess.run(line, env=environment, check=False).returncode


def command(
    stack: str, outputs: dict[str, Any], event: str, context: str | None = None
) -> list[str]:
    """The command that queries the bus, in a pod that has access.

    :param context: kubectl's context, if the cluster is not the project's own
    """
    place = outputs.get(OUTPUT)
    if not isinstance(place, dict) or not {"namespace", "deployment"} <= set(place):
        raise ToolchainError(f"trace: the stack {stack} has no pipeline (no output {OUTPUT})")
    return [
        *("kubectl", *(("--context", context) if context else ())),
        *("--namespace", str(place["namespace"]), "exec", f"deployment/{place['deployment']}"),
        *("--container", "events", "--", "python3", "-m", "events", "trace", event),
    ]
