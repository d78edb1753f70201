"""`python3 -m events <command>`."""

import argparse
import asyncio
import importlib
import sys

_MODULES = {"dead": "trace", "replay": "trace"}


def main() -> int:
    """Run one command."""
    parser = argparse.ArgumentParser(prog="events")
    commands = parser.add_subparsers(dest="command", required=True)
    for name in ("setup", "deliver", "codes"):
        commands.add_parser(name, help=f"see events/{name}.py")
    trace = commands.add_parser("trace", help="print the path of an event")
    trace.add_argument("id")
    trace.add_argument("--json", action="store_true")
    commands.add_parser("dead", help="print the dead letters")
    replay = commands.add_parser("replay", help="publish an event's dead letters again")
    replay.add_argument("id")
    given = parser.parse_args()
    # Each command imports only its own module.
    module = importlib.import_module(f"events.{_MODULES.get(given.command, given.command)}")
    if given.command == "trace":
        return int(asyncio.run(module.show(given.id, given.json)))
    if given.command in ("dead", "replay"):
        return int(asyncio.run(module.dead(getattr(given, "id", None), given.command == "replay")))
    return int(asyncio.run(module.run()))


if __name__ == "__main__":
    sys.exit(main())
