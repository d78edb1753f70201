"""What a node is told, and what it refuses by name."""

import base64
import hashlib
import hmac
import json
import tarfile
from pathlib import Path
from typing import Any

import pytest
import yaml

from toolchain.node.program import archive, config, host, join, network, registries
from toolchain.node.program.config import ConfigError, NodeConfig


def parse(
    *arguments: str, env: dict[str, str] | None = None, state: Path = Path("/nonexistent")
) -> NodeConfig:
    return config.parse(arguments, env or {}, state, unsupported=())


SERVER = ("server", "--token", "secret")
AGENT_ENV = {"K3S_URL": "https://server:6443", "K3S_TOKEN": "secret"}


def test_a_server_as_the_cluster_starts_it() -> None:
    parsed = parse(
        *SERVER, "--tls-san=127.0.0.1", "--tls-san", "a,b", "--disable=traefik,servicelb",
        "--disable", "metrics-server", "--node-name", "One",
    )  # fmt: skip
    assert parsed.tls_sans == ("127.0.0.1", "a", "b")
    assert parsed.disabled == {"metrics-server"}
    assert (parsed.name, parsed.kubeconfig_mode) == ("one", 0o600)


def test_an_agent_by_environment() -> None:
    parsed = parse("agent", env=AGENT_ENV)
    assert (parsed.server_url, parsed.token) == ("https://server:6443", "secret")


@pytest.mark.parametrize(
    ("arguments", "env", "named"),
    [
        ((), {}, "'server' or 'agent'"),
        (("worker",), {}, "'worker'"),
        ((*SERVER, "--cluster-init"), {}, "--cluster-init"),
        ((*SERVER, "--tls=a"), {}, "--tls"),
        ((*SERVER, "--disable=nothing"), {}, "'nothing'"),
        ((*SERVER, "--node-ip=::1"), {}, "'::1'"),
        ((*SERVER, "--kubelet-arg=v"), {}, "--kubelet-arg"),
        ((*SERVER, "--write-kubeconfig-mode=9"), {}, "'9'"),
        (SERVER, {"K3S_URL": "https://other:6443"}, "K3S_URL"),
        (("agent", "--tls-san=a"), AGENT_ENV, "--tls-san"),
        (("agent",), {"K3S_TOKEN": "secret"}, "K3S_URL"),
        (("agent",), {**AGENT_ENV, "K3S_URL": "http://server"}, "http://server"),
        (("agent",), {**AGENT_ENV, "K3S_URL": "https://server:port"}, "https://server:port"),
        (("agent",), {**AGENT_ENV, "K3S_URL": "https://:6443"}, "https://:6443"),
        (("agent",), {"K3S_URL": "https://server:6443"}, "K3S_TOKEN"),
        ((*SERVER[:1], "--token-file=/nonexistent/file"), {}, "/nonexistent/file"),
    ],
)
def test_refused_by_name(arguments: tuple[str, ...], env: dict[str, str], named: str) -> None:
    with pytest.raises(ConfigError) as error:
        parse(*arguments, env=env)
    assert named in str(error.value)


def test_a_file_that_is_not_read_is_an_error(tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    file.touch()
    with pytest.raises(ConfigError, match=r"config\.yaml"):
        config.parse(SERVER, {}, tmp_path, unsupported=(file,))


def test_a_server_without_a_token_makes_one_and_keeps_it(tmp_path: Path) -> None:
    first = parse("server", state=tmp_path)
    assert len(first.token) == 48
    assert parse("server", state=tmp_path).token == first.token
    assert (tmp_path / "server" / "token").stat().st_mode & 0o777 == 0o600


# registries.yaml


def test_mirrors_become_hosts_files() -> None:
    files = registries.hosts_files(
        yaml.safe_dump(
            {
                "mirrors": {
                    "localhost:20000": {"endpoint": ["http://dds-registry:5000"]},
                    "*": {"endpoint": ["https://cache:5000"]},
                },
                "configs": {"cache:5000": {"tls": {"insecure_skip_verify": True}}},
            }
        )
    )
    assert files["localhost:20000/hosts.toml"] == (
        'server = "http://localhost:20000"\n\n[host."http://dds-registry:5000"]\n'
        '  capabilities = ["pull", "resolve"]\n'
    )
    assert "skip_verify = true" in files["_default/hosts.toml"]
    assert "server =" not in files["_default/hosts.toml"]
    assert "skip_verify = true" in files["cache:5000/hosts.toml"]


@pytest.mark.parametrize(
    ("document", "named"),
    [
        ({"mirror": {}}, "'mirror'"),
        ({"mirrors": {"a": {"endpoint": ["http://b"], "rewrite": {}}}}, "'rewrite'"),
        ({"mirrors": {"a": {"endpoint": "http://b"}}}, "mirrors.a.endpoint"),
        ({"mirrors": {"a": {"endpoint": ["b:5000"]}}}, "'b:5000'"),
        ({"configs": {"a": {"auth": {"username": "x"}}}}, "'auth'"),
        ({"configs": {"a": {"tls": {"insecure": True}}}}, "'insecure'"),
        (["mirrors"], "the file"),
    ],
)
def test_registries_refused_by_name(document: object, named: str) -> None:
    with pytest.raises(ConfigError) as error:
        registries.hosts_files(yaml.safe_dump(document))
    assert named in str(error.value)


def test_no_registries_is_no_file() -> None:
    assert registries.hosts_files("") == {}


# the token and what it signs


def test_the_bootstrap_token_follows_from_the_token_and_hides_it() -> None:
    token_id, secret = join.bootstrap_token("correct horse")
    assert (token_id, secret) == join.bootstrap_token("K10abc::server:correct horse")
    assert len(token_id) == 6
    assert len(secret) == 16
    assert set(token_id + secret) <= set("0123456789abcdefghijklmnopqrstuvwxyz")
    assert (token_id, secret) != join.bootstrap_token("correct horsf")
    assert token_id not in secret


CA = "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n"


def signature_of(content: str, secret: str, header: dict[str, str]) -> str:
    def encoded(data: bytes) -> str:
        return base64.urlsafe_b64encode(data).rstrip(b"=").decode()

    head = encoded(json.dumps(header).encode())
    text = f"{head}.{encoded(content.encode())}"
    return f"{head}..{encoded(hmac.new(secret.encode(), text.encode(), hashlib.sha256).digest())}"


def cluster_info(token: str, ca: str = CA) -> dict[str, str]:
    token_id, secret = join.bootstrap_token(token)
    content = join.kubeconfig("https://127.0.0.1:6443", ca, {})

    signature = signature_of(content, secret, {"alg": "HS256", "kid": token_id})
    return {"kubeconfig": content, f"jws-kubeconfig-{token_id}": signature}


def test_the_ca_is_taken_if_it_is_signed_with_the_token() -> None:
    assert join.verified_ca(cluster_info("right"), "right") == CA


def test_another_ca_under_the_same_signature_is_refused() -> None:
    data = cluster_info("right")
    data["kubeconfig"] = cluster_info("right", CA.replace("MIIB", "EVIL"))["kubeconfig"]
    with pytest.raises(ConfigError, match="K3S_TOKEN"):
        join.verified_ca(data, "right")


def test_a_signature_with_another_token_is_refused() -> None:
    (signature,) = (v for k, v in cluster_info("wrong").items() if k.startswith("jws"))
    data = cluster_info("right")
    data[f"jws-kubeconfig-{join.bootstrap_token('right')[0]}"] = signature
    with pytest.raises(ConfigError, match="K3S_TOKEN"):
        join.verified_ca(data, "right")


def test_a_server_that_has_not_signed_yet_is_waited_for() -> None:
    data = {"kubeconfig": cluster_info("right")["kubeconfig"]}
    with pytest.raises(LookupError):
        join.verified_ca(data, "right")


def test_a_server_with_another_token_is_not_waited_for() -> None:
    with pytest.raises(ConfigError, match="K3S_TOKEN"):
        join.verified_ca(cluster_info("another"), "right")


@pytest.mark.parametrize(
    "signature",
    ["", "a.b.c", "..", "bm90IGpzb24..x", "eyJhbGciOiJub25lIn0..", "eyJhbGciOiJIUzI1NiJ9..\u00e9"],
)
def test_what_is_no_signature_is_refused(signature: str) -> None:
    assert not join.signed(signature, "content", "secret")


def test_only_the_agreed_algorithm_counts() -> None:
    assert join.signed(signature_of("content", "secret", {"alg": "HS256"}), "content", "secret")
    assert not join.signed(signature_of("content", "secret", {"alg": "none"}), "content", "secret")


def test_the_hash_in_a_token_must_be_the_cas() -> None:
    right = hashlib.sha256(CA.encode()).hexdigest()
    assert join.verified_ca(cluster_info("x"), f"K10{right}::server:x") == CA
    with pytest.raises(ConfigError, match="hash"):
        join.verified_ca(cluster_info("x"), f"K10{'0' * 64}::server:x")


# the node's surroundings


@pytest.mark.parametrize(
    ("text", "pods", "relayed"),
    [
        ("search x\nnameserver 127.0.0.11\noptions ndots:0\n", host.RELAY_ADDRESS, ["127.0.0.11"]),
        ("nameserver 10.0.0.53\n", "10.0.0.53", []),
        ("nameserver 127.0.0.53\nnameserver 10.0.0.53\n", "10.0.0.53", []),
    ],
)
def test_pods_never_get_a_loopback_resolver(text: str, pods: str, relayed: list[str]) -> None:
    resolv, upstreams = host.pod_resolv(text)
    assert resolv == f"nameserver {pods}\n"
    assert list(upstreams) == relayed


def node(name: str, ip: str, pod_range: str = "") -> dict[str, Any]:
    spec = {"podCIDR": pod_range} if pod_range else {}
    addresses = [{"type": "Hostname", "address": name}, {"type": "InternalIP", "address": ip}]
    return {"metadata": {"name": name}, "spec": spec, "status": {"addresses": addresses}}


def test_routes_lead_to_every_other_node_that_has_a_range() -> None:
    nodes: list[dict[str, Any]] = [
        node("own", "172.18.0.2", "10.42.0.0/24"),
        node("next", "172.18.0.3", "10.42.1.0/24"),
        node("new", "172.18.0.4"),
        {"metadata": {"name": "silent"}, "spec": {"podCIDR": "10.42.3.0/24"}},
    ]
    assert network.wanted_routes(nodes, "own", "172.18.0.2") == {"10.42.1.0/24": "172.18.0.3"}


def test_pods_are_routed_not_bridged_and_wait_for_their_policies() -> None:
    plugins = json.loads(network.conflist("10.42.1.0/24", 1400))["plugins"]
    assert [plugin["type"] for plugin in plugins] == ["ptp", "portmap", "node-policy"]
    assert plugins[0]["mtu"] == 1400
    assert plugins[0]["ipam"]["ranges"] == [[{"subnet": "10.42.1.0/24"}]]


def test_an_archive_holds_the_program_and_is_named_by_its_content(tmp_path: Path) -> None:
    program = tmp_path / "tool"
    program.write_bytes(b"one")
    first = archive.write("tool", program, tmp_path, ["sh"])
    with tarfile.open(tmp_path / "tool.tar") as tar:
        manifest = json.loads(tar.extractfile("manifest.json").read())  # type: ignore[union-attr]
        with tarfile.open(fileobj=tar.extractfile("layer.tar")) as layer:
            assert layer.extractfile("bin/tool").read() == b"one"  # type: ignore[union-attr]
            assert layer.getmember("bin/sh").linkname == "tool"
            assert layer.getmember("bin/tool").mode == 0o755
    assert manifest[0]["RepoTags"] == [first]
    assert archive.write("tool", program, tmp_path, ["sh"]) == first
    program.write_bytes(b"two")
    assert archive.write("tool", program, tmp_path, ["sh"]) != first
