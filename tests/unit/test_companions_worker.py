"""What works in the background of a companion: its end must not go unnoticed."""

import subprocess
import sys

import pytest

from tests.unit.support.companions import FOLDER, program

arms = program("arms")

ENDS = """
import sys, threading, time
sys.path.insert(0, sys.argv[1])
from companions import worker
def work():
    raise ValueError("the work cannot go on")
if sys.argv[2] == "well":
    work = lambda: None
worker.start(work, "one").join()
if sys.argv[2] == "badly":
    time.sleep(60)
"""


@pytest.mark.parametrize(("how", "code"), [("badly", 1), ("well", 0)])
def test_a_worker_that_ends_badly_ends_the_program(how: str, code: int) -> None:
    ended = subprocess.run(
        [sys.executable, "-S", "-c", ENDS, str(FOLDER), how], capture_output=True, check=False
    )
    assert ended.returncode == code
    assert (b"ValueError: the work cannot go on" in ended.stderr) == bool(code)


LINE = b"<190>Nov 29 06:00:00 splitter: arm=a how=weight status=200 seconds="


@pytest.mark.parametrize("seconds", [b"1.2.3", b".", b"", b"1.", b"9" * 20, b"-1", b"nan"])
def test_a_datagram_that_is_no_line_is_counted_and_the_counting_goes_on(seconds: bytes) -> None:
    seen = arms.Arms()
    seen.take(LINE + seconds)
    seen.take(LINE + b"0.250")
    requests, times, unread = seen.families()
    assert [sample.value for sample in requests.samples] == [1]
    assert times.samples[-2].value == 0.25
    assert unread.samples[0].value == 1
