"""Values that are just accepted, in files that the real programs then read."""

import itertools
import pathlib
import shutil
import subprocess
from typing import Any

import pytest

from dds_patterns.sharding.ketama import LONGEST_NAME
from dds_patterns.single_node.tls_settings import CIPHERS
from dds_patterns.single_node.twemproxy_pool import Pool
from dds_patterns.values.reach import Reach
from dds_patterns.values.topology import Topology
from tests.unit import nutcracker, test_request_splitter, test_service_broker, test_tls_sidecar
from tests.unit.test_twemproxy import configuration as proxy_configuration
from tests.unit.test_twemproxy import made as proxy_made
from tests.unit.test_twemproxy import store

NGINX = shutil.which("nginx")
HAPROXY = shutil.which("haproxy") or shutil.which("haproxy", path="/usr/sbin:/usr/local/sbin")
MODULE = pathlib.Path("/usr/share/nginx/modules-available/mod-stream.conf")
LONG_HOST = ".".join(["a" * 63] * 3 + ["b" * 61])
assert len(LONG_HOST) == 253


def reached(endpoint: str) -> Reach:
    return Reach("there", (endpoint,), pods={})


needs_nginx = pytest.mark.skipif(
    NGINX is None or not MODULE.exists(), reason="nginx or its stream module is not installed"
)


def nginx_accepts(text: str, folder: pathlib.Path) -> None:
    file = folder / "nginx.conf"
    text = text.replace("/etc/nginx/modules-enabled/*-stream.conf", str(MODULE))
    file.write_text(text.replace("/tmp/", f"{folder}/"))
    (folder / "resolver.conf").write_text(
        'resolver 127.0.0.1;\nmap "" $namespace { default x; }\nmap "" $cluster_domain { default x; }\n'
    )
    command = [str(NGINX), "-e", "stderr", "-t", "-c", str(file)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@needs_nginx
@pytest.mark.parametrize(
    "args",
    [
        {"percent": 0},
        {"percent": 0.01},
        {"percent": 99.99},
        {"percent": 100},
        {"salt": "\U0001f419" * 256},
        {"salt": "\"'\\{};# "},
        {"force_header": "X" * 40, "sticky": {"by": "header", "name": "Y" * 64}},
        {"force_header": "1-", "sticky": {"by": "address", "name": "0"}},
        {"sticky": {"by": "cookie", "name": "_" * 64, "without": "random"}},
        {"sticky": {"by": "cookie", "name": "host"}},
        {"header_kib": 8, "timeout_seconds": 86_400, "connect_timeout_ms": 600_000},
        {"header_kib": 11},
        {"header_kib": 256, "timeout_seconds": 1, "connect_timeout_ms": 1},
        *(
            {"control": reached(f"{host}:65535")}
            for host in (LONG_HOST, "[fd00::1]", "[::ffff:10.0.0.7]", "10.0.0.7", "1a", "web.")
        ),
        {"policy": "seed", "control": reached("[fd00::1]:1")},
    ],
    ids=lambda args: str(args)[:60],
)
def test_nginx_reads_a_splitters(args: dict[str, Any], tmp_path: pathlib.Path) -> None:
    graph = test_request_splitter.made(experiment=Reach.local(1), **args)[1]
    nginx_accepts(test_request_splitter.configuration(graph), tmp_path)


@needs_nginx
@pytest.mark.parametrize(
    "args",
    [
        {"readiness_path": "/-._~!&'()*+,;=:@%/?Aa0"},
        {"readiness_path": "/" + "a" * 1023},
        {"trusted_proxies": ["0.0.0.0/0", "::/0", "::ffff:10.0.0.0/104", "10.0.0.7/32"]},
        {"hsts_seconds": 315_360_000, "timeout_seconds": 86_400, "workers": 16},
        {"header_kib": 8},
        {"header_kib": 256, "minimum_version": "1.3"},
        {"ciphers": [CIPHERS[-1]]},
        {"redirect_port": 65535, "public_port": 1},
    ],
    ids=lambda args: str(args)[:60],
)
def test_nginx_reads_a_tls_sidecars(args: dict[str, Any], tmp_path: pathlib.Path) -> None:
    graph = test_tls_sidecar.made(**args)[1]
    nginx_accepts(test_tls_sidecar.configuration(graph)["nginx.conf"], tmp_path)


@pytest.mark.skipif(HAPROXY is None, reason="HAProxy is not installed")
@pytest.mark.parametrize(
    "args",
    [
        *(
            {"backend": reached(f"{host}:65535")}
            for host in (LONG_HOST, "[fd00::1]", "[::ffff:10.0.0.7]", "10.0.0.7", "1a", "web.")
        ),
        {"backend": reached("db.example.com.:1"), "tls": {}},
        {"backend": reached("1.2.3.4:1"), "tls": {"server_name": LONG_HOST}},
        {"retries": 0, "max_connections": 1, "idle_timeout_seconds": 1, "connect_timeout_ms": 1},
        {"retries": 10, "max_connections": 20_000, "idle_timeout_seconds": 604_800},
        {
            "check": "redis",
            "connect_timeout_ms": 600_000,
            "breaker": {
                "failures": 1000, "probe_ms": 3_600_000, "probe_timeout_ms": 600_000,
                "recoveries": 1000,
            },
        },
    ],
    ids=lambda args: str(args)[:60],
)  # fmt: skip
def test_haproxy_reads_a_brokers(args: dict[str, Any], tmp_path: pathlib.Path) -> None:
    text = test_service_broker.configuration(test_service_broker.made(**args)[1])
    (tmp_path / "haproxy.cfg").write_text(text)
    done = subprocess.run(
        [str(HAPROXY), "-c", "-f", str(tmp_path / "haproxy.cfg")],
        env={"NAMESPACE": "n" * 63, "CLUSTER_DOMAIN": "cluster.local"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    (verified,) = [line for line in text.splitlines() if line.startswith("  server backend")]
    assert ". " not in verified, "no certificate has a name that ends with a dot"


@pytest.mark.skipif(nutcracker.BINARY is None, reason="nutcracker is not installed")
@pytest.mark.parametrize(
    ("name", "endpoint"),
    [
        ("a" * LONGEST_NAME, "cache-0:1"),
        ("a:b._-0", "cache-0:65535"),
        ("null", f"{LONG_HOST}:6379"),
        ("1:2", "10.0.0.7:6379"),
        ("true", "web.:6379"),
    ],
    ids=lambda text: text[:30],
)
@pytest.mark.parametrize("policy", ["default", "seed"])
def test_nutcracker_reads_a_topologys(name: str, endpoint: str, policy: str) -> None:
    given = store(endpoints=(endpoint, "cache-1:1"), topology=Topology((name, "other")))
    text = proxy_configuration(proxy_made(store=given, policy=policy)[1])
    done = nutcracker.accepts(text)
    assert done.returncode == 0, done.stderr


@pytest.mark.skipif(nutcracker.BINARY is None, reason="nutcracker is not installed")
def test_nutcracker_reads_every_hash_tag() -> None:
    marks = [chr(code) for code in range(0x21, 0x7F) if chr(code) not in '"\\']
    for first, second in itertools.pairwise([*marks, marks[0], marks[0]]):
        given = Topology(("a",), hash_tag=first + second)
        text = Pool("here", given.shards, "127.0.0.1", 6379, hash_tag=given.hash_tag).text(
            ["cache-0:6379"]
        )
        done = nutcracker.accepts(text)
        assert done.returncode == 0, first + second
