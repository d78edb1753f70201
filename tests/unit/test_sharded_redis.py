"""The store: its servers' configuration and users, its reach, and what it refuses."""

import hashlib
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pulumi
import pytest

from dds_patterns import Application, ShardedRedis, TwemproxyAmbassador
from dds_patterns.arguments.errors import InputError
from dds_patterns.sharding import forecast, movement, plan
from dds_patterns.values.redis_user import RedisUser
from dds_patterns.values.topology import Topology
from tests.ports import free_port
from tests.unit.support.hardening import violations
from tests.unit.support.listening import wait_for
from tests.unit.support.manifests import assert_valid, objects, templates, the
from toolchain.graph import Graph, build

IMAGE = "registry.example/redis:7.0.15"
PASSWORD = "swordfish-long-enough"
ADMIN = "swordfish-of-the-admin"
FORMER = "swordfish-of-last-year"
FORMER_ADMIN = "swordfish-of-the-former-admin"
GIVEN: dict[str, Any] = {"password": PASSWORD, "admin_password": ADMIN}
MODES = [pytest.param(True, id="preview"), pytest.param(False, id="update")]
REDIS = shutil.which("redis-server")
# Each is a rule that a RedisUser may have.
BORDERLINE = (
    "+info", "-@all", "+@read", "+config|get", "-slowlog|reset", '~"#;$(HOME)', "%R~a*", "%WR~\\x",
    "&news.*", "resetkeys", "allchannels", "~{}",
)  # fmt: skip


def made(preview: bool = False, **args: Any) -> tuple[ShardedRedis, Graph]:
    """A store. An argument that is an Output is given as a function that makes it."""
    found: list[ShardedRedis] = []

    def program() -> None:
        given: Any = {k: v() if callable(v) else v for k, v in args.items()}
        given = {"image": IMAGE, **given}
        found.append(ShardedRedis("cache", given))

    graph = build(program, preview=preview)
    return found[0], graph


def file(graph: Graph, ending: str) -> str:
    for body in objects(graph):
        for key, text in {**body.get("data", {}), **body.get("stringData", {})}.items():
            if key.endswith(ending):
                return str(text)
    raise AssertionError(f"no file {ending}")


def settings(graph: Graph) -> dict[str, str]:
    lines = [line for line in file(graph, "redis.conf").splitlines() if not line.startswith("#")]
    return dict(line.split(" ", 1) for line in lines)


@pytest.mark.parametrize("preview", MODES)
@pytest.mark.parametrize("role", ["cache", "store"])
@pytest.mark.parametrize("auth", [True, False])
def test_objects_are_valid_and_hardened(role: str, auth: bool, preview: bool) -> None:
    _, graph = made(preview, role=role, auth=auth, shards=4)
    if not preview:
        assert_valid(objects(graph))
    (template,) = templates(graph)
    # Nobody else has a shard's keys, so there is nothing to wait for before it stops.
    assert violations(template) == ["redis: no drain"]
    assert the(graph, "StatefulSet")["spec"]["replicas"] == 4
    assert the(graph, "PodDisruptionBudget")["spec"]["maxUnavailable"] == 1


def test_a_cache_makes_room_and_keeps_nothing() -> None:
    _, graph = made(role="cache", memory_mib=128)
    conf = settings(graph)
    assert conf["maxmemory"] == "128mb"
    assert conf["maxmemory-policy"] == "allkeys-lru"
    assert (conf["appendonly"], conf["save"]) == ("no", '""')
    assert "volumeClaimTemplates" not in the(graph, "StatefulSet")["spec"]


def test_a_store_refuses_rather_than_forgets() -> None:
    _, graph = made(role="store")
    conf = settings(graph)
    assert conf["maxmemory-policy"] == "noeviction"
    # With everysec Redis acknowledges before it has written while a flush takes long.
    assert (conf["appendonly"], conf["appendfsync"]) == ("yes", "always")
    mounts = templates(graph)[0]["spec"]["containers"][0]["volumeMounts"]
    assert conf["dir"] in {mount["mountPath"] for mount in mounts}


def test_a_store_without_persistence_is_in_memory_only() -> None:
    _, graph = made(role="store", persistence=False)
    assert settings(graph)["appendonly"] == "no"
    assert settings(graph)["maxmemory-policy"] == "noeviction"
    assert "volumeClaimTemplates" not in the(graph, "StatefulSet")["spec"]


@pytest.mark.parametrize("role", ["cache", "store"])
def test_the_container_has_more_memory_than_its_data(role: str) -> None:
    _, graph = made(role=role, memory_mib=100)
    limit = templates(graph)[0]["spec"]["containers"][0]["resources"]["limits"]["memory"]
    # A fork that rewrites the file may come to hold as much as the data.
    assert int(limit.removesuffix("Mi")) >= (248 if role == "store" else 125)


def test_passwords_are_hashed_in_the_servers_pods() -> None:
    _, graph = made(password=PASSWORD, admin_password=ADMIN)
    acl = file(graph, "users.acl")
    assert "swordfish" not in acl
    assert f"user default on #{hashlib.sha256(PASSWORD.encode()).hexdigest()} " in acl
    assert f"user admin on #{hashlib.sha256(ADMIN.encode()).hexdigest()} " in acl
    for node in graph:
        assert "swordfish" not in str(node.inputs)


def accepted(graph: Graph) -> dict[str, list[str]]:
    """By user, the digests of the passwords that the servers take."""
    users = (line.split() for line in file(graph, "users.acl").splitlines())
    return {words[1]: [w[1:] for w in words if w.startswith("#")] for words in users}


def digests(*passwords: str) -> list[str]:
    return [hashlib.sha256(password.encode()).hexdigest() for password in passwords]


@pytest.mark.parametrize("deferred", [True, False])
def test_former_passwords_are_accepted_beside_the_present_ones(deferred: bool) -> None:
    formers = {"former_password": FORMER, "former_admin_password": FORMER_ADMIN}
    given: dict[str, Any] = {**GIVEN, **formers}
    if deferred:
        given = {k: lambda v=v: pulumi.Output.secret(v) for k, v in given.items()}
    store, graph = made(**given)
    assert accepted(graph) == {
        "default": digests(PASSWORD, FORMER),
        "admin": digests(ADMIN, FORMER_ADMIN),
        "probe": [],
    }
    assert store.reach.credentials is not None
    for node in graph:
        assert "swordfish" not in str(node.inputs)
    # One alone, and one that is the present one.
    _, graph = made(**GIVEN, former_password=FORMER, former_admin_password=ADMIN)
    assert accepted(graph)["default"] == digests(PASSWORD, FORMER)
    assert accepted(graph)["admin"] == digests(ADMIN)


def test_generated_passwords_of_the_former_generation_are_accepted_until_they_are_not() -> None:
    def known(graph: Graph, *keys: str) -> dict[str, list[str]]:
        made = {node.name: node.outputs for node in graph.all("Password")}
        users = {"default": "cache-password", "admin": "cache-admin"}
        found = {user: digests(*(made[at][k] for k in keys)) for user, at in users.items()}
        return {**found, "probe": []}

    _, first = made()
    assert accepted(first) == known(first, "value")
    _, second = made(rotation={"generation": 2})
    assert [node.inputs["generation"] for node in second.all("Password")] == [2, 2]
    assert accepted(second) == known(second, "value", "former")
    _, kept = made(rotation={"generation": 2, "keep_former": False})
    assert accepted(kept) == known(kept, "value")
    # Of one that is given nothing is generated.
    _, graph = made(password=PASSWORD, rotation={"generation": 2})
    assert accepted(graph)["default"] == digests(PASSWORD)
    assert len(accepted(graph)["admin"]) == 2


def test_the_former_password_of_a_user_is_accepted_too() -> None:
    def user(former: str | None) -> RedisUser:
        output = None if former is None else pulumi.Output.secret(former)
        return RedisUser("metrics", ("+info",), pulumi.Output.secret(PASSWORD), output)

    for former, expected in (
        (FORMER, digests(PASSWORD, FORMER)),
        (PASSWORD, digests(PASSWORD)),
        ("", digests(PASSWORD)),
        (None, digests(PASSWORD)),
    ):
        _, graph = made(users=lambda former=former: [user(former)])
        assert accepted(graph)["metrics"] == expected


@pytest.mark.parametrize("preview", MODES)
def test_what_has_the_reach_gets_a_password_after_the_servers_take_it(preview: bool) -> None:
    """In one update: a proxy with a password that no server takes yet would be refused."""

    def program() -> None:
        store = ShardedRedis("cache", {"image": IMAGE, "rotation": {"generation": 2}})
        proxy = TwemproxyAmbassador("proxy", {"image": IMAGE, "store": store.reach})
        Application("web", {"image": IMAGE, "companions": [proxy.companion]})
        Application("job", {"image": IMAGE, "reaches": [store.reach]})

    graph = build(program, preview=preview)
    servers = graph.one("StatefulSet", "cache")
    for name in ("web", "job"):
        deployment = graph.one("Deployment", name)
        assert servers.urn in deployment.dependencies
    if not preview:
        (password,) = (n.outputs["value"] for n in graph.all("Password", "cache-password"))
        assert password in str(graph.one("Secret", "proxy").inputs["stringData"])


@pytest.mark.parametrize("preview", MODES)
def test_generated_passwords_are_secret(preview: bool) -> None:
    _, graph = made(preview)
    assert {node.name for node in graph.all("Password")} == {"cache-password", "cache-admin"}
    component = graph.one("dds:index:ShardedRedis")
    assert "password" in graph.output_secrets[component.urn]
    assert not graph.all("ConfigMap", "cache-secret-files")
    assert graph.one("Secret").secrets


def test_without_auth_there_is_no_password_but_limits_all_the_same() -> None:
    store, graph = made(auth=False)
    assert store.reach.credentials is None
    assert not graph.all("Secret")
    assert not graph.all("Password")
    acl = file(graph, "users.acl")
    assert "user default on nopass ~* &* +@all -@admin -@dangerous" in acl
    assert "admin on" not in acl


def test_no_password_is_in_a_probe_or_in_the_environment() -> None:
    container = templates(made(password=PASSWORD)[1])[0]["spec"]["containers"][0]
    assert "env" not in container
    commands = [container[f"{k}Probe"]["exec"]["command"] for k in ("startup", "readiness")]
    assert all("--user probe" in command[-1] for command in commands)


def test_nothing_depends_on_an_image_of_our_own() -> None:
    """valkey/valkey and redis have these programs under these names."""
    container = templates(made()[1])[0]["spec"]["containers"][0]
    assert container["command"] == ["redis-server", "/etc/redis/redis.conf"]
    words = " ".join(container["livenessProbe"]["exec"]["command"])
    assert re.findall(r"\b(?:redis|valkey)-\w+", words) == ["redis-cli"]


@pytest.mark.parametrize("preview", MODES)
def test_the_reach_is_that_of_the_plan(preview: bool) -> None:
    store, graph = made(preview, shards=5, hash="md5", hash_tag="{}")
    assert store.reach.topology == Topology(plan(5).names, "md5", "{}")
    assert (store.reach.app_protocol, store.reach.ports) == ("redis", (6379,))
    assert len(store.reach.endpoints) == 5
    assert store.reach.pods == {"dds/shards-of": "cache"}
    assert store.reach.pods.items() <= templates(graph)[0]["metadata"]["labels"].items()


def test_the_reach_has_the_password() -> None:
    assert made(password=PASSWORD)[0].reach.credentials is not None
    assert made(auth=False)[0].reach.credentials is None


def test_each_shard_has_an_address_that_stays() -> None:
    graph = build(lambda: pulumi.export("at", ShardedRedis(
        "cache", {"image": IMAGE, "shards": 2, "hosting": {"namespace": "shop"}}).reach.endpoints))  # fmt: skip
    services = {body["metadata"]["name"]: body["spec"] for body in objects(graph, "Service")}
    assert set(services) == {"cache", "cache-0", "cache-1"}
    assert services["cache"]["clusterIP"] == "None"
    assert graph.outputs[""]["at"] == ["cache-0.shop.svc:6379", "cache-1.shop.svc:6379"]
    for ordinal in range(2):
        spec = services[f"cache-{ordinal}"]
        assert "clusterIP" not in spec
        # Only the one pod, and only while it is ready.
        index = {"apps.kubernetes.io/pod-index": str(ordinal)}
        assert spec["selector"] == {"dds/shards-of": "cache"} | index
        assert "publishNotReadyAddresses" not in spec


def test_nobody_is_let_in_but_who_is_named_and_what_has_its_reach() -> None:
    assert "ingress" not in the(made()[1], "NetworkPolicy")["spec"]
    _, graph = made(clients=[{"pods": {"role": "tool"}}])
    (rule,) = the(graph, "NetworkPolicy")["spec"]["ingress"]
    assert rule["from"] == [{"podSelector": {"matchLabels": {"role": "tool"}}}]
    assert rule["ports"] == [{"port": 6379, "protocol": "TCP"}]


def test_a_client_is_let_in_where_the_store_is_and_starts_when_it_is_ready() -> None:
    def program() -> None:
        store = ShardedRedis(
            "cache", {"image": IMAGE, "shards": 2, "hosting": {"namespace": "data"}}
        )
        web: Any = {"image": IMAGE, "hosting": {"namespace": "shop"}, "reaches": [store.reach]}
        Application("web", web)

    graph = build(program)
    there = graph.one("NetworkPolicy", "web-to-cache").inputs
    assert there["metadata"]["namespace"] == "data"
    servers = graph.one("StatefulSet", "cache")
    assert there["spec"]["podSelector"] == {"matchLabels": {"dds/shards-of": "cache"}}
    dependencies = graph.one("Deployment", "web").dependencies
    services = {graph.one("Service", name).urn for name in ("cache-0", "cache-1")}
    assert {servers.urn, *services} <= set(dependencies)


def test_a_changed_configuration_rolls_the_servers() -> None:
    before, after = made(memory_mib=64)[1], made(memory_mib=65)[1]
    assert file(before, "redis.conf") != file(after, "redis.conf")
    (volume,) = [v for v in templates(before)[0]["spec"]["volumes"] if "configMap" in v]
    assert volume["configMap"]["name"] == the(before, "ConfigMap")["metadata"]["name"]


def test_adding_a_shard_changes_no_other() -> None:
    three, four = made(shards=3)[0].plan, made(shards=4)[0].plan
    assert four.names[:3] == three.names


def test_two_stores_stand_side_by_side() -> None:
    def program() -> None:
        ShardedRedis("one", {"image": IMAGE})
        ShardedRedis("two", {"image": IMAGE})

    assert_valid(objects(build(program)))


def test_the_forecast_says_shares_and_moves() -> None:
    first, second = forecast(plan(3))
    assert first.endswith("33.4%, 33.3%, 33.3% (largest over mean 1.001)")
    assert "2 to 3 shards moves 33.3% (least possible 33.3%)" in second
    assert "3 to 4 shards moves 25.0% (least possible 25.0%)" in second
    assert movement(3, 6).startswith("Going from 3 to 6 shards moves 50.0% of the keys")


@pytest.mark.parametrize("count", [1, 64])
def test_the_forecast_knows_the_ends(count: int) -> None:
    assert len(forecast(plan(count))) == 2


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"role": "cache", "persistence": True}, 'must be false with role "cache"'),
        ({"appendfsync": "always"}, "must be left out"),
        ({"hosting": {"storage": {"size": "1Gi"}}}, "must be left out"),
        ({"hosting": {"storage": {"delete_with_workload": False}}}, "must be left out"),
        (
            {
                "role": "store",
                "persistence": False,
                "hosting": {"storage": {"storage_class": "fast"}},
            },
            "must be left out",
        ),
        (
            {"role": "store", "hosting": {"storage": {"size": "127Mi"}}},
            "must be at least 128Mi, twice memory_mib",
        ),
        ({"hash_tag": "{"}, "must be two printable characters"),
        ({"password": "short"}, "must be from 8 to 128"),
        ({"auth": False, "password": PASSWORD}, "must be left out with auth false"),
        ({"auth": False, "admin_password": PASSWORD}, "must be left out with auth false"),
        (
            {"auth": False, "former_password": PASSWORD},
            "former_password is <secret>; must be left out with auth false",
        ),
        ({"former_password": "short", "password": PASSWORD}, "must be from 8 to 128"),
        (
            {"former_password": PASSWORD},
            "former_password is <secret>; must be left out without password:",
        ),
        (
            {"former_admin_password": PASSWORD, "password": PASSWORD},
            "former_admin_password is <secret>; must be left out without admin_password:",
        ),
        ({"rotation": {"generation": 0}}, "rotation.generation is 0; must be from 1"),
        ({"rotation": {"keep": False}}, "rotation.keep is not an argument"),
        (
            {"auth": False, "rotation": {"generation": 2}},
            "rotation.generation is 2; must be left out: no password is generated",
        ),
        (
            {"auth": False, "rotation": {"keep_former": False}},
            "rotation.keep_former is False; must be left out: no password is generated",
        ),
        ({**GIVEN, "rotation": {"generation": 2}}, "rotation.generation is 2; must be left out"),
        ({**GIVEN, "rotation": {"keep_former": False}}, "rotation.keep_former is False; must be"),
        # None of them is what it seems to be, and each would lose data or let others in.
        ({"hosting": {"storage": {"delete_with_workload": "false"}}}, "must be true or false"),
        ({"auth": "no"}, "must be true or false"),
        ({"persistence": 0}, "must be true or false"),
    ],
)
def test_bad_input_is_refused(change: dict[str, Any], expected: str) -> None:
    assert expected in refusal("cache", change)


@pytest.mark.parametrize("name", ["Cache", "cache_1", "-cache", "c" * 53, "", "1cache"])
def test_a_bad_name_is_refused(name: str) -> None:
    assert "name is" in refusal(name, {})


def test_a_store_with_nones_remembers_and_asks_for_a_password() -> None:
    left_out: dict[str, Any] = dict.fromkeys(("persistence", "auth", "appendfsync"))
    left_out["hosting"] = {
        "storage": dict.fromkeys(("size", "storage_class", "delete_with_workload"))
    }
    (without, expected), (store, graph) = made(role="store"), made(role="store", **left_out)
    assert file(graph, "redis.conf") == file(expected, "redis.conf")
    assert the(graph, "StatefulSet") == the(expected, "StatefulSet")
    assert store.reach.credentials is not None
    assert without.reach.credentials is not None


def test_users_have_different_names() -> None:
    def user() -> RedisUser:
        return RedisUser("metrics", ("+info",), pulumi.Output.secret(PASSWORD))

    def program() -> None:
        ShardedRedis("cache", {"image": IMAGE, "users": [user(), user()]})

    with pytest.raises(
        InputError, match="users.name is .*; must be unique, 'metrics' is listed twice"
    ):
        build(program)


def refusal(name: str, change: dict[str, Any], *, preview: bool = False) -> str:
    messages: list[str] = []

    def program() -> None:
        args: Any = {"image": IMAGE, **change}
        with pytest.raises(InputError) as caught:
            ShardedRedis(name, args)
        messages.append(str(caught.value))

    graph = build(program, preview=preview)
    assert not graph.nodes
    assert PASSWORD not in messages[0]
    return messages[0]


@pytest.fixture
def server(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[int]:
    """A real redis-server with the generated files; the port it listens on."""
    if REDIS is None:
        pytest.skip("redis-server is not installed (apt-get install redis-server)")

    def users() -> list[RedisUser]:
        passwords = (pulumi.Output.secret(PASSWORD), pulumi.Output.secret(FORMER))
        return [RedisUser("borderline", BORDERLINE, *passwords)]

    _, graph = made(
        **GIVEN,
        former_password=FORMER,
        former_admin_password=FORMER_ADMIN,
        role=request.param,
        users=users,
    )
    port = free_port()
    acl, conf = tmp_path / "users.acl", tmp_path / "redis.conf"
    acl.write_text(file(graph, "users.acl"))
    conf.write_text(
        file(graph, "redis.conf")
        .replace("/etc/redis-acl/users.acl", str(acl))
        .replace("dir /data", f"dir {tmp_path}")
        .replace("bind * -::*", "bind 127.0.0.1")
        .replace("port 6379", f"port {port}")
    )
    process = subprocess.Popen([REDIS, str(conf)], stdout=subprocess.DEVNULL)
    try:
        wait_for(port, process)
        yield port
    finally:
        process.terminate()
        process.wait(20)
    assert process.returncode == 0, "SIGTERM did not end it cleanly"


def ask(port: int, *words: str, user: str = "default", password: str = "") -> str:
    login = ["--user", user] if password else []
    done = subprocess.run(
        ["redis-cli", "-p", str(port), *login, *words],
        capture_output=True, text=True, check=False, timeout=20,
        env={"REDISCLI_AUTH": password, "PATH": "/usr/bin:/bin"},
    )  # fmt: skip
    return done.stdout + done.stderr


@pytest.mark.parametrize("server", ["cache", "store"], indirect=True)
def test_a_real_server_takes_the_files_and_lets_each_user_do_what_it_may(server: int) -> None:
    assert "NOAUTH" in ask(server, "get", "x")
    assert ask(server, "ping", user="probe", password="none") == "PONG\n"
    assert "NOPERM" in ask(server, "get", "x", user="probe", password="none")
    assert ask(server, "set", "x", "1", password=PASSWORD) == "OK\n"
    for command in ("keys *", "flushall", "config get *", "shutdown", "monitor", "acl list"):
        assert "NOPERM" in ask(server, *command.split(), password=PASSWORD), command
    assert "maxmemory" in ask(server, "config", "get", "max*", user="admin", password=ADMIN)
    assert "WRONGPASS" in ask(server, "ping", user="admin", password=PASSWORD)
    assert "user borderline on" in ask(server, "acl", "list", user="admin", password=ADMIN)


@pytest.mark.parametrize("server", ["cache"], indirect=True)
def test_a_real_server_takes_the_present_and_the_former_password_and_no_other(server: int) -> None:
    for user, command, passwords in (
        ("default", ("get", "x"), (PASSWORD, FORMER)),
        ("admin", ("dbsize",), (ADMIN, FORMER_ADMIN)),
        ("borderline", ("config", "get", "maxmemory"), (PASSWORD, FORMER)),
    ):
        for password in passwords:
            answer = ask(server, *command, user=user, password=password)
            # A login that is refused is followed by the command all the same.
            assert not re.search("WRONGPASS|NOAUTH|NOPERM", answer), (user, answer)
        third = ask(server, *command, user=user, password="another-swordfish")
        assert "WRONGPASS" in third, (user, third)
