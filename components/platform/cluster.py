"""A Kubernetes cluster in Docker: what the patterns are deployed to on a single machine."""

import json
from collections.abc import Sequence
from typing import Annotated, NotRequired, TypedDict

import pulumi
import pulumi_docker as docker

from components.arguments import Default, InputError, between, resolved
from components.arguments.addresses import UnprivilegedPort
from components.arguments.images import Image
from components.arguments.names import LABEL_LIMIT, check_resource_name, dns_label
from components.platform.generated import Password
from components.platform.kubeconfig import PATH, Kubeconfig

NODE_IMAGE = "rancher/k3s:v1.34.6-k3s1"
REGISTRY_IMAGE = "registry:2.8.3"
INSTANCE_LABEL = "dds.instance"

_STATE_FOLDER = "/var/lib/rancher/k3s"
# A node writes much there; on the container's own layer kubelet's overlays would not mount. They
# go with the container.
_SCRATCH_FOLDERS = ("/var/lib/kubelet", "/var/lib/cni", "/var/log")
_REGISTRY_PORT = 5000
_API_PORT = 6443
_START_SECONDS = 300
_GRACE_SECONDS = 20
# The longest name that is made of it; those of containers are hosts as well.
_INSTANCE_LIMIT = LABEL_LIMIT - len("-registry-data")


class ClusterArgs(TypedDict):
    """Arguments of Cluster."""

    instance: Annotated[str, dns_label(_INSTANCE_LIMIT)]
    """First part of the names of everything in Docker; also its label dds.instance."""
    api_port: UnprivilegedPort
    """Port of the API server on 127.0.0.1."""
    registry_port: UnprivilegedPort
    """Port of the registry on 127.0.0.1."""
    agents: NotRequired[Annotated[int, between(0, 16), Default(1)]]
    """Nodes beside the server."""
    node_image: NotRequired[Annotated[Image, Default(NODE_IMAGE)]]
    """Image of the nodes: k3s, or one with k3s's interface."""
    registry_image: NotRequired[Annotated[Image, Default(REGISTRY_IMAGE)]]
    """Image of the registry: listens on 5000, keeps its data in /var/lib/registry."""


class Cluster(pulumi.ComponentResource):
    """One server, its agents and a registry as containers, published on 127.0.0.1 only.

    It is ready when it is made: all nodes Ready, and DNS, storage and metrics available. Whether
    the nodes are k3s or another image with the same interface makes no difference here.
    """

    kubeconfig: pulumi.Output[str]
    """Kubeconfig of the administrator, for use from the machine itself; a secret."""
    registry: pulumi.Output[str]
    """The registry, ``localhost:<port>``: the same name on the machine and in the nodes."""
    nodes: pulumi.Output[list[str]]
    """Names of the nodes, which are those of their containers; the server first."""

    def __init__(
        self, name: str, args: ClusterArgs, opts: pulumi.ResourceOptions | None = None
    ) -> None:
        args = _checked(f'Cluster "{name}"', name, args)
        super().__init__("dds:index:Cluster", name, {**args}, opts)
        instance, api_port, registry_port = (
            args["instance"],
            args["api_port"],
            args["registry_port"],
        )
        self._name, self._instance = name, instance
        child = pulumi.ResourceOptions(parent=self)

        self._network = docker.Network(
            f"{name}-network", name=f"{instance}-network", driver="bridge", labels=[{"label": INSTANCE_LABEL, "value": self._instance}],
            opts=child,
        )  # fmt: skip
        registry = self._registry(args["registry_image"], registry_port, child)
        image = docker.RemoteImage(
            f"{name}-node-image", name=args["node_image"], keep_locally=True, opts=child
        )
        token = Password(f"{name}-token", {"length": 64}, child)
        mirrors = json.dumps(
            {
                "mirrors": {
                    f"localhost:{registry_port}": {
                        "endpoint": [f"http://{instance}-registry:{_REGISTRY_PORT}"]
                    }
                }
            }
        )

        server = self._node(
            "server",
            image=image.image_id,
            command=["server", "--tls-san=127.0.0.1", "--disable=traefik", "--disable=servicelb"],
            environment=[token.value.apply("K3S_TOKEN={}".format)],
            mirrors=mirrors,
            probe=["CMD", "kubectl", "--kubeconfig", PATH, "get", "--raw", "/readyz"],
            ports=[
                {"internal": _API_PORT, "external": api_port, "ip": "127.0.0.1", "protocol": "tcp"}
            ],
            after=[registry],
        )
        members = [server]
        members.extend(
            self._node(
                f"agent-{number}",
                image=image.image_id,
                command=["agent"],
                environment=[
                    token.value.apply("K3S_TOKEN={}".format),
                    f"K3S_URL=https://{instance}-server:{_API_PORT}",
                ],
                mirrors=mirrors,
                probe=["CMD", "wget", "-q", "-O", "/dev/null", "http://127.0.0.1:10248/healthz"],
                ports=[],
                after=[server],
            )
            for number in range(args["agents"])
        )

        names = [f"{instance}-server", *(f"{instance}-agent-{n}" for n in range(args["agents"]))]
        ready = Kubeconfig(
            f"{name}-kubeconfig",
            cluster=instance,
            container=f"{instance}-server",
            container_ids=[member.id for member in members],
            nodes=names,
            api_port=api_port,
            timeout=_START_SECONDS,
            opts=pulumi.ResourceOptions(parent=self, depends_on=members),
        )
        self.kubeconfig = pulumi.Output.secret(ready.content)
        self.registry = registry.id.apply(lambda _: f"localhost:{registry_port}")
        self.nodes = pulumi.Output.all(*[member.id for member in members]).apply(lambda _: names)
        self.register_outputs(
            {"kubeconfig": self.kubeconfig, "registry": self.registry, "nodes": self.nodes}
        )

    def _registry(self, image: str, port: int, child: pulumi.ResourceOptions) -> docker.Container:
        local = docker.RemoteImage(
            f"{self._name}-registry-image", name=image, keep_locally=True, opts=child
        )
        data = self._volume("registry-data", child)
        return docker.Container(
            f"{self._name}-registry",
            name=f"{self._instance}-registry",
            hostname=f"{self._instance}-registry",
            image=local.image_id,
            labels=[{"label": INSTANCE_LABEL, "value": self._instance}],
            restart="unless-stopped",
            networks_advanced=[{"name": self._network.id}],
            ports=[
                {"internal": _REGISTRY_PORT, "external": port, "ip": "127.0.0.1", "protocol": "tcp"}
            ],
            volumes=[{"volume_name": data.name, "container_path": "/var/lib/registry"}],
            # The one that works in Debian's and in Alpine's image.
            healthcheck=_healthcheck(
                ["CMD", "wget", "-q", "-O", "/dev/null", f"http://127.0.0.1:{_REGISTRY_PORT}/v2/"]
            ),
            wait=True,
            wait_timeout=60,
            opts=child,
        )

    def _volume(self, suffix: str, child: pulumi.ResourceOptions) -> docker.Volume:
        return docker.Volume(
            f"{self._name}-{suffix}",
            name=f"{self._instance}-{suffix}",
            labels=[{"label": INSTANCE_LABEL, "value": self._instance}],
            opts=child,
        )

    def _node(
        self,
        role: str,
        *,
        image: pulumi.Input[str],
        command: list[str],
        environment: list[pulumi.Input[str]],
        mirrors: str,
        probe: list[str],
        ports: list[docker.ContainerPortArgsDict],
        after: list[docker.Container],
    ) -> docker.Container:
        child = pulumi.ResourceOptions(parent=self)
        state = self._volume(role, child)
        node = f"{self._instance}-{role}"
        return docker.Container(
            f"{self._name}-{role}",
            name=node,
            hostname=node,
            image=image,
            command=command,
            envs=environment,
            labels=[{"label": INSTANCE_LABEL, "value": self._instance}],
            restart="unless-stopped",
            # A node is a machine of its own: it mounts, routes and runs containers.
            privileged=True,
            cgroupns_mode="private",
            networks_advanced=[{"name": self._network.id}],
            ports=ports,
            tmpfs={"/run": "", "/tmp": ""},  # noqa: S108
            volumes=[
                {"volume_name": state.name, "container_path": _STATE_FOLDER},
                *_anonymous(_SCRATCH_FOLDERS),
            ],
            uploads=[{"file": "/etc/rancher/k3s/registries.yaml", "content": mirrors}],
            healthcheck=_healthcheck(probe),
            wait=True,
            wait_timeout=_START_SECONDS,
            destroy_grace_seconds=_GRACE_SECONDS,
            opts=pulumi.ResourceOptions(parent=self, depends_on=after),
        )


def _anonymous(folders: Sequence[str]) -> list[docker.ContainerVolumeArgsDict]:
    return [{"container_path": folder} for folder in folders]


def _healthcheck(probe: list[str]) -> docker.ContainerHealthcheckArgsDict:
    return {"tests": probe, "interval": "3s", "timeout": "10s", "retries": 20}


def _checked(where: str, name: str, args: ClusterArgs) -> ClusterArgs:
    check_resource_name(where, name)
    args = resolved(where, ClusterArgs, args)
    if args["registry_port"] == args["api_port"]:
        raise InputError(where, "registry_port", args["registry_port"], "must differ from api_port")
    return args
