"""`make lint`: all checks of the sources and of the rendered manifests, one line each.

Only the linters' Go modules are downloaded, and built once. Details are printed only for failed
steps; the exit code is 0 only if every step passed.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from toolchain import builds, cache, kubernetes_stubs, manifest_checks, paths
from toolchain.errors import ToolchainError

ROOT = paths.ROOT
EXEMPTIONS = ROOT / "lint" / "exemptions.yaml"
VARIANTS = ROOT / "lint" / "variants.yaml"
CONCISE = ("--output-format", "concise")
_STUBS = ROOT / "build" / "stubs"


@dataclass(frozen=True)
class Step:
    """One check: its name and the function that returns its problems, one a line."""

    name: str
    run: Callable[[], list[str]]


def main(arguments: Sequence[str]) -> int:
    """Run the checks; the command line of ``python -m toolchain lint``."""
    steps = _steps()
    names = [step.name for step in steps]
    parser = argparse.ArgumentParser(prog="lint", description=__doc__.partition("\n")[0])
    parser.add_argument(
        "--only", action="append", choices=names, help="only this step; may be repeated"
    )
    given = parser.parse_args(arguments)
    return run([step for step in steps if not given.only or step.name in given.only])


def run(steps: Sequence[Step]) -> int:
    """Run all steps, also after a failure; returns 0 only if none found a problem."""
    failed = []
    width = max(len(step.name) for step in steps)
    for step in steps:
        before = time.monotonic()
        try:
            problems = step.run()
        except ToolchainError as error:
            problems = [str(error)]
        seconds = time.monotonic() - before
        print(
            f"lint: {step.name:<{width}}  {seconds:6.1f} s  {'FAILED' if problems else 'ok'}",
            flush=True,
        )
        for line in problems:
            print(f"    {line}", flush=True)
        if problems:
            failed.append(step.name)
    if failed:
        print(f"lint: {len(failed)} of {len(steps)} steps failed: {', '.join(failed)}")
    return 1 if failed else 0


def _steps() -> list[Step]:
    python = sys.executable
    return [
        Step(
            "ruff format",
            lambda: command([python, "-m", "ruff", "format", "--check", *CONCISE, "."]),
        ),
        Step("ruff check", lambda: command([python, "-m", "ruff", "check", "-q", *CONCISE, "."])),
        Step("mypy", _mypy),
        Step("actionlint", _actionlint),
        Step("manifests", lambda: check_manifests(renderings())),
    ]


def command(words: Sequence[str], environment: Mapping[str, str] | None = None) -> list[str]:
    """Run a checker in the checkout; returns its output if it failed, else nothing."""
    done = subprocess.run(
        words,
        cwd=ROOT,
        env={**os.environ, **(environment or {})},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if done.returncode == 0:
        return []
    return done.stdout.splitlines() or [f"{words[0]} exited with {done.returncode}"]


def _mypy() -> list[str]:
    link_stubs(kubernetes_stubs.ensure(), _STUBS)
    folder = paths.cache_root() / "mypy"
    # Two runs must not write the cache at the same time.
    with cache.locked(folder / ".lock", "mypy"):
        words = [sys.executable, "-m", "mypy", "--cache-dir", str(folder), "--no-error-summary"]
        return command(words)


def link_stubs(stubs: Path, name: Path) -> None:
    """Make `name`, the path in pyproject.toml, a symlink to the stubs."""
    if name.is_symlink() and name.readlink() == stubs:
        return
    name.parent.mkdir(parents=True, exist_ok=True)
    if name.exists() and not name.is_symlink():
        raise ToolchainError(f"{name} is in the way; remove it")
    part = name.with_name(f"{name.name}.{os.getpid()}")
    part.symlink_to(stubs)
    part.replace(name)


def _actionlint() -> list[str]:
    workflows = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
    program = builds.ensure("lint") / "actionlint"
    # The result must not depend on whether shellcheck is installed.
    options = ["-no-color", "-oneline", "-shellcheck=", "-pyflakes="]
    return command([str(program), *options, *map(str, workflows)])


@dataclass(frozen=True)
class Rendering:
    """One composition with a configuration; `write` writes its manifests into a folder."""

    name: str
    write: Callable[[Path], object]


def renderings() -> list[Rendering]:
    """Every composition with its configuration, and its variants."""
    import stacks
    from toolchain import render

    variants: dict[str, dict[str, dict[str, str]]] = _mapping(VARIANTS)
    unknown = sorted(set(variants) - set(stacks.COMPOSITIONS))
    if unknown:
        raise ToolchainError(f"{VARIANTS.name} has unknown compositions: {', '.join(unknown)}")

    def rendering(stack: str, name: str, config: Mapping[str, str]) -> Rendering:
        return Rendering(name, lambda out: render.render(stack, out, config=config))

    found = []
    for stack in stacks.COMPOSITIONS:
        found.append(rendering(stack, stack, {}))
        for variant, config in variants.get(stack, {}).items():
            found.append(rendering(stack, f"{stack}-{variant}", config))
    return found


def _mapping(path: Path) -> dict[str, Any]:
    read = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    if not isinstance(read, dict):
        raise ToolchainError(f"{path.name} must be a mapping")
    return read


def check_manifests(chosen: Sequence[Rendering], exemptions: Path = EXEMPTIONS) -> list[str]:
    """Render all, then run kubeconform and kube-score on each; returns findings without exemption."""
    programs = builds.ensure("lint")
    exempt = manifest_checks.read_exemptions(exemptions)
    findings: set[manifest_checks.Finding] = set()
    with tempfile.TemporaryDirectory(prefix="dds-lint-") as temporary:
        for rendering in chosen:
            folder = Path(temporary) / rendering.name
            rendering.write(folder)
            schemas = Path(temporary) / "schemas"
            findings |= {
                *manifest_checks.kubeconform(programs / "kubeconform", folder, schemas),
                *manifest_checks.kube_score(programs / "kube-score", folder),
            }
    return manifest_checks.judge(findings, exempt)
