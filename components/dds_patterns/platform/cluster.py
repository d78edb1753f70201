"""A Kubernetes cluster in Docker: what the patterns are deployed to on a single machine."""

import json
from collections.abc import Sequence
from typing import Annotated, Any, NotRequired, TypedDict

import pulumi
import pulumi_docker as docker

from dds_patterns.arguments import Default, between, resolved
from dds_patterns.arguments.addresses import UnprivilegedPort
from dds_patterns.arguments.images import Image
from dds_patterns.arguments.names import LABEL_LIMIT, check_resource_name, dns_label
from dds_patterns.arguments.together import different
from dds_patterns.platform.generated import Password
from dds_patterns.platform.kubeconfig import PATH, Kubeconfig, check_docker

NODE_IMAGE = "rancher/k3s:v1.34.6-k3s1"
REGISTRY_IMAGE = "registry:2.8.3"
INSTANCE_LABEL = "dds.instance"

_STATE_FOLDER = "/var/lib/rancher/k3s"
# A node writes much there, and kubelet's overlays do not mount on the container's own layer. They
# are removed with the container.
_SCRATCH_FOLDERS = ("/var/lib/kubelet", "/var/lib/cni", "/var/log")
_REGISTRY_PORT = 5000
_API_PORT = 6443
_START_SECONDS = 300
_GRACE_SECONDS = 20
# Leaves room for the longest derived name; names of containers are host names as well.
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

    Its creation waits until all nodes are Ready, and DNS, storage and metrics are available.
    Whether the nodes are k3s or another image with the same interface makes no difference here.
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
        where = f'Cluster "{name}"'
        check_docker(where)
        check_resource_name(where, name)
        args = resolved(where, ClusterArgs, args)
        instance = args["instance"]
        api_port, registry_port = args["api_port"], args["registry_port"]
        different(where, args, "api_port", "registry_port")
        super().__init__("dds:index:Cluster", name, {**args}, opts)
        self._name, self._instance = name, instance
        self._labels: list[Any] = [{"label": INSTANCE_LABEL, "value": instance}]
        self._child = pulumi.ResourceOptions(parent=self)

        self._network = docker.Network(
            f"{name}-network",
            name=f"{instance}-network",
            driver="bridge",
            labels=self._labels,
            opts=self._child,
        )
        registry = self._registry(args["registry_image"], registry_port)
        image = self._image("node", args["node_image"])
        token = Password(f"{name}-token", {"length": 64}, self._child)
        endpoints = [f"http://{instance}-registry:{_REGISTRY_PORT}"]
        mirrors = json.dumps({"mirrors": {f"localhost:{registry_port}": {"endpoint": endpoints}}})

        server = self._node(
            "server",
            image=image.image_id,
            command=["server", "--tls-san=127.0.0.1", "--disable=traefik", "--disable=servicelb"],
            environment=[token.value.apply("K3S_TOKEN={}".format)],
            mirrors=mirrors,
            probe=["CMD", "kubectl", "--kubeconfig", PATH, "get", "--raw", "/readyz"],
            ports=[_published(_API_PORT, api_port)],
            after=[registry],
        )
        agents = [
            self._node(
                f"agent-{number}",
                image=image.image_id,
                command=["agent"],
                environment=[
                    token.value.apply("K3S_TOKEN={}".format),
                    f"K3S_URL=https://{instance}-server:{_API_PORT}",
                ],
                mirrors=mirrors,
                probe=_fetch("http://127.0.0.1:10248/healthz"),
                ports=[],
                after=[server],
            )
            for number in range(args["agents"])
        ]
        members = [server, *agents]

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

    def _registry(self, image: str, port: int) -> docker.Container:
        return self._container(
            "registry",
            image=self._image("registry", image).image_id,
            ports=[_published(_REGISTRY_PORT, port)],
            volumes=[self._volume("registry-data", "/var/lib/registry")],
            # The one that works in Debian's and in Alpine's image.
            probe=_fetch(f"http://127.0.0.1:{_REGISTRY_PORT}/v2/"),
            start_seconds=60,
        )

    def _node(
        self,
        role: str,
        *,
        command: list[str],
        environment: list[pulumi.Input[str]],
        mirrors: str,
        **more: Any,
    ) -> docker.Container:
        return self._container(
            role,
            command=command,
            envs=environment,
            # A node is a machine of its own: it mounts, routes and runs containers.
            privileged=True,
            cgroupns_mode="private",
            tmpfs={"/run": "", "/tmp": ""},  # noqa: S108
            volumes=[
                self._volume(role, _STATE_FOLDER),
                *({"container_path": folder} for folder in _SCRATCH_FOLDERS),
            ],
            uploads=[{"file": "/etc/rancher/k3s/registries.yaml", "content": mirrors}],
            start_seconds=_START_SECONDS,
            destroy_grace_seconds=_GRACE_SECONDS,
            **more,
        )

    def _container(
        self,
        role: str,
        *,
        probe: list[str],
        start_seconds: int,
        after: Sequence[docker.Container] = (),
        **more: Any,
    ) -> docker.Container:
        """A long-running container; its creation waits until it is healthy.

        :param more: other arguments of the Container
        """
        host = f"{self._instance}-{role}"
        return docker.Container(
            f"{self._name}-{role}",
            name=host,
            hostname=host,
            labels=self._labels,
            # After a crash, but not when the daemon starts: a cluster that nobody uses any more would
            # take half the machine from the others each time. `make up` starts its own.
            restart="on-failure",
            networks_advanced=[{"name": self._network.id}],
            healthcheck={"tests": probe, "interval": "10s", "timeout": "10s", "retries": 20},
            wait=True,
            wait_timeout=start_seconds,
            opts=pulumi.ResourceOptions(parent=self, depends_on=[*after]),
            **more,
        )

    def _image(self, part: str, image: str) -> docker.RemoteImage:
        return docker.RemoteImage(
            f"{self._name}-{part}-image", name=image, keep_locally=True, opts=self._child
        )

    def _volume(self, suffix: str, folder: str) -> docker.ContainerVolumeArgsDict:
        volume = docker.Volume(
            f"{self._name}-{suffix}",
            name=f"{self._instance}-{suffix}",
            labels=self._labels,
            opts=self._child,
        )
        return {"volume_name": volume.name, "container_path": folder}


def _published(internal: int, external: int) -> docker.ContainerPortArgsDict:
    return {"internal": internal, "external": external, "ip": "127.0.0.1", "protocol": "tcp"}


def _fetch(url: str) -> list[str]:
    return ["CMD", "wget", "-q", "-O", "/dev/null", url]
