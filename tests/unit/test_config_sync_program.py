"""The program of ConfigSync: swaps are whole, what is refused changes nothing, dead watches show."""

import base64
import http.client
import http.server
import json
import os
import pathlib
import signal
import subprocess
import sys
import threading
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.unit.support.companions import program
from tests.unit.support.starting import at_last, starting
from tests.unit.support.wire import answered, chunked, raw_server

snapshot = program("config_sync.snapshot")
folders = program("config_sync.folder")
sources = program("config_sync.sources")
fetch = program("config_sync.fetch")
syncs = program("config_sync.sync")
notifying = program("config_sync.notify")
pages = program("config_sync.__main__")
web = program("web")

ASKED = web.Request("/", {}, {})


class Given:
    """A source that says what it is told to."""

    def __init__(self, **files: str) -> None:
        self.files: dict[str, str] = files
        self.error: Exception | None = None
        self.waits: list[Callable[[Callable[[], None]], object]] = []

    def read(self, most_bytes: int) -> Any:  # noqa: ARG002
        if self.error:
            raise self.error
        return snapshot.Snapshot({name: text.encode() for name, text in self.files.items()})

    def wait(self, seconds: float, changed: Callable[[], None]) -> None:
        if self.waits:
            self.waits.pop(0)(changed)
        else:
            time.sleep(seconds)


def config(folder: pathlib.Path, **changes: Any) -> dict[str, Any]:
    return {
        "folder": str(folder), "watch": False, "interval_seconds": 0.05,
        "stale_after_seconds": 0.3, "check": [], "tell": None, "may_be_empty": False,
        "most_bytes": 1000, "port": 0, **changes,
    }  # fmt: skip


def shown(folder: pathlib.Path) -> dict[str, str]:
    """What an application sees that lists the folder as kubelet's volumes are listed."""
    return {f.name: f.read_text() for f in folder.iterdir() if not f.name.startswith("..")}


# the swap


def test_files_appear_change_and_disappear(tmp_path: pathlib.Path) -> None:
    source = Given(**{"a.conf": "1", "b.conf": "1"})
    sync = syncs.Sync(config(tmp_path), source)
    assert sync.turn()
    assert shown(tmp_path) == {"a.conf": "1", "b.conf": "1"}
    source.files = {"b.conf": "2", "c.conf": "1"}
    assert sync.turn()
    assert shown(tmp_path) == {"b.conf": "2", "c.conf": "1"}
    assert sync.state.generation == 2
    assert sync.turn()
    assert sync.state.generation == 2, "what is the same is not swapped"
    # One folder of data, its link, and a link for each file.
    assert len(list(tmp_path.iterdir())) == 4


def test_a_reader_never_sees_files_of_two_versions(tmp_path: pathlib.Path) -> None:
    source = Given(a="0", b="0")
    sync = syncs.Sync(config(tmp_path), source)
    sync.turn()
    stop = threading.Event()
    mixed: list[tuple[str, str]] = []

    def read() -> None:
        while not stop.is_set():
            # As an application does it that wants both alike: the folder once, then its files.
            now = (tmp_path / "..data").resolve()
            try:
                pair = ((now / "a").read_text(), (now / "b").read_text())
            except FileNotFoundError:
                continue
            if pair[0] != pair[1]:
                mixed.append(pair)

    reader = threading.Thread(target=read)
    reader.start()
    for number in range(1, 200):
        source.files = {"a": str(number), "b": str(number)}
        assert sync.turn()
    stop.set()
    reader.join()
    assert mixed == []


def test_what_a_killed_run_left_is_removed_and_what_is_in_place_stays(
    tmp_path: pathlib.Path,
) -> None:
    source = Given(a="1")
    first = syncs.Sync(config(tmp_path), source)
    first.turn()
    (tmp_path / "..7-half").mkdir()
    (tmp_path / "..data_next").symlink_to("..7-half")
    again = syncs.Sync(config(tmp_path, tell={"url": "http://127.0.0.1:1/"}), source)
    again._folder.tidy()
    assert again.turn(), "the same files need no telling"
    assert again.state.generation == 0
    assert shown(tmp_path) == {"a": "1"}
    source.files = {"a": "2"}
    again.turn()
    assert shown(tmp_path) == {"a": "2"}
    assert not (tmp_path / "..7-half").exists()


@pytest.mark.parametrize("name", ["../a", "/a", "a/../b", "..data", "", "a//b", "a\nb", "x" * 256])
def test_a_name_that_leads_elsewhere_is_refused(name: str, tmp_path: pathlib.Path) -> None:
    sync = syncs.Sync(config(tmp_path), Given(**{name: "x"}))
    assert not sync.turn()
    assert "not a valid file name" in sync.state.problem
    assert shown(tmp_path) == {}


# the check


CHECK = [sys.executable, "-c", "import json, sys; json.load(open(sys.argv[1] + '/a'))", "{folder}"]


def test_a_name_is_a_file_or_a_folder() -> None:
    with pytest.raises(snapshot.SourceError, match="'a' is a file and a folder"):
        snapshot.Snapshot({"a/b/c": b"", "a": b""})


@pytest.mark.parametrize("name", ["a b", "größe.conf", "x" * 255, ".hidden", "a/b c/ü"])
def test_an_unusual_name_is_a_name(name: str, tmp_path: pathlib.Path) -> None:
    assert syncs.Sync(config(tmp_path), Given(**{name: "x"})).turn()
    assert (tmp_path / name).read_text() == "x"


def test_links_that_a_killed_run_did_not_make_are_made_though_nothing_changed(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = Given(a="1", gone="1")
    first = syncs.Sync(config(tmp_path), source)
    assert first.turn()
    source.files = {"a": "2", "new": "2"}
    with monkeypatch.context() as killed:
        # As if it was killed when the data were renamed: whatever came after did not happen.
        killed.setattr(folders.Folder, "_link", lambda _: None)
        killed.setattr(folders.shutil, "rmtree", lambda *_, **__: None)
        assert first.turn()
    again = syncs.Sync(config(tmp_path), source)
    again._folder.tidy()
    assert again.turn()
    assert again.state.generation == 0
    assert shown(tmp_path) == {"a": "2", "new": "2"}
    assert not (tmp_path / "gone").is_symlink()


def test_what_the_check_refuses_never_replaces_what_is_good(tmp_path: pathlib.Path) -> None:
    source = Given(a="{}")
    sync = syncs.Sync(config(tmp_path, check=CHECK), source)
    assert sync.turn()
    source.files = {"a": "{bad"}
    assert not sync.turn()
    assert not sync.turn()
    assert shown(tmp_path) == {"a": "{}"}
    assert sync.state.failures["check"] == 2
    assert "Expecting property name" in sync.state.problem, "the check's words are shown"
    source.files = {"a": "[1]"}
    assert sync.turn()
    assert shown(tmp_path) == {"a": "[1]"}
    assert sync.state.problem == ""


def test_what_is_refused_at_first_leaves_the_application_waiting(tmp_path: pathlib.Path) -> None:
    sync = syncs.Sync(config(tmp_path, check=["no-such-program"]), Given(a="{}"))
    assert not sync.turn()
    page = pages.Page(config(tmp_path), sync)
    assert page.started(ASKED).status == 503
    assert "no-such-program" in page.started(ASKED).body


def test_a_source_that_is_suddenly_empty_changes_nothing(tmp_path: pathlib.Path) -> None:
    source = Given(a="1")
    sync = syncs.Sync(config(tmp_path), source)
    sync.turn()
    source.files = {}
    assert not sync.turn()
    assert shown(tmp_path) == {"a": "1"}
    permitted = syncs.Sync(config(tmp_path, may_be_empty=True), source)
    assert permitted.turn()
    assert shown(tmp_path) == {}


# telling


@pytest.fixture
def application() -> Iterator[Any]:
    """Counts requests; answers 500 as often as it is told to."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.server.seen.append(self.path)  # type: ignore[attr-defined]
            bad = self.server.bad  # type: ignore[attr-defined]
            self.server.bad = max(0, bad - 1)  # type: ignore[attr-defined]
            self.send_response(500 if bad else 200)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.seen, server.bad = [], 0  # type: ignore[attr-defined]
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def test_the_application_is_told_after_each_change_but_the_first_until_it_listens(
    tmp_path: pathlib.Path, application: Any
) -> None:
    source = Given(a="1")
    told = {"url": f"http://127.0.0.1:{application.server_port}/reload"}
    sync = syncs.Sync(config(tmp_path, tell=told), source)
    assert sync.turn()
    assert application.seen == [], "it starts with the first files"
    application.bad = 2
    source.files = {"a": "2"}
    assert not sync.turn()
    assert shown(tmp_path) == {"a": "2"}
    assert sync.state.failures["tell"] == 1
    assert not sync.turn()
    assert sync.turn()
    assert sync.turn()
    assert application.seen == ["/reload"] * 3
    assert sync.state.tellings == 1


def test_what_was_not_told_is_told_by_the_next_run(
    tmp_path: pathlib.Path, application: Any
) -> None:
    source = Given(a="1")
    told = {"url": f"http://127.0.0.1:{application.server_port}/reload"}
    first = syncs.Sync(config(tmp_path, tell=told), source)
    assert first.turn()
    application.bad = 1
    source.files = {"a": "2"}
    assert not first.turn()
    again = syncs.Sync(config(tmp_path, tell=told), source)
    again._folder.tidy()
    assert again.turn()
    assert application.seen == ["/reload"] * 2
    third = syncs.Sync(config(tmp_path, tell=told), source)
    third._folder.tidy()
    assert third.turn()
    assert application.seen == ["/reload"] * 2
    assert shown(tmp_path) == {"a": "2"}


def test_an_application_starts_though_it_is_still_to_be_told(tmp_path: pathlib.Path) -> None:
    # All of a pod started again in between: whom to tell is there once the files are.
    (tmp_path / "..untold").touch()
    told = {"process": "no-such-process", "signal": "HUP"}
    sync = syncs.Sync(config(tmp_path, tell=told), Given(a="1"))
    page = pages.Page(config(tmp_path), sync)
    assert page.started(ASKED).status == 503
    assert not sync.turn()
    assert page.started(ASKED).status == 200
    assert sync.state.success is None


def test_a_telling_that_fails_ends_the_watch_to_be_tried_again(tmp_path: pathlib.Path) -> None:
    source = Given(a="1")
    told = {"process": "no-such-process", "signal": "HUP"}
    sync = syncs.Sync(config(tmp_path, tell=told), source)
    assert sync.turn()
    source.files = {"a": "2"}
    ended: list[bool] = []

    def watch(changed: Callable[[], None]) -> None:
        changed()
        ended.append(False)

    source.waits = [watch]
    sync._watch(0.01)
    assert ended == []
    assert sync.state.failures["tell"] == 1


def test_what_a_swap_could_not_do_is_done_by_the_next_turn(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = Given(a="1", b="1")
    sync = syncs.Sync(config(tmp_path), source)

    def full(_: Any) -> None:
        raise OSError("no space")

    with monkeypatch.context() as patched:
        patched.setattr(folders.Folder, "_link", full)
        assert not sync.turn()
    assert sync.turn()
    assert shown(tmp_path) == {"a": "1", "b": "1"}


def test_whoever_the_application_names_is_not_told() -> None:
    with raw_server(answered(b"")) as other:
        moved = answered(b"", f"Location: {other.url}/", status="302 Found")
        with raw_server(moved) as at, pytest.raises(notifying.NotifyError, match="302"):
            notifying.notify({"url": at.url})
        assert other.requests == []


@pytest.mark.parametrize("status", ["204 No Content", "206 Partial Content"])
def test_nothing_and_a_part_are_no_document(status: str) -> None:
    with (
        raw_server(answered(b"", status=status)) as at,
        pytest.raises(snapshot.SourceError, match="not a complete document"),
    ):
        sources.HttpDocument({"url": at.url, "file": "a.conf"}).read(100)


def test_an_application_that_answers_nonsense_does_not_end_the_loop(tmp_path: pathlib.Path) -> None:
    source = Given(a="1")
    with raw_server(b"nonsense\r\n\r\n", answered(b"")) as listening:
        sync = syncs.Sync(config(tmp_path, tell={"url": listening.url}), source)
        assert sync.turn()
        source.files = {"a": "2"}
        assert not sync.turn()
        assert "nonsense" in sync.state.problem
        assert sync.turn()


@pytest.mark.parametrize(
    "error", [KeyError("x"), RecursionError(), http.client.IncompleteRead(b"")]
)
def test_whatever_a_source_says_the_loop_goes_on(tmp_path: pathlib.Path, error: Exception) -> None:
    source = Given(a="1")
    sync = syncs.Sync(config(tmp_path), source)
    source.error = error
    assert not sync.turn()
    assert type(error).__name__ in sync.state.problem or str(error) in sync.state.problem
    source.error = None
    assert sync.turn()


def test_the_own_process_is_told_once_though_another_users_has_its_name(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sent: list[int] = []

    def kill(pid: int, _: int) -> None:
        if pid in (1, 3):
            raise PermissionError
        sent.append(pid)

    monkeypatch.setattr(notifying.os, "kill", kill)
    monkeypatch.setattr(notifying, "handles", lambda *_: True)
    for found, told in (([1, 2], [2]), ([2, 3], [2])):
        monkeypatch.setattr(notifying, "pids", lambda _, found=found: found)
        sent.clear()
        notifying.notify({"process": "app", "signal": "HUP"})
        assert sent == told
    monkeypatch.setattr(notifying, "pids", lambda _: [1])
    with pytest.raises(notifying.NotifyError, match="process 1 .app. belongs to another user"):
        notifying.notify({"process": "app", "signal": "HUP"})


@pytest.mark.parametrize("listens", ["handler", "wait"])
def test_a_process_that_is_starting_is_told_once_it_listens(
    tmp_path: pathlib.Path, listens: str
) -> None:
    with starting(tmp_path, listens) as (name, go_on):
        how = {"process": name, "signal": "USR1"}
        with pytest.raises(notifying.NotifyError, match="does not handle SIGUSR1"):
            notifying.notify(how)
        go_on()
        at_last(lambda: notifying.notify(how), notifying.NotifyError)


def test_a_signal_goes_to_the_process_of_that_name_and_not_to_its_children(
    tmp_path: pathlib.Path,
) -> None:
    # Every process of the machine is looked through, those of another run of this test as well.
    name = f"told-by-signal-{os.getpid()}.py"
    script = tmp_path / name
    script.write_text(
        "import os, signal, sys, time\n"
        "signal.signal(signal.SIGHUP, lambda *_: (print('told', flush=True), os._exit(0)))\n"
        "parent = os.getpid()\n"
        "if os.fork():\n"
        "    print(parent, flush=True)\n"
        "    time.sleep(30)\n"
        "while os.getppid() == parent:\n"
        "    time.sleep(0.05)\n"
    )
    with subprocess.Popen(
        [sys.executable, str(script)], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout
        try:
            parent = int(process.stdout.readline())
            assert notifying.pids(name) == [parent]
            notifying.notify({"process": name, "signal": "HUP"})
            assert process.stdout.readline() == "told\n"
        finally:
            process.send_signal(signal.SIGKILL)
    with pytest.raises(notifying.NotifyError, match="no process"):
        notifying.notify({"process": "no-such-process", "signal": "HUP"})


# health


def test_health_turns_bad_when_the_source_is_away_and_good_again(tmp_path: pathlib.Path) -> None:
    source = Given(a="1")
    given = config(tmp_path, stale_after_seconds=60)
    sync = syncs.Sync(given, source)
    page = pages.Page(given, sync)
    sync.turn()
    assert page.health(ASKED).status == 200
    source.error = OSError("unreachable")
    sync.turn()
    assert page.health(ASKED).status == 200, "once is nothing"
    # As it is a minute later.
    sync.state.success -= 60
    assert page.health(ASKED).status == 503
    assert "unreachable" in page.health(ASKED).body
    assert page.started(ASKED).status == 200, "the application keeps what it has"
    assert "config_sync_healthy 0" in page.metrics(ASKED).body
    source.error = None
    sync.turn()
    assert page.health(ASKED).status == 200
    assert "config_sync_generation 1" in page.metrics(ASKED).body


def test_health_turns_bad_when_the_watch_says_nothing_and_does_not_end(
    tmp_path: pathlib.Path,
) -> None:
    given = config(tmp_path, watch=True, stale_after_seconds=0.4)
    source = Given(a="1")
    dead = threading.Event()
    source.waits = [lambda _: dead.wait(5)]
    sync = syncs.Sync(given, source)
    page = pages.Page(given, sync)
    threading.Thread(target=sync.run, daemon=True).start()
    deadline = time.monotonic() + 10
    while page.health(ASKED).status != 200:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    while page.health(ASKED).status != 503:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    dead.set()
    while page.health(ASKED).status != 200:
        assert time.monotonic() < deadline
        time.sleep(0.01)


# the sources


@pytest.fixture
def api(tmp_path: pathlib.Path) -> Iterator[Any]:
    """An API server that lists and watches ConfigMaps, and a document with an ETag."""

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.0"

        def do_GET(self) -> None:
            url = urllib.parse.urlsplit(self.path)
            query = dict(urllib.parse.parse_qsl(url.query))
            owner: Any = self.server
            owner.asked.append((url.path, query, self.headers.get("Authorization")))
            if url.path == "/document":
                same = self.headers.get("If-None-Match") == owner.etag
                self._send(304 if same else 200, b"" if same else owner.document, owner.etag)
            elif "watch" in query:
                self._send(200, owner.events, "")
                if owner.silent:
                    owner.released.wait(20)
            else:
                listed = {"metadata": {"resourceVersion": "7"}, "items": owner.items}
                self._send(owner.status, json.dumps(listed).encode(), "")

        def _send(self, status: int, body: bytes, etag: str) -> None:
            self.send_response(status)
            if etag:
                self.send_header("ETag", etag)
            self.end_headers()
            self.wfile.write(body)
            self.wfile.flush()

        def log_message(self, *_: Any) -> None:
            pass

    server: Any = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    server.asked, server.items, server.status = [], [], 200
    server.events, server.silent, server.released = b"", False, threading.Event()
    server.document, server.etag = b"{}", '"1"'
    account = tmp_path / "account"
    account.mkdir()
    (account / "token").write_text("a-token\n")
    (account / "namespace").write_text("shop")
    server.source = sources.ConfigMaps(
        {
            "labels": {"b": "2", "a": "1"},
            "server": f"http://127.0.0.1:{server.server_port}",
            "account": str(account),
        }
    )
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.released.set()
    server.shutdown()
    server.server_close()


def item(name: str, **data: str) -> dict[str, Any]:
    return {"metadata": {"name": name}, "data": data}


def test_config_maps_with_the_labels_are_one_folder(api: Any) -> None:
    api.items = [item("two", b="2"), item("one", a="1"), {"metadata": {"name": "none"}}]
    assert api.source.read(100).files == {"a": b"1", "b": b"2"}
    path, query, authorization = api.asked[0]
    assert path == "/api/v1/namespaces/shop/configmaps"
    assert query == {"labelSelector": "a=1,b=2"}
    assert authorization == "Bearer a-token"


def test_a_key_of_two_config_maps_and_too_much_are_errors(api: Any) -> None:
    api.items = [item("two", a="2"), item("one", a="1")]
    with pytest.raises(snapshot.SourceError, match="one and two both have a"):
        api.source.read(100)
    api.items = [item("one", a="x" * 101)]
    with pytest.raises(snapshot.SourceError, match="exceed the limit of 100"):
        api.source.read(100)
    api.status = 403
    with pytest.raises(snapshot.SourceError, match="403"):
        api.source.read(100)


def test_a_watch_tells_of_changes_and_ends(api: Any) -> None:
    api.source.read(100)
    lines = [{"type": "MODIFIED"}, {"type": "BOOKMARK"}, {"type": "DELETED"}, {"type": "ERROR"}]
    api.events = b"".join(json.dumps(line).encode() + b"\n" for line in lines)
    calls: list[int] = []
    api.source.wait(1, lambda: calls.append(1))
    assert len(calls) == 2
    query = api.asked[-1][1]
    assert (query["resourceVersion"], query["timeoutSeconds"]) == ("7", "1")


def test_a_watch_that_says_nothing_is_given_up(api: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "_WATCH_SLACK_SECONDS", 0.1)
    api.silent = True
    api.source.read(100)
    with pytest.raises(OSError, match="timed out"):
        api.source.wait(0.2, lambda: None)


def test_two_changes_at_once_are_told_once(api: Any, tmp_path: pathlib.Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    api.items = [item("one", a="1"), item("two", b="1")]
    sync = syncs.Sync(config(folder), api.source)
    assert sync.turn()
    api.items = [item("one", a="2"), item("two", b="2")]
    api.events = b'{"type": "MODIFIED"}\n' * 2
    sync._watch(1)
    assert sync.state.generation == 2
    assert shown(folder) == {"a": "2", "b": "2"}


def test_a_key_that_moves_to_binary_data_stays_a_file(api: Any) -> None:
    api.items = [item("one", a="1")]
    assert api.source.read(100).files == {"a": b"1"}
    api.items = [{**item("one"), "binaryData": {"a": base64.b64encode(b"\xff").decode()}}]
    assert api.source.read(100).files == {"a": b"\xff"}


@pytest.mark.parametrize(
    "cut",
    [
        answered(b"half", 'ETag: "2"', length=8),
        chunked(b"half", whole=False, headers=['ETag: "2"']),
    ],
    ids=["length", "chunks"],
)
def test_a_document_that_breaks_off_is_refused_and_its_etag_forgotten(cut: bytes) -> None:
    with raw_server(answered(b"whole", 'ETag: "1"'), cut, answered(b"new one", 'ETag: "2"')) as at:
        source = sources.HttpDocument({"url": at.url, "file": "a.conf"})
        assert source.read(100).files == {"a.conf": b"whole"}
        with pytest.raises(snapshot.SourceError, match="is truncated"):
            source.read(100)
        assert source.read(100).files == {"a.conf": b"new one"}
        tags = [b'If-None-Match: "1"' in request for request in at.requests]
        assert tags == [False, True, True]


def test_a_list_that_breaks_off_is_an_error(api: Any, tmp_path: pathlib.Path) -> None:
    line = b'{"type": "BOOKMARK"}\n'
    with raw_server(chunked(b'{"items": [', whole=False), chunked(line, whole=False)) as at:
        config_maps = sources.ConfigMaps(
            {"labels": {"a": "1"}, "server": at.url, "account": str(tmp_path / "account")}
        )
        with pytest.raises(snapshot.SourceError, match="is truncated"):
            config_maps.read(100)
        # All is read again after a watch, however it ended.
        config_maps.wait(1, lambda: None)
        assert len(at.requests) == 2
    assert api.asked == []


def test_a_credential_stays_at_the_origin_that_it_is_for(tmp_path: pathlib.Path) -> None:
    (tmp_path / "token").write_text("Bearer secret\n")

    def moved(to: str) -> bytes:
        return answered(b"", f"Location: {to}", status="302 Found")

    with raw_server(answered(b"{}")) as other:
        with raw_server(moved("/here"), answered(b"{}"), moved(f"{other.url}/there")) as at:
            source = sources.HttpDocument(
                {"url": at.url, "authorization_file": str(tmp_path / "token")}
            )
            source.read(100)
            source.read(100)
        assert [b"Authorization: Bearer secret" in one for one in at.requests] == [True] * 3
        assert b"uthorization" not in other.requests[0]


def test_nothing_leads_from_https_to_plain_http() -> None:
    redirects = fetch._Redirects()
    request = urllib.request.Request("https://a.example/x", headers={"Authorization": "secret"})
    for to in ("http://a.example/x", "ftp://a.example/x"):
        with pytest.raises(snapshot.SourceError, match="not HTTPS"):
            redirects.redirect_request(request, None, 302, "Found", {}, to)
    for to, kept in (("https://a.example:443/y", True), ("https://a.example:444/y", False)):
        followed = redirects.redirect_request(request, None, 302, "Found", {}, to)
        assert followed.has_header("Authorization") is kept


def test_one_unusual_entry_of_a_document_keeps_no_other_away(tmp_path: pathlib.Path) -> None:
    entries = {"a": "1", "a/b/c": "2", "../d": "3", "e/f": "4", "g": "\ud800", "h\n": "5"}
    with raw_server(answered(json.dumps(entries).encode())) as at:
        sync = syncs.Sync(config(tmp_path), sources.HttpDocument({"url": at.url}))
        assert sync.turn(), sync.state.problem
    assert (tmp_path / "a").read_text() == "1"
    assert (tmp_path / "e" / "f").read_text() == "4"
    assert {file.name for file in (tmp_path / "..data").iterdir()} == {"a", "e"}


def test_a_document_is_not_sent_again_while_it_is_the_same(api: Any) -> None:
    source = sources.HttpDocument({"url": f"http://127.0.0.1:{api.server_port}/document"})
    api.document = b'{"a": "1"}'
    assert source.read(100).files == {"a": b"1"}
    api.document = b"never sent"
    assert source.read(100).files == {"a": b"1"}
    api.etag = '"2"'
    for document, problem in ((b"no json", "invalid JSON"), (b"[]", "must be an object"),
                              (b'{"a": 1}', "must be an object"), (b"x" * 101, "more than 100")):  # fmt: skip
        api.document = document
        with pytest.raises(snapshot.SourceError, match=problem):
            source.read(100)
    one = sources.HttpDocument(
        {"url": f"http://127.0.0.1:{api.server_port}/document", "file": "a.conf"}
    )
    api.document = b"\xff anything"
    assert one.read(100).files == {"a.conf": b"\xff anything"}
