"""How members come into their cluster, how users are made, and what is kept of snapshots."""

import base64
import copy
import datetime
import hashlib
import http.client
import importlib
import itertools
import json
import ssl
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from tests.unit.support import wire

ROOT = Path(__file__).parents[2]
URL = "https://etcd-0:2380"
NOW = datetime.datetime.now(datetime.UTC)


@pytest.fixture(scope="module")
def member() -> Iterator[SimpleNamespace]:
    """The modules of the image's program."""
    sys.path.insert(0, str(ROOT / "images" / "etcd"))
    names = ("access", "decision", "gateway", "maintenance", "prepare", "settings")
    modules: dict[str, ModuleType] = {n: importlib.import_module(f"member.{n}") for n in names}
    yield SimpleNamespace(**modules)
    sys.path.remove(str(ROOT / "images" / "etcd"))


def entry(name: str, *, host: str = "", ran: bool = True) -> dict[str, Any]:
    found: dict[str, Any] = {
        "ID": f"id-{name or host}",
        "peerURLs": [f"https://{host or name}:2380"],
    }
    if name:
        found["name"] = name
    if ran:
        found["clientURLs"] = [f"https://{name}:2379"]
    return found


def peers(member: Any, *given: Any) -> list[Any]:
    return [member.decision.Peer(f"etcd-{n}", **one) for n, one in enumerate(given, 1)]


EMPTY: dict[str, Any] = {"empty": True}
SILENT: dict[str, Any] = {}


def running(*entries: dict[str, Any]) -> dict[str, Any]:
    return {"members": list(entries)}


ALL_RAN = running(entry("etcd-0"), entry("etcd-1"), entry("etcd-2"))
BEGINNING = running(entry("etcd-0", ran=False), entry("etcd-1"), entry("etcd-2"))
ADDED = running(entry("", host="etcd-0", ran=False), entry("etcd-1"), entry("etcd-2"))
REMOVED = running(entry("etcd-1"), entry("etcd-2"))


@pytest.mark.parametrize(
    ("others", "expected"),
    [
        ((), "FOUND"),
        ((EMPTY, EMPTY), "FOUND"),
        # The one that is silent may have data.
        ((EMPTY, SILENT), "WAIT"),
        ((SILENT, SILENT), "WAIT"),
        ((ALL_RAN, SILENT), "REPLACE"),
        ((ALL_RAN, EMPTY), "REPLACE"),
        ((BEGINNING, SILENT), "ENTER"),
        ((BEGINNING, BEGINNING), "ENTER"),
        ((ADDED, SILENT), "ENTER"),
        ((REMOVED, REMOVED), "REPLACE"),
        # One that lags behind knows less than the other.
        ((BEGINNING, ALL_RAN), "REPLACE"),
        ((REMOVED, ADDED), "REPLACE"),
    ],
)
def test_the_step_of_a_member_with_an_empty_volume(
    member: Any, others: tuple[dict[str, Any], ...], expected: str
) -> None:
    assert member.decision.step(URL, peers(member, *others)).name == expected


def test_a_member_that_has_not_run_is_named_by_its_host(member: Any) -> None:
    listed = member.decision.initial_cluster(ADDED["members"])
    assert listed == (
        "etcd-0=https://etcd-0:2380,etcd-1=https://etcd-1:2380,etcd-2=https://etcd-2:2380"
    )


def test_who_has_seen_that_all_are_empty_need_not_be_told_again(member: Any) -> None:
    knows = [p.knows for p in peers(member, EMPTY, {**EMPTY, "decided": True}, ALL_RAN, SILENT)]
    assert knows == [False, True, True, False]


# One member, with the network played by a list of answers.


class Network:
    """What the others answer, survey by survey; the last answer stays."""

    def __init__(self, member: Any, *surveys: tuple[dict[str, Any], ...]) -> None:
        self.surveys = [peers(member, *one) for one in surveys]
        self.calls: list[tuple[str, Any]] = []
        self.listed: list[Any] | None = None

    def survey(self) -> list[Any]:
        return self.surveys.pop(0) if len(self.surveys) > 1 else self.surveys[0]

    def call(self, path: str, body: Any = None) -> Any:
        self.calls.append((path, body))
        if self.listed is None:
            raise self.unreachable("nobody")
        if path.endswith("/remove"):
            self.listed = [one for one in self.listed if one["ID"] != body["ID"]]
        if path.endswith("/add"):
            self.listed = [*self.listed, entry("", host="etcd-0", ran=False)]
        return {"members": self.listed}

    unreachable: Any = None


@pytest.fixture
def prepared(member: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Run a preparation against a network; returns the configuration or what it says."""
    at = member.settings
    (tmp_path / "etcd.yaml").write_text("common: 1\n")
    for name, path in {
        "COMMON": "etcd.yaml", "COMPLETE": "complete.yaml", "STORAGE": ".", "DATA": "data",
    }.items():  # fmt: skip
        monkeypatch.setattr(at, name, tmp_path / path)
    said: list[str] = []
    monkeypatch.setattr(member.prepare, "say", said.append)
    monkeypatch.setattr(member.prepare, "peer_context", lambda _: None)
    monkeypatch.setattr(member.prepare, "Gateway", lambda *_: None)

    def run(
        network: Network, *, age_minutes: float = 0, restore: Any = None, attempts: int = 3
    ) -> tuple[str, list[str]]:
        settings = at.Settings.load(
            json.dumps(
                {
                    "members": ["etcd-0", "etcd-1", "etcd-2"],
                    "token": "etcd",
                    "created": (NOW - datetime.timedelta(minutes=age_minutes)).isoformat(),
                    "found_minutes": 60,
                    "restore": restore,
                }
            )
        )
        network.unreachable = member.gateway.UnreachableError
        preparation = member.prepare.Preparation(settings, "etcd-0")
        monkeypatch.setattr(preparation, "_survey", network.survey)
        monkeypatch.setattr(preparation, "_gateway", network)
        monkeypatch.setattr(preparation, "_restore", lambda what: said.append(f"R {what.file}"))
        done = any(preparation._attempt() for _ in range(attempts))
        complete = tmp_path / "complete.yaml"
        return complete.read_text() if done and complete.exists() else "", said

    return run


def test_empty_members_begin_a_new_cluster(member: Any, prepared: Any) -> None:
    text, _ = prepared(Network(member, (EMPTY, EMPTY)))
    assert text.startswith("common: 1\n")
    assert "name: etcd-0\n" in text
    assert "initial-cluster-state: new\n" in text
    assert text.count("=https://etcd-") == 3


def test_empty_members_of_an_old_cluster_do_not_begin_anew(member: Any, prepared: Any) -> None:
    text, said = prepared(Network(member, (EMPTY, EMPTY)), age_minutes=61)
    assert text == ""
    assert "its data is lost" in said[-1]


def test_they_restore_if_they_are_told_what(member: Any, prepared: Any) -> None:
    restore = {"host": "there", "file": "etcd-1.db"}
    _, said = prepared(Network(member, (EMPTY, EMPTY)), age_minutes=61, restore=restore)
    assert said[-1] == "R etcd-1.db"


def test_a_lost_member_is_removed_and_comes_back_as_another(member: Any, prepared: Any) -> None:
    network = Network(member, (ALL_RAN, ALL_RAN))
    network.listed = list(ALL_RAN["members"])
    text, _ = prepared(network, age_minutes=10**5)
    paths = [path.rsplit("/", 1)[-1] for path, _ in network.calls]
    assert paths == ["list", "remove", "add"]
    assert "initial-cluster-state: existing\n" in text
    assert "etcd-0=https://etcd-0:2380" in text


def test_a_lost_member_never_starts_without_a_quorum(member: Any, prepared: Any) -> None:
    # The others run but do not agree on anything: what this one had acknowledged is unknown.
    text, said = prepared(Network(member, (ALL_RAN, SILENT)), attempts=5)
    assert text == ""
    assert "waiting for a quorum" in said[-1]


def test_removed_but_not_added_yet_it_is_added(member: Any, prepared: Any) -> None:
    network = Network(member, (REMOVED, REMOVED))
    network.listed = list(REMOVED["members"])
    text, _ = prepared(network)
    assert [path.rsplit("/", 1)[-1] for path, _ in network.calls] == ["list", "add"]
    assert "initial-cluster-state: existing\n" in text


def test_the_third_member_of_a_beginning_cluster_joins_its_quorum(
    member: Any, prepared: Any
) -> None:
    network = Network(member, (BEGINNING, BEGINNING))
    network.listed = list(BEGINNING["members"])
    text, _ = prepared(network)
    assert [path.rsplit("/", 1)[-1] for path, _ in network.calls] == ["list"]
    assert "initial-cluster-state: existing\n" in text


def test_a_beginning_cluster_without_a_quorum_gets_its_second_member(
    member: Any, prepared: Any
) -> None:
    assert "state: new\n" in prepared(Network(member, (BEGINNING, EMPTY)))[0]
    assert prepared(Network(member, (BEGINNING, EMPTY)), age_minutes=61)[0] == ""


def test_an_added_member_waits_for_the_quorum_that_added_it(member: Any, prepared: Any) -> None:
    text, said = prepared(Network(member, (ADDED, SILENT)))
    assert text == ""
    assert "waiting for a quorum" in said[-1]


# Users


class KilledError(Exception):
    """Stands for the end of the Job's pod, after any request."""


class Store:
    """Enough of etcd's users to see what is done to them."""

    def __init__(self) -> None:
        self.enabled = False
        self.passwords: dict[str, str] = {}
        self.roles: dict[str, list[dict[str, str]]] = {}
        self.granted: dict[str, set[str]] = {}
        self.changes: list[str] = []
        self.left: float = float("inf")
        """Changes until the program is killed."""

    def state(self) -> Any:
        return copy.deepcopy((self.enabled, self.passwords, self.roles, self.granted))

    def gateway(self, error: Any) -> Any:
        store = self

        class Gateway:
            def __init__(
                self, _endpoints: Any, _ca: Any, passwords: Any = None, user: str = "root"
            ) -> None:
                self.passwords = passwords
                self.user = user

            def authenticate(self, password: str) -> str | None:
                if not store.enabled:
                    return None
                if store.passwords.get(self.user) != password:
                    raise error(3, "etcdserver: authentication failed, invalid user ID or password")
                return "token"

            def call(self, path: str, body: Any = None) -> Any:
                if store.enabled and store.passwords["root"] not in self.passwords():
                    self.authenticate("")
                return store.answer(path.removeprefix("/v3/auth/"), body or {}, error)

        return Gateway

    def answer(self, path: str, body: dict[str, Any], error: Any) -> Any:
        name = str(body.get("name"))
        if path == "role/get":
            return {"perm": self.roles[body["role"]]}
        if path == "user/get":
            return {"roles": sorted(self.granted.get(name, ()))}
        if path == "role/list":
            return {"roles": sorted(self.roles)}
        if path == "user/list":
            return {"users": sorted(self.passwords)}
        if (path == "role/add" and name in self.roles) or (
            path == "user/add" and name in self.passwords
        ):
            raise error(9, f"etcdserver: {path.split('/', maxsplit=1)[0]} name already exists")
        if not self.left:
            raise KilledError
        self.left -= 1
        self.changes.append(path)
        self.change(path, name, body)
        return {}

    def change(self, path: str, name: str, body: dict[str, Any]) -> None:
        if path == "role/add":
            self.roles[name] = []
        elif path in ("user/add", "user/changepw"):
            self.passwords[name] = body["password"]
        elif path == "role/grant":
            self.roles[name].append(dict(body["perm"]))
        elif path == "role/revoke":
            kept = [p for p in self.roles[body["role"]] if p["key"] != body["key"]]
            self.roles[body["role"]] = kept
        elif path == "user/grant":
            self.granted.setdefault(body["user"], set()).add(body["role"])
        elif path == "user/revoke":
            self.granted[name].remove(body["role"])
        elif path == "user/delete":
            del self.passwords[name]
            self.granted.pop(name, None)
        elif path == "role/delete":
            del self.roles[body["role"]]
            for roles in self.granted.values():
                roles.discard(body["role"])
        elif path == "enable":
            self.enabled = True
        else:
            raise AssertionError(path)


@pytest.fixture
def access(member: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Run the Job's program: each user with its prefix and its logins, the present one first."""

    def run(
        store: Store, *, root: str = "root-password", **users: tuple[str, dict[str, str]]
    ) -> list[str]:
        plan = []
        for name, (prefix, logins) in users.items():
            (tmp_path / name).write_text("\n".join(logins.values()))
            plan.append(
                {
                    "name": name,
                    "prefix": prefix,
                    "logins": list(logins),
                    "passwords_file": str(tmp_path / name),
                }
            )
        (tmp_path / "plan").write_text(json.dumps({"endpoints": ["https://x:1"], "users": plan}))
        (tmp_path / "root").write_text(root)
        monkeypatch.setattr(member.access, "PLAN", tmp_path / "plan")
        monkeypatch.setattr(member.settings, "ROOT_PASSWORDS", tmp_path / "root")
        monkeypatch.setattr(member.access, "Gateway", store.gateway(member.gateway.GatewayError))
        store.changes.clear()
        member.access.main()
        return list(store.changes)

    return run


def test_authentication_is_enabled_once(access: Any) -> None:
    store = Store()
    assert access(store)[-1] == "enable"
    assert access(store) == []
    assert store.granted == {"root": {"root"}}


def test_a_user_gets_its_prefix_and_nothing_is_done_twice(access: Any) -> None:
    store = Store()
    access(store)
    assert access(store, shop=("/shop/", {"shop": "a"}))
    (perm,) = store.roles["dds/shop"]
    assert perm["permType"] == "READWRITE"
    assert base64.b64decode(perm["key"]) == b"/shop/"
    # The first key behind all that begin with the prefix.
    assert base64.b64decode(perm["range_end"]) == b"/shop0"
    assert store.granted["shop"] == {"dds/shop"}
    # A change of any user makes every token stale, so none is made without need.
    assert access(store, shop=("/shop/", {"shop": "a"})) == []


def test_a_user_with_another_prefix_loses_the_one_before(access: Any) -> None:
    store = Store()
    access(store, shop=("/shop/", {"shop": "a"}))
    access(store, shop=("/sale/", {"shop": "b"}))
    (perm,) = store.roles["dds/shop"]
    assert base64.b64decode(perm["key"]) == b"/sale/"
    assert store.passwords["shop"] == "b"


def test_a_user_has_its_own_role_only(access: Any) -> None:
    store = Store()
    access(store, shop=("/shop/", {"shop": "a"}))
    store.roles["all"] = []
    store.granted["shop"].add("all")
    assert access(store, shop=("/shop/", {"shop": "a"})) == ["user/revoke"]
    assert store.granted["shop"] == {"dds/shop"}


def test_a_former_login_is_good_until_it_is_not_declared(access: Any) -> None:
    store = Store()
    access(store, shop=("/shop/", {"shop": "a"}))
    both = {"shop-2": "b", "shop": "a"}
    access(store, shop=("/shop/", both))
    assert {name: store.passwords[name] for name in both} == both
    assert store.granted["shop-2"] == store.granted["shop"] == {"dds/shop"}
    assert access(store, shop=("/shop/", both)) == []
    assert access(store, shop=("/shop/", {"shop-2": "b"})) == ["user/delete"]
    assert set(store.passwords) == {"root", "shop-2"}


def hand_made(store: Store) -> None:
    """What an operator made: a user without a role among them, and roles of any name."""
    store.passwords |= {"alice": "1", "bob": "2", "shopper": "3", "till-2": "4", "shop-7": "5"}
    store.roles |= {"shop": [], "ddsx": []}
    # Where the role is of ours the user is not, and the other way round.
    store.granted |= {"alice": {"shop"}, "shopper": {"dds/shop"}, "shop-7": {"shop"}}


def test_what_is_not_declared_any_more_is_removed_and_what_is_hand_made_stays(access: Any) -> None:
    store = Store()
    access(store)
    before = store.state()
    access(store, shop=("/shop/", {"shop-2": "b", "shop": "a"}), pub=("/pub/", {"pub": "c"}))
    assert store.passwords == {"root": "root-password", "shop-2": "b", "shop": "a", "pub": "c"}
    hand_made(store)
    users, roles = set(store.passwords), set(store.roles)
    access(store, pub=("/pub/", {"pub": "c"}))
    assert users - set(store.passwords) == {"shop", "shop-2"}
    assert roles - set(store.roles) == {"dds/shop"}
    access(store)
    assert set(before[1]) | {"alice", "bob", "shopper", "till-2", "shop-7"} == set(store.passwords)
    assert store.granted["alice"] == {"shop"}
    assert access(store) == []


def test_root_gets_its_password_with_the_former_one(access: Any) -> None:
    store = Store()
    access(store, root="first")
    assert access(store, root="second\nfirst") == ["user/changepw"]
    assert store.passwords["root"] == "second"
    assert access(store, root="second\nfirst") == []
    # Of several that it may have been, any will do.
    assert access(store, root="third\nnever\nsecond") == ["user/changepw"]


def test_a_root_with_none_of_the_known_passwords_is_said(access: Any) -> None:
    store = Store()
    access(store)
    for known in ("another", "another\nand-one-more"):
        with pytest.raises(
            SystemExit, match="accepts neither root's password nor a known former one"
        ):
            access(store, root=known)


def test_killed_after_any_change_it_goes_on_with_the_rest(access: Any) -> None:
    steps: list[dict[str, Any]] = [
        {"root": "first", "shop": ("/shop/", {"shop": "a"}), "pub": ("/pub/", {"pub": "c"})},
        {"root": "second\nfirst", "shop": ("/sale/", {"shop-2": "b", "shop": "a"})},
        {"root": "second\nfirst", "till": ("/till/", {"till-2": "e"})},
        {"root": "second\nfirst"},
    ]
    for wanted, after in itertools.product(steps, steps[1:]):
        for changes in itertools.count():
            store = Store()
            access(store, **steps[0])
            if wanted is steps[0]:
                store = Store()
            store.left = changes
            try:
                access(store, **wanted)
            except KilledError:
                pass
            else:
                break
            store.left = float("inf")
            # Whether it is run again as it was, or what is declared is another by then.
            access(store, **after)
            assert access(store, **after) == []
            declared = {name: user for name, user in after.items() if name != "root"}
            assert set(store.roles) == {"root", *(f"dds/{name}" for name in declared)}
            passwords = {"root": "second"}
            for _, logins in declared.values():
                passwords |= logins
            assert store.passwords == passwords
        assert changes > 0


# What others say, and what they are told


def without_tls(member: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a member ask others over plain HTTP, as the raw servers speak it."""
    plain = http.client.HTTPConnection
    monkeypatch.setattr(
        member.prepare.http.client,
        "HTTPSConnection",
        lambda host, port, **_: plain(host, port, timeout=30),
    )


@pytest.mark.parametrize(
    ("answers", "expected"),
    [
        ((wire.answered(b'{"empty": true, "decided": true}'),), {"empty": True, "decided": True}),
        ((wire.answered(b'{"empty": true}'),), {"empty": True}),
        ((wire.answered(b'{"empty": true, "decided": "no"}'),), {"empty": True}),
        ((wire.answered(b'{"empty": false, "decided": true}'),), {}),
        *(((wire.answered(odd),), {}) for odd in (b"[]", b"null", b"7", b"{}", b"[" * 90_000)),
        ((None, wire.answered(b"[]")), {"members": []}),
        ((None, wire.answered(b'[{"peerURLs": ["a"]}]')), {"members": [{"peerURLs": ["a"]}]}),
        *(
            ((None, wire.answered(odd)), {})
            for odd in (b"{}", b"null", b"7", b"[7]", b"[null]", b'[{"peerURLs": null}]')
        ),
    ],
    ids=lambda one: str(one)[-60:],
)  # fmt: skip
def test_an_odd_answer_of_another_member_is_none(
    member: Any,
    monkeypatch: pytest.MonkeyPatch,
    answers: tuple[bytes | None, ...],
    expected: dict[str, Any],
) -> None:
    without_tls(member, monkeypatch)
    monkeypatch.setattr(member.prepare, "peer_context", lambda _: None)
    monkeypatch.setattr(member.prepare, "Gateway", lambda *_: None)
    missing = wire.answered(b"", status="404 Not Found")
    settings = member.settings.Settings(("etcd-0", "127.0.0.1"), "etcd", NOW, None)
    preparation = member.prepare.Preparation(settings, "etcd-0")
    with wire.raw_server(*(answer or missing for answer in answers)) as server:
        monkeypatch.setattr(member.settings, "PEER_PORT", server.port)
        (said,) = preparation._survey()
    assert said == member.decision.Peer("127.0.0.1", **expected)


# Waits, as a member does that prepares, while its server ends.
_ENDING = """
import http.server, signal, sys, time
from types import SimpleNamespace
sys.path.insert(0, sys.argv[1])
from member import __main__ as program, prepare
prepare.peer_context = lambda _: SimpleNamespace(wrap_socket=lambda one, **_: one)
def broken(_):
    raise RuntimeError("broken")
http.server.ThreadingHTTPServer.service_actions = broken
signal.signal(signal.SIGTERM, program._end)
with prepare.serving(0, lambda _: None):
    signal.pause() if sys.argv[2] == "pause" else time.sleep(600)
"""


@pytest.mark.parametrize("waits", ["pause", "sleep"])
def test_a_program_whose_server_ends_ends_with_it(waits: str) -> None:
    folder = str(ROOT / "images" / "etcd")
    ended = subprocess.run(
        [sys.executable, "-B", "-c", _ENDING, folder, waits],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert ended.returncode == 143, ended.stderr
    assert "failed: RuntimeError('broken')" in ended.stdout


@pytest.mark.parametrize(
    ("leaders", "expected"),
    [
        # Members 1, 2 and 3, each with the leader that it knows.
        (("0", "3", "3"), 2),
        ((None, "3", "3"), 2),
        (("1", "0", None), 1),
        (("1", "1", "1"), 2),
        ((None, "0", None), None),
    ],
)
def test_a_snapshot_is_of_a_member_that_has_a_leader(
    member: Any, leaders: tuple[str | None, ...], expected: int | None
) -> None:
    def call(_path: str, _body: Any, endpoint: str) -> dict[str, Any]:
        leader = leaders[int(endpoint) - 1]
        state: dict[str, Any] = {"header": {"member_id": endpoint}}
        return state if leader is None else {**state, "leader": leader}

    gateway = SimpleNamespace(call=call)
    if expected is None:
        with pytest.raises(SystemExit, match="no member with a leader responds"):
            member.maintenance._follower(gateway, ["1", "2", "3"])
    else:
        found, state = member.maintenance._follower(gateway, ["1", "2", "3"])
        assert (found, state["header"]["member_id"]) == (str(expected), str(expected))


# Snapshots


CONTENT = b"a page of a database" * 100
WHOLE = CONTENT + hashlib.sha256(CONTENT).digest()
CHANGED = WHOLE[:100] + b"!" + WHOLE[101:]
OLD = "etcd-20200101T000000Z.db"


def streamed(content: bytes, *, whole: bool = True) -> bytes:
    """A snapshot as etcd's gateway sends it: a line of JSON in each chunk."""
    halves = (content[:1000], content[1000:])
    lines = (
        json.dumps({"result": {"blob": base64.b64encode(half).decode()}}).encode() + b"\n"
        for half in halves
    )
    return wire.chunked(*lines, whole=whole)


@pytest.fixture
def snapshot(member: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Take a snapshot from a server on the loopback; ``run.folder`` is where they are kept."""
    maintenance = member.maintenance
    run = SimpleNamespace(folder=tmp_path / "snapshots", said=[], keep=1)
    run.folder.mkdir()
    (tmp_path / "root").write_text("root-password")
    monkeypatch.setattr(maintenance, "PLAN", tmp_path / "plan")
    monkeypatch.setattr(maintenance, "SNAPSHOTS", run.folder)
    monkeypatch.setattr(member.settings, "ROOT_PASSWORDS", tmp_path / "root")
    monkeypatch.setattr(maintenance, "say", run.said.append)
    monkeypatch.setattr(maintenance.subprocess, "run", lambda *_, **__: None)
    plain = http.client.HTTPConnection
    monkeypatch.setattr(
        member.gateway.http.client,
        "HTTPSConnection",
        lambda host, port, **_: plain(host, port, timeout=30),
    )
    monkeypatch.setattr(member.gateway.ssl, "create_default_context", lambda **_: None)
    state = {"header": {"member_id": "1", "revision": "7"}, "leader": "2"}
    token, status = ({"token": "t"}, state)

    def take(answer: bytes) -> list[str]:
        before = (wire.answered(json.dumps(body).encode()) for body in (token, status, status))
        with wire.raw_server(*before, answer) as server:
            plan = {"endpoints": [server.url], "name": "etcd", "keep": run.keep}
            (tmp_path / "plan").write_text(json.dumps(plan))
            maintenance.snapshot()
        names: list[str] = run.names()
        return names

    run.take = take
    run.names = lambda: sorted(path.name for path in run.folder.iterdir())
    return run


def test_a_snapshot_is_written_whole_and_the_oldest_deleted(snapshot: Any) -> None:
    kept = "etcd-20210101T000000Z.db"
    for old in (OLD, kept):
        (snapshot.folder / old).write_text("old")
    snapshot.keep = 2
    (new,) = set(snapshot.take(streamed(WHOLE))) - {kept}
    assert (snapshot.folder / new).read_bytes() == WHOLE
    assert snapshot.said[-1] == f"deleted {OLD}"


@pytest.mark.parametrize(
    "answer",
    [
        streamed(WHOLE, whole=False),
        # A proxy in between may end it properly.
        streamed(WHOLE[:1000]),
        streamed(WHOLE[:-1]),
        streamed(b""),
        streamed(CHANGED),
        wire.answered(b'{"code": 14, "message": "no"}', status="503 Service Unavailable"),
        wire.chunked(b'{"error": {"code": 14, "message": "no"}}\n', whole=True),
        wire.chunked(b"[]\n", whole=True),
    ],
    ids=["cut", "ended", "byte", "empty", "changed", "refused", "given up", "no object"],
)
def test_a_snapshot_that_is_not_whole_replaces_none(snapshot: Any, answer: bytes) -> None:
    (snapshot.folder / OLD).write_text("old")
    with pytest.raises(SystemExit, match="no snapshot of http://.*; the existing ones are kept"):
        snapshot.take(answer)
    assert snapshot.names() == [OLD]


def test_a_cluster_deletes_its_own_snapshots_only(snapshot: Any) -> None:
    others = ["etcd-b-20200101T000000Z.db", "etcd-b-20200101T000000Z.part", "etcd-mine.db",
              "etcd-20209999T000000Z.db"]  # fmt: skip
    for name in [OLD, *others]:
        (snapshot.folder / name).write_text("old")
    names = snapshot.take(streamed(WHOLE))
    assert OLD not in names
    assert set(others) < set(names)
    assert len(names) == len(others) + 1


def test_what_a_killed_run_left_is_deleted_and_a_running_one_left_alone(snapshot: Any) -> None:
    running = f"etcd-{NOW - datetime.timedelta(minutes=10):%Y%m%dT%H%M%SZ}.part"
    for name in ("etcd-20200101T000000Z.part", running):
        (snapshot.folder / name).write_text("a")
    names = snapshot.take(streamed(WHOLE))
    assert [name for name in names if name.endswith(".part")] == [running]


# Upkeep


QUOTA = 16 * 2**20


@pytest.mark.parametrize(
    ("revision", "left", "free", "end"),
    [
        (9, QUOTA // 2, ["1=7", "2=8", "3=9"], ["2", "3"]),
        # Too few versions to give each member one of its own.
        (2, QUOTA // 2, ["2=1", "3=2"], ["2", "3"]),
        (9, QUOTA, ["1=7", "2=8", "3=9"], None),
    ],
    ids=["room", "young", "none"],
)
def test_at_the_quota_all_members_give_up_former_versions(
    member: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    revision: int, left: int, free: list[str], end: list[str] | None,
) -> None:  # fmt: skip
    """Member 1 leads and still has room; the others raised the alarm."""
    sizes = {"1": QUOTA // 2, "2": QUOTA, "3": QUOTA}
    done: dict[str, list[str]] = {"compaction": [], "defragment": [], "ended": []}

    class Gateway:
        def __init__(self, *_: object, **__: object) -> None:
            pass

        def call(self, path: str, body: Any = None, at: str = "") -> Any:
            verb = path.rsplit("/", 1)[-1]
            if verb == "compaction":
                assert body["physical"]
                done["compaction"].append(f"{at}={body['revision']}")
                # As from a run before, which did not end.
                raise member.gateway.GatewayError(11, "required revision has been compacted")
            if verb == "defragment":
                done["defragment"].append(at)
                sizes[at] = left
            elif verb == "alarm" and body["action"] == "GET":
                return {"alarms": [{"memberID": m, "alarm": "NOSPACE"} for m in ("2", "3")]}
            elif verb == "alarm":
                assert body["action"] == "DEACTIVATE"
                done["ended"].append(body["memberID"])
            elif verb == "status":
                return {
                    "header": {"member_id": at, "revision": str(revision)}, "leader": "1",
                    "dbSize": str(sizes[at]), "dbSizeInUse": "1", "dbSizeQuota": str(QUOTA),
                    "errors": ["memberID:2 alarm:NOSPACE "],
                }  # fmt: skip
            return {}

    plan = {"endpoints": ["1", "2", "3"], "least_bytes": 2**40, "free_fraction": 1.0}
    (tmp_path / "plan").write_text(json.dumps(plan))
    monkeypatch.setattr(member.maintenance, "PLAN", tmp_path / "plan")
    monkeypatch.setattr(member.maintenance, "Gateway", Gateway)
    if end is None:
        with pytest.raises(SystemExit, match="raise quota_mib"):
            member.maintenance.defragment()
    else:
        member.maintenance.defragment()
    assert done == {"compaction": free, "defragment": ["2", "3"], "ended": end or []}


def test_a_member_with_another_fault_is_left_alone(
    member: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Gateway:
        def __init__(self, *_: object, **__: object) -> None:
            pass

        def call(self, *_: object) -> Any:
            return {"errors": ["memberID:2 alarm:NOSPACE ", "memberID:2 alarm:CORRUPT "]}

    (tmp_path / "plan").write_text(json.dumps({"endpoints": ["1"]}))
    monkeypatch.setattr(member.maintenance, "PLAN", tmp_path / "plan")
    monkeypatch.setattr(member.maintenance, "Gateway", Gateway)
    with pytest.raises(SystemExit, match="alarm:CORRUPT.*nothing was changed"):
        member.maintenance.defragment()


# Restoring


WANTED = f"/{OLD}"


@pytest.mark.parametrize(
    "broken",
    [
        wire.answered(WHOLE[:1000], length=len(WHOLE)),
        wire.chunked(WHOLE[:1000], whole=False),
        b"no HTTP\r\n\r\n",
        b"",
    ],
    ids=["length", "chunks", "status", "nothing"],
)
def test_a_snapshot_that_comes_in_part_is_fetched_again(
    member: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broken: bytes
) -> None:
    without_tls(member, monkeypatch)
    monkeypatch.setattr(member.prepare, "_POLL_SECONDS", 0)
    with wire.raw_server(broken, wire.answered(WHOLE)) as server:
        monkeypatch.setattr(member.settings, "SNAPSHOT_PORT", server.port)
        member.prepare.download(SimpleNamespace(), "127.0.0.1", OLD, tmp_path / "got")
    assert (tmp_path / "got").read_bytes() == WHOLE
    assert [head.split()[1].decode() for head in server.requests] == [WANTED, WANTED]


def test_a_snapshot_that_was_changed_is_not_restored(
    member: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(member.settings, "STORAGE", tmp_path)
    monkeypatch.setattr(member.prepare, "peer_context", lambda _: None)
    monkeypatch.setattr(member.prepare, "Gateway", lambda *_: None)
    monkeypatch.setattr(
        member.prepare, "download", lambda _context, _host, _name, to: to.write_bytes(CHANGED)
    )
    settings = member.settings.Settings(
        ("etcd-0",), "etcd", NOW, member.settings.Restore("there", OLD)
    )
    preparation = member.prepare.Preparation(settings, "etcd-0")
    with pytest.raises(SystemExit, match=f"{OLD} is damaged.*restore another one"):
        preparation._attempt()
    assert not list(tmp_path.iterdir())


def test_only_snapshots_are_served(
    member: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "snapshots"
    folder.mkdir()
    (folder / "a.db").write_text("a")
    (folder / "a.part").write_text("a")
    (tmp_path / "b.db").write_text("b")
    served: list[Any] = []

    class Stop(Exception):
        pass

    class Serving:
        def __init__(self, _port: int, answer: Any) -> None:
            served.append(answer)

        def __enter__(self) -> None:
            raise Stop

        def __exit__(self, *_: object) -> None:
            pass

    monkeypatch.setattr(member.maintenance, "SNAPSHOTS", folder)
    monkeypatch.setattr(member.maintenance, "serving", Serving)
    with pytest.raises(Stop):
        member.maintenance.serve()
    (answer,) = served
    assert answer("/a.db") == folder / "a.db"
    assert [answer(path) for path in ("/a.part", "/../b.db", "/", "/c.db")] == [None] * 4


def test_members_verify_each_other(
    member: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = _certificates()
    for name, content in made.items():
        (tmp_path / name).write_text(content)
    monkeypatch.setattr(member.settings, "PEER", tmp_path)
    for purpose in (ssl.Purpose.CLIENT_AUTH, ssl.Purpose.SERVER_AUTH):
        assert member.prepare.peer_context(purpose).verify_mode == ssl.CERT_REQUIRED


def _certificates() -> dict[str, str]:
    from dds_patterns.platform.certificates import (  # noqa: PLC0415
        AuthorityProvider,
        CertificateProvider,
    )

    authority = dict(
        AuthorityProvider().create({"common_name": "a", "validity_days": 1.0}).outs or {}
    )
    issued = dict(
        CertificateProvider()
        .create(
            {
                "authority": authority["certificate"],
                "authority_key": authority["key"],
                "common_name": "b",
                "dns_names": ["b"],
                "ip_addresses": [],
                "usages": ["server", "client"],
                "validity_days": 1.0,
                "generation": 1.0,
            }
        )
        .outs
        or {}
    )
    return {
        "ca.crt": authority["certificate"],
        "tls.crt": issued["certificate"],
        "tls.key": issued["key"],
    }
