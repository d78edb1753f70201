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
    # Not 0: what has not ended by itself is not prepared.
    raise SystemExit(143)


def main() -> None:
    """Do what the one argument names."""
    verb = VERBS.get(sys.argv[-1])
    if verb is None:
        raise SystemExit(f"usage: python3 -m member {'|'.join(VERBS)}")
    # The first process of a container ignores the signal unless it has said what to do.
    signal.signal(signal.SIGTERM, _end)
    verb()


if __name__ == "__main__":
    main()
