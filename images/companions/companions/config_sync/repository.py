"""A folder of a git repository, read over HTTP."""

import stat
import time
from collections.abc import Callable, Mapping
from typing import Any

import urllib3
from dulwich.client import HttpGitClient
from dulwich.config import ConfigDict
from dulwich.objects import S_ISGITLINK, Blob, Tree
from dulwich.repo import MemoryRepo

from companions.config_sync.fetch import CONNECT_SECONDS, WHOLE_SECONDS
from companions.config_sync.snapshot import Snapshot, SourceError, log_left_out

# A commit is sent with all its folders, compressed.
_COMMIT_FACTOR, _COMMIT_BYTES = 8, 1 << 20


class _Client(HttpGitClient):
    """A git client with a limit on bytes and time."""

    def __init__(self, url: str, pool: urllib3.PoolManager, most_bytes: int) -> None:
        super().__init__(url, pool_manager=pool, config=ConfigDict())
        self._url = url
        self._most, self._left = most_bytes, most_bytes
        self._until = time.monotonic() + WHOLE_SECONDS

    def _http_request(self, *args: Any, **kwargs: Any) -> Any:
        response, read = super()._http_request(*args, **kwargs)
        # No redirect is followed. Some versions of urllib3 give a path here, which dulwich would take
        # for a redirect.
        response.redirect_location = ""
        if not (response.content_type or "").startswith("application/x-git-"):
            # Any other body would be read without a limit.
            response.close()
            raise SourceError(f"{self._url}: not a git server with the smart protocol")

        def bounded(size: int) -> Any:
            # At most one byte above the limit, whatever size is requested.
            piece = read(min(size, self._left + 1))
            self._left -= len(piece)
            if self._left < 0:
                raise SourceError(f"{self._url}: the commit is more than {self._most} bytes")
            if time.monotonic() > self._until:
                raise SourceError(f"{self._url}: not complete after {WHOLE_SECONDS} s")
            return piece

        return response, bounded


class Repository:
    """The tip of one branch. Only its commit is fetched, and only when it has changed."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        self._url = config["url"]
        self._branch = b"refs/heads/" + config["branch"].encode()
        self._folder = config.get("folder", "").strip("/")
        self._authority = config.get("authority_file")
        self._commit: bytes | None = None
        self._last: Snapshot | None = None

    def read(self, most_bytes: int) -> Snapshot:
        """Look up the branch's commit, and fetch it unless it is the last one."""
        pool = urllib3.PoolManager(timeout=CONNECT_SECONDS, retries=False, ca_certs=self._authority)
        most = _COMMIT_FACTOR * most_bytes + _COMMIT_BYTES
        client = _Client(self._url, pool, most)
        try:
            commit = self._tip(client.get_refs(""))
            if commit != self._commit or self._last is None:
                repository = MemoryRepo()
                client.fetch("", repository, determine_wants=lambda *_, **__: [commit], depth=1)
                self._last = self._snapshot(repository, commit, most_bytes)
                self._commit = commit
        except SourceError:
            raise
        except Exception as error:
            # For an invalid response dulwich raises many kinds of exceptions, even KeyError.
            raise SourceError(f"{self._url}: {type(error).__name__}: {error}") from error
        finally:
            pool.clear()
        return self._last

    def _tip(self, refs: Mapping[bytes, bytes]) -> bytes:
        commit = refs.get(self._branch)
        if commit is None:
            raise SourceError(f"{self._url}: no branch {self._branch.decode()}")
        return commit

    def _snapshot(self, repository: MemoryRepo, commit: bytes, most_bytes: int) -> Snapshot:
        tree = repository[repository[commit].tree]
        for part in filter(None, self._folder.split("/")):
            try:
                tree = repository[tree[part.encode()][1]]
            except KeyError:
                raise SourceError(f"{self._url}: no folder {self._folder}") from None
        files: dict[str, bytes] = {}
        left = most_bytes

        def walk(folder: Any, prefix: str) -> None:
            nonlocal left
            for entry in folder.items():
                # A name that is not UTF-8 is not valid.
                name = prefix + entry.path.decode(errors="surrogateescape")
                # A link could point anywhere, and a submodule's commit is not in this repository.
                if stat.S_ISLNK(entry.mode) or S_ISGITLINK(entry.mode):
                    log_left_out(self._url, name)
                    continue
                found = repository.object_store[entry.sha]
                if isinstance(found, Tree):
                    walk(found, f"{name}/")
                elif isinstance(found, Blob):
                    left -= len(found.data)
                    if left < 0:
                        raise SourceError(f"{self._url}: more than {most_bytes} bytes")
                    files[name] = found.data

        walk(tree, "")
        return Snapshot.with_valid_names(self._url, files)

    def wait(self, seconds: float, changed: Callable[[], None]) -> None:  # noqa: ARG002
        """Sleep: a git server reports no changes."""
        time.sleep(seconds)
