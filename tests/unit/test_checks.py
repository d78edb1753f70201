"""The order in which checks run, and what is said of them."""

import sys
from pathlib import Path

import pytest

from toolchain.checks import Part, run


def _python(program: str, *more: str) -> list[str]:
    return [sys.executable, "-c", program, *more]


def test_an_early_part_runs_beside_the_others_and_is_shown_in_its_turn(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    mark = tmp_path / "mark"
    # Each waits for the other: one after the other they would never end.
    early = f"import pathlib, time\nprint('early')\npathlib.Path({str(mark)!r}).touch()\n"
    late = (
        "import pathlib, time\n"
        f"until = time.monotonic() + 20\nmark = pathlib.Path({str(mark)!r})\n"
        "while not mark.exists() and time.monotonic() < until: time.sleep(0.05)\n"
        "print('late', flush=True)\nraise SystemExit(not mark.exists())\n"
    )
    chosen = [
        Part("late", _python(late)),
        Part("early", _python(early), needed=True, early=True),
        Part("after", _python("")),
    ]
    outcomes = run(chosen, {}, tmp_path)
    assert [(name, outcome) for name, _, outcome in outcomes] == [
        ("late", "ok"), ("early", "ok"), ("after", "ok"),
    ]  # fmt: skip
    out, err = capfd.readouterr()
    assert out.strip() == "late"
    assert err.index("== late") < err.index("== early\n") < err.index("early\n\n== after")


def test_what_needs_a_part_that_failed_does_not_run(tmp_path: Path) -> None:
    chosen = [
        Part("other", _python("raise SystemExit(3)")),
        Part("up", _python("raise SystemExit(1)"), needed=True, early=True),
        Part("live", _python("")),
    ]
    outcomes = run(chosen, {}, tmp_path)
    assert [(name, outcome) for name, _, outcome in outcomes] == [
        ("other", "FAILED (3)"), ("up", "FAILED (1)"), ("live", "not run: up failed"),
    ]  # fmt: skip
