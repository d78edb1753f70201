"""Sidecar: HTTPS for a server that knows plain HTTP and listens on loopback only (chapter 2).

nginx ends TLS on the pod's address and talks to the application inside the pod. The certificate is
read from a mounted Secret; when that has changed, the next handshake has the new one, and nothing is
restarted and no connection is closed.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import pulumi
from pulumi_kubernetes.core.v1 import (
    ConfigMap,
    ContainerArgsDict,
    Secret,
    VolumeArgsDict,
    VolumeMountArgsDict,
)
from pulumi_kubernetes.meta.v1 import ObjectMetaArgsDict

from components.pods.companion import Companion, Listener
from components.pods.probes import asked
from components.single_node import configured
from components.single_node.tls_files import DRAINING, FOLDER, SCRIPT_FILE, SECRET, TlsFiles
from components.single_node.tls_settings import TlsSidecarArgs, checked
from components.values import nginx
from components.values.names import child


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
        args = checked(f'TlsSidecar "{name}"', name, args)
        files = TlsFiles(args)
        super().__init__("dds:index:TlsSidecar", name, {"image": args["image"]}, opts)
        metadata = configured.metadata("nginx", name, "sidecar", args["hosting"])
        own = pulumi.ResourceOptions(parent=self)
        config = ConfigMap(
            name,
            metadata=metadata,
            data=files.all(),
            immutable=True,
            opts=own,
        )
        depends_on: list[pulumi.Resource] = [config]
        secret_name = args.get("secret_name")
        if secret_name is None:
            # As a word and not as the Secret's output: the Secret is replaced when the certificate
            # changes, and nothing else is to follow from that.
            secret_name = f"{name}-tls"
            depends_on.append(_secret(secret_name, args, metadata, own))
        self.secret_name = pulumi.Output.from_input(secret_name)
        self.companion = _companion(name, args, files, config, secret_name, depends_on)
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


def _companion(
    name: str,
    args: TlsSidecarArgs,
    files: TlsFiles,
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
                "items": [{"key": key, "path": key} for key in files.keys],
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
        "startup_probe": asked("/healthz", args["status_port"], 1, 60),
        "readiness_probe": asked("/readyz", args["status_port"], 2, 2),
        "liveness_probe": asked("/healthz", args["status_port"], 10, 3),
        # It runs when the pod begins to end, while the application still serves.
        "lifecycle": {"pre_stop": {"exec_": {"command": ["touch", DRAINING]}}},
        "resources": args["hosting"]["resources"],
    }
    listeners = [Listener(args["port"], "https"), Listener(args["status_port"], "tls-status")]
    if "redirect_port" in args:
        listeners.append(Listener(args["redirect_port"], "http-redirect"))
    return Companion(
        name=name,
        containers=(container,),
        listeners=tuple(listeners),
        volumes=volumes,
        depends_on=tuple(depends_on),
    )
