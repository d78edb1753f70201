"""ConfigSync: what it asks of the pod, what it refuses."""

import json
from typing import Any

import pulumi
import pytest

from dds_patterns import Application, ConfigSync
from dds_patterns.arguments.errors import InputError
from dds_patterns.values.reach import Reach
from tests.unit.support.examples.example import CERTIFICATE
from tests.unit.support.hardening import violations
from tests.unit.support.manifests import assert_valid, objects, templates, the
from toolchain.graph import Graph, build

IMAGE = "registry.example/companions:1.0"
MODES = [pytest.param(True, id="preview"), pytest.param(False, id="update")]
MAPS: dict[str, Any] = {"config_maps": {"dds/settings-of": "web"}}


def outside(url: str, authority: str | None = None) -> Reach:
    return Reach.outside(url, cidrs=["203.0.113.0/24"], authority=authority)


HTTP: dict[str, Any] = {"http": {"server": outside("https://config.example/web.json")}}
GIT: dict[str, Any] = {"git": {"server": outside("https://git.example/web.git")}}
FULL: dict[str, Any] = {
    **MAPS,
    "mode": "interval",
    "interval_seconds": 5,
    "stale_after_seconds": 20,
    "unready_when_stale": True,
    "check": ["nginx", "-t", "-c", "{folder}/nginx.conf"],
    "on_change": {"signal": "HUP", "process": "web"},
    "may_be_empty": True,
    "size_mib": 1,
    "port": 9999,
    "metrics_clients": [{}],
    "hosting": {"resources": {"limits": {"memory": "64Mi"}}},
}


def made(
    preview: bool = False, mount: dict[str, Any] | None = None, **args: Any
) -> tuple[ConfigSync, Graph]:
    """A pod whose application has the folder. Outputs are given as functions that make them."""
    found: list[ConfigSync] = []

    def program() -> None:
        given: Any = {"image": IMAGE, **{k: v() if callable(v) else v for k, v in args.items()}}
        sync = ConfigSync("sync", given)
        found.append(sync)
        volume: Any = {**sync.mount("/etc/web"), **(mount or {})}
        Application(
            "web",
            {
                "image": "registry.example/web:1.0",
                "companions": [sync.companion],
                "volume_mounts": [volume],
            },
        )

    graph = build(program, preview=preview)
    return found[0], graph


def config(graph: Graph) -> dict[str, Any]:
    (text,) = [
        body["data"]["config.json"]
        for body in objects(graph, "ConfigMap")
        if "config.json" in body["data"]
    ]
    read: dict[str, Any] = json.loads(text)
    return read


@pytest.mark.parametrize("preview", MODES)
@pytest.mark.parametrize("args", [MAPS, FULL, HTTP, GIT], ids=["maps", "full", "http", "git"])
def test_objects_are_valid_and_the_pod_is_hardened(args: dict[str, Any], preview: bool) -> None:
    graph = made(preview, **args)[1]
    if not preview:
        assert_valid(objects(graph))
    for template in templates(graph):
        assert violations(template) == []


def test_defaults() -> None:
    assert config(made(**MAPS)[1]) == {
        "folder": "/config",
        "source": {"kind": "config_map", "labels": {"dds/settings-of": "web"}},
        "watch": True,
        "interval_seconds": 60,
        "stale_after_seconds": 190,
        "check": [],
        "tell": None,
        "may_be_empty": False,
        "most_bytes": 4 * 2**20,
        "port": 9180,
    }
    assert config(made(**HTTP)[1])["watch"] is False
    assert config(made(**GIT)[1])["source"]["branch"] == "main"


def test_only_its_own_container_gets_a_token_and_only_for_config_maps() -> None:
    graph = made(**MAPS)[1]
    spec = the(graph, "Deployment")["spec"]["template"]["spec"]
    assert spec["automountServiceAccountToken"] is False
    (sync,) = spec["initContainers"]
    (application,) = spec["containers"]
    assert any("serviceaccount" in m["mountPath"] for m in sync["volumeMounts"])
    assert not any("serviceaccount" in m["mountPath"] for m in application["volumeMounts"])
    assert the(graph, "Role")["rules"] == [
        {"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get", "list", "watch"]}
    ]


@pytest.mark.parametrize("args", [HTTP, GIT], ids=["http", "git"])
def test_other_sources_get_no_token_and_their_way_out(args: dict[str, Any]) -> None:
    graph = made(**args)[1]
    assert graph.all("Role") == []
    rules = the(graph, "NetworkPolicy")["spec"]["egress"]
    assert {"ipBlock": {"cidr": "203.0.113.0/24"}} in [p for r in rules for p in r.get("to", [])]


def test_the_application_reads_and_cannot_write_the_folder() -> None:
    spec = the(made(**MAPS)[1], "Deployment")["spec"]["template"]["spec"]
    (mount,) = [m for m in spec["containers"][0]["volumeMounts"] if m["mountPath"] == "/etc/web"]
    assert mount["readOnly"] is True
    (own,) = [m for m in spec["initContainers"][0]["volumeMounts"] if m["name"] == mount["name"]]
    assert "readOnly" not in own


@pytest.mark.parametrize("preview", MODES)
@pytest.mark.parametrize("kind", ["http", "git"])
def test_a_source_of_the_cluster_is_reached_by_its_reach(kind: str, preview: bool) -> None:
    def program() -> None:
        server = Application(
            "config",
            {
                "image": IMAGE,
                "ports": [{"name": "http", "port": 8080, "app_protocol": "http"}],
                "hosting": {"namespace": "shop"},
            },
        )
        sync = ConfigSync("sync", {"image": IMAGE, kind: {"server": server.reach.at("/web")}})  # type: ignore[misc]
        Application(
            "web",
            {
                "image": IMAGE,
                "companions": [sync.companion],
                "hosting": {"namespace": "here"},
            },
        )

    graph = build(program, preview=preview)
    (policy,) = (
        body for body in objects(graph, "NetworkPolicy") if body["metadata"]["namespace"] == "shop"
        and body["spec"]["policyTypes"] == ["Ingress"]
    )  # fmt: skip
    (rule,) = policy["spec"]["ingress"]
    assert rule["ports"] == [{"port": 8080, "protocol": "TCP"}]
    server, web = graph.one("Deployment", "config"), graph.one("Deployment", "web")
    assert server.urn in web.dependencies
    if not preview:
        service = graph.one("Service", "config").outputs["metadata"]["name"]
        assert config(graph)["source"]["url"] == f"http://{service}.shop.svc:8080/web"


@pytest.mark.parametrize("path", ["", "relative", "/", "/a/../b", "/proc/x", "/a:b", 3])
def test_a_path_to_mount_at_is_a_path(path: Any) -> None:
    def program() -> None:
        sync = ConfigSync("sync", {"image": IMAGE, **MAPS})  # type: ignore[typeddict-item]
        with pytest.raises(InputError, match='ConfigSync "sync": path is'):
            sync.mount(path)

    build(program)


def test_a_name_that_no_service_can_have_is_refused() -> None:
    def program() -> None:
        for name in ("1web", "a" * 51):
            with pytest.raises(InputError, match="name is"):
                ConfigSync(name, {"image": IMAGE, **MAPS})  # type: ignore[typeddict-item]

    assert not build(program).nodes


@pytest.mark.parametrize("preview", MODES)
@pytest.mark.parametrize("part", [{"sub_path": "a.conf"}, {"sub_path_expr": "$(A)"}])
def test_a_sub_path_is_refused(part: dict[str, str], preview: bool) -> None:
    """It would keep the first file for ever."""
    with pytest.raises(InputError, match="never sees an update; mount the folder"):
        made(preview, mount=part, **MAPS)


def test_a_signal_needs_shared_processes_and_a_request_does_not() -> None:
    spec = the(made(**FULL)[1], "Deployment")["spec"]["template"]["spec"]
    assert spec["shareProcessNamespace"] is True
    told = made(**MAPS, on_change={"url": "http://localhost:8080/reload"})[1]
    spec = the(told, "Deployment")["spec"]["template"]["spec"]
    assert "shareProcessNamespace" not in spec
    assert config(told)["tell"] == {"url": "http://localhost:8080/reload"}


def test_readiness_depends_on_the_source_only_if_asked_for() -> None:
    def path(graph: Graph) -> str:
        (sync,) = the(graph, "Deployment")["spec"]["template"]["spec"]["initContainers"]
        return str(sync["readinessProbe"]["httpGet"]["path"])

    assert path(made(**MAPS)[1]) == "/started"
    assert path(made(**FULL)[1]) == "/health"


@pytest.mark.parametrize("preview", MODES)
def test_a_password_is_in_a_secret_and_nowhere_else(preview: bool) -> None:
    def http() -> dict[str, Any]:
        return {
            "server": outside("https://config.example/web.json", CERTIFICATE),
            "authorization": pulumi.Output.secret("Bearer swordfish"),
        }

    graph = made(preview, http=http)[1]
    for node in graph:
        if node.type.endswith(":Secret"):
            assert node.secrets
            assert "swordfish" in str(node.inputs)
        else:
            assert "swordfish" not in str(node.inputs)
    source = config(graph)["source"]
    assert source["authorization_file"] == "/etc/config-sync-secret/authorization"
    assert source["authority_file"] == "/etc/config-sync-secret/authority.crt"
    (files,) = objects(graph, "Secret")
    assert files["stringData"]["authority.crt"] == CERTIFICATE


@pytest.mark.parametrize(
    ("kind", "source"),
    [
        ("http", {"file": "größe (1).conf"}),
        ("git", {"folder": "etc/my app"}),
    ],
)
def test_an_unusual_name_is_a_name(kind: str, source: dict[str, str]) -> None:
    given = HTTP if kind == "http" else GIT
    graph = made(**{**given, kind: {**given[kind], **source}})[1]
    assert source.items() <= config(graph)["source"].items()


@pytest.mark.parametrize(
    ("args", "expected"),
    [
        ({}, "config_maps, http, git is []; must be exactly one of them"),
        ({**MAPS, **GIT}, "is ['config_maps', 'git']; must be exactly one of them"),
        ({**MAPS, "image": "companions"}, "must have a tag"),
        ({**MAPS, "intervall_seconds": 1}, "did you mean interval_seconds?"),
        ({"config_maps": {}}, "must not be empty"),
        ({"config_maps": {"a b": "c"}}, "must be a key: at most 63"),
        ({"config_maps": {"a": "c d"}}, "must be a label's value"),
        ({"http": {}}, "http.server is missing"),
        ({"http": {"server": "https://x/y"}}, "http.server is 'https://x/y'; must be a Reach"),
        ({"http": {"server": Reach.local(1, app_protocol="redis")}}, "speaks http or https"),
        ({"http": {"server": Reach("x", ("x:1", "y:1"), pods={})}}, "of a single endpoint"),
        ({"http": {**HTTP["http"], "file": "../z"}}, "the name of a file"),
        ({"http": {**HTTP["http"], "file": "y/z"}}, "the name of a file"),
        ({"http": {**HTTP["http"], "file": "ü" * 128}}, "the name of a file"),
        ({"http": {**HTTP["http"], "name": "z"}}, "is not an argument"),
        ({"git": {"server": outside("https://x/y?z")}}, "without ? and # in its path"),
        ({"git": {**GIT["git"], "branch": "-x"}}, "must be a branch"),
        ({"git": {**GIT["git"], "folder": "a/../b"}}, "must be a folder"),
        (
            {"http": {"server": outside("http://x/y"), "authorization": "t"}},
            "must speak https: authorization is not sent in plain text",
        ),
        ({**HTTP, "mode": "watch"}, "must be interval: only ConfigMaps"),
        ({**MAPS, "mode": "sometimes"}, "must be one of watch, interval"),
        ({**MAPS, "interval_seconds": 0}, "must be from 1"),
        ({**MAPS, "stale_after_seconds": 60}, "must be above interval_seconds (60)"),
        ({**MAPS, "check": []}, "must be a program, and its arguments"),
        ({**MAPS, "check": "nginx -t"}, "must be a list"),
        ({**MAPS, "on_change": {}}, "must have signal or url"),
        ({**MAPS, "on_change": {"signal": "HUP"}}, "must have process with signal"),
        ({**MAPS, "on_change": {"signal": "KILL", "process": "x"}}, "must be one of HUP"),
        ({**MAPS, "on_change": {"url": "http://elsewhere/x"}}, "in the same pod"),
        ({**MAPS, "size_mib": 0}, "must be from 1 to 256"),
        ({**MAPS, "port": 80}, "must be from 1024"),
        (
            {**MAPS, "metrics_clients": [{"role": "x"}]},
            "metrics_clients[0].role is not an argument",
        ),
    ],
)
def test_bad_input_is_refused(args: dict[str, Any], expected: str) -> None:
    messages: list[str] = []

    def program() -> None:
        given: Any = {"image": IMAGE, **args}
        with pytest.raises(InputError) as caught:
            ConfigSync("sync", given)
        messages.append(str(caught.value))

    graph = build(program)
    assert not graph.nodes
    assert messages[0].startswith('ConfigSync "sync"')
    assert expected in messages[0]
