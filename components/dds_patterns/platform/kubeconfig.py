"""The kubeconfig of a cluster in Docker, read once the cluster can be used."""

import io
import json
import socket
import ssl
import tarfile
import time
from base64 import b64decode
from typing import Any

import pulumi
import yaml
from pulumi.dynamic import CreateResult, DiffResult, Resource, ResourceProvider, UpdateResult

try:
    import docker
    import docker.errors
except ModuleNotFoundError:
    # The extra `cluster`. Programs that load every component, such as the provider, do without.
    docker = None  # type: ignore[assignment]

PATH = "/etc/rancher/k3s/k3s.yaml"
"""Where a server node keeps the administrator's kubeconfig."""

SYSTEM_DEPLOYMENTS = ("coredns", "local-path-provisioner", "metrics-server")
"""Deployments of a new cluster in the namespace kube-system, of k3s and of the project's own
nodes."""

METRICS_API = "v1beta1.metrics.k8s.io"
"""The API service of metrics-server."""

_POLL_SECONDS = 1.0
_CONNECT_SECONDS = 5.0


def check_docker(where: str) -> None:
    """Refuse a cluster where the Docker SDK is not installed.

    :raises pulumi.RunError: it is not
    """
    if docker is None:
        raise pulumi.RunError(
            f"{where} needs the Docker SDK for Python: pip install 'dds-patterns[cluster]'"
        )


class NotReadyError(Exception):
    """The cluster cannot be used (yet); the message says what is missing."""


def rewritten(kubeconfig: str, name: str, api_port: int) -> str:
    """The kubeconfig for use from the machine itself: its address, and unique names.

    :param name: name of cluster, user and context
    :param api_port: port of the API server on 127.0.0.1
    """
    document = yaml.safe_load(kubeconfig)
    cluster = document["clusters"][0]["cluster"]
    user = document["users"][0]["user"]
    cluster["server"] = f"https://127.0.0.1:{api_port}"
    return yaml.safe_dump(
        {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": name, "cluster": cluster}],
            "users": [{"name": name, "user": user}],
            "contexts": [{"name": name, "context": {"cluster": name, "user": name}}],
            "current-context": name,
        },
        sort_keys=False,
    )


def missing(
    nodes: dict[str, Any],
    deployments: dict[str, Any],
    metrics: dict[str, Any],
    expected: list[str],
) -> list[str]:
    """What keeps a cluster from being usable, from ``kubectl get -o json``; empty if nothing."""
    ready = {
        node["metadata"]["name"]
        for node in nodes["items"]
        for condition in node["status"].get("conditions", [])
        if condition["type"] == "Ready" and condition["status"] == "True"
    }
    available = {
        one["metadata"]["name"]
        for one in deployments["items"]
        # Right after an update the status is that of the former generation.
        if one["status"].get("observedGeneration", 0) >= one["metadata"].get("generation", 0)
        and one["status"].get("availableReplicas", 0) >= one["spec"].get("replicas", 1)
    }
    lacking = [f"node {name} is not Ready" for name in expected if name not in ready]
    lacking += [
        f"deployment {name} is not available"
        for name in SYSTEM_DEPLOYMENTS
        if name not in available
    ]
    # Its pod is available some seconds before the API server knows how to reach it.
    lacking += [
        f"the metrics API is not available: {condition.get('message')}"
        for condition in metrics.get("status", {}).get("conditions", [])
        if condition["type"] == "Available" and condition["status"] != "True"
    ]
    return lacking


class _Server:
    """The container of a server node."""

    def __init__(self, client: "docker.APIClient", container: str) -> None:
        self._client = client
        self._container = container

    def kubectl(self, *arguments: str) -> dict[str, Any]:
        command = ["kubectl", "--kubeconfig", PATH, "--request-timeout=10s", *arguments]
        try:
            run = self._client.exec_create(self._container, [*command, "-o", "json"])
            stdout, stderr = self._client.exec_start(run["Id"], demux=True)
        except docker.errors.NotFound:
            raise RuntimeError(f"container {self._container} is gone") from None
        except docker.errors.APIError as error:
            raise NotReadyError(str(error.explanation)) from None
        if self._client.exec_inspect(run["Id"])["ExitCode"]:
            raise NotReadyError((stderr or b"").decode(errors="replace").strip())
        answer: dict[str, Any] = json.loads(stdout or b"{}")
        return answer

    def kubeconfig(self) -> str:
        try:
            chunks, _ = self._client.get_archive(self._container, PATH)
        except docker.errors.NotFound:
            raise NotReadyError(f"{PATH} is not written yet") from None
        with tarfile.open(fileobj=io.BytesIO(b"".join(chunks))) as archive:
            content = archive.extractfile(archive.getmembers()[0])
            if content is None:
                raise NotReadyError(f"{PATH} is not a file")
            return content.read().decode()


def _connect(kubeconfig: str, api_port: int) -> None:
    """Fail unless the API server answers on 127.0.0.1 with a certificate for that address."""
    cluster = yaml.safe_load(kubeconfig)["clusters"][0]["cluster"]
    context = ssl.create_default_context(
        cadata=b64decode(cluster["certificate-authority-data"]).decode()
    )
    try:
        with (
            socket.create_connection(("127.0.0.1", api_port), _CONNECT_SECONDS) as raw,
            context.wrap_socket(raw, server_hostname="127.0.0.1"),
        ):
            pass
    except OSError as error:
        raise NotReadyError(f"127.0.0.1:{api_port}: {error}") from None


def read_when_ready(props: dict[str, Any]) -> str:
    """Wait, at most ``timeout`` seconds, until the cluster can be used; return its kubeconfig.

    :raises NotReadyError: with all that was still missing at the timeout
    """
    end = time.monotonic() + float(props["timeout"])
    server = _Server(docker.from_env().api, props["container"])
    while True:
        try:
            lacking = missing(
                server.kubectl("get", "nodes"),
                server.kubectl("get", "deployments", "--namespace=kube-system"),
                server.kubectl("get", "apiservice", METRICS_API),
                [str(node) for node in props["nodes"]],
            )
            if not lacking:
                port = int(props["api_port"])
                config = rewritten(server.kubeconfig(), props["cluster"], port)
                _connect(config, port)
                return config
        except NotReadyError as error:
            lacking = [str(error)]
        if time.monotonic() > end:
            raise NotReadyError(
                f"cluster {props['cluster']} was not ready within {props['timeout']:.0f} s: "
                + "; ".join(lacking)
            )
        time.sleep(_POLL_SECONDS)


class KubeconfigProvider(ResourceProvider):
    """Waits until the cluster is ready, and reads its kubeconfig."""

    # The provider carries no secret; as a secret it would look changed in every diff.
    serialize_as_secret_always = False

    def create(self, props: dict[str, Any]) -> CreateResult:
        """Read it when the cluster is ready."""
        return CreateResult(props["cluster"], {**props, "content": read_when_ready(props)})

    def update(self, _id: str, _olds: dict[str, Any], _news: dict[str, Any]) -> UpdateResult:
        """Read it again."""
        return UpdateResult({**_news, "content": read_when_ready(_news)})

    def diff(self, _id: str, _olds: dict[str, Any], _news: dict[str, Any]) -> DiffResult:
        """Another container, node or port is another kubeconfig."""
        # The timeout does not affect the result.
        names = ("container", "container_ids", "cluster", "nodes", "api_port")
        return DiffResult(changes=any(_olds.get(name) != _news.get(name) for name in names))


class Kubeconfig(Resource, name="Kubeconfig"):
    """The administrator's kubeconfig of a cluster, read again when one of its nodes is new."""

    content: pulumi.Output[str]
    """A kubeconfig for use from the machine itself; a secret."""

    def __init__(
        self,
        name: str,
        *,
        cluster: str,
        container: pulumi.Input[str],
        container_ids: list[pulumi.Output[str]],
        nodes: list[str],
        api_port: int,
        timeout: int,
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        """Describe the cluster to read from.

        :param cluster: name of cluster, user and context in the kubeconfig
        :param container: name of the server's container
        :param container_ids: of all nodes; a new one means reading again
        :param nodes: names of the nodes that must be Ready
        :param api_port: port of the API server on 127.0.0.1
        :param timeout: seconds to wait for the cluster
        """
        secret = pulumi.ResourceOptions(additional_secret_outputs=["content"])
        super().__init__(
            KubeconfigProvider(),
            name,
            {
                "cluster": cluster,
                "container": container,
                "container_ids": container_ids,
                "nodes": nodes,
                "api_port": api_port,
                "timeout": timeout,
                "content": None,
            },
            pulumi.ResourceOptions.merge(opts, secret),
        )
