"""EventBus: the server's configuration, its users, what is refused; and the programs around it."""

import asyncio
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pulumi
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dds_patterns import Application, EventBus
from dds_patterns.arguments.errors import InputError
from dds_patterns.serving.event_bus import users_conf
from dds_patterns.values.reach import Reach
from tests.ports import free_port
from tests.unit.support.hardening import violations
from tests.unit.support.listening import running
from tests.unit.support.manifests import assert_valid, objects, templates, the
from tests.unit.support.programs import program
from toolchain.graph import Graph, build

MODES = [pytest.param(True, id="preview"), pytest.param(False, id="update")]
NATS, TOOLS = "registry.example/nats:2.15", "registry.example/events:1.0"
BINARY = shutil.which("nats-server") or shutil.which("nats-server", path="/usr/sbin")
rules: Any = program("events/events/rules.py")


def made(preview: bool = False, **more: Any) -> Graph:
    args: Any = {"image": NATS, "tools_image": TOOLS, **more}
    return build(lambda: EventBus("bus", args), preview=preview)


def file(graph: Graph, kind: str, key: str) -> str:
    field = "data" if kind == "ConfigMap" else "stringData"
    (text,) = [o[field][key] for o in objects(graph, kind) if key in o[field]]
    return str(text)


FULL: dict[str, Any] = {
    "events_mib": 32,
    "keep_hours": 2,
    "dead_mib": 8,
    "keep_dead_hours": 48,
    "records_mib": 16,
    "duplicate_seconds": 60,
    "buckets": [{"name": "codes", "ttl_seconds": 300, "size_mib": 4}],
    "clients": [{"pods": {"role": "web"}}],
    "metrics_clients": [{"pods": {"app": "prometheus"}}],
    "hosting": {
        "namespace": "here",
        "resources": {"limits": {"memory": "1Gi"}},
        "storage": {"size": "1Gi", "storage_class": "fast", "delete_with_workload": True},
    },
}


@pytest.mark.parametrize("preview", MODES)
@pytest.mark.parametrize("more", [{}, FULL], ids=["required", "full"])
def test_objects_are_valid_and_pods_hardened(more: dict[str, Any], preview: bool) -> None:
    graph = made(preview, **more)
    if not preview:
        # In a preview the passwords, and with them all of a Secret, are not known yet.
        assert_valid(objects(graph))
    for template in templates(graph):
        serves = "ports" in template["spec"]["containers"][0]
        # There is no other server to which clients could go meanwhile.
        assert set(violations(template, restarts=serves)) <= {"nats: no drain"}
    top = graph.one("dds:index:EventBus", "bus")
    assert top.parent == ""
    assert top.urn in graph.outputs
    assert {o["metadata"]["namespace"] for o in objects(graph)} == {
        more.get("hosting", {}).get("namespace", "default")
    }


def test_passwords_are_in_secrets_only_and_the_client_is_no_administrator() -> None:
    graph = made()
    users = file(graph, "Secret", "users.conf")
    admin = file(graph, "Secret", "password")
    assert f'user: "admin", password: "{admin}"' in users
    for node in graph:
        if node.type.endswith(":Secret"):
            assert node.secrets
        elif not node.type.startswith("pulumi-python"):
            assert admin not in str(node.inputs)
    may = users[users.index("publish") :]
    for never in ("STREAM.CREATE", "STREAM.UPDATE", "STREAM.DELETE", "STREAM.PURGE", '">"'):
        assert never not in may


def test_the_configuration_says_what_the_arguments_say() -> None:
    graph = made(**FULL)
    text = file(graph, "ConfigMap", "nats.conf")
    assert "max_file_store: 68MB" in text
    assert 'include "../nats-users/users.conf"' in text
    plan = json.loads(file(graph, "ConfigMap", "setup.json"))
    assert plan["events_mib"] == 32
    assert plan["buckets"] == [{"name": "codes", "seconds": 300, "mb": 4}]
    claim = the(graph, "StatefulSet")["spec"]["volumeClaimTemplates"][0]["spec"]
    assert claim["resources"]["requests"]["storage"] == "1Gi"
    assert claim["storageClassName"] == "fast"


def reached(preview: bool = False) -> Graph:
    """A bus, and a client and a watcher in another namespace."""

    def client() -> None:
        bus = EventBus(
            "bus", {"image": NATS, "tools_image": TOOLS, "hosting": {"namespace": "there"}}
        )
        codes: Any = {
            **EventBus.client(TOOLS, "codes", bus.reach),
            "hosting": {"namespace": "here"},
        }
        Application("codes", codes)
        watcher: Any = {
            "image": TOOLS,
            "reaches": [bus.monitoring],
            "hosting": {"namespace": "here"},
        }
        Application("watcher", watcher)
        pulumi.export("monitoring", bus.monitoring.url)

    return build(client, preview=preview)


@pytest.mark.parametrize("preview", MODES)
def test_the_streams_are_made_after_the_server_and_before_any_client(preview: bool) -> None:
    graph = reached(preview)
    job, server = graph.one("Job"), graph.one("StatefulSet")
    assert server.urn in job.dependencies
    assert job.urn in graph.one("Deployment", "codes").dependencies
    # A Job that is replaced must not make the password unknown to who has it.
    secret = graph.one("Secret", "codes-secret-files")
    assert job.urn not in secret.dependencies


def test_a_client_in_another_namespace_has_the_address_the_user_and_the_way() -> None:
    graph = reached()
    spec = graph.one("Deployment", "codes").inputs["spec"]["template"]["spec"]
    told = {entry["name"]: entry["value"] for entry in spec["containers"][0]["env"]}
    assert told == {"BUS": "bus-client.there.svc:4222", "BUS_USER": "client"}
    users = file(graph, "Secret", "users.conf")
    (password,) = graph.one("Secret", "codes-secret-files").inputs["stringData"].values()
    assert f'user: "client", password: "{password}"' in " ".join(users.split())
    assert graph.outputs[""]["monitoring"] == "http://bus.there.svc:8222/"
    server = graph.one("StatefulSet").inputs["spec"]["selector"]
    for name, port in (("codes", 4222), ("watcher", 8222)):
        policy = graph.one("NetworkPolicy", f"{name}-to-bus").inputs
        assert policy["metadata"]["namespace"] == "there"
        assert policy["spec"]["podSelector"] == server
        (rule,) = policy["spec"]["ingress"]
        assert rule["ports"] == [{"port": port, "protocol": "TCP"}]
        (peer,) = rule["from"]
        assert peer["podSelector"]["matchLabels"]["app.kubernetes.io/instance"] == name
        names = {"kubernetes.io/metadata.name": "here"}
        assert peer["namespaceSelector"] == {"matchLabels": names}


def test_a_client_needs_the_buss_credentials() -> None:
    with pytest.raises(
        InputError, match=r"^EventBus.client: bus.credentials is None; must be given"
    ):
        EventBus.client(TOOLS, "codes", Reach("bus", ("bus:4222",), pods={}))


def test_who_is_let_in_otherwise_is_named_for_each_port() -> None:
    def rules(graph: Graph) -> list[Any]:
        spec = graph.one("NetworkPolicy", "bus").inputs["spec"]
        return [(rule["ports"][0]["port"], rule["from"]) for rule in spec.get("ingress", [])]

    assert rules(made()) == []
    assert rules(made(**FULL)) == [
        (4222, [{"podSelector": {"matchLabels": {"role": "web"}}}]),
        (8222, [{"podSelector": {"matchLabels": {"app": "prometheus"}}}]),
    ]
    # What makes the streams comes by itself.
    assert len(made().all("NetworkPolicy", "bus-streams-to-bus")) == 1


@pytest.mark.skipif(BINARY is None, reason="nats-server is not installed")
@pytest.mark.parametrize("more", [{}, FULL], ids=["required", "full"])
def test_nats_finds_the_configuration_valid(more: dict[str, Any], tmp_path: Path) -> None:
    graph = made(**more)
    (tmp_path / "nats").mkdir()
    (tmp_path / "nats-users").mkdir()
    config = tmp_path / "nats" / "nats.conf"
    config.write_text(file(graph, "ConfigMap", "nats.conf"))
    users = tmp_path / "nats-users" / "users.conf"
    users.write_text(file(graph, "Secret", "users.conf"))
    check = [str(BINARY), "-t", "-c", str(config)]
    assert subprocess.run(check, check=False).returncode == 0
    users.write_text(users_conf({"a": "b"}, {}).replace("users:", "usres:", 1))
    assert subprocess.run(check, check=False, capture_output=True).returncode != 0


def logins(graph: Graph) -> dict[str, str]:
    """Passwords by user, as the server is told them."""
    text = " ".join(file(graph, "Secret", "users.conf").split())
    return dict(re.findall(r'user: "([^"]*)", password: "([^"]*)"', text))


def test_another_generation_has_users_of_its_own_beside_the_former_ones() -> None:
    first, second = logins(made()), logins(made(rotation={"generation": 2}))
    assert [*first] == ["admin", "client"]
    assert [*second] == ["admin-2", "admin", "client-2", "client"]
    kept = made(rotation={"generation": 2, "keep_former": False})
    assert [*logins(kept)] == ["admin-2", "client-2"]
    # What makes the streams, and clients, log in as the present ones.
    (env,) = [
        container["env"]
        for template in templates(made(rotation={"generation": 2}))
        for container in template["spec"]["containers"]
        if "env" in container
    ]
    assert {"name": "BUS_USER", "value": "admin-2"} in env


@pytest.mark.skipif(BINARY is None, reason="nats-server is not installed")
def test_the_server_takes_both_generations_and_no_other(tmp_path: Path) -> None:
    nats: Any = pytest.importorskip("nats")
    users = logins(made(rotation={"generation": 2}))
    config = tmp_path / "users.conf"
    config.write_text(file(made(rotation={"generation": 2}), "Secret", "users.conf"))

    async def taken(port: int, user: str, word: str) -> bool:
        client = nats.NATS()
        try:
            await client.connect(
                f"nats://127.0.0.1:{port}", user=user, password=word, allow_reconnect=False
            )
        except Exception as error:
            if "authorization" in str(error).lower():
                return False
            raise
        finally:
            await client.close()
        return True

    async def tried() -> None:
        port = free_port()
        options = ["--addr", "127.0.0.1", "--port", str(port), "--config", str(config)]
        with running([str(BINARY), *options], port):
            for user, word in users.items():
                assert await taken(port, user, word)
            assert not await taken(port, "client-2", users["client"])
            assert not await taken(port, "client-3", users["client-2"])

    asyncio.run(tried())


def test_passwords_that_are_given_are_taken() -> None:
    words: dict[str, Any] = {
        "password": "a-password-of-ours",
        "admin_password": "another-one-of-ours",
    }
    graph = made(**words)
    assert logins(graph) == {"admin": words["admin_password"], "client": words["password"]}
    assert not graph.all("Password")
    with pytest.raises(
        InputError, match=r"rotation.generation is 2; must be left out: no password"
    ):
        made(**words, rotation={"generation": 2})
    # The other one is generated.
    assert "admin-2" in logins(made(password=words["password"], rotation={"generation": 2}))


@pytest.mark.parametrize("preview", MODES)
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"hosting": {"storage": {"size": "100Mi"}}}, "must be at least 448Mi"),
        ({"events_mib": 1024, "hosting": {"storage": {"size": "1Gi"}}}, "must be at least 1408Mi"),
        ({"buckets": [{"name": "Codes", "ttl_seconds": 1}]}, r"buckets\[0\].name is 'Codes'"),
        ({"buckets": [{"name": "a", "ttl_seconds": 1}] * 2}, "must be buckets of different names"),
        ({"buckets": [{"name": "a", "ttl_second": 1}]}, "did you mean ttl_seconds"),
        # It would delete the data.
        ({"hosting": {"storage": {"delete_with_workload": "false"}}}, "must be true or false"),
    ],
)
def test_bad_input_is_refused_before_anything_is_registered(
    change: dict[str, Any], message: str, preview: bool
) -> None:
    def refuse() -> None:
        args: Any = {"image": NATS, "tools_image": TOOLS, **change}
        with pytest.raises(InputError, match=message) as caught:
            EventBus("bus", args)
        assert 'EventBus "bus"' in str(caught.value)

    assert not build(refuse, preview=preview).nodes


@pytest.mark.parametrize("name", ["Bus", "b" * 53, "", "1bus"])
def test_a_name_leaves_room_for_labels(name: str) -> None:
    def refuse() -> None:
        with pytest.raises(InputError, match="name is"):
            EventBus(name, {"image": NATS, "tools_image": TOOLS})

    assert not build(refuse).nodes


# The programs


def subscription(**more: Any) -> Any:
    return rules.Subscription.of({"name": "s", "topic": "t", "url": "http://x/", **more})


@given(
    first=st.floats(0.01, 3600),
    longest=st.floats(0.01, 3600),
    attempt=st.integers(1, 100),
)
def test_each_delay_is_twice_the_last_one_until_the_longest(
    first: float, longest: float, attempt: int
) -> None:
    one = subscription(first_delay=first, longest_delay=max(first, longest))
    delay = one.delay(attempt)
    assert delay == pytest.approx(min(first * 2.0 ** (attempt - 1), one.longest_delay))
    assert one.delay(attempt + 1) >= delay


def test_an_optional_step_follows_if_the_event_has_its_field() -> None:
    one = subscription(required={"b": "p.b"}, optional={"c": ["news", "p.c"]})
    required = {"step": "b", "topic": "p.b", "kind": "required"}
    optional = {"step": "c", "topic": "p.c", "kind": "optional"}
    assert one.following({"news": False}) == [required, optional]
    others: list[Any] = [{}, {"news": None}, [], None, "news"]
    for without in others:
        assert one.following(without) == [required]


def test_an_answer_adds_to_what_goes_on() -> None:
    assert rules.onward({"a": 1, "b": 1}, b'{"b": 2}') == {"a": 1, "b": 2}
    for answer in (b"", b"thanks", b"[1]", b"null", b"\xff"):
        assert rules.onward({"a": 1}, answer) == {"a": 1}
    assert rules.onward([1], b'{"b": 2}') == [1]


def test_the_key_of_a_delivery_is_the_event_and_its_way() -> None:
    way = rules.longer(rules.longer("", "create-user"), "email-user")
    assert rules.idempotency_key("e1", "signup", way) == "e1/signup/create-user/email-user"


def test_two_subscriptions_never_share_a_place_on_the_bus() -> None:
    assert rules.consumer("a-b", "c") != rules.consumer("a", "b-c")


@pytest.mark.parametrize("asked", [1, 3, 4, 5, 32, 256, 1_048_576])
def test_publishing_leaves_room_for_what_is_passed_on(asked: int) -> None:
    whole = rules.stream_size(asked)
    assert rules.publishable(whole) == asked * 2**20
    # The longest message at least.
    assert whole - rules.publishable(whole) >= 2**20


def test_data_is_stored_in_no_more_bytes_than_it_needs() -> None:
    text = "\u0436" * 100_000
    assert len(rules.encoded({"a": text}, 10**6)) == 200_000 + len('{"a":""}')
    assert json.loads(rules.encoded("\ud800 is half a pair", 100)) == "\ud800 is half a pair"
    with pytest.raises(rules.TooLongError, match="102 bytes, the maximum is 101"):
        rules.encoded("x" * 100, 101)
    for number in (float("inf"), float("nan")):
        with pytest.raises(rules.BadEventError, match="finite"):
            rules.encoded([number], 100)


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (b'{"a": ', ""),
        (b"[" * 100_000, "text/plain"),
        (b'{"a": NaN}', "application/json"),
        (b"thanks", "application/json; charset=utf-8"),
        (b"thanks", "application/problem+json"),
    ],
)
def test_an_answer_that_is_no_whole_document_is_no_answer(answer: bytes, kind: str) -> None:
    with pytest.raises(rules.PermanentError, match="is invalid"):
        rules.onward({"a": 1}, answer, kind)


@pytest.mark.parametrize(
    ("kind", "body", "header", "expected"),
    [
        ("application/json", b'{"a": 1}', "id-1", ("id-1", {"a": 1})),
        (
            "application/cloudevents+json; charset=utf-8",
            b'{"id": "id-2", "specversion": "1.0", "data": {"a": 1}}',
            None,
            ("id-2", {"a": 1}),
        ),
    ],
)
def test_events_come_as_json_or_as_cloudevents(
    kind: str, body: bytes, header: str | None, expected: Any
) -> None:
    assert rules.published(kind, body, header) == expected


def test_an_event_without_an_id_gets_one_of_its_own() -> None:
    ids = {rules.published("application/json", b"{}", None)[0] for _ in range(100)}
    assert len(ids) == 100


@pytest.mark.parametrize(
    ("kind", "body", "header"),
    [
        ("application/json", b"{", None),
        ("application/json", b"[" * 200_000, None),
        ("application/json", b"1" * 600_000, None),
        ("application/json", b'{"a": NaN}', None),
        ("application/json", b"\xff", None),
        ("application/json", b"{}", "a.b"),
        ("application/json", b"{}", "a>"),
        ("application/json", b"{}", "a\r\nb"),
        ("application/json", b"{}", "x" * 65),
        ("application/cloudevents+json", b'{"data": {}}', None),
        ("application/cloudevents+json", b"[]", None),
    ],
)
def test_what_is_no_event_is_refused(kind: str, body: bytes, header: str | None) -> None:
    with pytest.raises(rules.BadEventError):
        rules.published(kind, body, header)
