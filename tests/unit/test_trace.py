"""`make trace`: where it asks, and what it says of what it is told."""

from typing import Any

import pytest

from tests.unit.support.programs import program
from toolchain import trace
from toolchain.errors import ToolchainError

path: Any = program("events/events/path.py")


def entry(outcome: str, way: str, at: float, **more: Any) -> dict[str, Any]:
    about = {"attempt": 1, "attempts": 8, "ms": 100.0, "id": "e", "source": "signup"}
    return {"outcome": outcome, "path": way, "at": at, **about, **more}


def following(*steps: str, kind: str = "required") -> list[dict[str, str]]:
    return [{"step": step, "kind": kind} for step in steps]


WAY = [
    entry("published", "", 10.0, next=following("a"), ms=1.0),
    entry("ok", "a", 10.1, status=200, next=[*following("b"), *following("c", kind="optional")]),
    entry("failed", "a/b", 10.3, reason="status 500", again=0.5),
    entry("ok", "a/b", 10.9, attempt=2, status=200, next=[]),
    entry("dead", "a/c", 11.0, attempt=8, reason="no answer within 5 s"),
]


def test_the_way_is_shown_in_order_of_time_with_every_attempt() -> None:
    shown = path.text("e", [WAY[3], WAY[0], WAY[4], WAY[2], WAY[1]]).splitlines()
    assert shown[0] == "event e"
    assert [line.split(" s  ")[1].split("  ")[0] for line in shown[1:-1]] == [
        "published", "a", "a > b", "a > b", "a > c",
    ]  # fmt: skip
    assert shown[1].split() == ["0.000", "s", "published", "to", "signup"]
    assert "attempt 1 of 8" in shown[3]
    assert "failed, status 500; again in 0.5 s" in shown[3]
    assert "0.900 s" in shown[4]
    assert "attempt 2 of 8" in shown[4]
    assert shown[-1] == "2 done in 1.100 s; in the dead letters: a/c (optional)"


def test_what_is_not_over_is_named() -> None:
    assert path.state(WAY[:3]) == {"done": ["a"], "dead": [], "waiting": ["a/b", "a/c"]}
    assert "waiting: a/b (required), a/c (optional)" in path.text("e", WAY[:3])
    assert path.state(WAY[:1])["waiting"] == ["a"]


def test_of_what_nothing_is_known_nothing_is_claimed() -> None:
    assert "never published" in path.text("e", [])


def test_it_asks_in_a_pod_that_delivers() -> None:
    outputs = {"trace": {"namespace": "functions", "deployment": "signup-1"}}
    line = trace.command("functions", outputs, "abc")
    assert line[:5] == ["kubectl", "--namespace", "functions", "exec", "deployment/signup-1"]
    assert line[-5:] == ["python3", "-m", "events", "trace", "abc"]
    assert trace.command("functions", outputs, "abc", "mine")[1:3] == ["--context", "mine"]


def test_a_stack_without_a_pipeline_is_refused() -> None:
    with pytest.raises(ToolchainError, match="ambassadors has no pipeline"):
        trace.command("ambassadors", {"shards": 3}, "abc")


@pytest.mark.parametrize("event", ["", "a b", "-x", "a/b", "x" * 65, "$(ls)"])
def test_what_is_no_id_is_refused_before_anything_is_asked(event: str) -> None:
    with pytest.raises(ToolchainError, match="ID is"):
        trace.main(["--id", event, "--stack", "functions"]) if event[:1] != "-" else trace.main(
            [f"--id={event}"]
        )
