"""Settings, the table of compositions, and where a composition goes."""

import dataclasses
import json
from pathlib import Path

import pulumi
import pytest
import yaml
from pulumi_kubernetes.core.v1 import ConfigMap

import dds_patterns
import stacks
from dds_patterns.arguments.declared import Declared, arguments_of
from dds_patterns.arguments.errors import InputError
from stacks.settings import KEYS, Settings, instance_of, ports_of
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
    assert declared == set(KEYS)
    # As the engine hands them over: text, and true rather than Python's True.
    defaults = {
        key.removeprefix("dds:"): json.dumps(given["default"]).strip('"')
        for key, given in document["config"].items()
    }
    assert load(**defaults) == load()
    assert load(**defaults).given == ()


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
        ({"instance": "a" * 60}, "at most 49 characters"),
        ({"images": "redis=redis:7"}, "must be an array"),
        ({"images": '{"redis": "redis:7"}'}, "must be an array"),
        ({"images": '["redis"]'}, 'the form "name=reference"'),
        ({"images": '["=redis:7"]'}, 'the form "name=reference"'),
        ({"images": '["redis=redis"]'}, "must have a tag"),
        ({"images": '["a=redis:7", "a=redis:8"]'}, "a is listed twice"),
        ({"images": '["a b=redis:7"]'}, r"dds:images.* is 'a b'; must be a DNS label"),
        ({"api_port": "70000"}, "must be 0, or from 1024 to 65535"),
        ({"shards": "3.5"}, "dds:shards is 3.5; must be a whole number"),
        ({"shards": "true"}, "dds:shards is True; must be a whole number"),
        ({"percent": "NaN"}, "must be a finite number"),
        ({"percent": "0.00005"}, "must be a number with at most two decimals"),
        ({"members": "4"}, "dds:members is 4; must be 1, 3 or 5"),
        ({"registry": "https://user:secret@r"}, "dds:registry is <secret>; must have no user"),
        ({"database": "redis://db:6379"}, "dds:database .*must be host:port"),
        ({"database": "db:99999"}, "must be host:port"),
        ({"database_server_name": "a b"}, "must be a host name"),
        ({"database_server_name": "203.0.113.7"}, "must be a name such as db.example.com"),
        ({"database_authority": "x"}, "dds:database_authority is <secret>; must be PEM"),
        ({"slow_command_ms": "-1"}, "must be from 0 to 3600000"),
        ({"max_scale": "0"}, "must be from 1 to 1000"),
        ({"on_failure": "ignore"}, "must be one of closed, open"),
    ],
)
def test_bad_configuration_is_refused_with_its_key(config: dict[str, str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        load(**config)


def test_numbers_are_what_they_are() -> None:
    settings = load(shards="4.0", percent="20")
    assert (repr(settings.shards), repr(settings.percent)) == ("4", "20")


def test_a_secret_is_not_shown() -> None:
    with pytest.raises(InputError, match="dds:database is <secret>; must be host:port") as caught:
        build(Settings.load, secret_config={"dds:database": "swordfish"}, stack="experiments")
    assert "swordfish" not in str(caught.value)


def test_a_variable_that_cannot_be_right_is_refused_by_its_name(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("DDS_NODE_IMAGE", "node")
    with pytest.raises(InputError, match="Environment: DDS_NODE_IMAGE is 'node'; must have a tag"):
        load()


def _said(declared: Declared) -> tuple[object, set[str]]:
    return declared.type, {constraint.says for constraint in declared.constraints}


@pytest.mark.parametrize(
    ("key", "component", "argument"),
    [
        ("shards", "ShardedRedis", "shards"),
        ("role", "ShardedRedis", "role"),
        ("role", "TwemproxyAmbassador", "role"),
        ("policy", "TwemproxyAmbassador", "policy"),
        ("policy", "RequestSplitter", "policy"),
        ("slow_command_ms", "ShardedRedis", "slow_command_ms"),
        ("backend", "Election", "backend"),
        ("members", "EtcdCluster", "members"),
        ("ttl_seconds", "Election", "ttl_seconds"),
        ("percent", "RequestSplitter", "percent"),
        ("on_failure", "FunctionDecorator", "on_failure"),
        ("min_scale", "FunctionDecorator", "min_scale"),
        ("max_scale", "FunctionDecorator", "max_scale"),
        ("scrape_interval_seconds", "Prometheus", "scrape_interval_seconds"),
        ("agents", "Cluster", "agents"),
        ("instance", "Cluster", "instance"),
        ("node_image", "Cluster", "node_image"),
        ("registry_image", "Cluster", "registry_image"),
    ],
)
def test_a_key_may_be_what_the_argument_may_be(key: str, component: str, argument: str) -> None:
    declared = arguments_of(getattr(dds_patterns, f"{component}Args"))[argument]
    assert _said(KEYS[key]) == _said(declared)


# Which keys have an effect


def deployed(stack: str, **config: str) -> tuple[Graph, set[str]]:
    """What is registered, and the keys that were read for it."""
    read: set[str] = set()

    class Recorded(Settings):
        def __getattribute__(self, name: str) -> object:
            if name in KEYS:
                read.add(name)
            return super().__getattribute__(name)

    def program() -> None:
        settings = Settings.load()
        values = {key: getattr(settings, key) for key in KEYS}
        recorded = Recorded(**values)
        read.clear()
        stacks.COMPOSITIONS[stack].deploy(recorded)

    graph = build(
        program,
        stack=stack,
        config={f"dds:{key}": value for key, value in config.items()},
        references=CLUSTER,
    )
    return graph, read


READ_ONLY_WITH = {"experiments": {"database": "db:6379", "database_tls": "true"}}


@pytest.mark.parametrize("name", stacks.COMPOSITIONS)
def test_a_composition_reads_the_keys_that_it_declares(name: str) -> None:
    _, read = deployed(name, **READ_ONLY_WITH.get(name, {}))
    # Where the name service is, components read themselves, in any program.
    assert read - {"composition"} == set(stacks.COMPOSITIONS[name].reads) - {"network"}


# A value of each key that differs from its default.
OTHERS = {
    "kubecontext": "kind", "registry": "localhost:5001", "agents": "2", "node_image": "k3s:1",
    "registry_image": "registry:2", "api_port": "6443", "registry_port": "5000",
    "network": '{"dns_ports": [5353]}', "instance": "mine", "images": '["redis=redis:7"]', "shards": "5", "role": "store",
    "policy": "seed", "persistence": "false", "backend": "lease", "members": "5",
    "ttl_seconds": "6", "fenced": "false", "percent": "20", "database": "db:6379",
    "database_tls": "true", "database_server_name": "db",
    "database_authority": "-----BEGIN CERTIFICATE-----\nMII\n-----END CERTIFICATE-----\n", "topz_port": "8079",
    "scrape_interval_seconds": "6", "slow_command_ms": "11", "certificate_generation": "2",
    "on_failure": "open", "min_scale": "2", "max_scale": "4",
}  # fmt: skip


def refusal(stack: str, **config: str) -> str:
    """The message that refuses a configuration, before anything is registered."""
    messages: list[str] = []

    def program() -> None:
        try:
            stacks.deploy(Settings.load())
        except InputError as error:
            messages.append(str(error))

    graph = build(
        program,
        stack=stack,
        config={f"dds:{key}": value for key, value in config.items()},
        references=CLUSTER,
    )
    assert not graph.nodes
    (message,) = messages
    return message


@pytest.mark.parametrize("name", stacks.COMPOSITIONS)
def test_a_key_that_the_composition_does_not_read_is_refused(name: str) -> None:
    assert set(OTHERS) == set(KEYS) - {"composition"}
    for key in set(OTHERS) - set(stacks.COMPOSITIONS[name].reads):
        message = refusal(name, **{key: OTHERS[key]})
        assert message.startswith(f"Configuration: dds:{key} is ")
        assert message.endswith(f"; has no effect in the composition {name}, leave it out")


@pytest.mark.parametrize(
    ("stack", "config", "message"),
    [
        ("election", {"members": "5", "backend": "lease"},
         "dds:members is 5; has no effect with dds:backend lease, leave it out"),
        ("experiments", {"percent": "20", "policy": "seed"},
         "dds:percent is 20; has no effect with dds:policy seed, leave it out"),
        ("ambassadors", {"persistence": "false"},
         "dds:persistence is False; has no effect with dds:role cache, leave it out"),
        ("experiments", {"database_tls": "true"},
         "dds:database_tls is True; has no effect without dds:database, leave it out"),
        ("experiments", {"database_authority": OTHERS["database_authority"], "database": "db:1"},
         "has no effect without dds:database_tls, leave it out"),
        ("experiments", {"database": "[fd00::1]:6379", "database_tls": "true"},
         "dds:database_server_name is None; must be given with dds:database_tls"),
        ("functions", {"min_scale": "4"},
         "dds:min_scale is 4; must not be above dds:max_scale, which is 3"),
        ("cluster", {"api_port": "5000", "registry_port": "5000"},
         "dds:registry_port is 5000; must differ from dds:api_port"),
        ("ambassadors", {"images": '["redsi=redis:7"]'}, "dds:images is 'redsi'; did you mean"),
        ("topz", {"images": '["redsi=redis:7"]'}, "dds:images is 'redsi'; did you mean"),
        ("ambassadors", {"kubecontext": "kind"}, "dds:registry is None; must name a registry"),
    ],
)  # fmt: skip
def test_what_keys_do_not_allow_each_other_is_refused(
    stack: str, config: dict[str, str], message: str
) -> None:
    assert message in refusal(stack, **config)


def test_a_component_that_refuses_a_setting_has_its_key_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refusing(_: Settings) -> None:
        raise InputError('Certificate "legacy"', "generation", 7, "must be another one")

    sidecars = dataclasses.replace(stacks.COMPOSITIONS["sidecars"], deploy=refusing)
    monkeypatch.setattr(stacks, "COMPOSITIONS", {"sidecars": sidecars})
    assert refusal("sidecars") == (
        'Certificate "legacy": generation (dds:certificate_generation) is 7; must be another one'
    )


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


def aimed(names: tuple[str, ...] = ("redis",), **config: str) -> Graph:
    def program() -> None:
        here = target(Settings.load(), names)
        ConfigMap(
            "something",
            metadata={"namespace": here.namespace},
            opts=pulumi.ResourceOptions(provider=here.provider),
        )
        pulumi.export("images", {name: here.images.reference(name) for name in names})

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
    graph = aimed(kubecontext="kind", registry="localhost:5001")
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
