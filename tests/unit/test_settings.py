"""Settings, the table of compositions, and where a composition goes."""

import json
from pathlib import Path

import pulumi
import pytest
import yaml
from pulumi_kubernetes.core.v1 import ConfigMap

import stacks
from components.arguments.errors import InputError
from stacks.settings import Settings, instance_of, ports_of
from stacks.target import CLUSTER_STACK, target
from toolchain.graph import Graph, Secret, build

ROOT = Path(__file__).parents[2]
CLUSTER = {CLUSTER_STACK: {"kubeconfig": Secret("{}"), "registry": "localhost:5000"}}


@pytest.fixture(autouse=True)
def _bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("DDS_NODE_IMAGE", "DDS_REGISTRY_IMAGE"):
        monkeypatch.delenv(name, raising=False)


def load(stack: str = "ambassadors", **config: str) -> Settings:
    loaded: list[Settings] = []
    build(
        lambda: loaded.append(Settings.load()),
        stack=stack,
        config={f"dds:{key}": value for key, value in config.items()},
    )
    return loaded[0]


def test_everything_has_a_default() -> None:
    settings = load()
    assert settings.composition == "ambassadors"
    assert settings.kubecontext is None
    assert settings.agents == 1
    assert settings.shards == 3
    assert settings.role == "cache"
    assert settings.policy == "default"
    assert settings.persistence is None
    assert settings.node_image is None
    assert settings.images == {}
    assert settings.instance == instance_of(ROOT)
    assert (settings.registry_port, settings.api_port) == ports_of(ROOT)


def test_every_key_can_be_set() -> None:
    settings = load(
        composition="cluster",
        kubecontext="kind",
        registry="localhost:5001",
        agents="2",
        node_image="rancher/k3s:v1",
        registry_image="registry:2",
        api_port="6443",
        registry_port="5000",
        instance="mine",
        images='["redis=valkey/valkey:8", "nginx=nginx@sha256:' + "0" * 64 + '"]',
        shards="5",
        role="store",
        policy="seed",
        persistence="false",
        percent="12.5",
        database="db.example.com:6379",
        topz_port="8079",
    )
    assert settings == Settings(
        composition="cluster",
        kubecontext="kind",
        registry="localhost:5001",
        agents=2,
        node_image="rancher/k3s:v1",
        registry_image="registry:2",
        api_port=6443,
        registry_port=5000,
        instance="mine",
        images={"redis": "valkey/valkey:8", "nginx": "nginx@sha256:" + "0" * 64},
        shards=5,
        role="store",
        policy="seed",
        persistence=False,
        percent=12.5,
        database="db.example.com:6379",
        topz_port=8079,
    )


def test_what_the_project_declares_is_what_is_read() -> None:
    document = yaml.safe_load((ROOT / "Pulumi.yaml").read_text())
    declared = {key.removeprefix("dds:") for key in document["config"]}
    assert declared == set(Settings.__dataclass_fields__)
    # As the engine hands them over: text, and true rather than Python's True.
    defaults = {
        key.removeprefix("dds:"): json.dumps(given["default"]).strip('"')
        for key, given in document["config"].items()
    }
    assert load(**defaults) == load()


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"shard": "3"}, "dds:shard is not an argument; did you mean shards"),
        ({"shards": "0"}, "dds:shards is 0; must be from 1 to 64"),
        ({"shards": "three"}, "dds:shards is 'three'; must be a whole number"),
        ({"agents": "-1"}, "must be from 0 to 16"),
        ({"role": "queue"}, "must be one of cache, store"),
        ({"policy": "books"}, "must be one of default, seed"),
        ({"persistence": "yes"}, "must be true or false"),
        ({"backend": "zookeeper"}, "must be one of etcd, lease"),
        ({"ttl_seconds": "1"}, "must be from 2 to 3600"),
        ({"fenced": "no"}, "must be true or false"),
        ({"node_image": "rancher/k3s"}, "must have a tag"),
        ({"instance": "My_Cluster"}, "must be a DNS label"),
        ({"instance": "a" * 60}, "at most 47 characters"),
        ({"images": "redis=redis:7"}, "must be an array"),
        ({"images": '{"redis": "redis:7"}'}, "must be an array"),
        ({"images": '["redis"]'}, 'the form "name=reference"'),
        ({"images": '["=redis:7"]'}, 'the form "name=reference"'),
        ({"images": '["redis=redis"]'}, "must have a tag"),
        ({"images": '["a=redis:7", "a=redis:8"]'}, "a stands twice"),
        ({"api_port": "70000"}, "must be from 0 to 65535"),
    ],
)
def test_bad_configuration_is_refused_with_its_key(config: dict[str, str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        load(**config)


def test_configuration_of_others_is_not_ours() -> None:
    build(Settings.load, config={"kubernetes:context": "x"}, stack="a")


def test_the_environment_names_a_context_and_images(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBECONTEXT", "mine")
    monkeypatch.setenv("DDS_NODE_IMAGE", "node:1")
    monkeypatch.setenv("DDS_REGISTRY_IMAGE", "registry:1")
    settings = load()
    assert (settings.kubecontext, settings.node_image, settings.registry_image) == (
        "mine",
        "node:1",
        "registry:1",
    )
    assert load(node_image="other:1").node_image == "other:1"


def test_checkouts_have_instances_and_ports_of_their_own(tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    assert instance_of(one) != instance_of(other)
    assert instance_of(one) == instance_of(one)
    link = tmp_path / "link"
    one.mkdir()
    link.symlink_to(one)
    assert instance_of(link) == instance_of(one)
    registry, api = ports_of(one)
    assert 20000 <= registry < api == registry + 1 < 30000


def test_an_unknown_composition_is_refused_with_the_known_ones() -> None:
    with pytest.raises(InputError) as caught:
        build(lambda: stacks.deploy(Settings.load()), stack="ambasadors")
    message = str(caught.value)
    assert "did you mean ambassadors?" in message
    for name in stacks.COMPOSITIONS:
        assert name in message


@pytest.mark.parametrize("name", stacks.COMPOSITIONS)
def test_each_composition_is_a_module(name: str) -> None:
    assert (ROOT / "stacks" / f"{name}.py").exists()


# Target


def aimed(names: tuple[str, ...] = (), **config: str) -> Graph:
    def program() -> None:
        here = target(Settings.load())
        ConfigMap(
            "something",
            metadata={"namespace": here.namespace},
            opts=pulumi.ResourceOptions(provider=here.provider),
        )
        if names:
            images = here.images(names)
            pulumi.export("images", {name: images.reference(name) for name in names})

    return build(
        program,
        stack="ambassadors",
        config={f"dds:{key}": value for key, value in config.items()},
        references=CLUSTER,
    )


def test_a_composition_goes_to_a_restricted_namespace_of_its_own_on_our_cluster() -> None:
    graph = aimed()
    provider = graph.one("pulumi:providers:kubernetes")
    assert provider.inputs["kubeconfig"] == "{}"
    assert "kubeconfig" in provider.secrets
    assert "context" not in provider.inputs
    namespace = graph.one("Namespace")
    assert namespace.inputs["metadata"]["name"] == "ambassadors"
    labels = namespace.inputs["metadata"]["labels"]
    assert labels["pod-security.kubernetes.io/enforce"] == "restricted"
    assert namespace.provider.startswith(provider.urn)
    assert graph.one("ConfigMap").inputs["metadata"]["namespace"] == "ambassadors"
    assert namespace.urn in graph.one("ConfigMap").dependencies


def test_a_named_context_is_used_and_our_cluster_not_even_looked_up() -> None:
    graph = aimed(kubecontext="kind")
    provider = graph.one("pulumi:providers:kubernetes")
    assert provider.inputs["context"] == "kind"
    assert "kubeconfig" not in provider.inputs
    assert graph.all("StackReference") == []


def test_images_that_are_given_need_no_registry() -> None:
    graph = aimed(("redis",), kubecontext="kind", images='["redis=valkey/valkey:8"]')
    assert graph.outputs[""]["images"] == {"redis": "valkey/valkey:8"}


def test_images_that_must_be_built_need_a_registry() -> None:
    with pytest.raises(InputError, match=r"dds:registry .* the images redis"):
        aimed(("redis",), kubecontext="kind")
    graph = aimed(("redis",), kubecontext="kind", registry="localhost:5001")
    assert graph.outputs[""]["images"]["redis"].startswith("localhost:5001/dds/redis@sha256:")


def test_an_image_that_is_not_used_is_refused() -> None:
    message = "dds:images is 'redsi'; did you mean redis"
    with pytest.raises(InputError, match=message):
        aimed(("redis",), images='["redsi=redis:7"]')
