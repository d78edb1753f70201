"""The adapters as components: what they register, and what they refuse."""

import functools
import hashlib
import json
import re
from collections.abc import Callable
from typing import Any

import pulumi
import pulumi_kubernetes as kubernetes
import pytest

from dds_patterns import (
    Application,
    LogAdapter,
    MetricsExporter,
    MySqlHealth,
    RedisExporter,
    ShardedRedis,
)
from dds_patterns.arguments.errors import InputError
from dds_patterns.single_node import fluentd
from dds_patterns.values.reach import Credentials, Reach
from dds_patterns.values.redis_user import RedisUser
from stacks import deploy
from stacks.settings import Settings
from tests.unit.support.examples.example import elsewhere
from tests.unit.support.hardening import violations
from tests.unit.support.manifests import assert_valid, objects, templates, the
from tests.unit.support.refusals import refused
from toolchain.graph import Graph, Secret, build

IMAGE = "registry.example/companions:1.0"
MODES = [pytest.param(True, id="preview"), pytest.param(False, id="update")]
PASSWORD = "swordfish-long-enough"
TWO = Reach("shards", ("127.0.0.1:1", "127.0.0.1:2"))


LOGS: list[dict[str, Any]] = [
    {"name": "redis", "kind": "redis_slowlog"},
    {"name": "storm", "kind": "storm"},
    {"name": "web", "kind": "nginx_access", "path": f"{LogAdapter.FOLDER}/access.log"},
    {"name": "db", "kind": "mysql_slow", "path": f"{LogAdapter.FOLDER}/slow.log"},
]
ADAPTERS: dict[str, tuple[Any, dict[str, Any], dict[str, Any]]] = {
    "RedisExporter": (
        RedisExporter,
        {"image": IMAGE},
        {
            "server": Reach.local(6380),
            "port": 9999,
            "deadline_seconds": 1,
            "metrics_clients": [{"namespaces": {"team": "watch"}, "pods": {"app": "prometheus"}}],
        },
    ),
    "MetricsExporter": (
        MetricsExporter,
        {"image": IMAGE, "kind": "memcached"},
        {"kind": "nginx", "server": Reach.local(81, path="/status"), "port": 9998},
    ),
    "MySqlHealth": (
        MySqlHealth,
        {"image": IMAGE},
        {
            "flavour": "mysql",
            "database": "shop",
            "user": "watch",
            "password": lambda: pulumi.Output.secret(PASSWORD),
            "queries": [
                {"name": "lag", "preset": "replication_lag", "at_most": 5},
                {"name": "orders", "sql": "SELECT count(*) AS n FROM orders", "column": "n",
                 "at_least": 1, "required": False, "empty": "healthy"},
            ],
            "period_seconds": 4,
        },
    ),
    "LogAdapter": (
        LogAdapter,
        {"image": IMAGE, "sources": [LOGS[0]]},
        {"sources": LOGS, "poll_seconds": 0.5, "port": 9997, "log_size": "64Mi"},
    ),
}  # fmt: skip
SHAPES = [
    pytest.param(name, content, id=f"{name}-{content}")
    for name in ADAPTERS
    for content in ("required", "full")
]


def arguments(name: str, content: str) -> dict[str, Any]:
    _, required, more = ADAPTERS[name]
    hosting = {"namespace": "here", "resources": {"limits": {"memory": "96Mi"}}}
    full = {**required, **more, "hosting": hosting}
    chosen = required if content == "required" else full
    return {k: v() if callable(v) else v for k, v in chosen.items()}


def in_a_pod(name: str, content: str, instance: str = "adapter", **opts: Any) -> Any:
    component = ADAPTERS[name][0]
    adapter = component(instance, arguments(name, content), pulumi.ResourceOptions(**opts))
    mount = getattr(adapter, "log_mount", None)
    Application(
        f"{instance}-app",
        {
            "image": "registry.example/app:1.0",
            "companions": [adapter.companion],
            "volume_mounts": [] if mount is None else [mount],
            "hosting": {"namespace": "here"},
        },
    )
    return adapter


@functools.cache
def made(name: str, content: str, preview: bool = False) -> Graph:
    return build(lambda: in_a_pod(name, content), preview=preview)


# what holds for all


@pytest.mark.parametrize("preview", MODES)
@pytest.mark.parametrize(("name", "content"), SHAPES)
def test_all_belongs_to_the_component(name: str, content: str, preview: bool) -> None:
    graph = made(name, content, preview)
    component = graph.one(f"dds:index:{name}", "adapter")
    assert component.urn in graph.outputs, "register_outputs was not called"
    own = [n for n in graph if n.name.startswith("adapter") and "app" not in n.name]
    assert {n.parent for n in own if n is not component} == {component.urn}


@pytest.mark.parametrize(("name", "content"), SHAPES)
def test_objects_are_valid_and_the_pod_is_hardened(name: str, content: str) -> None:
    graph = made(name, content)
    assert_valid(objects(graph))
    for template in templates(graph):
        assert violations(template) == []


@pytest.mark.parametrize("preview", MODES)
@pytest.mark.parametrize("name", ADAPTERS)
def test_two_stand_side_by_side_and_can_have_an_alias(name: str, preview: bool) -> None:
    def program() -> None:
        provider = kubernetes.Provider("elsewhere", context="elsewhere")
        in_a_pod(name, "full", "one", providers=[provider])
        in_a_pod(name, "full", "two", aliases=[pulumi.Alias(name="former")])

    graph = build(program, preview=preview)
    names = [(body["kind"], body["metadata"]["name"]) for body in objects(graph)]
    assert len(names) == len(set(names))
    elsewhere = graph.one("pulumi:providers:kubernetes").urn
    for node in graph.children(graph.one(f"dds:index:{name}", "one")):
        if node.type.startswith("kubernetes:"):
            assert node.provider.startswith(elsewhere)
    for node in graph.children(graph.one(f"dds:index:{name}", "two")):
        assert "former" not in str(node.aliases)


@pytest.mark.parametrize(("name", "content"), SHAPES)
def test_secrets_are_in_secrets_only(name: str, content: str) -> None:
    graph = made(name, content)
    for node in graph:
        if node.type.endswith(":Secret"):
            assert node.secrets
        elif not node.type.startswith("pulumi-python:dynamic"):
            assert not node.secrets
            assert PASSWORD not in str(node.inputs)


@pytest.mark.parametrize("name", ADAPTERS)
def test_every_pod_is_found_and_nobody_let_in_who_is_not_named(name: str) -> None:
    graph = made(name, "required")
    (policy,) = objects(graph, "NetworkPolicy")
    assert "ingress" not in policy["spec"]
    (service,) = (s for s in objects(graph, "Service") if s["spec"].get("clusterIP") == "None")
    assert service["spec"]["publishNotReadyAddresses"] is True
    (template,) = templates(graph)
    assert service["spec"]["selector"].items() <= template["metadata"]["labels"].items()


@pytest.mark.parametrize("name", ADAPTERS)
def test_other_clients_of_the_metrics_are_let_in_at_their_port(name: str) -> None:
    component, required, _ = ADAPTERS[name]
    watch = {"namespace": "watch", "pods": {"app": "prometheus"}}

    def program() -> None:
        adapter = component("adapter", {**required, "port": 9876, "metrics_clients": [watch]})
        Application("app", {"image": IMAGE, "companions": [adapter.companion]})

    (rule,) = the(build(program), "NetworkPolicy")["spec"]["ingress"]
    assert rule["ports"] == [{"port": 9876, "protocol": "TCP"}]
    assert rule["from"] == [
        {
            "podSelector": {"matchLabels": {"app": "prometheus"}},
            "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "watch"}},
        }
    ]


@pytest.mark.parametrize("preview", MODES)
@pytest.mark.parametrize(
    ("name", "port", "change"),
    [
        ("RedisExporter", 6379, lambda: {"server": elsewhere(6379, "redis")}),
        ("MetricsExporter", 11211, lambda: {"server": elsewhere(11211, "memcached")}),
        ("MySqlHealth", 3306, lambda: {"server": elsewhere(3306, "mysql")}),
        (
            "LogAdapter",
            6379,
            lambda: {"sources": [{**LOGS[0], "server": elsewhere(6379, "redis")}]},
        ),
        ("LogAdapter", 8080, lambda: {"sources": [{**LOGS[1], "server": elsewhere(8080, "http")}]}),
    ],
)
def test_a_server_in_another_pod_is_reached_from_both_sides(
    name: str, port: int, change: Callable[[], dict[str, Any]], preview: bool
) -> None:
    component, required, _ = ADAPTERS[name]

    def program() -> None:
        adapter = component("adapter", {**required, **change()})
        Application(
            "app",
            {
                "image": IMAGE,
                "companions": [adapter.companion],
                "hosting": {"namespace": "here"},
            },
        )

    graph = build(program, preview=preview)
    own, there = objects(graph, "NetworkPolicy")
    ports = [{"port": port, "protocol": "TCP"}]

    def pods(namespace: str, labels: dict[str, str]) -> list[Any]:
        name = {"kubernetes.io/metadata.name": namespace}
        return [
            {"podSelector": {"matchLabels": labels}, "namespaceSelector": {"matchLabels": name}}
        ]

    assert {"ports": ports, "to": pods("there", {"app": "server"})} in own["spec"]["egress"]
    assert there["metadata"]["namespace"] == "there"
    assert there["spec"]["podSelector"]["matchLabels"] == {"app": "server"}
    mine = own["spec"]["podSelector"]["matchLabels"]
    assert there["spec"]["ingress"] == [{"ports": ports, "from": pods("here", mine)}]
    # What the program asks is there, and the clients' password is not.
    assert "server.there.svc" in str(objects(graph))
    assert "not-for-an-adapter" not in str([node.inputs for node in graph])


@pytest.mark.parametrize("name", ADAPTERS)
def test_no_probe_but_the_databases_readiness_asks_the_program(name: str) -> None:
    (template,) = templates(made(name, "full"))
    (sidecar,) = template["spec"]["initContainers"]
    alive = {p: sidecar[p]["httpGet"]["path"] for p in ("startupProbe", "livenessProbe")}
    if name == "MySqlHealth":
        assert set(alive.values()) == {"/live"}
        assert sidecar["readinessProbe"]["httpGet"]["path"] == "/ready"
        assert sidecar["readinessProbe"]["failureThreshold"] == 1
    else:
        assert set(alive.values()) == {"/health"}
        assert "readinessProbe" not in sidecar


@pytest.mark.parametrize("name", ADAPTERS)
@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"images": 1}, "images is not an argument; did you mean image?"),
        ({"image": "companions"}, "must have a tag"),
        ({"port": 80}, "from 1024 to 65535"),
        ({"metrics_clients": [{"cidr": "10.0.0.0/8", "pods": {}}]}, "or cidr alone"),
        ({"scrapers": [{}]}, "scrapers is not an argument"),
    ],
)
def test_bad_input_of_any_adapter_is_refused(
    name: str, change: dict[str, Any], expected: str
) -> None:
    component, required, _ = ADAPTERS[name]
    message = refused(lambda: component("adapter", {**required, **change}))
    assert expected in message
    assert f'{name} "adapter"' in message


@pytest.mark.parametrize(
    ("name", "change", "expected"),
    [
        (
            "RedisExporter",
            {"server": "127.0.0.1:6379"},
            "server is '127.0.0.1:6379'; must be a Reach",
        ),
        (
            "RedisExporter",
            {"server": Reach.local(1, app_protocol="http")},
            "a server that speaks redis",
        ),
        ("RedisExporter", {"server": TWO}, "must be of a single endpoint"),
        ("RedisExporter", {"deadline_seconds": 0}, "from 0.1 to 60"),
        ("MetricsExporter", {"kind": "redis"}, "one of memcached, nginx, twemproxy"),
        ("MetricsExporter", {"kind": "nginx", "server": Reach.local(80)}, "like /stub_status"),
        ("MetricsExporter", {"server": Reach.local(1, path="/status")}, "server.path is '/status'"),
        (
            "MetricsExporter",
            {"server": Reach.local(1, app_protocol="redis")},
            "must be a reach of a server that speaks memcached",
        ),
        (
            "MySqlHealth",
            {"server": Reach.local(1, app_protocol="redis")},
            "a server that speaks mysql",
        ),
        ("MySqlHealth", {"flavour": "oracle"}, "one of mariadb, mysql"),
        ("MySqlHealth", {"interval_seconds": 4.5}, "at most period_seconds (5)"),
        ("MySqlHealth", {"period_seconds": 2}, "at most period_seconds (2)"),
        ("MySqlHealth", {"user": "a b"}, "letters, digits and underscores"),
        *(
            ("MySqlHealth", {"user": user}, f"user is {user!r}; must be none of the server's own")
            for user in (
                "root",
                "mysql",
                "mariadb.sys",
                "mysql.sys",
                "mysql.session",
                "mysql.infoschema",
            )
        ),
        ("MySqlHealth", {"password": "short"}, "<secret>"),
        ("MySqlHealth", {"queries": []}, "from 1 to 16"),
        ("MySqlHealth", {"queries": [{"name": "x"}]}, "must have sql or preset"),
        ("MySqlHealth", {"queries": [{"name": "x", "preset": "y"}]}, "one of answers"),
        ("MySqlHealth", {"queries": [{"name": "x", "sql": " "}]}, "must be a statement"),
        ("MySqlHealth", {"queries": [{"name": "X", "sql": "SELECT 1"}]}, "DNS label"),
        ("MySqlHealth", {"queries": [{"name": "x", "sql": "SELECT 1"}] * 2}, "is listed twice"),
        (
            "MySqlHealth",
            {"queries": [{"name": "x", "sql": "SELECT 1", "at_least": 2, "at_most": 1}]},
            "is above at_most",
        ),
        ("MySqlHealth", {"queries": [{"name": "x", "sqll": "SELECT 1"}]}, "did you mean sql"),
        ("MySqlHealth", {"liveness": True}, "liveness is not an argument"),
        ("LogAdapter", {"sources": []}, "from 1 to 16"),
        ("LogAdapter", {"sources": [{"name": "a", "kind": "apache"}]}, "one of redis_slowlog"),
        ("LogAdapter", {"sources": [LOGS[0]] * 2}, "is listed twice"),
        ("LogAdapter", {"sources": [{**LOGS[0], "path": LOGS[2]["path"]}]}, "must be left out"),
        (
            "LogAdapter",
            {"sources": [{**LOGS[2], "path": "/var/log/x"}]},
            "must be a file directly in",
        ),
        ("LogAdapter", {"sources": [{"name": "a", "kind": "mysql_slow"}]}, "must name a file"),
        (
            "LogAdapter",
            {"sources": [{**LOGS[1], "server": Reach.local(1, app_protocol="https")}]},
            "sources[0].server is",
        ),
        (
            "LogAdapter",
            {"sources": [{**LOGS[1], "server": Reach.local(1, path="/a?b", app_protocol="http")}]},
            "without ? and # in its path",
        ),
        (
            "LogAdapter",
            {"sources": [{**LOGS[0], "server": Reach.local(1, app_protocol="http")}]},
            "must be a reach of a server that speaks redis",
        ),
        (
            "LogAdapter",
            {"sources": [{**LOGS[2], "server": Reach.local(1)}]},
            "must be left out: it is for redis_slowlog, storm",
        ),
        ("LogAdapter", {"sources": [LOGS[2], {**LOGS[2], "name": "b"}]}, "is listed twice"),
        (
            "RedisExporter",
            {"auth": False, "rotation": {"generation": 2}},
            "rotation.generation is 2; must be left out: no password is generated",
        ),
        (
            "RedisExporter",
            {"auth": False, "rotation": {"keep_former": False}},
            "rotation.keep_former is False; must be left out",
        ),
        (
            "LogAdapter",
            {"sources": LOGS[1:], "rotation": {"generation": 2}},
            "rotation.generation is 2; must be left out: no password is generated",
        ),
        (
            "LogAdapter",
            {"sources": [{**LOGS[0], "auth": False}], "rotation": {"keep_former": False}},
            "rotation.keep_former is False; must be left out",
        ),
        ("LogAdapter", {"rotation": {"generation": 1.5}}, "rotation.generation is 1.5; must be"),
        (
            "MySqlHealth",
            {"password": PASSWORD, "generation": 2},
            "generation is 2; must be left out with a password",
        ),
        ("MySqlHealth", {"generation": 0}, "generation is 0; must be from 1"),
        ("MySqlHealth", {"rotation": {}}, "rotation is not an argument"),
    ],
)
def test_bad_input_is_refused(name: str, change: dict[str, Any], expected: str) -> None:
    component, required, _ = ADAPTERS[name]
    assert expected in refused(lambda: component("adapter", {**required, **change}))


def test_the_password_of_a_reach_that_is_refused_is_not_shown() -> None:
    server = Reach(
        "db", ("db:1",), pods={}, app_protocol="mysql", credentials=Credentials("swordfish")
    )
    message = refused(lambda: RedisExporter("adapter", {"image": IMAGE, "server": server}))
    assert message.startswith('RedisExporter "adapter": server is Reach(')
    assert "swordfish" not in message


@pytest.mark.parametrize("name", ["RedisExporter", "LogAdapter"])
@pytest.mark.parametrize("user", ["default", "admin", "probe"])
def test_a_name_that_the_store_has_for_a_user_of_its_own_is_refused(name: str, user: str) -> None:
    component, required, _ = ADAPTERS[name]
    message = refused(lambda: component(user, required))
    assert f'{name} "{user}": name is {user!r}' in message
    assert "not one of the store's own users" in message

    def without() -> None:
        if name == "RedisExporter":
            component(user, {**required, "auth": False})
        else:
            component(user, {**required, "sources": [{**LOGS[0], "auth": False}]})

    build(without)


@pytest.mark.parametrize("name", ADAPTERS)
@pytest.mark.parametrize("given", ["1web", "a" * 51, "We", "a\nb"])
def test_a_name_that_its_objects_cannot_have_is_refused(name: str, given: str) -> None:
    component, required, _ = ADAPTERS[name]
    assert f'{name} "{given}": name is' in refused(lambda: component(given, required))


def test_ipv6_is_written_as_each_reader_takes_it() -> None:
    def program() -> None:
        source = {**LOGS[0], "server": Reach("redis", ("[::1]:6380",))}
        logs = LogAdapter("logs", {"image": IMAGE, "sources": [source]})  # type: ignore[list-item]
        server = Reach("db", ("[::1]:3306",))
        health = MySqlHealth("health", {"image": IMAGE, "server": server, "password": PASSWORD})
        pulumi.export("setup", health.setup_sql)
        pulumi.export("fluentd", logs.fluentd)

    graph = build(program)
    (section,) = (s for s in fluentd_sections(graph.outputs[""]["fluentd"]) if s[0] == "source")
    assert section[2]["host"] == "::1"
    configs = [json.loads(b["data"]["config.json"]) for b in objects(graph, "ConfigMap")]
    assert [c["host"] for c in configs if "host" in c] == ["::1"]
    # The server sees it come from there.
    assert "'health'@'::1'" in graph.outputs[""]["setup"]


def test_two_exporters_on_one_port_of_a_pod_are_refused() -> None:
    def program() -> None:
        companions = [
            MetricsExporter(n, {"image": IMAGE, "kind": "memcached"}).companion for n in "ab"
        ]
        with pytest.raises(InputError, match="must be free"):
            Application("web", {"image": IMAGE, "companions": companions})

    build(program)


# redis


def test_the_store_knows_the_exporters_user_by_its_hash_and_lets_it_look_only() -> None:
    def program() -> None:
        exporter = RedisExporter("metrics", {"image": IMAGE})
        logs = LogAdapter("logs", {"image": IMAGE, "sources": [LOGS[0]]})  # type: ignore[list-item]
        assert exporter.user is not None
        assert logs.user is not None
        ShardedRedis(
            "store",
            {
                "image": IMAGE,
                "companions": [exporter.companion, logs.companion],
                "users": [exporter.user, logs.user],
                "slow_command_ms": 5,
            },
        )

    graph = build(program)
    secrets = objects(graph, "Secret")
    (acl,) = (s["stringData"]["users.acl"] for s in secrets if "users.acl" in str(s))
    lines = {line.split()[1]: line for line in acl.splitlines()}
    assert set(lines) == {"default", "admin", "probe", "metrics", "logs"}
    (passwords,) = (s["stringData"]["passwords.json"] for s in secrets if "passwords" in str(s))
    by_address = json.loads(passwords)
    assert set(by_address) == {"redis://127.0.0.1:6379", "redis://metrics@127.0.0.1:6379"}
    (password,) = set(by_address.values())
    assert f"#{hashlib.sha256(password.encode()).hexdigest()} " in lines["metrics"]
    for name in ("metrics", "logs"):
        rules = lines[name].split()[4:]
        assert rules[:3] == ["resetkeys", "resetchannels", "-@all"]
        assert all(rule.startswith("+") and "@" not in rule for rule in rules[3:])
        assert "+config|get" not in rules
    (config,) = (
        c["data"]["redis.conf"] for c in objects(graph, "ConfigMap") if "redis.conf" in c["data"]
    )
    assert "slowlog-log-slower-than 5000" in config
    (template,) = templates(graph)
    command = next(c["args"] for c in template["spec"]["initContainers"] if c["name"] == "metrics")
    assert password not in str(command)


@pytest.mark.parametrize("keep", [True, False])
@pytest.mark.parametrize("name", ["RedisExporter", "LogAdapter"])
def test_an_adapter_logs_in_with_the_present_password_and_the_store_takes_the_former_too(
    name: str, keep: bool
) -> None:
    component, required, _ = ADAPTERS[name]

    def program() -> None:
        rotation = {"generation": 2, "keep_former": keep}
        adapter = component("adapter", {**required, "rotation": rotation})
        store: Any = {"image": IMAGE, "companions": [adapter.companion], "users": [adapter.user]}
        ShardedRedis("store", store)

    graph = build(program)
    made = graph.one("Password", "adapter-password").outputs
    secrets = {node.name: str(node.inputs["stringData"]) for node in graph.all("Secret")}
    assert made["value"] in secrets["adapter"]
    assert made["former"] not in str(secrets)
    (line,) = (
        line
        for content in (node.inputs["stringData"] for node in graph.all("Secret"))
        for text in content.values()
        for line in text.splitlines()
        if line.startswith("user adapter ")
    )
    passwords = [made["value"], made["former"]] if keep else [made["value"]]
    digests = [f"#{hashlib.sha256(each.encode()).hexdigest()}" for each in passwords]
    assert [word for word in line.split() if word.startswith("#")] == digests


def test_a_store_without_auth_can_have_users_too() -> None:
    def program() -> None:
        exporter = RedisExporter("metrics", {"image": IMAGE})
        assert exporter.user is not None
        ShardedRedis("store", {"image": IMAGE, "auth": False, "users": [exporter.user]})

    acl = next(s for s in objects(build(program), "Secret") if "users.acl" in str(s))
    assert "user default on nopass" in str(acl)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"users": ["metrics"]}, "must be a RedisUser"),
        ({"slow_command_ms": -1}, "must be from 0"),
    ],
)
def test_the_store_refuses(change: dict[str, Any], expected: str) -> None:
    assert expected in refused(lambda: ShardedRedis("store", {"image": IMAGE, **change}))  # type: ignore[typeddict-item]


@pytest.mark.parametrize(
    ("name", "rules", "expected"),
    [
        ("admin", ("+info",), "not one of the store's own"),
        ("A", ("+info",), "must be lower-case"),
        ("a", ("info",), "must be a rule"),
        ("a", ("+info >swordfish",), "must be a rule"),
    ],
)
def test_a_user_is_checked(name: str, rules: tuple[str, ...], expected: str) -> None:
    def program() -> None:
        with pytest.raises(InputError, match=expected):
            RedisUser(name, rules, pulumi.Output.secret(PASSWORD))

    build(program)


# mysql


def health_config(content: str) -> dict[str, Any]:
    config_map = the(made("MySqlHealth", content), "ConfigMap")
    found: dict[str, Any] = json.loads(config_map["data"]["config.json"])
    return found


def test_presets_ask_in_the_flavours_words() -> None:
    maria, mysql = health_config("required"), health_config("full")
    assert [q["name"] for q in maria["queries"]] == ["answers", "connections"]
    assert "information_schema.GLOBAL_STATUS" in maria["queries"][1]["sql"]
    lag = mysql["queries"][0]
    assert lag["column"] == "Seconds_Behind_Source"
    assert lag["at_most"] == 5
    assert lag["empty_is_healthy"] is True
    assert mysql["queries"][1]["required"] is False


@pytest.mark.parametrize(
    ("args", "expected"),
    [
        (
            {},
            [
                # SHA1(SHA1("swordfish-long-enough")) as the server keeps it
                "CREATE USER IF NOT EXISTS 'health'@'127.0.0.1' IDENTIFIED BY PASSWORD '*{}';",
                "ALTER USER 'health'@'127.0.0.1' IDENTIFIED BY PASSWORD '*{}';",
                "GRANT REPLICA MONITOR ON *.* TO 'health'@'127.0.0.1';",
            ],
        ),
        (
            {"flavour": "mysql", "server": elsewhere, "database": "shop"},
            [
                f"CREATE USER IF NOT EXISTS 'health'@'%' IDENTIFIED BY '{PASSWORD}';",
                f"ALTER USER 'health'@'%' IDENTIFIED BY '{PASSWORD}';",
                "GRANT REPLICATION CLIENT ON *.* TO 'health'@'%';",
                "GRANT SELECT ON `shop`.* TO 'health'@'%';",
            ],
        ),
    ],
)
def test_setup_makes_the_user_and_is_a_secret(args: dict[str, Any], expected: list[str]) -> None:
    def program() -> None:
        given = {key: each(3306) if callable(each) else each for key, each in args.items()}
        health = MySqlHealth("health", {"image": IMAGE, "password": PASSWORD, **given})  # type: ignore[typeddict-item]
        pulumi.export("setup", health.setup_sql)

    graph = build(program)
    assert graph.output_secrets[""] == {"setup"}
    once = hashlib.sha1(PASSWORD.encode(), usedforsecurity=False).digest()
    digest = hashlib.sha1(once, usedforsecurity=False).hexdigest().upper()
    wanted = [line.replace("{}", digest) for line in expected]
    assert graph.outputs[""]["setup"].splitlines() == wanted


def test_another_generation_is_another_password_for_server_and_monitor_at_once() -> None:
    def program() -> None:
        health = MySqlHealth("health", {"image": IMAGE, "flavour": "mysql", "generation": 3})
        pulumi.export("setup", health.setup_sql)

    graph = build(program)
    made = graph.one("Password", "health-password")
    assert made.inputs["generation"] == 3
    (secret,) = objects(graph, "Secret")
    assert secret["stringData"] == {"password": made.outputs["value"]}
    assert f"IDENTIFIED BY '{made.outputs['value']}'" in graph.outputs[""]["setup"]
    assert made.outputs["former"] not in graph.outputs[""]["setup"]


# fluentd

SEED = """\
<source>
  @type redis_slowlog
  host localhost
  port 6379
  tag redis.slowlog
</source>
<source>
  @type storm
  tag storm
  url http://localhost:8080
  window 600
  sys 0
</source>
"""
"""The book's two sources as the seed prints them, but for ``@type``, today's spelling."""


def test_the_seeds_sources_come_out_in_current_syntax() -> None:
    slowlog = {"kind": "redis_slowlog", "name": "redis-slowlog", "address": "localhost:6379"}
    storm = {"kind": "storm", "name": "storm", "url": "http://localhost:8080", "window": 600}
    assert fluentd.configuration([slowlog, storm | {"sys": 0}]).startswith(f"{SEED}<match")


def fluentd_sections(text: str) -> list[Any]:
    """Read Fluentd's v1 grammar: what is not a section, a parameter, a comment or blank fails."""
    stack: list[tuple[str, str, dict[str, str], list[Any]]] = [("", "", {}, [])]
    for number, line in enumerate(text.splitlines(), 1):
        stripped = line.strip()
        if not stripped or stripped.startswith("#"):
            continue
        if closing := re.fullmatch(r"</([a-z]\w*)>", stripped):
            name, argument, parameters, inside = stack.pop()
            assert name == closing[1], f"line {number}: <{name}> is closed by {stripped}"
            stack[-1][3].append((name, argument, parameters, inside))
        elif opening := re.fullmatch(r"<([a-z]\w*)(?: ([^<>]+))?>", stripped):
            stack.append((opening[1], opening[2] or "", {}, []))
        else:
            parameter = re.fullmatch(r"(@?[a-z]\w*) +(\S.*)", stripped)
            assert parameter, f"line {number}: {line!r}"
            assert len(stack) > 1, f"line {number}: a parameter outside of a section"
            assert parameter[1] not in stack[-1][2], f"line {number}: twice"
            stack[-1][2][parameter[1]] = parameter[2]
    assert len(stack) == 1, f"<{stack[-1][0]}> is never closed"
    return stack[0][3]


def test_the_adapters_sources_are_valid_for_fluentd() -> None:
    def program() -> None:
        logs = LogAdapter("logs", {"image": IMAGE, "sources": LOGS})  # type: ignore[typeddict-item]
        pulumi.export("fluentd", logs.fluentd)

    sections = fluentd_sections(build(program).outputs[""]["fluentd"])
    assert [(name, argument) for name, argument, _, _ in sections] == [
        ("source", ""), ("source", ""), ("source", ""), ("match", "**"),
    ]  # fmt: skip
    for name, _, parameters, _ in sections:
        assert "@type" in parameters
        assert "type" not in parameters
        assert name == "match" or "tag" in parameters
    kinds = [parameters["@type"] for _, _, parameters, _ in sections]
    assert kinds == ["redis_slowlog", "storm", "tail", "stdout"]
    ((parse, _, how, _),) = sections[2][3]
    assert (parse, how) == ("parse", {"@type": "nginx"})


@pytest.mark.parametrize(
    "broken", [SEED.replace("</source>", "", 1), SEED.replace("port 6379", "port"), "a b\n"]
)
def test_the_grammar_can_fail(broken: str) -> None:
    with pytest.raises(AssertionError):
        fluentd_sections(broken)


def test_values_with_a_meaning_of_their_own_are_quoted() -> None:
    section = fluentd.Section("source", "x", parameters={"a": "b #c", "d": '"e"', "f": "g h"})
    assert section.lines()[2:5] == ['  a "b #c"', '  d "\\"e\\""', "  f g h"]
    for wrong in ({"type": "x"}, {"A": "x"}, {"a": "x\ny"}, {"a": ""}):
        with pytest.raises(InputError):
            fluentd.Section("source", "x", parameters=wrong)
    with pytest.raises(InputError):
        fluentd.Section("so urce")


# the composition


@pytest.mark.parametrize("preview", MODES)
def test_the_composition_is_valid_hardened_and_in_its_namespace(preview: bool) -> None:
    graph = build(
        lambda: deploy(Settings.load()),
        preview=preview,
        stack="adapters",
        config={"dds:scrape_interval_seconds": "2", "dds:slow_command_ms": "5"},
        references={
            "organization/dds/cluster": {"kubeconfig": Secret("k"), "registry": "localhost:5000"}
        },
    )
    bodies = objects(graph)
    assert len(bodies) > 40
    if preview:
        return
    assert_valid(bodies)
    named = {b["metadata"]["namespace"] for b in bodies if b["kind"] != "Namespace"}
    assert named == {"adapters"}
    for template in templates(graph):
        job = template["spec"]["restartPolicy"] == "Never"
        # A shard has its keys alone, so waiting before its end helps nobody.
        assert set(violations(template, restarts=not job)) <= {"redis: no drain"}
    lets_in = {
        body["metadata"]["name"].rpartition("-")[0]
        for body in bodies
        if body["kind"] == "NetworkPolicy" and body["spec"]["policyTypes"] == ["Ingress"]
    }
    assert {"prometheus-to-redis-metrics", "prometheus-to-database-health"} <= lets_in
    assert {"adapters-check-to-prometheus", "counter-to-redis"} <= lets_in
