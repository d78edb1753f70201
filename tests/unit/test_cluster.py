"""Cluster: what it makes in Docker, what it refuses, and when it takes a cluster for ready."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from dds_patterns.arguments.errors import InputError
from dds_patterns.platform import kubeconfig
from dds_patterns.platform.cluster import NODE_IMAGE, REGISTRY_IMAGE, Cluster
from stacks import cluster as composition
from stacks.settings import Settings
from toolchain.graph import Graph, build
from toolchain.node.program.config import parse

ARGS: dict[str, Any] = {"instance": "dds-abc", "api_port": 20001, "registry_port": 20000}
CONTAINER = "docker:index/container:Container"


def made(preview: bool = False, **more: Any) -> Graph:
    return build(lambda: Cluster("cluster", {**ARGS, **more}), preview=preview)  # type: ignore[typeddict-item]


@pytest.mark.parametrize("preview", [False, True])
def test_required_arguments_give_a_server_an_agent_and_a_registry(preview: bool) -> None:
    graph = made(preview)
    names = {node.inputs["name"] for node in graph.all(CONTAINER)}
    assert names == {"dds-abc-server", "dds-abc-agent-0", "dds-abc-registry"}
    component = graph.one("dds:index:Cluster")
    assert {node.parent for node in graph if node is not component} == {component.urn}


@pytest.mark.parametrize("agents", [0, 3])
def test_agents(agents: int) -> None:
    graph = made(agents=agents)
    agent_names = [n.inputs["name"] for n in graph.all(CONTAINER) if "agent" in n.inputs["name"]]
    assert agent_names == [f"dds-abc-agent-{number}" for number in range(agents)]
    assert graph.one("Kubeconfig").inputs["nodes"] == ["dds-abc-server", *agent_names]


def test_everything_is_named_and_labelled_after_the_instance() -> None:
    graph = made()
    nodes = [n for kind in ("Container", "Network", "Volume") for n in graph.all(kind)]
    assert len(nodes) == 3 + 1 + 3
    for node in nodes:
        assert node.inputs["name"].startswith("dds-abc-")
        assert node.inputs["labels"] == [{"label": "dds.instance", "value": "dds-abc"}]


def test_everything_is_published_on_loopback_only() -> None:
    graph = made()
    published = {
        node.inputs["name"]: [
            (port["ip"], port["external"], port["internal"]) for port in node.inputs["ports"]
        ]
        for node in graph.all(CONTAINER)
        if node.inputs.get("ports")
    }
    assert published == {
        "dds-abc-server": [("127.0.0.1", 20001, 6443)],
        "dds-abc-registry": [("127.0.0.1", 20000, 5000)],
    }


def test_every_container_is_waited_for_and_comes_back_after_a_crash_only() -> None:
    for node in made().all(CONTAINER):
        assert node.inputs["wait"] is True
        assert node.inputs["waitTimeout"] > 0
        assert node.inputs["healthcheck"]["tests"][0] == "CMD"
        # With `unless-stopped` a cluster that is not used any more starts with the daemon.
        assert node.inputs["restart"] == "on-failure"


def test_the_nodes_interface() -> None:
    graph = made()
    server = graph.one(CONTAINER, "cluster-server")
    agent = graph.one(CONTAINER, "cluster-agent-0")
    assert server.inputs["command"][0] == "server"
    assert agent.inputs["command"] == ["agent"]
    assert "K3S_URL=https://dds-abc-server:6443" in agent.inputs["envs"]
    for node in (server, agent):
        (upload,) = node.inputs["uploads"]
        assert upload["file"] == "/etc/rancher/k3s/registries.yaml"
        assert json.loads(upload["content"]) == {
            "mirrors": {"localhost:20000": {"endpoint": ["http://dds-abc-registry:5000"]}}
        }
        assert node.inputs["privileged"] is True
        assert node.inputs["cgroupnsMode"] == "private"
        assert set(node.inputs["tmpfs"]) == {"/run", "/tmp"}
        named = {
            volume["containerPath"]: volume.get("volumeName") for volume in node.inputs["volumes"]
        }
        assert named.pop("/var/lib/rancher/k3s") == node.inputs["name"]
        assert set(named.values()) == {None}


def test_our_node_understands_what_the_component_passes() -> None:
    graph = made()
    for name, role in (("cluster-server", "server"), ("cluster-agent-0", "agent")):
        inputs = graph.one(CONTAINER, name).inputs
        environment = dict(one.split("=", 1) for one in inputs["envs"])
        assert parse(inputs["command"], environment, Path("/nowhere"), ()).role == role


def test_the_token_is_one_secret_for_all() -> None:
    graph = made()
    tokens = set()
    for name in ("cluster-server", "cluster-agent-0"):
        node = graph.one(CONTAINER, name)
        assert any(path.startswith("envs") for path in node.secrets)
        tokens |= {one for one in node.inputs["envs"] if one.startswith("K3S_TOKEN=")}
    assert len(tokens) == 1


def test_nodes_start_in_order() -> None:
    graph = made()
    registry, server, agent = (
        graph.one(CONTAINER, f"cluster-{one}") for one in ("registry", "server", "agent-0")
    )
    assert registry.urn in server.dependencies
    assert server.urn in agent.dependencies
    assert agent.urn in graph.one("Kubeconfig").dependencies


def test_the_kubeconfig_is_secret_and_is_read_again_for_new_containers() -> None:
    graph = made()
    component = graph.one("dds:index:Cluster")
    assert "kubeconfig" in graph.output_secrets[component.urn]
    assert graph.outputs[component.urn]["registry"] == "localhost:20000"
    assert graph.outputs[component.urn]["nodes"] == ["dds-abc-server", "dds-abc-agent-0"]
    node = graph.one("Kubeconfig")
    assert "content" in node.additional_secret_outputs
    assert len(node.inputs["container_ids"]) == 2
    provider = kubeconfig.KubeconfigProvider()
    old = {**node.inputs}
    assert not provider.diff("", old, {**old, "timeout": 5}).changes
    assert provider.diff("", old, {**old, "container_ids": ["other"]}).changes
    assert provider.diff("", old, {**old, "nodes": ["one"]}).changes


def test_images_are_pinned_and_can_be_replaced() -> None:
    names = {node.inputs["name"] for node in made().all("RemoteImage")}
    assert names == {NODE_IMAGE, REGISTRY_IMAGE}
    graph = made(node_image="dds/node:1", registry_image="dds/registry:2")
    images = graph.all("RemoteImage")
    assert {node.inputs["name"] for node in images} == {"dds/node:1", "dds/registry:2"}
    assert all(node.inputs["keepLocally"] for node in images)


def test_two_instances_side_by_side() -> None:
    other = {"instance": "dds-def", "api_port": 20003, "registry_port": 20002}

    def program() -> None:
        Cluster("one", ARGS)  # type: ignore[arg-type]
        Cluster("two", other)  # type: ignore[arg-type]

    names = [node.inputs["name"] for node in build(program).all(CONTAINER)]
    assert len(names) == len(set(names)) == 6


@pytest.mark.parametrize(
    ("argument", "value"),
    [
        ("agents", 17), ("registry_port", ARGS["api_port"]), ("instance", "a" * 50),
        ("registry_image", "registry:latest"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("preview", [False, True])
def test_bad_input_is_refused_before_anything_is_registered(
    argument: str, value: object, preview: bool
) -> None:
    registered: list[str] = []

    def program() -> None:
        with pytest.raises(InputError) as error:
            Cluster("cluster", {**ARGS, argument: value})  # type: ignore[typeddict-item]
        assert error.value.argument == argument
        assert repr(value) in str(error.value)
        registered.append("refused")

    assert not list(build(program, preview=preview))
    assert registered == ["refused"]


def test_an_unknown_argument_is_refused() -> None:
    def program() -> None:
        with pytest.raises(InputError, match="did you mean agents"):
            Cluster("cluster", {**ARGS, "agent": 1})  # type: ignore[typeddict-item]

    assert not list(build(program))


def test_the_composition_exports_what_others_need() -> None:
    settings = Settings(
        composition="cluster", agents=2, api_port=20001, registry_port=20000, instance="dds-abc"
    )
    graph = build(lambda: composition.deploy(settings))
    assert graph.outputs[""]["registry"] == "localhost:20000"
    assert graph.outputs[""]["instance"] == "dds-abc"
    assert len(graph.outputs[""]["nodes"]) == 3
    assert graph.output_secrets[""] == {"kubeconfig"}


KUBECONFIG = yaml.safe_dump(
    {
        "clusters": [
            {
                "name": "default",
                "cluster": {
                    "server": "https://127.0.0.1:6443",
                    "certificate-authority-data": "QQ==",
                },
            }
        ],
        "users": [{"name": "default", "user": {"client-key-data": "Qg=="}}],
        "contexts": [{"name": "default", "context": {"cluster": "default", "user": "default"}}],
        "current-context": "default",
    }
)


def test_the_kubeconfig_leads_to_the_published_port() -> None:
    config = yaml.safe_load(kubeconfig.rewritten(KUBECONFIG, "dds-abc", 20001))
    assert config["clusters"][0]["cluster"] == {
        "server": "https://127.0.0.1:20001",
        "certificate-authority-data": "QQ==",
    }
    assert config["users"] == [{"name": "dds-abc", "user": {"client-key-data": "Qg=="}}]
    assert config["current-context"] == "dds-abc"


def _named(name: str, **more: Any) -> dict[str, Any]:
    return {"metadata": {"name": name, "generation": 1}, "spec": {"replicas": 1}, **more}


NODES: Any = {
    "items": [
        _named(name, status={"conditions": [{"type": "Ready", "status": "True"}]})
        for name in ("s", "a")
    ]
}
DEPLOYMENTS: Any = {
    "items": [
        _named(name, status={"observedGeneration": 1, "availableReplicas": 1})
        for name in kubeconfig.SYSTEM_DEPLOYMENTS
    ]
}
METRICS: Any = {"status": {"conditions": [{"type": "Available", "status": "True"}]}}


def test_a_cluster_with_everything_is_ready() -> None:
    assert kubeconfig.missing(NODES, DEPLOYMENTS, METRICS, ["s", "a"]) == []


def test_what_is_missing_is_named() -> None:
    nodes, deployments, metrics = (copy.deepcopy(one) for one in (NODES, DEPLOYMENTS, METRICS))
    nodes["items"][1]["status"]["conditions"][0]["status"] = "Unknown"
    del deployments["items"][0]
    deployments["items"][0]["status"]["observedGeneration"] = 0
    deployments["items"][1]["status"]["availableReplicas"] = 0
    metrics["status"]["conditions"][0]["status"] = "False"
    said = kubeconfig.missing(nodes, deployments, metrics, ["s", "a", "b"])
    assert len(said) == 2 + 3 + 1
    assert said[:2] == ["node a is not Ready", "node b is not Ready"]
    assert all(any(name in one for one in said) for name in kubeconfig.SYSTEM_DEPLOYMENTS)
