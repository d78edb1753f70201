"""Where something is delivered by HTTP."""

from dataclasses import dataclass
from typing import ClassVar

from components.arguments import Later, check_fields
from components.arguments.addresses import HttpUrl
from components.values.edges import Edge


@dataclass(frozen=True)
class Target:
    """An address for POST requests, and the way there through NetworkPolicies."""

    GIVEN_BY: ClassVar[str] = "function.target"

    url: Later[HttpUrl]
    """``http`` or ``https`` URL, for example ``http://email.shop.svc:8080/``."""
    edge: Edge
    """The connection that leads there, as egress: the receiving pods and their port, or a network
    outside the cluster."""

    def __post_init__(self) -> None:
        check_fields("Target", self)
