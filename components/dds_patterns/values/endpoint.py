"""``host:port`` of a server."""

from dataclasses import dataclass

from dds_patterns.arguments import InputError, check_fields
from dds_patterns.arguments.addresses import Host, Port, is_endpoint, namespace_of


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
        """Namespace of the Service that the host is, as of ``namespace_of``."""
        return namespace_of(self.host)

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
