"""Plots of the figures: one SVG each beside the JSON."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import matplotlib

from bench.figures import FOLDER

matplotlib.use("svg")
# The same input gives the same file, so that a difference in git is one in the figures.
matplotlib.rcParams["svg.hashsalt"] = "dds"
matplotlib.rcParams["font.size"] = 10

import matplotlib.pyplot as plt  # noqa: E402  (the backend comes first)

from bench import election_plots  # noqa: E402

COLOURS = {"direct": "#8c8c8c", "relay": "#4c78a8", "ambassador": "#e45756"}
GOAL = "#2f6b2f"
_SMALL = 0.1


def draw(names: Sequence[str]) -> list[Path]:
    """Plot those of the figures that have a JSON file; returns the files written."""
    written = []
    for name in names:
        file = FOLDER / f"{name}.json"
        if not file.exists():
            continue
        figure = json.loads(file.read_text())
        plot = DRAWINGS[name](figure)
        drawing = FOLDER / f"{name}.svg"
        plot.savefig(drawing, metadata={"Date": None}, bbox_inches="tight")
        plt.close(plot)
        written.append(drawing)
    return written


def _ratio_bars(axes: Any, ratios: Sequence[dict[str, Any]], title: str) -> None:
    places = range(len(ratios))
    values = [ratio["value"] for ratio in ratios]
    below = [ratio["value"] - ratio["low"] for ratio in ratios]
    above = [ratio["high"] - ratio["value"] for ratio in ratios]
    axes.barh(places, values, xerr=[below, above], color="#4c78a8", height=0.55, ecolor="#444444")
    axes.set_yticks(list(places), [ratio["name"] for ratio in ratios])
    axes.invert_yaxis()
    axes.axvline(1.0, color="#aaaaaa", linewidth=1)
    for place, ratio in zip(places, ratios, strict=True):
        # A value far below one must not look like zero.
        text = f"  {ratio['value']:{'.2f' if ratio['value'] >= _SMALL else '.1g'}}"
        if ratio["goal"] is not None:
            axes.plot([ratio["goal"]] * 2, [place - 0.42, place + 0.42], color=GOAL, linewidth=2.5)
            text += f"  (goal {'≤' if ratio['at_most'] else '≥'} {ratio['goal']:g})"
        axes.text(max(ratio["high"], ratio["goal"] or 0), place, text, va="center", fontsize=9)
    axes.set_title(title, loc="left", fontsize=11)
    # Space for the numbers beside the whiskers.
    axes.set_xlim(0, 1.35 * max(ratio["high"] for ratio in ratios))
    axes.spines[["top", "right"]].set_visible(False)


def _proxy(figure: dict[str, Any]) -> Any:
    measured = figure["measurements"]
    plot, (throughput, tail, ratios) = plt.subplots(3, 1, figsize=(8, 10.5))
    shapes = list(measured["throughput_requests_per_second"])
    width = 0.26
    for offset, path in enumerate(COLOURS):
        values = [measured["throughput_requests_per_second"][s][path]["median"] for s in shapes]
        throughput.bar(
            [place + (offset - 1) * width for place in range(len(shapes))],
            [value / 1000 for value in values],
            width,
            label=path,
            color=COLOURS[path],
        )
    throughput.set_xticks(
        range(len(shapes)), [shape.replace(" pipelined by ", "\nby ") for shape in shapes]
    )
    throughput.set_ylabel("thousand requests / s")
    throughput.set_title("Throughput, median of the rounds", loc="left", fontsize=11)
    throughput.legend(frameon=False, loc="upper left")
    throughput.set_ylim(bottom=0)
    latency = measured["latency_ms"]
    marks = ("p50_ms", "p99_ms")
    for offset, path in enumerate(COLOURS):
        tail.bar(
            [place + (offset - 1) * width for place in range(len(marks))],
            [latency[path][mark]["median"] for mark in marks],
            width,
            label=path,
            color=COLOURS[path],
        )
    tail.set_xticks(range(len(marks)), ["median", "99th percentile"])
    tail.set_ylabel("ms from the moment due")
    tail.set_title(
        f"Latency at {measured['paced_rate_requests_per_second']:.0f} requests / s, open loop",
        loc="left",
        fontsize=11,
    )
    tail.set_ylim(bottom=0)
    for axes in (throughput, tail):
        axes.spines[["top", "right"]].set_visible(False)
    _ratio_bars(ratios, figure["ratios"], "Ratios: median, whiskers over the rounds")
    plot.tight_layout()
    return plot


def _bars(figure: dict[str, Any]) -> Any:
    plot, axes = plt.subplots(figsize=(8, 1.2 + 0.9 * len(figure["ratios"])))
    _ratio_bars(axes, figure["ratios"], figure["question"])
    return plot


def _moved(figure: dict[str, Any]) -> Any:
    rows = figure["measurements"]["steps"]
    plot, (moved, even) = plt.subplots(1, 2, figsize=(10, 3.6))
    labels = [f"{row['shards']}→{row['shards'] + 1}" for row in rows]
    moved.plot(labels, [row["moved_over_optimum"] for row in rows], "o-", color="#4c78a8",
               label="chosen names, measured")  # fmt: skip
    moved.plot(labels, [row["moved_over_optimum_model"] for row in rows], "x--", color="#8c8c8c",
               label="chosen names, model")  # fmt: skip
    moved.plot(labels, [row["plain_moved_over_optimum"] for row in rows], "s:", color="#e45756",
               label="plain names, model")  # fmt: skip
    moved.axhline(1.03, color=GOAL, linewidth=1.2)
    moved.text(0, 1.031, "goal ≤ 1.03", color=GOAL, fontsize=8, va="bottom")
    moved.set_title("Keys moved / the least possible", loc="left", fontsize=11)
    moved.set_xlabel("shards")
    sizes = figure["measurements"]["sizes"]
    shards = [str(row["shards"]) for row in sizes]
    even.plot(shards, [row["max_over_mean"] for row in sizes], "o-", color="#4c78a8",
              label="chosen names, measured")  # fmt: skip
    even.plot(shards, [row["plain_max_over_mean"] for row in sizes], "s:", color="#e45756",
              label="plain names, model")  # fmt: skip
    even.axhline(1.05, color=GOAL, linewidth=1.2)
    even.text(0, 1.051, "bound 1.05", color=GOAL, fontsize=8, va="bottom")
    even.set_title("Fullest shard / mean shard", loc="left", fontsize=11)
    even.set_xlabel("shards")
    for axes in (moved, even):
        axes.legend(frameon=False, fontsize=8)
        axes.spines[["top", "right"]].set_visible(False)
    plot.tight_layout()
    return plot


def _usage(figure: dict[str, Any]) -> Any:
    usage = figure["measurements"]["usage"]
    names = list(usage)
    plot, parts = plt.subplots(1, 2, figsize=(10, 0.6 + 0.38 * len(names)), sharey=True)
    for axes, (key, title) in zip(
        parts, (("mib", "Memory, MiB"), ("millicores", "CPU, thousandths of one")), strict=True
    ):
        for shift, when, colour in ((-0.2, "rest", "#4c78a8"), (0.2, "load", "#e45756")):
            values = [usage[name][f"{key}_{when}"] for name in names]
            places = [place + shift for place in range(len(names))]
            axes.barh(places, values, 0.38, label=f"at {when}" if when == "rest" else "under load",
                      color=colour)  # fmt: skip
            for place, value in zip(places, values, strict=True):
                axes.text(value, place, f" {value:.1f}", va="center", fontsize=7)
        axes.set_title(title, loc="left", fontsize=11)
        axes.set_yticks(range(len(names)), names)
        axes.spines[["top", "right"]].set_visible(False)
    parts[0].invert_yaxis()
    parts[0].legend(frameon=False, fontsize=8)
    plot.tight_layout()
    return plot


DRAWINGS: dict[str, Callable[[dict[str, Any]], Any]] = {
    "adapters": _usage,
    "companions": _usage,
    "proxy": _proxy,
    "deploy": _bars,
    "preview": _bars,
    "moved": _moved,
    "election": lambda figure: election_plots.election(figure, _ratio_bars),
    "splitter": _bars,
    "sync": _bars,
    "tls": _bars,
    "functions": _bars,
    "pipeline": _bars,
}
