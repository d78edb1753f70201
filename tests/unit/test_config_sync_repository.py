"""The source of ConfigSync that reads git: what it takes over, and what it takes for too much."""

import contextlib
import pathlib
import random
import threading
import wsgiref.simple_server
from collections.abc import Iterator
from typing import Any

import pytest
import urllib3
from dulwich.objects import Blob, Commit, Tree
from dulwich.repo import Repo
from dulwich.server import DictBackend
from dulwich.web import make_wsgi_chain

from tests.unit.support.companions import program
from tests.unit.support.wire import answered, raw_server

snapshot = program("config_sync.snapshot")
repositories = program("config_sync.repository")

FILE, LINK, SUBMODULE = 0o100644, 0o120000, 0o160000


class _Quiet(wsgiref.simple_server.WSGIRequestHandler):
    def log_message(self, *_: Any) -> None:
        pass


@contextlib.contextmanager
def served(folder: pathlib.Path, *entries: tuple[bytes, int, bytes]) -> Iterator[str]:
    """The URL of a repository whose branch main has these entries: name, mode and content."""
    repository = Repo.init_bare(str(folder))
    tree, commit = Tree(), Commit()
    for name, mode, content in entries:
        blob = Blob.from_string(content)
        repository.object_store.add_object(blob)
        tree.add(name, mode, blob.id)
    commit.tree = tree.id
    commit.author = commit.committer = b"unit <unit@example.org>"
    commit.message = b"unit"
    commit.author_time = commit.commit_time = commit.author_timezone = commit.commit_timezone = 0
    for made in (tree, commit):
        repository.object_store.add_object(made)
    repository.refs[b"refs/heads/main"] = commit.id
    app = make_wsgi_chain(DictBackend({"/": repository}))
    server = wsgiref.simple_server.make_server("127.0.0.1", 0, app, handler_class=_Quiet)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
        repository.close()


def read(url: str, most_bytes: int = 1000) -> Any:
    return repositories.Repository({"url": url, "branch": "main"}).read(most_bytes)


def test_a_commits_files_without_what_can_be_none(
    tmp_path: pathlib.Path, caplog: pytest.LogCaptureFixture
) -> None:
    entries = (
        (b"a b", FILE, b"1"),
        ("größe".encode(), FILE, b"2"),
        ("größe".encode("latin-1"), FILE, b"3"),
        (b"..data", FILE, b"4"),
        (b"link", LINK, b"a b"),
        (b"other", SUBMODULE, b"5"),
    )
    with served(tmp_path, *entries) as url:
        assert read(url).files == {"a b": b"1", "größe": b"2"}
    for name in ("gr\udcf6\udcdfe", "..data", "link", "other"):
        assert f"left out: {name!r}" in caplog.text


def test_a_commit_of_more_bytes_is_refused_before_they_are_read(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # It does not compress: all of it would be sent.
    content = random.Random(1).randbytes(8 << 20)
    taken: list[int] = []
    ask = urllib3.PoolManager.request

    def counted(*args: Any, **kwargs: Any) -> Any:
        response: Any = ask(*args, **kwargs)
        read_it = response.read

        def read(*size: int) -> Any:
            piece = read_it(*size)
            taken.append(len(piece))
            return piece

        response.read = read
        return response

    monkeypatch.setattr(urllib3.PoolManager, "request", counted)
    refused = pytest.raises(snapshot.SourceError, match="the commit is more than 1056576 bytes")
    with served(tmp_path, (b"large", FILE, content)) as url, refused:
        read(url)
    assert 1 << 20 < sum(taken) < 2 << 20


def test_a_server_that_does_not_speak_git_is_refused_unread() -> None:
    refused = pytest.raises(snapshot.SourceError, match="not a git server with the smart")
    with raw_server(answered(b"a list of references, as files have it")) as at, refused:
        read(at.url)


def test_a_commit_that_does_not_end_is_given_up(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(repositories, "WHOLE_SECONDS", -1)
    refused = pytest.raises(snapshot.SourceError, match="not complete after")
    with served(tmp_path, (b"a", FILE, b"1")) as url, refused:
        read(url)
