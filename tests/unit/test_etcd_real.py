"""The generated configuration, users, a restore and a full store, with a real etcd on loopback."""

import base64
import http.client
import importlib
import itertools
import json
import os
import re
import shutil
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from dds_patterns import EtcdCluster
from dds_patterns.platform.certificates import AuthorityProvider, CertificateProvider
from tests.ports import free_port
from tests.unit.support.manifests import objects
from toolchain import builds
from toolchain.graph import build

ROOT = Path(__file__).parents[2]
NAMES = ("etcd", "etcdutl")
FOUND = {name: shutil.which(name) or str(builds.bin_folder(name) / name) for name in NAMES}
pytestmark = pytest.mark.skipif(
    not all(Path(path).exists() for path in FOUND.values()),
    reason="etcd is not built (python -m toolchain build etcd etcdutl)",
)


def configuration() -> str:
    graph = build(lambda: EtcdCluster("etcd", {"image": "registry.example/etcd:3.6", "members": 1}))
    texts = [
        text
        for body in objects(graph, "ConfigMap")
        for key, text in body["data"].items()
        if key.endswith("etcd.yaml")
    ]
    (text,) = texts
    return str(text)


def issue(folder: Path) -> None:
    """The files that a member mounts, from the project's own authorities."""
    for name, usages in (("peer", ["server", "client"]), ("client", ["server"]),
                         ("tokens", ["client"])):  # fmt: skip
        issuer = AuthorityProvider().create({"common_name": name, "validity_days": 1.0}).outs or {}
        props = {
            "authority": issuer["certificate"],
            "authority_key": issuer["key"],
            "common_name": name,
            "dns_names": ["etcd-0", "localhost"],
            "ip_addresses": ["127.0.0.1"],
            "usages": usages,
            "validity_days": 1.0,
            "generation": 1.0,
        }
        made = CertificateProvider().create(props).outs or {}
        (folder / name).mkdir()
        for file, content in (
            ("ca.crt", issuer["certificate"]),
            ("tls.crt", made["certificate"]),
            ("tls.key", made["key"]),
        ):
            (folder / name / file).write_text(content)


class Member:
    """One etcd with the generated configuration; ports and folders are this test's."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.ports = {port: free_port() for port in (2379, 2380, 2381)}
        self.url = f"https://127.0.0.1:{self.ports[2379]}"
        text = configuration()
        for path in ("/etc/etcd", "/var/lib/etcd", "/run/etcd"):
            text = text.replace(path, str(folder))
        self.common = self.local(text)

    def local(self, text: str) -> str:
        for port, free in self.ports.items():
            text = text.replace(f"0.0.0.0:{port}", f"127.0.0.1:{free}")
            text = text.replace(f"etcd-0:{port}", f"127.0.0.1:{free}")
        return text

    @contextmanager
    def running(self) -> Iterator[None]:
        peer = f"https://127.0.0.1:{self.ports[2380]}"
        own = {
            "name": "etcd-0",
            "initial-advertise-peer-urls": peer,
            "advertise-client-urls": self.url,
            "initial-cluster": f"etcd-0={peer}",
            "initial-cluster-state": "new",
        }
        file = self.folder / "etcd.yaml"
        file.write_text(self.common + "".join(f"{key}: {value}\n" for key, value in own.items()))
        with (self.folder / "log").open("ab") as log:
            process = subprocess.Popen(
                [FOUND["etcd"], f"--config-file={file}"], stdout=log, stderr=log
            )
        try:
            self.wait(process)
            yield
        finally:
            process.terminate()
            process.wait(30)

    def wait(self, process: "subprocess.Popen[bytes]") -> None:
        end = time.monotonic() + 60
        while True:
            assert process.poll() is None, (self.folder / "log").read_text()[-3000:]
            try:
                url = f"http://127.0.0.1:{self.ports[2381]}/readyz"
                with urllib.request.urlopen(url, timeout=5) as answer:
                    if answer.status == http.HTTPStatus.OK:
                        return
            except OSError:
                assert time.monotonic() < end, (self.folder / "log").read_text()[-3000:]
            time.sleep(0.1)


@pytest.fixture
def member(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[SimpleNamespace]:
    """A member, and the image's program with that member's folders."""
    monkeypatch.syspath_prepend(str(ROOT / "images" / "etcd"))
    for name in [name for name in sys.modules if name.partition(".")[0] == "member"]:
        monkeypatch.delitem(sys.modules, name)
    names = ("access", "gateway", "maintenance", "prepare", "settings")
    modules = {name: importlib.import_module(f"member.{name}") for name in names}
    issue(tmp_path)
    made = Member(tmp_path)
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "passwords").write_text("root-password")
    plan = {"endpoints": [made.url], "name": "etcd", "keep": 2, "least_bytes": 0,
            "free_fraction": 0.0}  # fmt: skip
    (tmp_path / "maintenance.json").write_text(json.dumps(plan))
    (tmp_path / "snapshots").mkdir()
    settings: Any = modules["settings"]
    for name, path in {
        "CLIENT_CA": "client/ca.crt", "ROOT_PASSWORDS": "root/passwords", "STORAGE": ".",
        "DATA": "data", "COMMON": "etcd.yaml", "COMPLETE": "complete.yaml",
    }.items():  # fmt: skip
        monkeypatch.setattr(settings, name, tmp_path / path)
    monkeypatch.setattr(modules["access"], "PLAN", tmp_path / "access.json")
    monkeypatch.setattr(modules["maintenance"], "PLAN", tmp_path / "maintenance.json")
    monkeypatch.setattr(modules["maintenance"], "SNAPSHOTS", tmp_path / "snapshots")
    tools = os.pathsep.join(str(Path(path).parent) for path in FOUND.values())
    monkeypatch.setenv("PATH", tools, prepend=os.pathsep)

    def gateway(user: str | None = None, password: str = "") -> Any:
        ask = (lambda: [password]) if user else None
        made_gateway: Any = modules["gateway"]
        return made_gateway.Gateway([made.url], settings.CLIENT_CA, ask, user or "root")

    def access(root: str = "root-password", **users: tuple[str, dict[str, str]]) -> None:
        """What the Job does: passwords of root, and each user's prefix and logins."""
        (tmp_path / "root" / "passwords").write_text(root)
        plan = []
        for name, (prefix, logins) in users.items():
            (tmp_path / f"user-{name}").write_text("\n".join(logins.values()))
            told = {"name": name, "prefix": prefix, "logins": list(logins)}
            plan.append({**told, "passwords_file": str(tmp_path / f"user-{name}")})
        document = {"endpoints": [made.url], "users": plan}
        (tmp_path / "access.json").write_text(json.dumps(document))
        modules["access"].main()

    parts = {"etcd": made, "folder": tmp_path, "gateway": gateway, "run_access": access}
    yield SimpleNamespace(**{**modules, **parts})
    for name in [name for name in sys.modules if name.partition(".")[0] == "member"]:
        del sys.modules[name]


ELECTOR = ("/one/", {"elector": "elector-password"})
WRONG = "invalid user ID or password"


def key(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def test_a_member_its_users_its_upkeep_and_its_way_back(
    member: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    put = {"key": key("/one/a"), "value": key("1")}
    refused: Any = sys.modules["member.gateway"].GatewayError
    with member.etcd.running():
        for _ in range(2):
            member.run_access(elector=ELECTOR)
        with pytest.raises(refused, match="user name is empty"):
            member.gateway().call("/v3/kv/put", put)
        elector = member.gateway("elector", "elector-password")
        revision = int(elector.call("/v3/kv/put", put)["header"]["revision"])
        with pytest.raises(refused, match="permission denied"):
            elector.call("/v3/kv/put", {**put, "key": key("/two/a")})
        with pytest.raises(refused, match=WRONG):
            member.gateway("elector", "wrong").call("/v3/kv/put", put)
        # A token of before a change of users is exchanged by itself.
        root = member.gateway("root", "root-password")
        root.call("/v3/auth/role/add", {"name": "another"})
        elector.call("/v3/kv/put", put)
        member.maintenance.snapshot()
        member.maintenance.defragment()
        elector.call("/v3/kv/put", {**put, "value": key("after")})
    (snapshot,) = (member.folder / "snapshots").glob("*.db")

    shutil.rmtree(member.folder / "data")
    (member.folder / "etcd.yaml").write_text(member.etcd.common)
    settings = member.settings.Settings.load(
        json.dumps(
            {
                "members": ["etcd-0"],
                "token": "etcd",
                "created": "2026-01-01T00:00:00+00:00",
                "found_minutes": 60,
                "restore": {"host": "there", "file": snapshot.name},
            }
        )
    )
    monkeypatch.setattr(
        member.settings.Settings, "peer_url",
        lambda *_: f"https://127.0.0.1:{member.etcd.ports[2380]}",
    )  # fmt: skip
    monkeypatch.setattr(member.prepare, "peer_context", lambda _: None)
    monkeypatch.setattr(
        member.prepare, "download", lambda _context, _host, _name, to: shutil.copy(snapshot, to)
    )
    preparation = member.prepare.Preparation(settings, "etcd-0")
    assert preparation._attempt()
    with member.etcd.running():
        elector = member.gateway("elector", "elector-password")
        answer = elector.call("/v3/kv/range", {"key": put["key"]})
        assert [pair["value"] for pair in answer["kvs"]] == [key("1")]
        # No token of before is ever given out again.
        assert int(elector.call("/v3/kv/put", put)["header"]["revision"]) > revision + 10**8
        with pytest.raises(refused, match="user name is empty"):
            member.gateway().call("/v3/kv/put", put)
        # The snapshot has root's password and the users of its time.
        with pytest.raises(
            SystemExit, match="accepts neither root's password nor a known former one"
        ):
            member.run_access("another-password")
        member.run_access("another-password\nroot-password", till=("/two/", {"till": "b"}))
        with pytest.raises(refused, match=WRONG):
            elector.call("/v3/kv/put", put)
        for former in ("another-password", "x\nanother-password"):
            (member.folder / "root" / "passwords").write_text(former)
            member.maintenance.defragment()


def test_users_are_what_is_declared_and_passwords_are_replaced(member: Any) -> None:
    refused: Any = sys.modules["member.gateway"].GatewayError
    put = {"key": key("/one/a"), "value": key("1")}

    def let_in(name: str, password: str) -> bool:
        try:
            member.gateway(name, password).call("/v3/kv/put", put)
        except refused as error:
            if WRONG not in str(error):
                raise
            return False
        return True

    def revision() -> int:
        """Grows with any change of a user or role."""
        answer = member.gateway("root", "first").call("/v3/auth/status")
        return int(answer["authRevision"])

    with member.etcd.running():
        member.run_access("first", one=("/one/", {"one": "a"}), two=("/two/", {"two": "c"}))
        root = member.gateway("root", "first")
        root.call("/v3/auth/role/add", {"name": "operators"})
        root.call("/v3/auth/role/grant", {
            "name": "operators",
            "perm": {"permType": "READWRITE", "key": key("/"), "range_end": key("0")},
        })  # fmt: skip
        root.call("/v3/auth/user/add", {"name": "alice", "password": "d"})
        root.call("/v3/auth/user/grant", {"user": "alice", "role": "operators"})
        before = revision()
        member.run_access("first", one=("/one/", {"one": "a"}), two=("/two/", {"two": "c"}))
        assert revision() == before

        # Another generation: the former login is good as well, also with a token from before.
        client = member.gateway("one", "a")
        client.call("/v3/kv/put", put)
        member.run_access("first", one=("/one/", {"one-2": "b", "one": "a"}))
        client.call("/v3/kv/put", put)
        assert let_in("one-2", "b")
        # That user is not declared any more.
        assert not let_in("two", "c")
        member.run_access("first", one=("/one/", {"one-2": "b"}))
        assert let_in("one-2", "b")
        assert not let_in("one", "a")
        with pytest.raises(refused, match=WRONG):
            client.call("/v3/kv/put", put)

        # Of a given password there is one at a time.
        member.run_access("first", one=("/one/", {"one": "e"}))
        member.run_access("first", one=("/one/", {"one": "f"}))
        assert [let_in("one", "e"), let_in("one", "f")] == [False, True]

        member.run_access("second\nfirst", one=("/one/", {"one": "f"}))
        root = member.gateway("root", "second")
        assert sorted(root.call("/v3/auth/user/list")["users"]) == ["alice", "one", "root"]
        assert root.call("/v3/auth/role/list")["roles"] == ["dds/one", "operators", "root"]
        assert not let_in("root", "first")
        assert let_in("alice", "d")


def test_a_run_that_was_killed_is_gone_on_with(
    member: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    class KilledError(Exception):
        pass

    gateway: Any = sys.modules["member.gateway"].Gateway
    ask = gateway._send

    def killed(self: Any, path: str, *rest: Any) -> Any:
        answer = ask(self, path, *rest)
        if not path.endswith(("/list", "/get", "/authenticate")):
            raise KilledError
        return answer

    with member.etcd.running():
        member.run_access("first", one=("/one/", {"one": "a"}), two=("/two/", {"two": "c"}))
        wanted = {"one": ("/other/", {"one-2": "b", "one": "a"}), "pub": ("/pub/", {"pub": "d"})}
        kills = 0
        # Each run is killed after its first change, until one has nothing left to change.
        with monkeypatch.context() as patched:
            patched.setattr(gateway, "_send", killed)
            for kills in itertools.count():
                assert kills < 20, "a run changes what one before it did"
                try:
                    member.run_access("second\nfirst", **wanted)
                except KilledError:
                    continue
                break
        assert kills > 8
        root = member.gateway("root", "second")
        assert root.call("/v3/auth/user/list")["users"] == ["one", "one-2", "pub", "root"]
        assert root.call("/v3/auth/role/list")["roles"] == ["dds/one", "dds/pub", "root"]
        (perm,) = root.call("/v3/auth/role/get", {"role": "dds/one"})["perm"]
        assert perm["key"] == key("/other/")


def test_a_store_at_its_quota_is_repaired_once_there_is_room(
    member: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    refused: Any = sys.modules["member.gateway"].GatewayError
    member.etcd.common = re.sub(
        r"quota-backend-bytes: .*", f"quota-backend-bytes: {16 * 2**20}", member.etcd.common
    )
    value = base64.b64encode(b"x" * 2**20).decode()
    root = member.gateway()

    def fill(name: Callable[[int], str]) -> None:
        for number in range(40):
            root.call("/v3/kv/put", {"key": key(name(number)), "value": value})

    with member.etcd.running():
        # Former versions only.
        with pytest.raises(refused, match="database space exceeded"):
            fill(lambda _: "/one/same")
        assert root.call("/v3/maintenance/status")["errors"]
        member.maintenance.defragment()
        root.call("/v3/kv/put", {"key": key("/one/a"), "value": value})
        assert "there is space" in capsys.readouterr().out
        # Present versions: the room that a defragmentation makes is soon full as well.
        numbers = itertools.count()

        def full_again() -> None:
            with pytest.raises(refused, match="database space exceeded"):
                fill(lambda _: f"/one/{next(numbers)}")
            member.maintenance.defragment()

        def full_for_good() -> None:
            for _ in range(8):
                full_again()

        with pytest.raises(SystemExit, match="Delete keys, which is still possible, or raise"):
            full_for_good()
        # Nothing is left to be given up, and nothing ends the alarm.
        with pytest.raises(SystemExit, match="Delete keys"):
            full_again()
        root.call("/v3/kv/deleterange", {"key": key("/one/"), "range_end": key("/one0")})
        member.maintenance.defragment()
        root.call("/v3/kv/put", {"key": key("/one/a"), "value": value})
        assert "errors" not in root.call("/v3/maintenance/status")
