"""The shard router: the ambassador's configuration as a workload, and memcached behind both."""

import contextlib
import shutil
import socket
import subprocess
from collections.abc import Iterator
from typing import Any

import pulumi
import pytest
import yaml

from dds_patterns import ShardRouter
from dds_patterns.arguments import InputError, resolved
from dds_patterns.pods.hosting import CompanionHosting
from dds_patterns.values.reach import Credentials, Reach
from dds_patterns.values.topology import Topology
from dds_patterns.workloads.program import Program
from tests import ports
from tests.unit import nutcracker
from tests.unit.support.hardening import violations
from tests.unit.support.listening import running
from tests.unit.support.manifests import assert_valid, objects, templates, the
from tests.unit.test_twemproxy import IMAGE, configuration, store
from tests.unit.test_twemproxy import made as ambassador
from toolchain.graph import Graph, build

MEMCACHED = shutil.which("memcached")
KEYS = [f"user:{number}" for number in range(1000)]
REAL = pytest.mark.skipif(
    MEMCACHED is None or nutcracker.BINARY is None, reason="nutcracker or memcached is not there"
)


def memcached(**changes: Any) -> Reach:
    endpoints = tuple(f"cache-{number}.data.svc:11211" for number in range(3))
    return store(app_protocol="memcached", **{"endpoints": endpoints, **changes})


def made(preview: bool = False, **args: Any) -> Graph:
    def program() -> None:
        given: Any = {"image": IMAGE, "store": store(), **args}
        ShardRouter("router", given)

    return build(program, preview=preview)


@pytest.mark.parametrize("preview", [True, False])
@pytest.mark.parametrize("protocol", ["redis", "memcached"])
def test_it_is_a_hardened_workload_behind_a_service(protocol: str, preview: bool) -> None:
    graph = made(preview, store=store() if protocol == "redis" else memcached())
    assert_valid(objects(graph))
    (template,) = templates(graph)
    assert violations(template) == []
    assert the(graph, "Deployment")["spec"]["replicas"] == 2
    port = 6379 if protocol == "redis" else 11211
    (offered,) = the(graph, "Service")["spec"]["ports"]
    assert (offered["name"], offered["port"]) == (protocol, port)
    text = yaml.safe_load(configuration(graph))
    assert text[protocol]["listen"] == f"0.0.0.0:{port}"
    assert text[protocol].get("redis", False) is (protocol == "redis")


def test_it_reads_what_the_ambassador_reads_but_for_where_it_listens() -> None:
    for given in (store(), memcached()):
        router = yaml.safe_load(configuration(made(store=given)))
        beside = yaml.safe_load(configuration(ambassador(store=given)[1]))
        (one,), (other,) = router.values(), beside.values()
        assert one.pop("listen").rpartition(":")[2] == other.pop("listen").rpartition(":")[2]
        assert router == beside


def test_its_reach_is_that_of_one_server_with_the_stores_credentials() -> None:
    found: list[Any] = []

    def program() -> None:
        password = pulumi.Output.secret("swordfish-long-enough")
        given = store(password=password)
        router = ShardRouter("router", {"image": IMAGE, "store": given})
        assert router.reach.credentials is given.credentials
        assert router.reach.topology is None
        router.endpoint.apply(found.append)

    graph = build(program)
    assert found[0].endswith(".svc:6379")
    assert "nutcracker.yaml" in the(graph, "Secret")["stringData"]


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"store": memcached(credentials=Credentials("swordfish"))}, "memcached has no passwords"),
        ({"store": Reach.local(11211, app_protocol="memcached")}, "sharded"),
        ({"replicas": 0}, "from 1 to 1000"),
        ({"hosting": {"storage": {}}}, "storage is not an argument"),
    ],
)
def test_bad_input_is_refused(change: dict[str, Any], expected: str) -> None:
    with pytest.raises(InputError, match=expected):
        made(**change)


@contextlib.contextmanager
def served(alive: int = 3, **args: Any) -> Iterator[tuple[int, list[int], Any]]:
    """A proxy before three memcacheds: its port, theirs, and its container.

    :param alive: how many of them run
    """
    listen, *shards = ports.free_ports(4)
    endpoints = tuple(f"127.0.0.1:{port}" for port in shards)
    given = memcached(endpoints=endpoints, pods=None, namespace=None, isolated=False)
    proxy, graph = ambassador(store=given, listen_port=listen, **args)
    text = configuration(graph)
    assert nutcracker.accepts(text).returncode == 0
    with contextlib.ExitStack() as stack:
        for port in shards[:alive]:
            command = [str(MEMCACHED), "-u", "nobody", "-l", "127.0.0.1", "-p", str(port)]
            stack.enter_context(running(command, port))
        stack.enter_context(nutcracker.running(text, listen))
        yield listen, shards, proxy.companion.containers[0]


def asked(port: int, request: str) -> str:
    with socket.create_connection(("127.0.0.1", port), 60) as connection:
        connection.sendall(f"{request}\r\n".encode())
        with connection.makefile("rb") as stream:
            return stream.readline().decode().strip()


@REAL
def test_each_key_of_a_real_memcached_is_on_the_predicted_shard_alone() -> None:
    topology = memcached().topology
    assert topology is not None
    placed = topology.ring()
    with served(role="store") as (listen, shards, _):
        for key in KEYS:
            assert asked(listen, f"set {key} 0 0 1\r\nx") == "STORED"
        for index, shard in enumerate(shards):
            held = [key for key in KEYS if asked(shard, f"get {key}").startswith("VALUE")]
            assert held == [key for key in KEYS if placed.index(key) == index]


@REAL
def test_memcached_clients_see_what_the_page_says() -> None:
    with served(role="store") as (listen, _, _):
        assert asked(listen, "version").startswith("VERSION")
        for refused in ("mg a v", "stats", f"get {'k' * 251}"):
            assert asked(listen, refused) == "", f"{refused}: the connection is closed"


@REAL
@pytest.mark.parametrize("alive", [3, 0])
def test_probes_ask_the_proxy_whatever_its_shards_do(alive: int) -> None:
    with served(alive, role="store") as (_, _, container):
        for kind in ("readiness", "liveness"):
            command = container[f"{kind}_probe"]["exec_"]["command"]
            assert subprocess.run(command, check=False).returncode == 0, kind
    assert subprocess.run(command, check=False, stderr=subprocess.DEVNULL).returncode != 0


def test_a_topology_gives_its_ring() -> None:
    topology = Topology(("a", "b"), "md5", "{}")
    assert topology.ring().names == ("a", "b")
    assert topology.ring().hash_name == "md5"


def test_what_only_a_companion_has_makes_no_workload() -> None:
    program = Program(
        "here",
        "proxy",
        application="nginx",
        part="sidecar",
        image=IMAGE,
        hosting=resolved("here", CompanionHosting, {}),
        ports=[{"name": "http", "port": 8080}],
        liveness={},
        before_stop=["true"],
    )
    with pytest.raises(ValueError, match="preStop"):
        program.workload()
