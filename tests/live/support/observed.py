"""What a client saw during a fault, and for how long."""

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Seen:
    """One group of keys during one fault."""

    operations: int
    failures: Mapping[str, int]
    """Number of failed commands by kind of failure."""
    absent: int
    """Reads that found nothing under a key written just before."""
    first_failure: float | None
    """Seconds from the fault to the first failed command."""
    last_failure: float | None
    """Seconds from the fault to the last failed command."""
    slowest: float
    """Seconds the slowest single operation took."""

    @property
    def failed(self) -> int:
        return sum(self.failures.values())

    def rounded(self) -> dict[str, Any]:
        """For the record: seconds with two decimals."""
        return {
            key: round(value, 2) if isinstance(value, float) else value
            for key, value in asdict(self).items()
        }


def seen(group: Mapping[str, Any], fault_at: float, failing_before: bool = False) -> Seen:
    """Sum up a group of the in-pod client's ``watch``; ``fault_at`` is in Unix seconds.

    Raises AssertionError for failures before the fault, unless they are expected: the fault
    did not cause them. On an overloaded machine one of a hundred commands may take too long.
    """
    failures: Counter[str] = Counter()
    failed_at: list[float] = []
    operations = absent = early = 0
    slowest = 0.0
    for run in group["runs"]:
        operations += run["count"]
        slowest = max(slowest, run["slowest"])
        if run["outcome"] == "ok":
            continue
        if run["outcome"] == "absent":
            absent += run["count"]
            continue
        if run["first"] < fault_at and not failing_before:
            early += run["count"]
            continue
        failures[run["outcome"]] += run["count"]
        failed_at += [run["first"], run["last"]]
    assert early <= operations // 100, f"{early} of {operations} failed before the fault"
    return Seen(
        operations,
        dict(failures),
        absent,
        min(failed_at) - fault_at if failed_at else None,
        max(failed_at) - fault_at if failed_at else None,
        slowest,
    )


def together(parts: Iterable[Seen]) -> Seen:
    """Several groups combined."""
    parts = list(parts)
    failures: Counter[str] = Counter()
    for part in parts:
        failures.update(part.failures)
    firsts = [part.first_failure for part in parts if part.first_failure is not None]
    lasts = [part.last_failure for part in parts if part.last_failure is not None]
    return Seen(
        sum(part.operations for part in parts),
        dict(failures),
        sum(part.absent for part in parts),
        min(firsts, default=None),
        max(lasts, default=None),
        max((part.slowest for part in parts), default=0.0),
    )


class Record:
    """`docs/figures/faults.json`, written only with ``--record``."""

    def __init__(self, file: Path, enabled: bool) -> None:
        self._file = file
        self._enabled = enabled

    def note(self, scenario: str, **facts: object) -> None:
        """Store the facts of one scenario beside those of the others."""
        if not self._enabled:
            return
        known = json.loads(self._file.read_text()) if self._file.exists() else {}
        known[scenario] = facts
        self._file.parent.mkdir(parents=True, exist_ok=True)
        self._file.write_text(json.dumps(known, indent=2, sort_keys=True) + "\n")
