"""Throw-away stacks: real programs run by the real CLI, each with a backend of its own."""

import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.live.support.cluster import Cluster
from toolchain.paths import Checkout
from toolchain.pulumi_cli import PulumiCli

PROGRAMS = Path(__file__).parent.parent / "programs"


class UpdateError(Exception):
    """The CLI failed; ``output`` is its whole output."""

    def __init__(self, command: str, output: str) -> None:
        super().__init__(f"{command} failed:\n{output[-6000:]}")
        self.output = output


def words(output: str) -> str:
    """The CLI's output as one line: it wraps lines anywhere."""
    return " ".join(output.split())


@dataclass(frozen=True)
class Update:
    """The result of one run of the CLI."""

    output: str
    steps: Mapping[str, str]
    """Last operation on each resource, by URN; those left as they were have ``same``."""
    seconds: float

    @property
    def changed(self) -> dict[str, str]:
        """Type and name of every changed resource, with the operation."""
        return {
            "::".join(urn.split("::")[-2:]): operation
            for urn, operation in self.steps.items()
            if operation not in ("same", "read", "refresh")
        }


@dataclass
class Stack:
    """One stack of a program, in a folder of its own."""

    cluster: Cluster
    program: Path
    folder: Path
    name: str = "live"
    config: dict[str, str] = field(default_factory=dict)

    @property
    def environment(self) -> dict[str, str]:
        passphrase = {"PULUMI_CONFIG_PASSPHRASE": "throw-away"}
        root = str(self.cluster.checkout.root)
        return {
            **self.cluster.environment,
            **passphrase,
            "PULUMI_BACKEND_URL": f"file://{self.state}",
            # Without it the CLI does not know --event-log.
            "PULUMI_DEBUG_COMMANDS": "true",
            # The program is outside the checkout, so that its stack file is, too.
            "PYTHONPATH": root,
        }

    @property
    def work(self) -> Path:
        return self.folder / "program"

    @property
    def state(self) -> Path:
        """The driver's folder for it, if the program's folder were its checkout."""
        return Checkout(self.work).state

    @property
    def cli(self) -> PulumiCli:
        """The driver's CLI for this stack."""
        return PulumiCli(Checkout(self.work), self.environment)

    def prepare(self) -> None:
        """Copy the program and create the stack."""
        shutil.copytree(self.program, self.work)
        self.state.mkdir(parents=True)
        self.run("stack", "init", self.name)

    def run(self, *arguments: str, timeout: float = 300) -> str:
        """Run the CLI and return its output. Raises UpdateError if it failed."""
        done = subprocess.run(
            self.command(*arguments),
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=timeout,
            check=False,
        )
        if done.returncode:
            raise UpdateError(f"pulumi {' '.join(arguments)}", done.stdout)
        return done.stdout

    def command(self, *arguments: str) -> list[str]:
        return ["pulumi", "--non-interactive", "--color=never", "-C", str(self.work), *arguments]

    def set(self, **values: object) -> None:
        """Set configuration; any value but a string is passed as JSON."""
        pairs: list[str] = []
        for key, value in values.items():
            text = value if isinstance(value, str) else json.dumps(value)
            pairs += ["--plaintext", f"{key}={text}"]
        self.run("config", "set-all", "--stack", self.name, *pairs)

    def up(self, **values: object) -> Update:
        """``pulumi up`` after setting ``values``."""
        if values:
            self.set(**values)
        return self._update("up", "--yes", "--skip-preview")

    def preview(self) -> Update:
        return self._update("preview")

    def destroy(self) -> Update:
        return self._update("destroy", "--yes", "--skip-preview")

    def start_up(self) -> subprocess.Popen[str]:
        """``pulumi up`` in the background, in a process group of its own."""
        return subprocess.Popen(
            self.command("up", "--yes", "--skip-preview", "--stack", self.name),
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def _update(self, verb: str, *arguments: str) -> Update:
        log = self.folder / f"{verb}-events.json"
        log.unlink(missing_ok=True)
        began = time.monotonic()
        output = self.run(verb, *arguments, "--stack", self.name, "--event-log", str(log))
        return Update(output, _steps(log), time.monotonic() - began)

    def outputs(self) -> dict[str, Any]:
        shown = self.run("stack", "output", "--json", "--show-secrets", "--stack", self.name)
        outputs: dict[str, Any] = json.loads(shown)
        return outputs


def _steps(log: Path) -> dict[str, str]:
    steps: dict[str, str] = {}
    for line in log.read_text().splitlines():
        event = json.loads(line)
        metadata = (event.get("resourcePreEvent") or {}).get("metadata")
        if not metadata or metadata["type"] == "pulumi:pulumi:Stack":
            continue
        operation = metadata["op"]
        # The steps of a replacement are reported one by one; the test needs the replacement.
        if operation in ("create-replacement", "delete-replaced"):
            operation = "replace"
        steps[metadata["urn"]] = operation
    return steps


@contextmanager
def throwaway(
    cluster: Cluster, program: Path, folder: Path, destroy: bool = True
) -> Iterator[Stack]:
    """A stack of ``program`` under ``folder``; destroyed at the end."""
    stack = Stack(cluster, program, folder)
    stack.prepare()
    try:
        yield stack
    finally:
        if destroy:
            stack.run("destroy", "--yes", "--skip-preview", "--stack", stack.name)


def kill_group(process: subprocess.Popen[str]) -> None:
    """SIGKILL for a process and all its children, as in a power failure."""
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
