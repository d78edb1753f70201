"""Plots of the election: time without a leader, and one pause with and without fencing."""

from typing import Any

import matplotlib.pyplot as plt

LEADERS = ("#4c78a8", "#f58518", "#54a24b", "#b279a2")
REFUSED = "#e45756"
GOAL = "#2f6b2f"


def distribution(axes: Any, measured: dict[str, Any], goal: float) -> None:
    """Cumulative distribution of the time without a leader, in units of the TTL."""
    ttl = measured["ttl_seconds"]
    single = measured["singleton_seconds"]
    kinds = {
        "crash, etcd": (measured["crash_seconds"], LEADERS[0], "-"),
        "crash, Lease": (measured["lease_crash_seconds"], LEADERS[0], ":"),
        "handover, etcd": (measured["handover_seconds"], LEADERS[2], "-"),
        "handover, Lease": (measured["lease_handover_seconds"], LEADERS[2], ":"),
        "singleton, crash": (single["crash"], LEADERS[1], "-"),
        "singleton, rollout": (single["rollout"], LEADERS[1], "--"),
    }
    for name, (seconds, colour, style) in kinds.items():
        values = sorted(value / ttl for value in seconds)
        shares = [(number + 1) / len(values) for number in range(len(values))]
        axes.step([0, *values], [0, *shares], style, where="post", label=name, color=colour)
    axes.axvline(goal, color=GOAL, linewidth=1.2)
    axes.text(goal, 0.02, f" goal ≤ {goal:g}", color=GOAL, fontsize=8)
    axes.set_xlabel("time without a leader / TTL")
    axes.set_ylabel("part of the faults")
    axes.set_title("Over after", loc="left", fontsize=11)
    axes.set_xlim(left=0)
    axes.legend(frameon=False, fontsize=8)


def time_line(axes: Any, line: dict[str, Any], title: str) -> None:
    """The counter during a pause, by writing pod, and the pods that considered themselves leader."""
    writes = line["writes"]
    for holder in sorted({write["holder"] for write in writes}):
        mine = [w for w in writes if w["holder"] == holder]
        colour = LEADERS[holder % len(LEADERS)]
        taken = [w for w in mine if w["accepted"]]
        axes.plot([w["second"] for w in taken], [w["value"] for w in taken], "o", markersize=3,
                  color=colour, label=f"written by pod {holder + 1}")  # fmt: skip
        refused = [w for w in mine if not w["accepted"]]
        if refused:
            axes.plot([w["second"] for w in refused], [w["value"] for w in refused], "x",
                      markersize=8, markeredgewidth=2, color=REFUSED,
                      label=f"pod {holder + 1}, refused")  # fmt: skip
    low = min(w["value"] for w in writes)
    high = max(w["value"] for w in writes)
    for belief in line["beliefs"]:
        place = low - (high - low) * (0.1 + 0.06 * belief["holder"])
        axes.plot([belief["since"], belief["until"]], [place, place], linewidth=4,
                  solid_capstyle="butt", color=LEADERS[belief["holder"] % len(LEADERS)])  # fmt: skip
    axes.axvspan(line["paused_from"], line["leads_again_from"], color="#eeeeee", zorder=0)
    axes.set_title(title, loc="left", fontsize=11)
    axes.set_xlabel("seconds")
    axes.set_ylabel("counter")
    axes.legend(frameon=False, fontsize=8, loc="upper left")


def election(figure: dict[str, Any], ratio_bars: Any) -> Any:
    """The complete plot."""
    measured = figure["measurements"]
    plot, (over, fenced, unfenced, ratios) = plt.subplots(4, 1, figsize=(8, 15))
    goal = next(ratio["goal"] for ratio in figure["ratios"] if "p99" in ratio["name"])
    distribution(over, measured, goal)
    time_line(fenced, measured["pause"]["fenced"],
              "A leader paused beyond its time: the store refuses what it writes then")  # fmt: skip
    time_line(unfenced, measured["pause"]["unfenced"],
              "The same without fencing: it undoes what the next leader counted")  # fmt: skip
    for axes in (over, fenced, unfenced):
        axes.spines[["top", "right"]].set_visible(False)
    small = [ratio for ratio in figure["ratios"] if "renewals" not in ratio["name"]]
    ratio_bars(ratios, small, "Ratios; whiskers from the smallest to the largest")
    plot.tight_layout()
    return plot
