"""Search for node names that balance the ring, and a table of the names in use.

python -m dds_patterns.sharding search [--shards 16] [--candidates 20000]
python -m dds_patterns.sharding table [--shards 16]
"""

import argparse
from collections.abc import Sequence

from dds_patterns.sharding.plan import (
    MOST_SHARDS,
    SALTS,
    TABLE_CANDIDATES,
    least_moved,
    moved_fraction,
    plan,
    search,
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; 1 if the search finds other names than those in use."""
    parser = argparse.ArgumentParser(prog="python -m dds_patterns.sharding")
    parser.add_argument("command", choices=("search", "table"))
    parser.add_argument("--shards", type=int, default=16, help=f"1 to {MOST_SHARDS}, default 16")
    parser.add_argument("--candidates", type=int, default=TABLE_CANDIDATES)
    chosen = parser.parse_args(arguments)
    if chosen.command == "table":
        for line in table(chosen.shards):
            print(line)
        return 0
    found = []
    for salt in search(chosen.shards, chosen.candidates):
        found.append(salt)
        print(f"SALTS = {tuple(found)!r}", flush=True)
    compared = min(len(found), len(SALTS))
    if chosen.candidates == TABLE_CANDIDATES and tuple(found[:compared]) != SALTS[:compared]:
        print("differs from the table in use")
        return 1
    return 0


def table(shards: int) -> list[str]:
    """Balance and moved keys of the names in use, one line for each number of shards."""
    lines = [f"{'shards':>6}  {'max/mean':>8}  {'moved from one less':>19}  {'over optimum':>12}"]
    for count in range(1, shards + 1):
        line = f"{count:>6}  {plan(count).max_over_mean:>8.4f}"
        if count > 1:
            moved = moved_fraction(count - 1, count)
            line += f"  {moved:>19.2%}  {moved / least_moved(count - 1, count):>12.4f}"
        lines.append(line)
    return lines


if __name__ == "__main__":
    raise SystemExit(main())
