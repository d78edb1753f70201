"""The loop: read, check, swap, tell."""

import dataclasses
import logging
import pathlib
import subprocess
import time
from collections.abc import Mapping
from typing import Any

from companions.config_sync.folder import Folder
from companions.config_sync.snapshot import Snapshot, SourceError
from companions.config_sync.sources import Source
from companions.config_sync.tell import tell

log = logging.getLogger(__name__)

_CHECK_SECONDS = 30
# After a failure the source is asked again sooner than at the next turn, but not at once.
_RETRY_SECONDS = 1.0
# Changes that come together are taken together.
_GATHER_SECONDS = 0.05


@dataclasses.dataclass
class State:
    """What is known of the loop; written by it alone."""

    began: float = dataclasses.field(default_factory=time.monotonic)
    turn: float = dataclasses.field(default_factory=time.monotonic)
    """When the loop was last alive."""
    placed: bool = False
    """Whether the folder has held what a source said; the application may start then."""
    success: float | None = None
    """When the folder was last known to be what the source says."""
    success_unix: float = 0.0
    changed_unix: float = 0.0
    generation: int = 0
    """Swaps so far."""
    digest: str = ""
    files: int = 0
    reads: int = 0
    failures: dict[str, int] = dataclasses.field(
        default_factory=lambda: {"source": 0, "check": 0, "tell": 0}
    )
    tellings: int = 0
    problem: str = "nothing was read yet"
    """Why the folder may not be what the source says; empty if it is."""


class CheckError(Exception):
    """The command does not accept the files."""


class _AgainError(Exception):
    """A turn has failed while the source was watched."""


class Sync:
    """Keeps the folder like the source."""

    def __init__(self, config: Mapping[str, Any], source: Source) -> None:
        self._config = config
        self._source = source
        self._folder = Folder(pathlib.Path(config["folder"]))
        self._refused = ""
        self._refusal = ""
        self.state = State()

    def run(self) -> None:
        """Never ends."""
        self._folder.tidy()
        seconds: float = self._config["interval_seconds"]
        while True:
            began = time.monotonic()
            good = self.turn()
            pause = seconds if good else min(seconds, _RETRY_SECONDS)
            if good and self._config["watch"]:
                self._watch(seconds)
            else:
                # From the beginning of the turn, so that reading does not make the interval longer.
                time.sleep(max(0.0, began + pause - time.monotonic()))

    def _watch(self, seconds: float) -> None:
        """Take over each change as it comes; afterwards all is read again, whatever was said."""
        try:
            self._source.wait(seconds, self._take)
        except _AgainError:
            time.sleep(min(seconds, _RETRY_SECONDS))
        except Exception as error:  # noqa: BLE001 (as in turn)
            self._failed("source", error)
            time.sleep(min(seconds, _RETRY_SECONDS))

    def _take(self) -> None:
        time.sleep(_GATHER_SECONDS)
        if not self.turn():
            # Tried again soon, and not only when the watch ends.
            raise _AgainError

    def turn(self) -> bool:
        """Read once, and take over what has changed; whether all went well."""
        state = self.state
        state.turn = time.monotonic()
        state.reads += 1
        try:
            snapshot = self._source.read(self._config["most_bytes"])
            if not snapshot.files and not self._config["may_be_empty"]:
                raise SourceError("there is no file; what was before stays")  # noqa: TRY301
            if snapshot.digest != self._folder.current:
                self._take_over(snapshot)
            else:
                # What the last swap could not do, for want of space or of life.
                self._folder.tidy()
            # Before it is told: one that has not started yet cannot be.
            state.placed = True
        except CheckError as error:
            self._failed("check", error)
            return False
        except Exception as error:  # noqa: BLE001 (whatever a source says, the loop goes on)
            self._failed("source", error)
            return False
        if self._config.get("tell") is not None and self._folder.untold:
            try:
                tell(self._config["tell"])
            except Exception as error:  # noqa: BLE001 (as above, of an application)
                self._failed("tell", error)
                return False
            self._folder.untold = False
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
        if snapshot.digest == self._refused:
            raise CheckError(self._refusal)
        first = self._folder.current is None
        with self._folder.candidate(snapshot) as candidate:
            self._check(candidate, snapshot.digest)
            # Noted before: who is told twice reads twice, who is never told keeps what is old. Before
            # there was a first one, the application had not started.
            if self._config.get("tell") is not None and not first:
                self._folder.untold = True
            self._folder.swap(candidate)
        self._refused = ""
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
            # The same files would be refused again; another try waits for other ones.
            self._refused = digest
            said = done.stdout[-500:].decode(errors="replace").strip()
            self._refusal = f"{digest} is refused with status {done.returncode}: {said}"
            raise CheckError(self._refusal)

    def _failed(self, what: str, error: Exception) -> None:
        self.state.failures[what] += 1
        # An error that says nothing has a name at least.
        problem = f"{what}: {str(error) or repr(error)}"
        if problem != self.state.problem:
            log.warning("%s", problem)
        self.state.problem = problem
        self.state.turn = time.monotonic()
