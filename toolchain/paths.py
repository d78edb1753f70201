"""Paths on disk, and names derived from the checkout's path."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def cache_root() -> Path:
    """The cache folder of all checkouts of a user."""
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base) / "dds"


@dataclass(frozen=True)
class Checkout:
    """One checkout of the project: its private folder and its instance name."""

    root: Path = ROOT

    @property
    def private(self) -> Path:
        """The private folder, ignored by git; only its owner can read it."""
        return self.root / ".dds"

    @property
    def state(self) -> Path:
        """Pulumi's file backend."""
        return self.private / "state"

    @property
    def pulumi_home(self) -> Path:
        """PULUMI_HOME, with the plugins."""
        return self.private / "pulumi-home"

    @property
    def kubeconfig(self) -> Path:
        """The kubeconfig of the project's own cluster."""
        return self.private / "kubeconfig"

    @property
    def logs(self) -> Path:
        """Logs of commands whose output is not printed."""
        return self.private / "logs"

    @property
    def run_record(self) -> Path:
        """The record of the running CLI process."""
        return self.private / "run.json"

    @property
    def _digest(self) -> str:
        return hashlib.sha256(str(self.root.resolve()).encode()).hexdigest()[:6]

    @property
    def instance(self) -> str:
        """The prefix of every container, network and volume of this checkout's cluster."""
        return f"dds-{self._digest}"

    @property
    def registry_port(self) -> int:
        """Port of the registry on 127.0.0.1."""
        return 20000 + 2 * (int(self._digest, 16) % 5000)

    @property
    def api_port(self) -> int:
        """Port of the API server on 127.0.0.1."""
        return self.registry_port + 1

    def make_private(self) -> None:
        """Create the private folder; only its owner can read it."""
        self.private.mkdir(mode=0o700, exist_ok=True)
        for folder in (self.state, self.pulumi_home, self.logs):
            folder.mkdir(mode=0o700, exist_ok=True)
