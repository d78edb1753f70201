"""Topz: what its program reads of /proc, and what the component adds to a pod."""

import importlib
import json
import os
import pathlib
import sys
import threading
from collections.abc import Iterator
from typing import Any

import pytest
import requests

from dds_patterns import Application, Topz
from dds_patterns.arguments.errors import InputError
from tests.unit.support.companions import serving
from tests.unit.support.hardening import violations
from tests.unit.support.manifests import assert_valid, objects, templates, the
from toolchain.graph import Graph, build

IMAGE = "registry.example/companions:1.0"
MODES = [pytest.param(True, id="preview"), pytest.param(False, id="update")]
PROGRAMS = pathlib.Path(__file__).parents[2] / "images" / "companions"


@pytest.fixture(scope="module")
def topz() -> Iterator[Any]:
    """The image's program as a module."""
    sys.path.insert(0, str(PROGRAMS))
    try:
        yield importlib.import_module("companions.topz")
    finally:
        sys.path.remove(str(PROGRAMS))


def process(folder: pathlib.Path, pid: int, name: str, command: str, ticks: int = 100) -> None:
    """A process as Linux shows it."""
    own = folder / str(pid)
    own.mkdir(parents=True, exist_ok=True)
    fields = (
        ["S", "0"] + ["0"] * 9 + [str(ticks), "50"] + ["0"] * 4 + ["3", "0", "1000", "0", "256"]
    )
    (own / "stat").write_text(f"{pid} ({name}) {' '.join(fields)}\n")
    (own / "cmdline").write_bytes(command.replace(" ", "\0").encode() + b"\0")
    (own / "cgroup").write_text(f"0::/../cri-{'ab' * 32}.scope\n")


@pytest.fixture
def proc(tmp_path: pathlib.Path) -> pathlib.Path:
    (tmp_path / "uptime").write_text("100.00 50.00\n")
    process(tmp_path, 1, "pause", "/pause")
    process(tmp_path, 7, "odd ) name (", "python3 app.py <b>")
    (tmp_path / "8").mkdir()
    (tmp_path / "self").mkdir()
    return tmp_path


def test_processes_are_read_and_what_ended_meanwhile_is_left_out(
    topz: Any, proc: pathlib.Path
) -> None:
    found = {p.pid: p for p in topz.sample(proc).values()}
    assert set(found) == {1, 7}
    odd = found[7]
    assert (odd.name, odd.command) == ("odd ) name (", "python3 app.py <b>")
    assert (odd.state, odd.threads, odd.container) == ("S", 3, "ab" * 6)
    assert odd.cpu_seconds == 150 / os.sysconf("SC_CLK_TCK")
    assert odd.memory_bytes == 256 * os.sysconf("SC_PAGE_SIZE")
    assert odd.user == os.getuid()


def test_the_busiest_comes_first(topz: Any, proc: pathlib.Path) -> None:
    before = topz.sample(proc)
    process(proc, 1, "pause", "/pause", ticks=150)
    first, second = topz._busiest(before, topz.sample(proc), 1.0)
    assert (first.pid, first.cpu_percent) == (1, 50 * 100 / os.sysconf("SC_CLK_TCK"))
    assert second.cpu_percent == 0


def test_the_page_shows_commands_as_text(topz: Any, proc: pathlib.Path) -> None:
    page = topz.page(topz.sample(proc).values())
    assert "python3 app.py &lt;b&gt;" in page
    assert "<b>" not in page


def test_it_sees_itself_where_there_is_a_real_proc(topz: Any) -> None:
    if not pathlib.Path("/proc/self/stat").exists():
        pytest.skip("no /proc")
    mine = next(p for p in topz.Top().processes() if p.pid == os.getpid())
    assert mine.memory_bytes > 1 << 20


@pytest.fixture
def served(topz: Any, proc: pathlib.Path) -> Iterator[str]:
    web = importlib.import_module("companions.web")
    with serving(web.Server("127.0.0.1", 0, topz.routes(topz.Top(proc)))) as url:
        yield url


def test_people_and_machines_are_answered(served: str) -> None:
    with requests.Session() as session:
        page = session.get(f"{served}/topz", timeout=10)
        assert page.headers["Content-Type"].startswith("text/html")
        as_json = session.get(f"{served}/topz.json?sort=pid", timeout=10)
        assert [p["pid"] for p in as_json.json()["processes"]] == [1, 7]
        asked = session.get(f"{served}/topz", headers={"Accept": "application/json"}, timeout=10)
        assert json.loads(asked.text)["processes"]
        assert session.get(f"{served}/topz?sort=size", timeout=10).status_code == 400
        assert session.get(f"{served}/else", timeout=10).status_code == 404
        assert session.head(f"{served}/topz", timeout=10).text == ""


def test_many_who_ask_at_once_share_one_answer(
    served: str, topz: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    look, looks = topz.sample, []

    def counted(folder: pathlib.Path) -> Any:
        looks.append(folder)
        return look(folder)

    monkeypatch.setattr(topz, "sample", counted)
    threads = [
        threading.Thread(target=lambda: requests.get(f"{served}/topz.json", timeout=20))
        for _ in range(12)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    # Each by itself would look twice. Who comes late, as on a busy machine, looks again.
    assert 2 <= len(looks) < 12 * 2


def made(preview: bool = False, **args: Any) -> tuple[Topz, Graph]:
    found: list[Topz] = []

    def program() -> None:
        given: Any = {"image": IMAGE, **args}
        found.append(Topz("topz", given))
        Application("web", {"image": IMAGE, "companions": [found[0].companion]})

    graph = build(program, preview=preview)
    return found[0], graph


def test_the_pod_shares_its_processes_and_is_hardened() -> None:
    _, graph = made()
    assert_valid(objects(graph))
    (template,) = templates(graph)
    assert template["spec"]["shareProcessNamespace"] is True
    assert violations(template, restarts=False) == []
    (container,) = template["spec"]["initContainers"]
    assert container["command"] == ["python3", "-m", "companions.topz", "0.0.0.0", "8079"]
    assert "readinessProbe" not in container


@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
def test_on_loopback_the_probes_ask_inside(address: str) -> None:
    _, graph = made(address=address, port=9000)
    (container,) = templates(graph)[0]["spec"]["initContainers"]
    assert container["command"][-2:] == [address, "9000"]
    assert "9000/healthz" in container["livenessProbe"]["exec"]["command"][-1]


def test_nobody_is_let_in_who_is_not_named() -> None:
    assert "ingress" not in the(made()[1], "NetworkPolicy")["spec"]
    clients = [{"pods": {"role": "operator"}}]
    (rule,) = the(made(clients=clients)[1], "NetworkPolicy")["spec"]["ingress"]
    assert rule["from"] == [{"podSelector": {"matchLabels": {"role": "operator"}}}]


@pytest.mark.parametrize("preview", MODES)
@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"images": 1}, "did you mean image?"),
        ({"image": "companions"}, "must have a tag"),
        ({"port": 80}, "must be from 1024"),
        ({"address": "localhost"}, "must be an IP address"),
        ({"address": "127.0.0.1", "clients": [{}]}, "is the pod's own"),
    ],
)
def test_bad_input_is_refused(change: dict[str, Any], expected: str, preview: bool) -> None:
    messages: list[str] = []

    def program() -> None:
        given: Any = {"image": IMAGE, **change}
        with pytest.raises(InputError) as caught:
            Topz("topz", given)
        messages.append(str(caught.value))

    graph = build(program, preview=preview)
    assert not graph.nodes
    assert messages[0].startswith('Topz "topz"')
    assert expected in messages[0]
