"""The live tests' groups: a deployment ends with the last test that uses it."""

from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from tests.live import conftest


def item(file: str, fixture: str, kept: ExitStack) -> Any:
    path = Path(conftest.HERE / file)
    config = SimpleNamespace(stash={conftest.KEPT: kept})
    marks: list[Any] = []
    return SimpleNamespace(path=path, fixturenames=[fixture], config=config, marks=marks,
                           add_marker=marks.append)  # fmt: skip


def torn_down(one: Any, following: Any) -> None:
    hook = conftest.pytest_runtest_teardown(one, following)
    next(hook)
    try:
        hook.send(None)
    except StopIteration:
        return
    raise AssertionError("it goes on")


def test_a_deployment_ends_with_the_last_test_of_its_group() -> None:
    kept = ExitStack()
    ended: list[str] = []
    kept.callback(ended.append, "store")
    one, two = (item(file, "store", kept) for file in ("test_a.py", "test_b.py"))
    other = item("test_b.py", "cache", kept)
    torn_down(one, two)
    assert ended == []
    torn_down(two, other)
    assert ended == ["store"]


def test_a_deployment_ends_with_the_last_test_of_all() -> None:
    kept = ExitStack()
    ended: list[str] = []
    kept.callback(ended.append, "store")
    torn_down(item("test_a.py", "store", kept), None)
    assert ended == ["store"]


def test_one_process_runs_one_group_after_the_other() -> None:
    kept = ExitStack()
    wanted = [("test_a.py", "store"), ("test_a.py", "cache"), ("test_b.py", "kube"),
              ("test_b.py", "store")]  # fmt: skip
    items = [item(file, fixture, kept) for file, fixture in wanted]
    conftest.pytest_collection_modifyitems(items)
    assert [one.fixturenames[0] for one in items] == ["store", "store", "cache", "kube"]
    groups = [one.marks[-1].args[0] for one in items]
    assert groups == ["store", "store", "cache", "test_b"]
