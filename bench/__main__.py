"""`python -m bench`: measure figures, write them as JSON and plot them."""

import argparse
import importlib
import sys
import time

from bench.figures import Figure, Measure

FIGURES = {
    "adapters": "bench.adapters",
    "companions": "bench.companions",
    "proxy": "bench.proxy",
    "deploy": "bench.deploy",
    "pipeline": "bench.pipeline",
    "preview": "bench.preview",
    "moved": "bench.moved",
    "election": "bench.election",
    "splitter": "bench.splitter",
    "sync": "bench.sync",
    "tls": "bench.tls",
    "functions": "bench.functions",
}


def _measure(name: str, quick: bool) -> Figure:
    measure: Measure = importlib.import_module(FIGURES[name]).measure
    return measure(quick)


def _show(figure: Figure) -> None:
    for ratio in figure.ratios:
        goal = ""
        if ratio.goal is not None:
            bound = "at most" if ratio.at_most else "at least"
            verdict = "reached" if ratio.reached else "MISSED"
            goal = f"   goal {bound} {ratio.goal:g}: {verdict}"
        print(f"  {ratio.name:<58} {ratio.value:6.3f}  ({ratio.low:.3f}-{ratio.high:.3f}){goal}")


def main() -> int:
    """Measure the chosen figures; the exit status is 0 also when a goal is missed."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument(
        "--only",
        action="append",
        choices=sorted(FIGURES),
        help="measure only this figure; may be repeated",
    )
    parser.add_argument("--quick", action="store_true", help="fewer rounds; nothing is written")
    parser.add_argument("--draw", action="store_true", help="only plot the JSON files")
    arguments = parser.parse_args()
    names = arguments.only or list(FIGURES)
    if not arguments.draw:
        for name in names:
            print(f"{name}: measuring", flush=True)
            began = time.monotonic()
            figure = _measure(name, arguments.quick)
            _show(figure)
            print(f"{name}: {time.monotonic() - began:.0f} s", flush=True)
            if not arguments.quick:
                figure.write()
    if not arguments.quick:
        from bench import plots

        for file in plots.draw(names):
            print(f"drawn: {file}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
