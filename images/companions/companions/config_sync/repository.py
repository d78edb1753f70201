"""A folder of a git repository that is reached over HTTP."""

import logging
import stat
import time
from collections.abc import Callable, Mapping
from typing import Any

import urllib3
from dulwich.client import HttpGitClient, get_transport_and_path
from dulwich.config import ConfigDict
from dulwich.objects import S_ISGITLINK, Blob, Tree
from dulwich.repo import MemoryRepo

from companions.config_sync.snapshot import Snapshot, SourceError, can_be_named

log = logging.getLogger(__name__)

_CONNECT_SECONDS = 10


class Repository:
    """The tip of one branch. Only the last commit is fetched, and only when there is a new one."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        self._url = config["url"]
        self._branch = b"refs/heads/" + config["branch"].encode()
        self._folder = config.get("folder", "").strip("/")
        self._authority = config.get("authority_file")
        self._commit: bytes | None = None
        self._last: Snapshot | None = None

    def read(self, most_bytes: int) -> Snapshot:
        """Ask for the branch's commit; fetch it unless it is the one we have."""
        pool = urllib3.PoolManager(
            timeout=_CONNECT_SECONDS, retries=False, ca_certs=self._authority
        )
        client, path = get_transport_and_path(self._url, config=ConfigDict(), pool_manager=pool)
        if not isinstance(client, HttpGitClient):
            raise SourceError(f"{self._url}: must be http or https")
        try:
            commit = self._tip(client.get_refs(path))
            if commit != self._commit or self._last is None:
                repository = MemoryRepo()
                client.fetch(path, repository, determine_wants=lambda *_, **__: [commit], depth=1)
                self._last = self._snapshot(repository, commit, most_bytes)
                self._commit = commit
        except SourceError:
            raise
        except Exception as error:
            # The package raises a wide range of them, down to KeyError, for what a server answers.
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
                name = prefix + entry.path.decode(errors="backslashreplace")
                # A link could lead anywhere, and a submodule's commit is not in this repository.
                # One entry that cannot be a file here must not keep all others away.
                if stat.S_ISLNK(entry.mode) or S_ISGITLINK(entry.mode) or not can_be_named(name):
                    log.warning("%s: left out: %r", self._url, name)
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
        return Snapshot(files)

    def wait(self, seconds: float, changed: Callable[[], None]) -> None:  # noqa: ARG002
        """Nothing tells of a change; time passes."""
        time.sleep(seconds)
