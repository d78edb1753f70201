"""What the plugins tell the engine."""

import time

import pytest

from toolchain.plugins.provider import engine


def test_progress_is_shown_at_most_once_in_two_seconds_a_resource(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = [100.0]
    shown: list[tuple[str, str]] = []
    talk = engine.Engine("127.0.0.1:1")
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    monkeypatch.setattr(
        talk, "_log", lambda _severity, urn, message, **_: shown.append((urn, message))
    )
    for second, urn, message in ((0, "a", "1"), (1, "a", "2"), (1, "b", "3"), (2.5, "a", "4")):
        now[0] = 100.0 + second
        talk.progress(urn, message)
    assert shown == [("a", "1"), ("b", "3"), ("a", "4")]
