"""How a member with an empty volume joins the cluster: the rules, without the network.

An empty volume belongs to a new cluster, or has lost its data. After a loss the member must never
form a new cluster while any other member has data: it would vote without the entries that it had
acknowledged. So it forms one only if every other member reports that it is empty too.
"""

import dataclasses
import enum
import urllib.parse
from collections.abc import Mapping, Sequence
from typing import Any


class Step(enum.Enum):
    """The next step."""

    WAIT = "wait until the other members respond"
    FOUND = "all members are empty: form a new cluster"
    ENTER = "start as a listed member that has never run"
    REPLACE = "remove the lost member and join as a new one"


@dataclasses.dataclass(frozen=True)
class Peer:
    """The state that another member reports."""

    name: str
    empty: bool = False
    """It is preparing too, and has no data."""
    decided: bool = False
    """It is empty and has seen that all members are."""
    members: Sequence[Mapping[str, Any]] | None = None
    """The member list of its etcd, if that runs."""

    @property
    def knows(self) -> bool:
        """Whether it needs no further response of this member."""
        return self.decided or self.members is not None


def mine(members: Sequence[Mapping[str, Any]], url: str) -> Mapping[str, Any] | None:
    """The entry of the member with a peer URL."""
    return next((entry for entry in members if url in entry.get("peerURLs", ())), None)


def step(url: str, peers: Sequence[Peer]) -> Step:
    """The next step of a member with an empty volume.

    :param url: its peer URL
    """
    running = [peer.members for peer in peers if peer.members is not None]
    if running:
        entries = [mine(members, url) for members in running]
        # A member publishes its client URLs at its first start.
        if all(entry is not None and not entry.get("clientURLs") for entry in entries):
            return Step.ENTER
        return Step.REPLACE
    return Step.FOUND if all(peer.empty for peer in peers) else Step.WAIT


def initial_cluster(members: Sequence[Mapping[str, Any]]) -> str:
    """The members in the format of the setting ``initial-cluster``."""
    pairs = []
    for entry in members:
        for url in entry["peerURLs"]:
            # A member that has not run yet has no name in the list; it is that of its host.
            name = entry.get("name") or urllib.parse.urlsplit(url).hostname
            pairs.append(f"{name}={url}")
    return ",".join(sorted(pairs))
