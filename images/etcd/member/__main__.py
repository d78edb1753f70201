"""``python3 -m member <verb>``."""

import signal
import sys

from member import access, maintenance, prepare

VERBS = {
    "prepare": prepare.main,
    "access": access.main,
    "defragment": maintenance.defragment,
    "snapshot": maintenance.snapshot,
    "serve": maintenance.serve,
}


def _end(*_: object) -> None:
    # Not 0: the preparation is not complete.
    raise SystemExit(143)


def main() -> None:
    """Run the command that the argument names."""
    verb = VERBS.get(sys.argv[-1])
    if verb is None:
        raise SystemExit(f"usage: python3 -m member {'|'.join(VERBS)}")
    # The first process of a container ignores the signal unless it has a handler.
    signal.signal(signal.SIGTERM, _end)
    verb()


if __name__ == "__main__":
    main()
