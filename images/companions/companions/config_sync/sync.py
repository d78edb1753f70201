"""The loop: read, check, swap, notify."""

import dataclasses
import logging
import pathlib
import subprocess
import time
from collections.abc import Mapping
from typing import Any

from companions.config_sync.folder import Folder
from companions.config_sync.notify import notify
from companions.config_sync.snapshot import Snapshot, SourceError
from companions.config_sync.sources import Source

log = logging.getLogger(__name__)

_CHECK_SECONDS = 30
# Delay before a retry after a failure, unless the interval is shorter.
_RETRY_SECONDS = 1.0
# Changes that arrive within this time are applied together.
_GATHER_SECONDS = 0.05


@dataclasses.dataclass
class State:
    """State of the loop, written only by the loop."""

    began: float = dataclasses.field(default_factory=time.monotonic)
    turn: float = dataclasses.field(default_factory=time.monotonic)
    """When the loop was last alive."""
    placed: bool = False
    """Whether the folder has been synchronized once; then the application may start."""
    success: float | None = None
    """When the folder was last known to be in sync with the source."""
    success_unix: float = 0.0
    changed_unix: float = 0.0
    generation: int = 0
    """Number of swaps."""
    digest: str = ""
    files: int = 0
    reads: int = 0
    failures: dict[str, int] = dataclasses.field(
        default_factory=lambda: {"source": 0, "check": 0, "tell": 0}
    )
    tellings: int = 0
    problem: str = "the source has not been read yet"
    """Why the folder may be out of sync; empty if it is in sync."""


class CheckError(Exception):
    """The check command rejects the files."""


class _RetryError(Exception):
    """A turn has failed during a watch; it is retried."""


class Sync:
    """Keeps the folder in sync with the source."""

    def __init__(self, config: Mapping[str, Any], source: Source) -> None:
        self._config = config
        self._source = source
        self._folder = Folder(pathlib.Path(config["folder"]))
        self._rejected = ""
        self._rejection = ""
        self.state = State()

    def run(self) -> None:
        """Run the loop for ever."""
        self._folder.tidy()
        seconds: float = self._config["interval_seconds"]
        while True:
            began = time.monotonic()
            good = self.turn()
            pause = seconds if good else min(seconds, _RETRY_SECONDS)
            if good and self._config["watch"]:
                self._watch(seconds)
            else:
                # Measured from the start of the turn, so that reading does not lengthen the interval.
                time.sleep(max(0.0, began + pause - time.monotonic()))

    def _watch(self, seconds: float) -> None:
        """Apply each change of a watch; the next turn reads everything again."""
        try:
            self._source.wait(seconds, self._take)
        except _RetryError:
            time.sleep(min(seconds, _RETRY_SECONDS))
        except Exception as error:  # noqa: BLE001 (as in turn)
            self._failed("source", error)
            time.sleep(min(seconds, _RETRY_SECONDS))

    def _take(self) -> None:
        time.sleep(_GATHER_SECONDS)
        if not self.turn():
            # Retried soon, and not only when the watch ends.
            raise _RetryError

    def turn(self) -> bool:
        """Read once, and apply changes; returns whether all steps succeeded."""
        state = self.state
        state.turn = time.monotonic()
        state.reads += 1
        try:
            snapshot = self._source.read(self._config["most_bytes"])
            if not snapshot.files and not self._config["may_be_empty"]:
                raise SourceError("there is no file; the current files stay")  # noqa: TRY301
            if snapshot.digest != self._folder.current:
                self._take_over(snapshot)
            else:
                # Complete a swap that was interrupted or ran out of space.
                self._folder.tidy()
            # Before the notification: an application that has not started cannot receive it.
            state.placed = True
        except CheckError as error:
            self._failed("check", error)
            return False
        except Exception as error:  # noqa: BLE001 (the loop continues whatever a source returns)
            self._failed("source", error)
            return False
        if self._config.get("tell") is not None and self._folder.notification_pending:
            try:
                notify(self._config["tell"])
            except Exception as error:  # noqa: BLE001 (as above, of an application)
                self._failed("tell", error)
                return False
            self._folder.notification_pending = False
            state.tellings += 1
        state.digest = snapshot.digest
        state.files = len(snapshot.files)
        state.success = state.turn = time.monotonic()
        state.success_unix = time.time()
        if state.problem:
            log.info("in place: %s, %d files", snapshot.digest, state.files)
        state.problem = ""
        return True

    def _take_over(self, snapshot: Snapshot) -> None:
        if snapshot.digest == self._rejected:
            raise CheckError(self._rejection)
        first = self._folder.current is None
        with self._folder.candidate(snapshot) as candidate:
            self._check(candidate, snapshot.digest)
            # Recorded before the swap: a second notification is harmless, a lost one is not. The
            # application starts after the first files, so these need no notification.
            if self._config.get("tell") is not None and not first:
                self._folder.notification_pending = True
            self._folder.swap(candidate)
        self._rejected = ""
        self.state.generation += 1
        self.state.changed_unix = time.time()
        log.info("swapped: %s, %d files", snapshot.digest, len(snapshot.files))

    def _check(self, candidate: pathlib.Path, digest: str) -> None:
        command = self._config.get("check")
        if not command:
            return
        words = [word.replace("{folder}", str(candidate)) for word in command]
        try:
            done = subprocess.run(
                words,
                cwd=candidate,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                timeout=_CHECK_SECONDS,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise CheckError(f"{words[0]}: {error}") from error
        if done.returncode:
            # The same files would be rejected again; the next check waits for other ones.
            self._rejected = digest
            output = done.stdout[-500:].decode(errors="replace").strip()
            self._rejection = f"{digest} is rejected with status {done.returncode}: {output}"
            raise CheckError(self._rejection)

    def _failed(self, what: str, error: Exception) -> None:
        self.state.failures[what] += 1
        # An error without a message has at least a type.
        problem = f"{what}: {str(error) or repr(error)}"
        if problem != self.state.problem:
            log.warning("%s", problem)
        self.state.problem = problem
        self.state.turn = time.monotonic()
