"""Prometheus' text format."""

import dataclasses
import math
from collections.abc import Iterable, Mapping, Sequence

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


@dataclasses.dataclass(frozen=True)
class Sample:
    """One value of a family."""

    value: float
    labels: Mapping[str, str] = dataclasses.field(default_factory=dict)
    suffix: str = ""
    """``_bucket``, ``_sum`` or ``_count`` of a histogram."""


@dataclasses.dataclass(frozen=True)
class Family:
    """Values of one name."""

    name: str
    kind: str
    """``counter``, ``gauge``, ``histogram`` or ``untyped``."""
    help: str
    samples: Sequence[Sample]


def exposition(families: Iterable[Family]) -> str:
    """The families in Prometheus' text format."""
    lines = []
    for family in families:
        lines.append(f"# HELP {family.name} {_escaped(family.help)}")
        lines.append(f"# TYPE {family.name} {family.kind}")
        for sample in family.samples:
            labels = ",".join(f'{k}="{_escaped(v, quote=True)}"' for k, v in sample.labels.items())
            braced = f"{{{labels}}}" if labels else ""
            lines.append(f"{family.name}{sample.suffix}{braced} {_number(sample.value)}")
    return "\n".join(lines) + "\n"


@dataclasses.dataclass
class Histogram:
    """Counts of values by bucket."""

    bounds: Sequence[float]
    counts: list[int] = dataclasses.field(default_factory=list)
    total: float = 0.0

    def __post_init__(self) -> None:
        self.counts = [0] * (len(self.bounds) + 1)

    def observe(self, value: float) -> None:
        """Count one value."""
        place = next((i for i, bound in enumerate(self.bounds) if value <= bound), len(self.bounds))
        self.counts[place] += 1
        self.total += value

    def samples(self, labels: Mapping[str, str]) -> list[Sample]:
        """Its samples in a family."""
        found, sum_so_far = [], 0
        for bound, count in zip([*self.bounds, math.inf], self.counts, strict=True):
            sum_so_far += count
            found.append(Sample(sum_so_far, {**labels, "le": _number(bound)}, "_bucket"))
        found.append(Sample(self.total, labels, "_sum"))
        found.append(Sample(sum_so_far, labels, "_count"))
        return found


def _number(value: float) -> str:
    if math.isinf(value):
        return "+Inf" if value > 0 else "-Inf"
    if math.isnan(value):
        return "NaN"
    return str(int(value)) if value == int(value) else repr(float(value))


def _escaped(text: str, *, quote: bool = False) -> str:
    text = text.replace("\\", "\\\\").replace("\n", "\\n")
    return text.replace('"', '\\"') if quote else text
