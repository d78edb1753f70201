"""A figure and its JSON file under `docs/figures/`."""

import datetime
import json
import os
import platform
import statistics
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from toolchain.paths import ROOT

FOLDER = ROOT / "docs" / "figures"


def machine() -> dict[str, Any]:
    """The date, revision and machine of the measurement."""
    revision = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    ).stdout.strip()
    return {
        "measured": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "revision": revision,
        "processors": os.cpu_count(),
        "kernel": platform.release(),
        "load_before": round(os.getloadavg()[0], 2),
    }


@dataclass(frozen=True)
class Ratio:
    """One ratio of two things measured side by side in one run."""

    name: str
    value: float
    """Median over the rounds."""
    low: float
    high: float
    """Smallest and largest over the rounds."""
    rounds: int
    goal: float | None = None
    at_most: bool = True
    """Whether the goal is an upper bound; otherwise a lower one."""

    @classmethod
    def of(
        cls,
        name: str,
        pairs: Sequence[tuple[float, float]],
        goal: float | None = None,
        at_most: bool = True,
    ) -> "Ratio":
        """The ratio of each round's pair (numerator, denominator), and their median."""
        values = [numerator / denominator for numerator, denominator in pairs]
        return cls(
            name,
            statistics.median(values),
            min(values),
            max(values),
            len(values),
            goal,
            at_most,
        )

    @property
    def reached(self) -> bool | None:
        """Whether the goal is reached; None without a goal."""
        if self.goal is None:
            return None
        return self.value <= self.goal if self.at_most else self.value >= self.goal


@dataclass(frozen=True)
class Figure:
    """One question, the ratios that answer it, and the raw measurements behind them."""

    name: str
    question: str
    command: str
    """The command that measures it again."""
    method: str
    ratios: Sequence[Ratio]
    measurements: Any
    """Raw measurements, with units in the keys."""
    machine: dict[str, Any] = field(default_factory=machine)

    @property
    def file(self) -> Path:
        """Its JSON file."""
        return FOLDER / f"{self.name}.json"

    def write(self) -> None:
        """Write its JSON file."""
        FOLDER.mkdir(parents=True, exist_ok=True)
        content = asdict(self)
        for ratio, written in zip(self.ratios, content["ratios"], strict=True):
            written["reached"] = ratio.reached
        self.file.write_text(json.dumps(_rounded(content), indent=2) + "\n")


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return float(f"{value:.4g}")
    if isinstance(value, dict):
        return {key: _rounded(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_rounded(item) for item in value]
    return value


Measure = Callable[[bool], Figure]
"""Measures a figure; the argument is whether to be quick (fewer rounds, for trying out)."""
