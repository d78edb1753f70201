"""The project's Kubernetes plugin beside Pulumi's own, where that is present.

Needs ``DDS_OFFICIAL_PLUGINS``, a folder with ``pulumi-resource-kubernetes``.
"""

import os
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from pulumi.runtime.proto import provider_pb2, provider_pb2_grpc

import stacks
from tests.live.plugins.program import (
    KUBERNETES,
    Object,
    Program,
    config_map,
    home_with,
    plugin_of,
    program,
    thing,
)
from tests.live.support.cluster import Cluster
from tests.live.support.kube import Kube
from toolchain import render
from toolchain.plugins.provider import values

OURS, THEIRS = "ours", "theirs"
OF_ONE_OBJECT = ("uid", "resourceVersion", "creationTimestamp", "managedFields", "generation")
# Compositions without an object of Kubernetes.
OF_DOCKER = {"cluster", "topz"}
KINDS = (
    ("v1", "ConfigMap"),
    ("v1", "Secret"),
    ("v1", "Service"),
    ("v1", "ServiceAccount"),
    ("apps/v1", "Deployment"),
    ("networking.k8s.io/v1", "NetworkPolicy"),
    ("policy/v1", "PodDisruptionBudget"),
)


@pytest.fixture(scope="module")
def official() -> Path:
    folder = os.environ.get("DDS_OFFICIAL_PLUGINS", "")
    executable = Path(folder) / KUBERNETES.executable
    if not folder or not executable.exists():
        pytest.skip(f"DDS_OFFICIAL_PLUGINS={folder!r} names no folder with {KUBERNETES.executable}")
    return executable.resolve()


@pytest.fixture(scope="module")
def homes(
    cluster: Cluster, official: Path, own_home: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Path]:
    """A PULUMI_HOME with each of the plugins."""
    return {OURS: own_home, THEIRS: home_with(cluster, tmp_path_factory.mktemp(THEIRS), official)}


@pytest.fixture
def both(
    cluster: Cluster, kube: Kube, homes: dict[str, Path], tmp_path: Path
) -> Iterator[dict[str, Program]]:
    """The same empty program with each plugin, each with a namespace of its own."""
    with (
        kube.namespace("conformance-ours") as ours,
        kube.namespace("conformance-theirs") as theirs,
        program(cluster, tmp_path / OURS, ours, homes[OURS]) as first,
        program(cluster, tmp_path / THEIRS, theirs, homes[THEIRS]) as second,
    ):
        yield {OURS: first, THEIRS: second}


def _objects(data: str, ports: list[dict[str, Any]]) -> list[Object]:
    labels = {"app": "x"}
    pod = {
        "containers": [
            {
                "name": "app",
                "image": "localhost:1/nowhere:1",
                "env": _environment(),
                # The server writes it as 500m.
                "resources": {"requests": {"cpu": "0.5"}},
            }
        ],
    }
    return [
        config_map("config", key=data),
        thing("core/v1:Secret", "secret", {"stringData": {"key": {"$secret": data}}}),
        thing(
            "core/v1:Service",
            "service",
            {"spec": {"clusterIP": "None", "selector": labels, "ports": ports}},
        ),
        thing("core/v1:ServiceAccount", "account", {"automountServiceAccountToken": False}),
        thing(
            "apps/v1:Deployment",
            "deployment",
            {
                "spec": {
                    "replicas": 0,
                    "selector": {"matchLabels": labels},
                    "template": {"metadata": {"labels": labels}, "spec": pod},
                }
            },
        ),
        thing(
            "networking.k8s.io/v1:NetworkPolicy",
            "policy",
            {
                "spec": {
                    "podSelector": {"matchLabels": labels},
                    "policyTypes": ["Ingress"],
                    "ingress": [{"from": [{"podSelector": {"matchLabels": {}}}]}],
                }
            },
        ),
        thing(
            "policy/v1:PodDisruptionBudget",
            "budget",
            {"spec": {"minAvailable": 1, "selector": {"matchLabels": labels}}},
        ),
    ]


def _environment() -> list[dict[str, str]]:
    return [{"name": "A", "value": "1"}, {"name": "B", "value": ""}]


FIRST = _objects("one", [{"name": "web", "port": 80}])
SECOND = _objects("two", [{"name": "web", "port": 81}])


def _essence(kube: Kube, made: Program) -> dict[str, Any]:
    """The program's objects by resource name, without what differs between any two objects."""
    found = {}
    names = {item["outputs"]["metadata"]["name"]: name for name, item in made.resources().items()}
    for api_version, kind in KINDS:
        for item in kube.objects(api_version, kind, made.namespace):
            name = names.get(item["metadata"]["name"])
            if name is None:
                continue
            metadata = {
                key: value
                for key, value in item["metadata"].items()
                if key not in {*OF_ONE_OBJECT, "name", "namespace"}
            }
            rest = {key: value for key, value in item.items() if key != "status"}
            found[name] = {**rest, "metadata": metadata}
    return found


def test_both_plugins_make_and_change_the_same_objects(
    both: dict[str, Program], kube: Kube
) -> None:
    for objects in (FIRST, SECOND):
        steps = {name: made.up(*objects) for name, made in both.items()}
        assert steps[OURS] == steps[THEIRS]
        ours, theirs = (_essence(kube, both[name]) for name in (OURS, THEIRS))
        assert set(ours) == {item["name"] for item in objects}
        assert ours == theirs
        shapes = {name: _shape(made) for name, made in both.items()}
        assert shapes[OURS] == shapes[THEIRS]


def _shape(made: Program) -> dict[str, Any]:
    """Which properties the state of each resource has, and the form of its id."""
    return {
        name: (
            sorted(item["inputs"]),
            sorted(set(item["outputs"]) - {"status"}),
            item["id"]
            .replace(item["outputs"]["metadata"]["name"], "NAME")
            .replace(made.namespace, "NAMESPACE"),
        )
        for name, item in made.resources().items()
    }


@contextmanager
def _serving(executable: Path, kubeconfig: str) -> Iterator[provider_pb2_grpc.ResourceProviderStub]:
    """A plugin as the engine starts it, connected to the cluster."""
    with (
        subprocess.Popen([executable, "127.0.0.1:1"], stdout=subprocess.PIPE, text=True) as plugin,
        ExitStack() as stack,
    ):
        stack.callback(plugin.terminate)
        assert plugin.stdout is not None
        channel = stack.enter_context(
            grpc.insecure_channel(f"127.0.0.1:{plugin.stdout.readline().strip()}")
        )
        stub = provider_pb2_grpc.ResourceProviderStub(channel)
        stub.Configure(
            provider_pb2.ConfigureRequest(
                args=values.encode({"kubeconfig": kubeconfig}),
                variables={"kubernetes:config:kubeconfig": kubeconfig},
                acceptSecrets=True,
                acceptResources=True,
            )
        )
        yield stub


@pytest.mark.parametrize("composition", sorted(set(stacks.COMPOSITIONS) - OF_DOCKER))
def test_both_plugins_keep_the_same_inputs_of_a_composition(
    composition: str, homes: dict[str, Path], cluster: Cluster
) -> None:
    kubeconfig = cluster.kubeconfig.read_text()
    nodes = render.kubernetes_nodes(render.graph(composition))
    assert nodes
    with (
        _serving(plugin_of(homes[OURS]), kubeconfig) as ours,
        _serving(plugin_of(homes[THEIRS]), kubeconfig) as theirs,
    ):
        for node in nodes:
            request = provider_pb2.CheckRequest(
                urn=f"urn:pulumi:x::dds::{node.type}::it",
                news=values.encode(render.manifest(node, show_secrets=True)),
                randomSeed=b"\x01" * 32,
            )
            kept = [values.decode(plugin.Check(request).inputs) for plugin in (ours, theirs)]
            assert kept[0] == kept[1]


@pytest.mark.parametrize(("writer", "reader"), [(OURS, THEIRS), (THEIRS, OURS)])
def test_one_takes_over_what_the_other_wrote(
    writer: str, reader: str, both: dict[str, Program], homes: dict[str, Path]
) -> None:
    made = both[writer]
    made.up(*FIRST)
    made.stack.home = homes[reader]
    assert made.preview(*FIRST) == {}
    assert made.up(*FIRST) == {}
    assert made.up(*SECOND) == {"config": "replace", "secret": "replace", "service": "update"}
    made.stack.home = homes[writer]
    assert made.up(*SECOND) == {}
