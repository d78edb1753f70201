"""How a member with an empty volume comes into the cluster: the rules, without any network.

An empty volume is either that of a cluster which begins, or one that was lost. To begin anew after
a loss is what must never happen while any other member has data: this one would vote without
knowing what it had acknowledged. So it begins only if every other member says that it is empty too.
"""

import dataclasses
import enum
import urllib.parse
from collections.abc import Mapping, Sequence
from typing import Any


class Step(enum.Enum):
    """What to do."""

    WAIT = "wait until the others answer"
    FOUND = "all are empty: begin"
    ENTER = "start as a member that is listed and has never run"
    REPLACE = "remove the member that was lost and enter as a new one"


@dataclasses.dataclass(frozen=True)
class Peer:
    """What another member says."""

    name: str
    empty: bool = False
    """It prepares as well, and has no data."""
    decided: bool = False
    """It is empty and has seen that all are."""
    members: Sequence[Mapping[str, Any]] | None = None
    """The members that its etcd knows, if that runs."""

    @property
    def knows(self) -> bool:
        """Whether it needs no further answer of ours."""
        return self.decided or self.members is not None


def mine(members: Sequence[Mapping[str, Any]], url: str) -> Mapping[str, Any] | None:
    """The entry of the member with a peer URL."""
    return next((entry for entry in members if url in entry.get("peerURLs", ())), None)


def step(url: str, peers: Sequence[Peer]) -> Step:
    """What a member with an empty volume does next.

    :param url: its peer URL
    """
    running = [peer.members for peer in peers if peer.members is not None]
    if running:
        entries = [mine(members, url) for members in running]
        # A member publishes its client URLs when it runs for the first time.
        if all(entry is not None and not entry.get("clientURLs") for entry in entries):
            return Step.ENTER
        return Step.REPLACE
    return Step.FOUND if all(peer.empty for peer in peers) else Step.WAIT


def initial_cluster(members: Sequence[Mapping[str, Any]]) -> str:
    """The members in the form of the setting ``initial-cluster``."""
    pairs = []
    for entry in members:
        for url in entry["peerURLs"]:
            # One that has not run yet has no name; it is that of its host.
            name = entry.get("name") or urllib.parse.urlsplit(url).hostname
            pairs.append(f"{name}={url}")
    return ",".join(sorted(pairs))
