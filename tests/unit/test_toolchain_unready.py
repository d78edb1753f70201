"""What the driver says of objects that did not get ready."""

from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

from toolchain import unready
from toolchain.errors import ToolchainError

BEGAN = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def event(about: str, reason: str, message: str, seconds: float, **more: Any) -> Any:
    at = BEGAN + timedelta(seconds=seconds)
    times = {"last_timestamp": at, "event_time": None, **more}
    return SimpleNamespace(
        involved_object=SimpleNamespace(name=about),
        reason=reason,
        message=message,
        metadata=SimpleNamespace(creation_timestamp=at),
        **times,
    )


def said(*events: Any) -> list[str]:
    return unready.warnings(events, "web", BEGAN.timestamp() + 0.5)


def test_the_newest_warning_of_each_reason_is_said() -> None:
    assert said(
        event("web-1-a", "BackOff", "once", 1),
        event("web-1-a", "BackOff", "again", 3),
        event("web", "Failed", "no image", 2),
    ) == ["BackOff: again", "Failed: no image"]


def test_of_many_reasons_the_newest_are_said() -> None:
    events = [event("web", reason, "x", number) for number, reason in enumerate("abcde")]
    assert said(*events) == ["e: x", "d: x", "c: x"]


def test_what_was_before_and_what_is_about_others_is_left_out() -> None:
    assert said(
        event("web", "Failed", "before", -1),
        event("website", "Failed", "another", 1),
        event("db-web", "Failed", "another", 1),
    ) == []  # fmt: skip


def test_events_of_either_form_have_a_time() -> None:
    at = BEGAN + timedelta(seconds=2)
    assert said(
        event("web", "A", "new form", -5, last_timestamp=None, event_time=at),
        event("web", "B", "neither", 1, last_timestamp=None),
    ) == ["A: new form", "B: neither"]


def test_only_objects_that_were_waited_for_in_vain_are_asked_about() -> None:
    outputs = {"kind": "Deployment", "metadata": {"namespace": "n", "name": "web"}}
    resources = [
        {"initErrors": ["timed out"], "outputs": outputs},
        {"outputs": {**outputs, "kind": "Service"}},
        {"initErrors": ["timed out"], "outputs": {"name": "box"}},
        {"type": "pulumi:pulumi:Stack"},
    ]
    assert list(unready._unready({"resources": resources})) == [("Deployment", "n", "web")]
    assert list(unready._unready({})) == []


def test_a_state_that_cannot_be_had_hides_no_failure() -> None:
    def export(_: str) -> Any:
        raise ToolchainError("no state")

    cli: Any = SimpleNamespace(export=export, environment={})
    (line,) = unready.reasons(cli, "x", 0)
    assert line == "the cluster's events cannot be read (no state)"
