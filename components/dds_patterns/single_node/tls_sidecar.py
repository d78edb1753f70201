"""Sidecar: HTTPS for a server that speaks plain HTTP on loopback only (chapter 2).

nginx terminates TLS at the pod's address and proxies to the application inside the pod. It reads
the certificate from a mounted Secret; when that changes, the next handshake uses the new one,
without a restart and without closing connections.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import pulumi
from pulumi_kubernetes.core.v1 import Secret
from pulumi_kubernetes.meta.v1 import ObjectMetaArgsDict

from dds_patterns.arguments.names import LABEL_LIMIT
from dds_patterns.pods.companion import Companion
from dds_patterns.single_node.tls_files import DRAINING, FOLDER, SCRIPT_FILE, SECRET, TlsFiles
from dds_patterns.single_node.tls_settings import TlsSidecarArgs, checked
from dds_patterns.values import nginx
from dds_patterns.values.names import child
from dds_patterns.workloads.arguments import PortArgs
from dds_patterns.workloads.files import Mounted
from dds_patterns.workloads.program import Program


class TlsSidecar(pulumi.ComponentResource):
    """An nginx that terminates TLS beside an application without it.

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
        :raises InputError: an invalid argument, before anything is registered
        """
        where = f'TlsSidecar "{name}"'
        args = checked(where, name, args)
        super().__init__("dds:index:TlsSidecar", name, {"image": args["image"]}, opts)
        own = pulumi.ResourceOptions(parent=self)
        # A plain name and not the Secret's output: the Secret is replaced when the certificate
        # changes, which must not roll the pods.
        secret_name = args.get("secret_name", f"{name}-tls")
        program = _program(where, name, args, secret_name)
        if "secret_name" not in args:
            secret = _secret(f"{name}-tls", args, program.metadata, own)
            program = dataclasses.replace(program, depends_on=(secret,))
        self.secret_name = pulumi.Output.from_input(secret_name)
        self.companion = program.companion(own)
        self.register_outputs({"secret_name": self.secret_name})


def _secret(
    secret_name: str,
    args: TlsSidecarArgs,
    metadata: ObjectMetaArgsDict,
    opts: pulumi.ResourceOptions,
) -> Secret:
    parts = {"tls.crt": "certificate", "tls.key": "key", "ca.crt": "client_authority"}
    given: Mapping[str, Any] = args
    return Secret(
        secret_name,
        metadata={**metadata, "name": secret_name},
        type="kubernetes.io/tls",
        string_data={
            key: pulumi.Output.secret(given[argument])
            for key, argument in parts.items()
            if argument in given
        },
        opts=opts,
    )


def _program(
    where: str, name: str, args: TlsSidecarArgs, secret_name: pulumi.Input[str]
) -> Program:
    files = TlsFiles(args)
    certificate = child(name, "secret", limit=LABEL_LIMIT)
    ports: list[PortArgs] = [
        {"name": "https", "port": args["port"]},
        {"name": "tls-status", "port": args["status_port"]},
    ]
    if "redirect_port" in args:
        ports.append({"name": "http-redirect", "port": args["redirect_port"]})
    return Program(
        where,
        name,
        application="nginx",
        part="sidecar",
        image=args["image"],
        hosting=args["hosting"],
        command=["sh", f"{FOLDER}/{SCRIPT_FILE}"],
        files=files.all(),
        # Keys never reach the node's disk.
        writable={nginx.TEMPORARY: {"medium": "Memory", "size_limit": "8Mi"}},
        mounted=Mounted(
            (
                {
                    "name": certificate,
                    "secret": {
                        "secret_name": secret_name,
                        "items": [{"key": key, "path": key} for key in files.keys],
                        "default_mode": 0o440,
                    },
                },
            ),
            ({"name": certificate, "mount_path": SECRET, "read_only": True},),
        ),
        ports=ports,
        startup={"path": "/healthz", "port": "tls-status"},
        readiness={"path": "/readyz", "port": "tls-status", "period_seconds": 2},
        liveness={"path": "/healthz", "port": "tls-status"},
        # It runs when the pod starts to terminate, while the application still serves.
        before_stop=["touch", DRAINING],
    )
