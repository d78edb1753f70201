"""The ambassador: its configuration, what it refuses, and what it adds to a pod."""

import itertools
import pathlib
from typing import Any

import pulumi
import pytest
import yaml

from components import Application, TwemproxyAmbassador
from components.arguments.errors import InputError
from components.values.ring import HASHES, plan
from components.values.topology import Shard, Topology
from tests.unit import nutcracker
from tests.unit.support.hardening import violations
from tests.unit.support.manifests import assert_valid, objects, templates, the
from toolchain.graph import Graph, build

IMAGE = "registry.example/twemproxy:1.0"
PASSWORD = "swordfish-long-enough"
GOLDEN = pathlib.Path(__file__).parent / "golden"
MODES = [pytest.param(True, id="preview"), pytest.param(False, id="update")]

SEED = """\
redis:
  listen: 127.0.0.1:6379
  hash: fnv1a_64
  distribution: ketama
  auto_eject_hosts: true
  redis: true
  timeout: 400
  server_retry_timeout: 2000
  server_failure_limit: 1
  servers:
  - sharded-redis-0.redis:6379:1
  - sharded-redis-1.redis:6379:1
  - sharded-redis-2.redis:6379:1
"""
"""The book's nutcracker.yaml, as the seed of this project prints it, with its indentation."""


def topology(count: int = 3, **changes: Any) -> Topology:
    values: dict[str, Any] = {
        "name": "cache",
        "shards": tuple(
            Shard(name, f"cache-{i}", 6379) for i, name in enumerate(plan(count).names)
        ),
        "protocol": "redis",
        "client_label": ("dds/client-of-cache", "true"),
        "server_labels": {"app.kubernetes.io/instance": "cache"},
    }
    return Topology(**{**values, **changes})


def made(preview: bool = False, **args: Any) -> tuple[TwemproxyAmbassador, Graph]:
    """An ambassador in a pod. An argument that is an Output is given as a function that makes it."""
    found: list[TwemproxyAmbassador] = []

    def program() -> None:
        given: Any = {k: v() if callable(v) else v for k, v in args.items()}
        given = {"image": IMAGE, "topology": topology(), **given}
        ambassador = TwemproxyAmbassador("proxy", given)
        found.append(ambassador)
        Application(
            "web",
            {"image": "registry.example/web:1.0", "companions": [ambassador.companion]},
        )

    graph = build(program, preview=preview)
    return found[0], graph


def configuration(graph: Graph) -> str:
    for kind, key in (("ConfigMap", "data"), ("Secret", "stringData")):
        for body in objects(graph, kind):
            if "nutcracker.yaml" in body.get(key, {}):
                return str(body[key]["nutcracker.yaml"])
    raise AssertionError("no nutcracker.yaml")


@pytest.mark.parametrize("role", ["cache", "store"])
@pytest.mark.parametrize("preview", MODES)
def test_the_configuration_is_the_recorded_one(role: str, preview: bool) -> None:
    _, graph = made(preview, role=role)
    golden = GOLDEN / f"nutcracker-{role}.yaml"
    assert configuration(graph) == golden.read_text()


def test_the_seeds_policy_is_the_seeds_text() -> None:
    seeds = topology(
        shards=tuple(Shard(f"s-{i}", f"sharded-redis-{i}.redis", 6379) for i in range(3))
    )
    ambassador, graph = made(topology=seeds, policy="seed")
    assert configuration(graph) == SEED
    assert ambassador.ring.hash_name == "fnv1a_64"
    assert ambassador.ring.names[0] == "sharded-redis-0.redis:6379"


def test_a_store_is_never_left_out_and_a_cache_is() -> None:
    store = yaml.safe_load(configuration(made(role="store")[1]))["redis"]
    assert store["auto_eject_hosts"] is False
    assert not {"server_failure_limit", "server_retry_timeout"} & set(store)
    cache = yaml.safe_load(configuration(made(role="cache")[1]))["redis"]
    assert (cache["auto_eject_hosts"], cache["timeout"]) == (True, 400)
    assert (cache["server_failure_limit"], cache["server_retry_timeout"]) == (3, 30000)


def variants() -> list[dict[str, Any]]:
    names = ["role", "password", "hash_tag", "server_connections"]
    choices = [("cache", "store"), (None, PASSWORD), ("", "{}", "$$", "[]", "#@"), (1, 8)]
    found: list[dict[str, Any]] = [
        dict(zip(names, values, strict=True)) for values in itertools.product(*choices)
    ]
    found += [{"hash": name} for name in HASHES]
    return [*found, {"policy": "seed"}, {"policy": "seed", "password": PASSWORD}, {"count": 64}]


@pytest.mark.skipif(nutcracker.BINARY is None, reason="nutcracker is not installed")
@pytest.mark.parametrize("variant", variants(), ids=str)
def test_nutcracker_accepts_every_variant(variant: dict[str, Any]) -> None:
    of_topology = {k: variant[k] for k in ("hash", "hash_tag") if k in variant}
    args = {k: v for k, v in variant.items() if v is not None and k not in {*of_topology, "count"}}
    graph = made(topology=topology(variant.get("count", 3), **of_topology), **args)[1]
    done = nutcracker.accepts(configuration(graph))
    assert done.returncode == 0, done.stderr
    assert "syntax is ok" in done.stdout + done.stderr


@pytest.mark.skipif(nutcracker.BINARY is None, reason="nutcracker is not installed")
def test_the_checker_refuses_what_is_wrong() -> None:
    assert nutcracker.accepts(SEED.replace("ketama", "kitama")).returncode != 0


@pytest.mark.parametrize("preview", MODES)
def test_a_password_is_in_a_secret_and_nowhere_else(preview: bool) -> None:
    _, graph = made(preview, password=lambda: pulumi.Output.secret(PASSWORD))
    assert f'redis_auth: "{PASSWORD}"' in configuration(graph)
    for node in graph:
        if node.type.endswith(":Secret"):
            assert node.secrets
        else:
            assert PASSWORD not in str(node.inputs)


def test_a_plain_password_becomes_a_secret() -> None:
    _, graph = made(password=PASSWORD)
    assert graph.one("Secret", "proxy").secrets == {"stringData"}


def test_without_a_password_a_config_map_is_enough() -> None:
    _, graph = made()
    assert not graph.all("Secret")
    assert the(graph, "ConfigMap")["immutable"] is True


def test_the_pod_is_hardened_and_valid() -> None:
    _, graph = made(password=PASSWORD, role="store", mbuf_bytes=512)
    assert_valid(objects(graph))
    (template,) = templates(graph)
    assert violations(template, restarts=False) == []


def test_everything_listens_on_loopback() -> None:
    ambassador, graph = made(listen_port=7000, stats_port=7001)
    assert {(p.address, p.port) for p in ambassador.companion.listeners} == {
        ("127.0.0.1", 7000),
        ("127.0.0.1", 7001),
    }
    assert yaml.safe_load(configuration(graph))["redis"]["listen"] == "127.0.0.1:7000"
    command = templates(graph)[0]["spec"]["initContainers"][0]["command"]
    assert command[command.index("--stats-addr") + 1] == "127.0.0.1"
    assert command[command.index("--stats-port") + 1] == "7001"
    assert command[command.index("--output") + 1] == "/dev/stderr"
    assert (ambassador.endpoint, ambassador.statistics) == ("127.0.0.1:7000", "127.0.0.1:7001")


def test_the_three_probes_differ() -> None:
    container = templates(made()[1])[0]["spec"]["initContainers"][0]
    startup, ready, live = (
        container[f"{kind}Probe"] for kind in ("startup", "readiness", "liveness")
    )
    assert ready["exec"] != live["exec"]
    assert startup["periodSeconds"] < ready["periodSeconds"] < live["periodSeconds"]


def test_the_pod_may_reach_the_shards_and_is_let_in() -> None:
    _, graph = made()
    (template,) = templates(graph)
    assert template["metadata"]["labels"]["dds/client-of-cache"] == "true"
    policy = the(graph, "NetworkPolicy")["spec"]
    assert {
        "ports": [{"port": 6379, "protocol": "TCP"}],
        "to": [{"podSelector": {"matchLabels": {"app.kubernetes.io/instance": "cache"}}}],
    } in policy["egress"]


def test_the_ring_is_that_of_the_topology() -> None:
    ambassador, _ = made(topology=topology(hash="md5", hash_tag="{}"))
    expected = plan(3, "md5").ring("{}")
    keys = [f"user:{{{i}}}:x" for i in range(200)]
    assert [ambassador.ring.index(k) for k in keys] == [expected.index(k) for k in keys]


def test_pods_wait_for_what_they_are_told_to() -> None:
    waited: list[pulumi.Resource] = []

    def program() -> None:
        store = Application("store", {"image": IMAGE})
        ambassador = TwemproxyAmbassador(
            "proxy", {"image": IMAGE, "topology": topology(), "after": [store]}
        )
        waited.extend(ambassador.companion.depends_on)
        Application("web", {"image": IMAGE, "companions": [ambassador.companion]})

    graph = build(program)
    assert len(waited) == 2
    store = graph.one("Deployment", "store").urn
    assert store in graph.one("Deployment", "web").dependencies


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"topologie": 1}, "topologie is not an argument; did you mean topology?"),
        ({"image": "twemproxy"}, "must have a tag"),
        ({"topology": "cache"}, "must be a Topology"),
        ({"topology": topology(protocol="memcached")}, "'memcached'; must be redis"),
        ({"role": "queue"}, "role is 'queue'; must be one of cache, store"),
        ({"policy": "book"}, "policy is 'book'; must be one of default, seed"),
        ({"policy": "seed", "role": "store"}, "must be left out"),
        ({"policy": "seed", "timeout_ms": 500}, "must be left out"),
        ({"role": "store", "server_failure_limit": 2}, "no shard is left out"),
        ({"client_retries": 3}, "client_retries is 3; must be above server_failure_limit"),
        ({"client_retries": 5, "server_failure_limit": 5}, "which is 5"),
        ({"server_failure_limit": 0}, "must be from 1 to 1000"),
        ({"timeout_ms": 0}, "must be from 1 to 600000"),
        ({"timeout_ms": "400"}, "must be a whole number"),
        ({"server_connections": 0}, "must be from 1 to 64"),
        ({"listen_port": 80}, "must be from 1024 to 65535"),
        ({"stats_port": 70000}, "must be from 1024 to 65535"),
        ({"listen_port": 7000, "stats_port": 7000}, "must differ from listen_port"),
        ({"mbuf_bytes": 511}, "must be from 512"),
        ({"verbosity": 7}, "must be from 0 to 6"),
        ({"password": "short"}, "must be from 8 to 128 characters"),
        ({"password": 'with"quote-in-it'}, "must be from 8 to 128 characters"),
    ],
)
def test_bad_input_is_refused(change: dict[str, Any], expected: str) -> None:
    messages: list[str] = []

    def program() -> None:
        given: Any = {"image": IMAGE, "topology": topology(), **change}
        with pytest.raises(InputError) as caught:
            TwemproxyAmbassador("proxy", given)
        messages.append(str(caught.value))

    graph = build(program)
    assert not graph.nodes
    assert messages[0].startswith('TwemproxyAmbassador "proxy"')
    assert expected in messages[0]
    assert "quote-in-it" not in messages[0], "a refused password was shown"


def test_retries_above_the_limit_are_fine() -> None:
    made(client_retries=4)


def test_a_bad_password_that_is_known_later_is_refused_later() -> None:
    with pytest.raises(InputError, match="password is <secret>; must be from 8 to 128"):
        made(password=lambda: pulumi.Output.secret("pass word"))


def test_two_on_one_port_are_refused_and_on_two_are_not() -> None:
    def program(port: int) -> None:
        companions = [
            TwemproxyAmbassador(
                f"proxy-{i}",
                {
                    "image": IMAGE,
                    "topology": topology(
                        name=f"s{i}", client_label=(f"dds/client-of-s{i}", "true")
                    ),
                    "listen_port": 6379 if i == 0 else port,
                    "stats_port": 22222 + i,
                },
            ).companion
            for i in range(2)
        ]
        Application("web", {"image": IMAGE, "companions": companions})

    with pytest.raises(InputError, match="must be free"):
        build(lambda: program(6379))
    build(lambda: program(6380))


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"shards": ()}, "must not be empty"),
        ({"shards": (Shard("a", "x", 1), Shard("a", "y", 1))}, "different names"),
        ({"shards": (Shard("a", "x", 1), Shard("b", "x", 1))}, "different addresses"),
        ({"hash": "sha1"}, "must be one of"),
        ({"hash_tag": "{"}, "two printable characters"),
        ({"hash_tag": '""'}, "two printable characters"),
    ],
)
def test_a_topology_that_cannot_be_is_refused(change: dict[str, Any], expected: str) -> None:
    with pytest.raises(InputError, match=expected):
        topology(**change)
