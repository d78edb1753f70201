"""``host:port`` of a server."""

from dataclasses import dataclass

from dds_patterns.arguments import InputError, check_fields
from dds_patterns.arguments.addresses import Host, Port, is_endpoint


@dataclass(frozen=True)
class Endpoint:
    """A host, by name or address, and a TCP port."""

    host: Host
    port: Port

    def __post_init__(self) -> None:
        check_fields("Endpoint", self)

    @classmethod
    def parse(cls, text: str) -> "Endpoint":
        """Parse ``host:port``, or raise InputError."""
        if not is_endpoint(text):
            raise InputError("Endpoint", "text", text, "must be host:port, for example web:8080")
        host, _, port = text.rpartition(":")
        return cls(host, int(port))

    @property
    def namespace(self) -> str | None:
        """Namespace of a Service, empty for the pod's own; None for a host outside.

        ``web`` is the Service of the pod's own namespace, ``web.shop`` and ``web.shop.svc`` one of
        another; everything else is outside, and so is a name that ends with a dot.
        """
        _, *parts = self.host.split(".")
        if len(parts) > 1:
            return parts[-2] if parts[-1] == "svc" else None
        if self.host.endswith((".", "]")):
            return None
        return "".join(parts)

    def lookup_host(self, namespace: str, domain: str) -> str:
        """The full host name, for a program that applies no search domains.

        :param namespace: the pod's namespace, or a variable of the program for it
        :param domain: likewise the cluster's domain
        """
        if self.namespace is None:
            return self.host.removesuffix(".")
        if self.host.endswith(f".{self.namespace}.svc"):
            return f"{self.host}.{domain}"
        return f"{self.host}{'' if self.namespace else f'.{namespace}'}.svc.{domain}"

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"
