"""The ambassador: its configuration, what it refuses, and what it adds to a pod."""

import itertools
import pathlib
from typing import Any

import pulumi
import pytest
import yaml

from dds_patterns import Application, TwemproxyAmbassador
from dds_patterns.arguments.errors import InputError
from dds_patterns.sharding import HASHES, Ring, plan
from dds_patterns.values.reach import Credentials, Reach
from dds_patterns.values.topology import Topology
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


CACHE = {"app.kubernetes.io/instance": "cache"}


def store(
    count: int = 3,
    *,
    hash_name: str = "murmur",
    hash_tag: str = "",
    password: Any = None,
    **changes: Any,
) -> Reach:
    """A reach of shards in the namespace ``data``."""
    values: dict[str, Any] = {
        "name": "cache",
        "endpoints": tuple(f"cache-{i}.data.svc:6379" for i in range(count)),
        "pods": CACHE,
        "namespace": "data",
        "app_protocol": "redis",
        "topology": Topology(plan(count).names, hash_name, hash_tag),
        "isolated": True,
    }
    if password is not None:
        values["credentials"] = Credentials(password)
    return Reach(**{**values, **changes})


def made(preview: bool = False, **args: Any) -> tuple[TwemproxyAmbassador, Graph]:
    """An ambassador in a pod. An argument that needs an Output is given as a function."""
    found: list[TwemproxyAmbassador] = []

    def program() -> None:
        given: Any = {k: v() if callable(v) else v for k, v in args.items()}
        given = {"image": IMAGE, "store": store(), **given}
        ambassador = TwemproxyAmbassador("proxy", given)
        found.append(ambassador)
        Application(
            "web",
            {"image": "registry.example/web:1.0", "companions": [ambassador.companion]},
        )

    graph = build(program, preview=preview)
    return found[0], graph


def ring(given: Reach, *, preview: bool = False, **args: Any) -> Ring | None:
    """Where an ambassador sends keys, if it is known."""
    found: list[Ring] = []

    def program() -> None:
        wanted: Any = {"image": IMAGE, "store": given, **args}
        TwemproxyAmbassador("proxy", wanted).ring.apply(found.append)

    build(program, preview=preview)
    return found[0] if found else None


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
    seeds = store(endpoints=tuple(f"sharded-redis-{i}.redis:6379" for i in range(3)))
    _, graph = made(store=seeds, policy="seed")
    assert configuration(graph) == SEED
    placed = ring(seeds, policy="seed")
    assert placed is not None
    assert placed.hash_name == "fnv1a_64"
    assert placed.names[0] == "sharded-redis-0.redis:6379"


def test_a_store_is_never_left_out_and_a_cache_is() -> None:
    kept = yaml.safe_load(configuration(made(role="store")[1]))["redis"]
    assert kept["auto_eject_hosts"] is False
    assert not {"server_failure_limit", "server_retry_timeout"} & set(kept)
    cache = yaml.safe_load(configuration(made(role="cache")[1]))["redis"]
    assert (cache["auto_eject_hosts"], cache["timeout"]) == (True, 400)
    assert (cache["server_failure_limit"], cache["server_retry_timeout"]) == (3, 30000)


def variants() -> list[dict[str, Any]]:
    names = ["role", "password", "hash_tag", "server_connections"]
    choices = [("cache", "store"), (None, PASSWORD), ("", "{}", "$$", "[]", "#@"), (1, 8)]
    found: list[dict[str, Any]] = [
        dict(zip(names, values, strict=True)) for values in itertools.product(*choices)
    ]
    found += [{"hash_name": name} for name in HASHES]
    return [*found, {"policy": "seed"}, {"policy": "seed", "password": PASSWORD}, {"count": 64}]


@pytest.mark.skipif(nutcracker.BINARY is None, reason="nutcracker is not installed")
@pytest.mark.parametrize("variant", variants(), ids=str)
def test_nutcracker_accepts_every_variant(variant: dict[str, Any]) -> None:
    of_store = {
        key: variant[key]
        for key in ("count", "hash_name", "hash_tag", "password")
        if key in variant
    }
    args = {key: value for key, value in variant.items() if key not in of_store}
    graph = made(store=store(**of_store), **args)[1]
    done = nutcracker.accepts(configuration(graph))
    assert done.returncode == 0, done.stderr
    assert "syntax is ok" in done.stdout + done.stderr


@pytest.mark.skipif(nutcracker.BINARY is None, reason="nutcracker is not installed")
def test_the_checker_refuses_what_is_wrong() -> None:
    assert nutcracker.accepts(SEED.replace("ketama", "kitama")).returncode != 0


@pytest.mark.parametrize("preview", MODES)
def test_a_password_is_in_a_secret_and_nowhere_else(preview: bool) -> None:
    _, graph = made(preview, store=lambda: store(password=pulumi.Output.secret(PASSWORD)))
    assert f'redis_auth: "{PASSWORD}"' in configuration(graph)
    for node in graph:
        if node.type.endswith(":Secret"):
            assert node.secrets
        else:
            assert PASSWORD not in str(node.inputs)


def test_a_plain_password_becomes_a_secret() -> None:
    _, graph = made(store=store(password=PASSWORD))
    assert graph.one("Secret", "proxy").secrets == {"stringData"}


def test_without_a_password_a_config_map_is_enough() -> None:
    _, graph = made()
    assert not graph.all("Secret")
    assert the(graph, "ConfigMap")["immutable"] is True


def test_the_pod_is_hardened_and_valid() -> None:
    _, graph = made(store=store(password=PASSWORD), role="store", mbuf_bytes=512)
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
    component = graph.one("TwemproxyAmbassador")
    assert graph.outputs[component.urn] == {"endpoint": "127.0.0.1:7000"}
    assert ambassador.reach.endpoints == ("127.0.0.1:7000",)
    assert ambassador.statistics.endpoints == ("127.0.0.1:7001",)


def test_its_reach_says_what_the_application_logs_in_with() -> None:
    given = store(password=PASSWORD)
    ambassador, _ = made(store=given)
    assert ambassador.reach.credentials == given.credentials
    assert (ambassador.reach.app_protocol, ambassador.reach.is_local) == ("redis", True)


def test_the_three_probes_differ() -> None:
    container = templates(made()[1])[0]["spec"]["initContainers"][0]
    startup, ready, live = (
        container[f"{kind}Probe"] for kind in ("startup", "readiness", "liveness")
    )
    assert ready["exec"] != live["exec"]
    assert startup["periodSeconds"] < ready["periodSeconds"] < live["periodSeconds"]


def test_the_pod_may_reach_the_shards_and_is_let_in() -> None:
    _, graph = made()
    policies = {node.name: node for node in graph.all("NetworkPolicy")}
    assert set(policies) == {"web", "web-to-cache"}
    port = [{"port": 6379, "protocol": "TCP"}]
    of_data = {"matchLabels": {"kubernetes.io/metadata.name": "data"}}
    assert {
        "ports": port,
        "to": [{"podSelector": {"matchLabels": CACHE}, "namespaceSelector": of_data}],
    } in policies["web"].inputs["spec"]["egress"]
    there = policies["web-to-cache"].inputs
    assert there["metadata"]["namespace"] == "data"
    assert there["spec"]["podSelector"] == {"matchLabels": CACHE}
    (rule,) = there["spec"]["ingress"]
    assert rule["ports"] == port
    (peer,) = rule["from"]
    assert peer["podSelector"] == policies["web"].inputs["spec"]["podSelector"]


@pytest.mark.parametrize("preview", MODES)
def test_the_ring_is_that_of_the_topology(preview: bool) -> None:
    given = store(hash_name="md5", hash_tag="{}")
    placed, expected = ring(given, preview=preview), plan(3, "md5").ring("{}")
    assert placed is not None
    keys = [f"user:{{{i}}}:x" for i in range(200)]
    assert [placed.index(k) for k in keys] == [expected.index(k) for k in keys]


def test_pods_wait_for_the_store() -> None:
    def program() -> None:
        there = Application("store", {"image": IMAGE})
        ambassador = TwemproxyAmbassador(
            "proxy", {"image": IMAGE, "store": store(depends_on=(there,))}
        )
        Application("web", {"image": IMAGE, "companions": [ambassador.companion]})

    graph = build(program)
    dependencies = graph.one("Deployment", "web").dependencies
    assert graph.one("Deployment", "store").urn in dependencies
    assert graph.one("ConfigMap", "proxy").urn in dependencies
    assert graph.one("NetworkPolicy", "web-to-cache").urn in dependencies


def test_an_ipv6_address_that_is_known_later_is_refused_later() -> None:
    def program() -> None:
        endpoint = pulumi.Output.from_input("[fd00::1]:6379")
        TwemproxyAmbassador(
            "proxy", {"image": IMAGE, "store": store(1, endpoints=(endpoint,), ports=(6379,))}
        )

    with pytest.raises(InputError, match="proxies of shards read no IPv6 address"):
        build(program)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"stor": 1}, "stor is not an argument; did you mean store?"),
        ({"image": "twemproxy"}, "must have a tag"),
        ({"store": "cache"}, "must be a Reach, such as application.reach"),
        (
            {"store": store(app_protocol="http")},
            "must be a reach of a server that speaks redis or memcached",
        ),
        (
            {"store": store(topology=None)},
            "must be a reach of a server that speaks redis or memcached, sharded",
        ),
        ({"store": store(1, endpoints=("[fd00::1]:1",))}, "store.endpoints is '[fd00::1]:1'"),
        (
            {"store": store(credentials=Credentials(PASSWORD, "shop"))},
            "store.credentials.username is 'shop'; must be empty",
        ),
        ({"role": "queue"}, "role is 'queue'; must be one of cache, store"),
        ({"policy": "book"}, "policy is 'book'; must be one of default, seed"),
        ({"policy": "seed", "role": "store"}, "must be left out"),
        ({"policy": "seed", "timeout_ms": 500}, "must be left out"),
        ({"role": "store", "server_failure_limit": 2}, "no shard is ejected"),
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
    ],
)
def test_bad_input_is_refused(change: dict[str, Any], expected: str) -> None:
    messages: list[str] = []

    def program() -> None:
        given: Any = {"image": IMAGE, "store": store(), **change}
        with pytest.raises(InputError) as caught:
            TwemproxyAmbassador("proxy", given)
        messages.append(str(caught.value))

    graph = build(program)
    assert not graph.nodes
    assert messages[0].startswith('TwemproxyAmbassador "proxy"')
    assert expected in messages[0]
    assert PASSWORD not in messages[0]


def test_retries_above_the_limit_are_fine() -> None:
    made(client_retries=4)


def test_a_bad_password_that_is_known_later_is_refused_later() -> None:
    with pytest.raises(InputError, match="password is <secret>; must be from 8 to 128"):
        made(store=lambda: store(password=pulumi.Output.secret("pass word")))


def test_two_on_one_port_are_refused_and_on_two_are_not() -> None:
    def program(port: int) -> None:
        companions = [
            TwemproxyAmbassador(
                f"proxy-{i}",
                {
                    "image": IMAGE,
                    "store": store(name=f"s{i}"),
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
        ({"shards": ("a", "a")}, "'a' is listed twice"),
        ({"hash": "sha1"}, "must be one of"),
        ({"hash_tag": "{"}, "two printable characters"),
        ({"hash_tag": '""'}, "two printable characters"),
    ],
)
def test_a_topology_that_cannot_be_is_refused(change: dict[str, Any], expected: str) -> None:
    with pytest.raises(InputError, match=expected):
        Topology(**{"shards": ("a", "b"), **change})
