"""The component's description of its cluster, and the paths in its pods."""

import dataclasses
import datetime
import json
from pathlib import Path

SETTINGS = Path("/etc/etcd/config/cluster.json")
COMMON = Path("/etc/etcd/config/etcd.yaml")
COMPLETE = Path("/run/etcd/etcd.yaml")
STORAGE = Path("/var/lib/etcd")
DATA = STORAGE / "data"
PEER = Path("/etc/etcd/peer")
CLIENT_CA = Path("/etc/etcd/client/ca.crt")
ROOT_PASSWORDS = Path("/etc/etcd/root/passwords")

CLIENT_PORT = 2379
PEER_PORT = 2380
SNAPSHOT_PORT = 2382


def passwords(file: Path) -> list[str]:
    """The passwords in a file, one a line, the current one first."""
    return file.read_text().split()


def root_passwords() -> list[str]:
    """Root's possible passwords: the current one, and former ones until it is set."""
    return passwords(ROOT_PASSWORDS)


@dataclasses.dataclass(frozen=True)
class Restore:
    """The snapshot that an empty cluster restores."""

    host: str
    file: str


@dataclasses.dataclass(frozen=True)
class Settings:
    """One cluster. Members are identified by the names of their pods."""

    members: tuple[str, ...]
    """Each is the name of a pod and of its Service."""
    token: str
    """Distinguishes this cluster from others, and from its restored successors."""
    found_until: datetime.datetime
    """Until when empty members may form a new cluster; later, empty means lost."""
    restore: Restore | None

    @classmethod
    def load(cls, text: str) -> "Settings":
        """Parse the component's file."""
        given = json.loads(text)
        restore = given.get("restore")
        return cls(
            members=tuple(given["members"]),
            token=given["token"],
            found_until=datetime.datetime.fromisoformat(given["created"])
            + datetime.timedelta(minutes=given["found_minutes"]),
            restore=Restore(**restore) if restore else None,
        )

    def peer_url(self, member: str) -> str:
        """A member's URL for other members."""
        return f"https://{member}:{PEER_PORT}"

    def client_url(self, member: str) -> str:
        """A member's URL for clients."""
        return f"https://{member}:{CLIENT_PORT}"

    def others(self, me: str) -> tuple[str, ...]:
        """All members but ``me``."""
        return tuple(member for member in self.members if member != me)
