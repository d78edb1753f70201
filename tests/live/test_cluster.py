"""The cluster itself: nodes, names across nodes, storage, metrics, and where its secrets are."""

import json
import subprocess
from typing import Any

import docker
import pytest

from tests.live.support.cluster import Cluster
from tests.live.support.kube import Kube
from tests.live.support.waiting import eventually

IMAGE_SECONDS = 180


def _pod(name: str, node: str, image: str, script: str, **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": {"app": name}},
        "spec": {
            "nodeName": node,
            "restartPolicy": "Never",
            "terminationGracePeriodSeconds": 1,
            "automountServiceAccountToken": False,
            "securityContext": {
                "runAsNonRoot": True, "runAsUser": 10001, "fsGroup": 10001,
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            "containers": [
                {
                    "name": "main",
                    "image": image,
                    "command": ["python3", "-c", script],
                    "securityContext": {
                        "allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]},
                    },
                    **spec.pop("container", {}),
                }
            ],
            **spec,
        },
    }  # fmt: skip


def _create(kube: Kube, namespace: str, manifest: dict[str, Any]) -> None:
    manifest["metadata"]["namespace"] = namespace
    kube.apply(manifest)


def _nodes(kube: Kube) -> list[Any]:
    return list(kube.core.list_node().items)


def _node_names(kube: Kube) -> list[str]:
    return sorted(node.metadata.name for node in _nodes(kube))


def _is_ready(node: Any) -> bool:
    return any(one.type == "Ready" and one.status == "True" for one in node.status.conditions)


def _phase(kube: Kube, namespace: str, pod: str) -> str:
    status: Any = kube.core.read_namespaced_pod(pod, namespace).status
    return str(status.phase)


def _log(kube: Kube, namespace: str, pod: str) -> str:
    return str(kube.core.read_namespaced_pod_log(pod, namespace))


def test_every_node_is_ready(kube: Kube, cluster: Cluster) -> None:
    nodes = _nodes(kube)
    assert {node.metadata.name for node in nodes} >= {
        f"{cluster.instance}-server",
        f"{cluster.instance}-agent-0",
    }
    # One that another test has restarted may still show how it was before.
    eventually(lambda: all(map(_is_ready, _nodes(kube))), 60, "every node is ready")


def test_pods_on_different_nodes_reach_each_other_by_name(
    kube: Kube, namespace: str, images: dict[str, str]
) -> None:
    first, second = _node_names(kube)[:2]
    serve = "import http.server as h; h.HTTPServer(('', 8080), h.SimpleHTTPRequestHandler)"
    for name, node in (("one", first), ("two", second)):
        script = f"{serve}.serve_forever()"
        _create(kube, namespace, _pod(name, node, images["toolbox"], script))
        service = {
            "apiVersion": "v1", "kind": "Service", "metadata": {"name": name},
            "spec": {"selector": {"app": name}, "ports": [{"port": 80, "targetPort": 8080}]},
        }  # fmt: skip
        _create(kube, namespace, service)
    # Both ways: a route may be missing on one side only.
    for name, node, other in (("from-one", first, "two"), ("from-two", second, "one")):
        script = (
            "import urllib.request as u, time\n"
            "for _ in range(60):\n"
            "    try:\n"
            f"        print(u.urlopen('http://{other}.{namespace}.svc', timeout=2).status); break\n"
            "    except OSError as error:\n"
            "        last = error; time.sleep(1)\n"
            "else: raise last\n"
        )
        _create(kube, namespace, _pod(name, node, images["toolbox"], script))
    for name in ("from-one", "from-two"):
        eventually(
            lambda name=name: _phase(kube, namespace, name) == "Succeeded",  # type: ignore[misc]
            IMAGE_SECONDS,
            lambda name=name: f"{name}: {_phase(kube, namespace, name)}",  # type: ignore[misc]
        )
        assert _log(kube, namespace, name).strip() == "200"


def test_the_default_storage_class_keeps_data(
    kube: Kube, namespace: str, images: dict[str, str]
) -> None:
    claim = {
        "apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "data"},
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "16Mi"}}},
    }  # fmt: skip
    _create(kube, namespace, claim)
    volumes = [{"name": "data", "persistentVolumeClaim": {"claimName": "data"}}]
    container = {"volumeMounts": [{"name": "data", "mountPath": "/data"}]}
    for name, script in (
        ("writer", "open('/data/a', 'w').write('kept')"),
        ("reader", "print(open('/data/a').read())"),
    ):
        pod = _pod(name, "", images["toolbox"], script, volumes=volumes, container=container)
        # The scheduler has to choose: the volume is made where the first pod goes.
        del pod["spec"]["nodeName"]
        _create(kube, namespace, pod)
        eventually(
            lambda name=name: _phase(kube, namespace, name) == "Succeeded",  # type: ignore[misc]
            IMAGE_SECONDS,
            lambda name=name: f"{name}: {_phase(kube, namespace, name)}",  # type: ignore[misc]
        )
    assert _log(kube, namespace, "reader").strip() == "kept"


def test_the_metrics_server_answers(kube: Kube) -> None:
    expected = set(_node_names(kube))

    def measure() -> dict[str, Any]:
        # Found again each time: the API is away with the server's readiness.
        api = kube._api("metrics.k8s.io/v1beta1", "NodeMetrics")
        found = {one.metadata.name: one for one in api.get().items}
        return found if expected <= set(found) else {}

    measured = eventually(measure, 90, f"metrics of {', '.join(sorted(expected))}")
    for one in measured.values():
        assert one.usage.cpu
        assert one.usage.memory


def test_everything_is_published_on_loopback_only(cluster: Cluster) -> None:
    engine = docker.from_env()
    label = f"dds.instance={cluster.instance}"
    containers = engine.containers.list(filters={"label": label})
    assert {one.name for one in containers} >= {
        f"{cluster.instance}-{role}" for role in ("registry", "server", "agent-0")
    }
    addresses = {
        binding["HostIp"]
        for one in containers
        for bindings in one.attrs["NetworkSettings"]["Ports"].values()
        for binding in bindings or []
    }
    engine.close()
    assert addresses == {"127.0.0.1"}


def test_the_kubeconfig_and_the_token_are_secrets_in_the_state(cluster: Cluster) -> None:
    def export(*arguments: str) -> str:
        shown = subprocess.run(
            ["pulumi", "stack", "export", "--stack", "cluster", *arguments],
            cwd=cluster.checkout.root,
            env=cluster.environment,
            capture_output=True,
            text=True,
            check=True,
        )
        return shown.stdout

    state = export()
    assert "client-key-data" not in state
    revealed = json.loads(export("--show-secrets"))["deployment"]["resources"]
    (server,) = [
        one for one in revealed if one.get("inputs", {}).get("name") == f"{cluster.instance}-server"
        and one["type"].endswith(":Container")
    ]  # fmt: skip
    assert "client-key-data" in json.dumps(revealed)
    token = next(
        text.partition("=")[2]
        for text in _texts(server["inputs"]["envs"])
        if text.startswith("K3S_TOKEN=")
    )
    assert len(token) >= 32
    assert token not in state


def _texts(value: Any) -> list[str]:
    """Every text in a value, those of revealed secrets as well."""
    if isinstance(value, str):
        return [json.loads(value)] if value.startswith('"') else [value]
    items = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return [text for item in items for text in _texts(item)]


@pytest.mark.slow
@pytest.mark.alone
def test_a_restarted_node_comes_back(kube: Kube, cluster: Cluster) -> None:
    name = f"{cluster.instance}-agent-0"
    engine = docker.from_env()

    def ready() -> bool:
        return _is_ready(kube.core.read_node(name))

    try:
        container = engine.containers.get(name)
        container.restart(timeout=10)
        eventually(
            lambda: engine.containers.get(name).attrs["State"]["Health"]["Status"] == "healthy",
            120,
            f"{name} is healthy",
        )
        eventually(ready, 120, f"{name} is Ready")
    finally:
        engine.close()
