"""Sidecar: HTTPS for a server that knows plain HTTP and listens on loopback only (chapter 2).

nginx ends TLS on the pod's address and talks to the application inside the pod. The certificate is
read from a mounted Secret; when that has changed, the next handshake has the new one, and nothing is
restarted and no connection is closed.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any, NotRequired, TypedDict

import pulumi
from pulumi_kubernetes.core.v1 import (
    ConfigMap,
    ContainerArgsDict,
    ResourceRequirementsArgsDict,
    Secret,
    VolumeArgsDict,
    VolumeMountArgsDict,
)
from pulumi_kubernetes.meta.v1 import ObjectMetaArgsDict

from components.arguments.errors import InputError
from components.pods import labels as pod_labels
from components.pods.companion import Companion, Listener
from components.pods.probes import asked
from components.single_node.tls_files import (
    DRAINING,
    FOLDER,
    SCRIPT_FILE,
    SECRET,
    VERSIONS,
    TlsFiles,
)
from components.values import checks, nginx
from components.values.names import child

CIPHERS = (
    "ECDHE-ECDSA-AES128-GCM-SHA256",
    "ECDHE-RSA-AES128-GCM-SHA256",
    "ECDHE-ECDSA-AES256-GCM-SHA384",
    "ECDHE-RSA-AES256-GCM-SHA384",
    "ECDHE-ECDSA-CHACHA20-POLY1305",
    "ECDHE-RSA-CHACHA20-POLY1305",
)
"""Ciphers of TLS 1.2 that may be used: those with forward secrecy and authenticated encryption."""

CLIENT_CERTIFICATES = ("none", "optional", "required")

# A port below needs a capability.
_PORTS = (1024, 65535)
_PATH = re.compile(r"/[-._~!&'()*+,;=:@%/?A-Za-z0-9]*")
# The Secret's name is this one's and a suffix; the container has the name itself.
_RESERVE = 7
_PEM = {
    "certificate": "-----BEGIN CERTIFICATE-----",
    "key": "PRIVATE KEY-----",
    "client_authority": "-----BEGIN CERTIFICATE-----",
}


class TlsSidecarArgs(TypedDict):
    """Arguments of TlsSidecar. The certificate is ``secret_name``, or ``certificate`` and ``key``."""

    image: pulumi.Input[str]
    """Image with nginx (1.19.10 or newer) and sh, with a tag or digest."""
    application_port: int
    """Port on 127.0.0.1 on which the application speaks HTTP."""
    secret_name: NotRequired[pulumi.Input[str]]
    """A Secret of the pod's namespace with ``tls.crt`` and ``tls.key`` (and ``ca.crt`` for client
    certificates), as cert-manager and ``kubectl create secret tls`` make it."""
    certificate: NotRequired[pulumi.Input[str]]
    """The certificate and those between it and its authority, PEM: ``Certificate.certificate``."""
    key: NotRequired[pulumi.Input[str]]
    """Its private key, PEM: ``Certificate.key``. It is put into a Secret of a stable name."""
    port: NotRequired[int]
    """Port for HTTPS. Defaults to 8443."""
    redirect_port: NotRequired[int]
    """Port for plain HTTP, which answers everything with a redirect (308) to HTTPS. By default there
    is none."""
    public_port: NotRequired[int]
    """Port that clients of the redirect are sent to, and that the application is told: the Service's.
    Defaults to ``port``."""
    status_port: NotRequired[int]
    """Port for the probes and, from inside the pod, nginx's counters. Defaults to 8444."""
    readiness_path: NotRequired[str]
    """Path of the application that must answer with a status from 200 to 399 for the pod to be
    ready. The kubelet cannot ask a server on loopback itself. By default only nginx is asked."""
    minimum_version: NotRequired[str]
    """Oldest TLS version: ``1.2`` (default) or ``1.3``."""
    ciphers: NotRequired[Sequence[str]]
    """Ciphers for TLS 1.2 by OpenSSL's names, a part of CIPHERS. Defaults to all of them. TLS 1.3
    has its own, all of them sound."""
    client_certificates: NotRequired[str]
    """``none`` (default); ``optional`` asks for one and tells the application what came of it;
    ``required`` refuses (400) who has none of ``client_authority``."""
    client_authority: NotRequired[pulumi.Input[str]]
    """Authorities of client certificates, PEM. With ``secret_name`` it is that Secret's ``ca.crt``."""
    trusted_proxies: NotRequired[Sequence[str]]
    """Networks, such as ``10.0.0.0/8``, whose X-Forwarded-For is believed. By default nobody's is,
    and the application gets the address of whoever connected."""
    hsts_seconds: NotRequired[int]
    """For how long browsers must use HTTPS only (Strict-Transport-Security). Defaults to 0, which
    says nothing."""
    timeout_seconds: NotRequired[int]
    """Seconds without a byte from the application after which it is a 504. Defaults to 60."""
    header_kilobytes: NotRequired[int]
    """KiB for one line of a request's head, and for all headers of an answer, from 8 to 256. More is
    refused: 414 or 400, and 502. Each running request takes as much memory. Defaults to 32."""
    workers: NotRequired[int]
    """nginx's processes, from 1 to 16. Defaults to 1."""
    resources: NotRequired[ResourceRequirementsArgsDict]
    """Requests and limits; what is left out keeps the default of every container."""
    namespace: NotRequired[pulumi.Input[str]]
    """Namespace of the configuration, the same as that of the pods. Defaults to the provider's."""


class TlsSidecar(pulumi.ComponentResource):
    """An nginx that ends TLS beside an application without it.

    Registers its configuration (auto-named: a change rolls the pods) and, unless it is given
    ``secret_name``, the Secret with the certificate (of a stable name: a change does not).
    ``companion`` adds the rest to any workload, whose Service then exposes ``https``.
    """

    companion: Companion
    """What a workload takes in ``companions``."""
    secret_name: pulumi.Output[str]
    """Name of the Secret that the certificate is read from."""

    def __init__(
        self, name: str, args: TlsSidecarArgs, opts: pulumi.ResourceOptions | None = None
    ) -> None:
        """Register the configuration.

        :param name: a DNS label of at most 56 characters, unique in its namespace; names the
            container
        :raises InputError: an argument that cannot be right, before anything is registered
        """
        where = f'TlsSidecar "{name}"'
        settings = _checked(where, name, args)
        super().__init__("dds:index:TlsSidecar", name, {"image": args["image"]}, opts)
        metadata: ObjectMetaArgsDict = {
            "labels": pod_labels.standard(pod_labels.selector("nginx", name, "sidecar"), None)
        }
        if "namespace" in args:
            metadata["namespace"] = args["namespace"]
        own = pulumi.ResourceOptions(parent=self)
        config = ConfigMap(
            name,
            metadata=metadata,
            data=settings.all(),
            immutable=True,
            opts=own,
        )
        depends_on: list[pulumi.Resource] = [config]
        secret_name = args.get("secret_name")
        if secret_name is None:
            # As a word and not as the Secret's output: the Secret is replaced when the certificate
            # changes, and nothing else is to follow from that.
            secret_name = f"{name}-tls"
            depends_on.append(_secret(secret_name, where, args, metadata, own))
        self.secret_name = pulumi.Output.from_input(secret_name)
        self.companion = _companion(name, args, settings, config, secret_name, depends_on)
        self.register_outputs({"secret_name": self.secret_name})


def _checked(where: str, name: str, args: TlsSidecarArgs) -> TlsFiles:
    checks.known_arguments(where, TlsSidecarArgs, args)
    checks.dns_label(where, "name", name, reserve=_RESERVE)
    checks.image_reference(where, "image", args["image"])
    client_certificates = checks.one_of(
        where,
        "client_certificates",
        args.get("client_certificates", "none"),
        CLIENT_CERTIFICATES,
    )
    _check_source(where, args, client_certificates)
    version = checks.one_of(
        where, "minimum_version", args.get("minimum_version", VERSIONS[0]), VERSIONS
    )
    ports = _ports(where, args)
    path: Any = args.get("readiness_path")
    if path is not None and (not isinstance(path, str) or not _PATH.fullmatch(path)):
        raise InputError(where, "readiness_path", path, "must be a path such as /readyz")
    return TlsFiles(
        application_port=ports["application_port"],
        port=ports["port"],
        redirect_port=ports.get("redirect_port"),
        public_port=checks.port(where, "public_port", args.get("public_port", ports["port"])),
        status_port=ports["status_port"],
        readiness_path=path,
        minimum_version=version,
        ciphers=_ciphers(where, args, version),
        client_certificates=client_certificates,
        trusted_proxies=tuple(
            checks.network(where, "trusted_proxies", proxy)
            for proxy in args.get("trusted_proxies", ())
        ),
        hsts_seconds=checks.whole(where, args, "hsts_seconds", 0, (0, 315_360_000)),
        timeout_seconds=checks.whole(where, args, "timeout_seconds", 60, (1, 86_400)),
        header_kilobytes=checks.whole(where, args, "header_kilobytes", 32, nginx.HEADER_KILOBYTES),
        workers=checks.whole(where, args, "workers", 1, (1, 16)),
    )


def _check_source(where: str, args: TlsSidecarArgs, client_certificates: str) -> None:
    """One source of the certificate, complete, and nothing beside it."""
    given: Mapping[str, Any] = args
    by_secret = given.get("secret_name") is not None
    for argument in ("certificate", "key"):
        if by_secret == (given.get(argument) is not None):
            raise InputError(
                where,
                argument,
                "<secret>" if by_secret else None,
                "must be left out with secret_name"
                if by_secret
                else "must be given, with the other of certificate and key, or else secret_name",
            )
    if isinstance(given.get("secret_name"), str):
        checks.dns_label(where, "secret_name", given["secret_name"])
    authority = given.get("client_authority") is not None
    if authority and (by_secret or client_certificates == "none"):
        why = (
            "with secret_name it is that Secret's ca.crt"
            if by_secret
            else 'client_certificates is "none"'
        )
        raise InputError(where, "client_authority", "<given>", f"must be left out: {why}")
    if client_certificates != "none" and not by_secret and not authority:
        raise InputError(
            where,
            "client_authority",
            None,
            f'must say whose certificates: client_certificates is "{client_certificates}"',
        )
    for argument in _PEM:
        if argument in given and not checks.is_deferred(given[argument]):
            _pem(where, argument, given[argument])


def _ports(where: str, args: TlsSidecarArgs) -> dict[str, int]:
    ports: dict[str, int] = {
        "application_port": checks.port(where, "application_port", args["application_port"]),
        "port": checks.whole(where, args, "port", 8443, _PORTS),
        "status_port": checks.whole(where, args, "status_port", 8444, _PORTS),
    }
    if "redirect_port" in args:
        ports["redirect_port"] = checks.whole(where, args, "redirect_port", 0, _PORTS)
    checks.different(where, ports)
    return ports


def _ciphers(where: str, args: TlsSidecarArgs, version: str) -> tuple[str, ...]:
    if "ciphers" not in args:
        return CIPHERS
    chosen = tuple(args["ciphers"])
    if version != "1.2":
        raise InputError(
            where, "ciphers", list(chosen), "must be left out: it is for TLS 1.2, which is refused"
        )
    if not chosen:
        raise InputError(where, "ciphers", list(chosen), "must have one at least")
    checks.unique(where, "ciphers", chosen)
    for cipher in chosen:
        if cipher not in CIPHERS:
            raise InputError(where, "ciphers", cipher, checks.nearest(str(cipher), CIPHERS))
    return chosen


def _pem(where: str, argument: str, value: Any) -> str:
    if not isinstance(value, str) or _PEM[argument] not in value:
        # The value may be a key and must not be in the message.
        raise InputError(where, argument, "<secret>", f"must be PEM, with {_PEM[argument]}")
    return value


def _secret(
    secret_name: str,
    where: str,
    args: TlsSidecarArgs,
    metadata: ObjectMetaArgsDict,
    opts: pulumi.ResourceOptions,
) -> Secret:
    parts = {"tls.crt": "certificate", "tls.key": "key"}
    if "client_authority" in args:
        parts["ca.crt"] = "client_authority"
    given: Mapping[str, Any] = args

    def checked(argument: str) -> pulumi.Output[str]:
        return pulumi.Output.secret(given[argument]).apply(
            lambda value: _pem(where, argument, value)
        )

    return Secret(
        secret_name,
        metadata={**metadata, "name": secret_name},
        type="kubernetes.io/tls",
        string_data={key: checked(argument) for key, argument in parts.items()},
        opts=opts,
    )


def _companion(
    name: str,
    args: TlsSidecarArgs,
    settings: TlsFiles,
    config: ConfigMap,
    secret_name: pulumi.Input[str],
    depends_on: Sequence[pulumi.Resource],
) -> Companion:
    volumes: tuple[VolumeArgsDict, ...] = (
        {
            "name": child(name, "config", limit=63),
            "config_map": {"name": config.metadata["name"]},
        },
        {
            "name": child(name, "secret", limit=63),
            "secret": {
                "secret_name": secret_name,
                "items": [{"key": key, "path": key} for key in settings.keys],
                "default_mode": 0o440,
            },
        },
        # Keys never reach the node's disk.
        {
            "name": child(name, "state", limit=63),
            "empty_dir": {"medium": "Memory", "size_limit": "8Mi"},
        },
    )
    paths = (FOLDER, SECRET, nginx.TEMPORARY)
    mounts: list[VolumeMountArgsDict] = []
    for volume, path in zip(volumes, paths, strict=True):
        mount: VolumeMountArgsDict = {"name": volume["name"], "mount_path": path}
        if path != nginx.TEMPORARY:
            mount["read_only"] = True
        mounts.append(mount)
    container: ContainerArgsDict = {
        "name": name,
        "image": args["image"],
        "command": ["sh", f"{FOLDER}/{SCRIPT_FILE}"],
        "volume_mounts": mounts,
        "startup_probe": asked("/healthz", settings.status_port, 1, 60),
        "readiness_probe": asked("/readyz", settings.status_port, 2, 2),
        "liveness_probe": asked("/healthz", settings.status_port, 10, 3),
        # It runs when the pod begins to end, while the application still serves.
        "lifecycle": {"pre_stop": {"exec_": {"command": ["touch", DRAINING]}}},
    }
    if "resources" in args:
        container["resources"] = args["resources"]
    listeners = [Listener(settings.port, "https"), Listener(settings.status_port, "tls-status")]
    if settings.redirect_port is not None:
        listeners.append(Listener(settings.redirect_port, "http-redirect"))
    return Companion(
        name=name,
        containers=(container,),
        listeners=tuple(listeners),
        volumes=volumes,
        depends_on=tuple(depends_on),
    )
