"""`make test`, `make test-unit` and `make test-live`: the parts, their order and a summary."""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from toolchain import environment, installation, machine, plugins_install
from toolchain.paths import Checkout

STACK = "ambassadors"
# pytest's exit code if no test was selected.
NO_TESTS = 5
# Many tests wait: a third process uses the rest of two processors.
UNIT_PROCESSES = ("-n", "3", "--dist", "loadfile")
PLUGIN_PROCESSES = ("-n", "4", "--dist", "load")
# Tests with a common deployment are a group, which runs in one process. With two processes, pods and
# nodes already keep both processors of a small machine busy.
LIVE_PROCESSES = ("-n", "2", "--dist", "loadgroup")
# Print the slowest tests.
LIVE_SLOWEST = ("--durations", "15", "--durations-min", "15")


@dataclass(frozen=True)
class Part:
    """One part of the checks: a name, a command and whether later parts depend on it.

    An `early` part starts together with the first one, because it mostly waits.
    """

    name: str
    command: Sequence[str]
    needed: bool = False
    early: bool = False


def parts(which: str, rest: Sequence[str]) -> list[Part]:
    """The parts of `which` (unit, live or all), in the order in which they run.

    The parts that print a count of tests are last, so that a count is at the end of the output.
    """
    driver = [sys.executable, "-m", "toolchain"]
    pytest = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *rest]
    unit = Part("unit tests", [*pytest, *UNIT_PROCESSES, "tests/unit"])
    # Not in parallel with the live tests, because the plugins' tests keep the processors busy.
    plugins = Part("plugin tests", [*pytest, *PLUGIN_PROCESSES, "tests/live/plugins"])
    patterns = [*pytest, "--ignore", "tests/live/plugins", "tests/live"]
    alone = Part("tests that need the cluster alone", [*patterns, "-m", "alone"])
    live = Part("live tests", [*patterns, *LIVE_PROCESSES, *LIVE_SLOWEST, "-m", "not alone"])
    cluster_up = Part(f"up {STACK}", [*driver, "up", "--stack", STACK], needed=True, early=True)
    if which == "unit":
        return [unit]
    if which == "live":
        return [cluster_up, plugins, alone, live]
    return [Part("lint", [*driver, "lint"]), unit, cluster_up, plugins, alone, live]


def run(
    chosen: Sequence[Part], variables: dict[str, str], logs: Path
) -> list[tuple[str, float, str]]:
    """Run the parts; returns name, seconds and outcome of each.

    After a failed part the others still run, unless they depend on it. The seconds of an early part
    are those for which the others had to wait.
    """
    environ = {**os.environ, **variables}
    outcomes: list[tuple[str, float, str]] = []
    blocked = ""
    with ExitStack() as started:
        early = {
            part.name: started.enter_context(_Early(part, environ, logs / f"checks-{number}.log"))
            for number, part in enumerate(chosen)
            if part.early
        }
        for part in chosen:
            if blocked:
                outcomes.append((part.name, 0.0, f"not run: {blocked} failed"))
                continue
            print(f"\n== {part.name}", file=sys.stderr, flush=True)
            before = time.monotonic()
            if part.early:
                code = early[part.name].finish()
            else:
                code = subprocess.run(
                    part.command, env=environ, stdin=subprocess.DEVNULL, check=False
                ).returncode
            outcome = "ok" if code == 0 else "no tests" if code == NO_TESTS else f"FAILED ({code})"
            outcomes.append((part.name, time.monotonic() - before, outcome))
            if part.needed and code:
                blocked = part.name
    return outcomes


class _Early:
    """A part that runs in parallel; its output is printed at its turn."""

    def __init__(self, part: Part, environ: dict[str, str], log: Path) -> None:
        print(
            f"\n== {part.name}: started in parallel with the next parts, log {log}", file=sys.stderr
        )
        self._log = log
        with log.open("wb") as out:
            self._process = subprocess.Popen(
                part.command,
                env=environ,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
            )

    def __enter__(self) -> _Early:
        return self

    def __exit__(self, *_: object) -> None:
        """Wait for it; an interrupt reaches it too."""
        self._process.wait()

    def finish(self) -> int:
        """Print its output until it ends; returns its exit code."""
        with self._log.open("rb") as shown:
            while True:
                ended = self._process.poll() is not None
                sys.stderr.flush()
                shutil.copyfileobj(shown, sys.stderr.buffer)
                if ended:
                    return self._process.returncode
                time.sleep(0.2)


def main(arguments: Sequence[str]) -> int:
    """Run the checks; the exit code is 0 only if every part ran and passed."""
    parser = argparse.ArgumentParser(prog="python -m toolchain checks", description=__doc__)
    parser.add_argument("which", choices=("all", "unit", "live"))
    given, rest = parser.parse_known_args(arguments)
    checkout = Checkout()
    checkout.make_private()
    mode = machine.decide(checkout)
    if given.which != "unit":
        installation.ensure_cli(checkout, mode)
        plugins_install.install(checkout, mode.packages_only)
    variables = environment.variables(checkout, mode)
    outcomes = run(parts(given.which, rest), variables, checkout.logs)
    if given.which == "all" and os.environ.get("CI"):
        # Its output must not follow the counts of tests; it is printed only on failure.
        outcomes += _destroy(checkout)
    width = max(len(name) for name, _, _ in outcomes)
    print("\nChecks:", file=sys.stderr)
    for name, seconds, outcome in outcomes:
        print(f"  {name:<{width}}  {seconds:7.1f} s  {outcome}", file=sys.stderr)
    return 0 if all(outcome == "ok" for _, _, outcome in outcomes) else 1


def _destroy(checkout: Checkout) -> list[tuple[str, float, str]]:
    before = time.monotonic()
    log = checkout.logs / "destroy.log"
    with log.open("w") as out:
        code = subprocess.run(
            [sys.executable, "-m", "toolchain", "destroy"],
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            check=False,
        ).returncode
    if code:
        print("\n".join(log.read_text().splitlines()[-30:]), file=sys.stderr)
    return [("destroy", time.monotonic() - before, "ok" if code == 0 else f"FAILED ({code})")]
