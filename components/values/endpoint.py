"""``host:port`` of something that listens elsewhere."""

from dataclasses import dataclass
from typing import Any

from components.arguments import InputError, check_fields
from components.arguments.addresses import Host, Port, is_endpoint


@dataclass(frozen=True)
class Endpoint:
    """A host, by name or address, and a TCP port."""

    host: Host
    port: Port

    def __post_init__(self) -> None:
        check_fields("Endpoint", self)

    @classmethod
    def parse(cls, where: str, argument: str, text: Any) -> "Endpoint":
        """Read ``host:port``; InputError for what is none."""
        if not isinstance(text, str) or not is_endpoint(text):
            raise InputError(where, argument, text, "must be host:port, for example web:8080")
        host, _, port = text.rpartition(":")
        return cls(host, int(port))

    def lookup_host(self, namespace: str, domain: str) -> str:
        """The host as a program must look it up that completes no names, as the cluster's DNS would.

        ``web`` is the Service of the pod's own namespace, ``web.shop`` and ``web.shop.svc`` one of
        another; everything else is taken as it is, and so is a name that ends with a dot.

        :param namespace: the pod's namespace, or how the program's language writes it
        :param domain: likewise the cluster's domain
        """
        parts = self.host.split(".")
        if parts[-1] == "svc":
            return f"{self.host}.{domain}"
        if len(parts) == 1 and ":" not in self.host:
            return f"{self.host}.{namespace}.svc.{domain}"
        if len(parts) == 2 and parts[-1]:  # noqa: PLR2004
            return f"{self.host}.svc.{domain}"
        return self.host.removesuffix(".")

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"
