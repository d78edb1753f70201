"""Where something is delivered by HTTP."""

from dataclasses import dataclass

import pulumi

from components.arguments.errors import InputError
from components.values import checks
from components.values.edges import Edge


@dataclass(frozen=True)
class Target:
    """An address for POST requests, and the way there through NetworkPolicies."""

    url: pulumi.Input[str]
    """``http`` or ``https`` URL, for example ``http://email.shop.svc:8080/``."""
    edge: Edge
    """The connection that leads there, as egress: the receiving pods and their port, or a network
    outside the cluster."""

    def __post_init__(self) -> None:
        if not _is_edge(self.edge):
            raise InputError("Target", "edge", self.edge, "must be an Edge")
        checks.checked(self.url, _checked)


def _checked(url: str) -> str:
    if not str(url).startswith(("http://", "https://")):
        raise InputError("Target", "url", url, "must begin with http:// or https://")
    return url


def _is_edge(value: object) -> bool:
    return isinstance(value, Edge)
