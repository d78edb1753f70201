"""Runs the Pulumi CLI as a child process, with the terminal and forwarded signals."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from toolchain import progress
from toolchain.errors import ToolchainError
from toolchain.process import Process

if TYPE_CHECKING:
    from toolchain.paths import Checkout

PROJECT = "dds"
INTERRUPTED = 130


@dataclass(frozen=True)
class PulumiCli:
    """Runs `pulumi` in a checkout. `environment` has the variables that differ from the caller's."""

    checkout: Checkout
    environment: Mapping[str, str]

    def _environment(self, extra: Mapping[str, str] | None) -> dict[str, str]:
        return {**os.environ, **self.environment, **(extra or {})}

    def run(self, arguments: Sequence[str], extra: Mapping[str, str] | None = None) -> None:
        """Run with the terminal; raise ToolchainError if it fails.

        An interrupt is forwarded to the CLI, which finishes the running steps first.
        """
        # At a terminal Ctrl-C reaches every process of the foreground group, and a second signal
        # would abort the engine at once. Otherwise the child gets its own session, and only
        # forwarded signals.
        terminal = sys.stdin.isatty() and sys.stdout.isatty()
        flags = [] if terminal else ["--non-interactive"]
        process = subprocess.Popen(
            ["pulumi", *arguments, *flags],
            cwd=self.checkout.root,
            env=self._environment(extra),
            stdin=None if terminal else subprocess.DEVNULL,
            start_new_session=not terminal,
        )
        self._record(process.pid)
        interrupted = False

        def pass_on(number: int, _: object) -> None:
            nonlocal interrupted
            if not interrupted:
                progress.say("pulumi", "interrupted; waiting for the running steps")
            interrupted = True
            if not terminal or number == signal.SIGTERM:
                process.send_signal(signal.SIGINT)

        before = {n: signal.signal(n, pass_on) for n in (signal.SIGINT, signal.SIGTERM)}
        try:
            code = process.wait()
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
            self.checkout.run_record.unlink(missing_ok=True)
        if interrupted:
            raise SystemExit(INTERRUPTED)
        if code:
            raise ToolchainError(f"pulumi {' '.join(arguments[:3])} exited with code {code}")

    def _record(self, pid: int) -> None:
        process = Process.of(pid)
        if process is not None:
            self.checkout.run_record.write_text(
                json.dumps({"pid": pid, "started": process.started, "at": time.time()})
            )

    def capture(self, arguments: Sequence[str], stdin: str | None = None) -> str:
        """Run without a terminal and return the output; raise ToolchainError if it fails."""
        done = subprocess.run(
            ["pulumi", *arguments, "--non-interactive"],
            cwd=self.checkout.root,
            env=self._environment(None),
            input=stdin,
            stdin=subprocess.DEVNULL if stdin is None else None,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise ToolchainError(
                f"pulumi {' '.join(arguments[:3])} failed:\n{done.stderr.strip()[-2000:]}"
            )
        return done.stdout

    def stacks(self) -> list[str]:
        """The names of the project's stacks in the backend."""
        folder = self.checkout.state / ".pulumi" / "stacks" / PROJECT
        if self.uses_own_backend:
            return sorted(path.name.split(".")[0] for path in folder.glob("*.json*")
                          if not path.name.endswith((".bak", ".attrs")))  # fmt: skip
        listed: list[dict[str, Any]] = json.loads(self.capture(["stack", "ls", "--json"]))
        return sorted(entry["name"].rpartition("/")[2] for entry in listed)

    @property
    def uses_own_backend(self) -> bool:
        """Whether the state is in the checkout's own folder."""
        return self._environment(None).get("PULUMI_BACKEND_URL") == f"file://{self.checkout.state}"

    def ensure_stack(self, name: str) -> None:
        """Create the stack if it does not exist."""
        if name not in self.stacks():
            self.capture(["stack", "init", name, "--no-select"])

    def export(self, stack: str) -> dict[str, Any]:
        """The stack's state, secrets encrypted."""
        loaded: dict[str, Any] = json.loads(self.capture(["stack", "export", "--stack", stack]))
        return loaded

    def import_(self, stack: str, state: Mapping[str, Any]) -> None:
        """Replace the stack's state by an exported one."""
        self.capture(["stack", "import", "--stack", stack], stdin=json.dumps(state))
