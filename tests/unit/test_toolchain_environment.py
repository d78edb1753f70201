"""Where this checkout works, in which mode, and what it puts in the environment."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from toolchain import docker_daemon, environment, machine, plugins_install
from toolchain.errors import ToolchainError
from toolchain.machine import Mode
from toolchain.paths import Checkout

PACKAGES = Mode("packages", "test")
ORDINARY = Mode("ordinary", "test")
OURS = (
    "DDS_MODE",
    "DDS_NODE_IMAGE",
    "DDS_OFFICIAL_PLUGINS",
    "DDS_REGISTRY_IMAGE",
    "DOCKER_HOST",
    "KUBECONTEXT",
    "PULUMI_BACKEND_URL",
    "PULUMI_CONFIG_PASSPHRASE",
    "PULUMI_CONFIG_PASSPHRASE_FILE",
)


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Checkout:
    for name in OURS:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setattr(docker_daemon, "host", lambda: None)
    root = tmp_path / "checkout"
    root.mkdir()
    return Checkout(root)


def test_two_checkouts_have_names_and_ports_of_their_own(tmp_path: Path) -> None:
    one, two = Checkout(tmp_path / "one"), Checkout(tmp_path / "two")
    assert one.instance != two.instance
    assert one.instance.startswith("dds-")
    assert one.api_port == one.registry_port + 1
    assert 20000 <= one.registry_port < 30000


def test_a_link_to_a_checkout_is_the_same_checkout(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    assert Checkout(tmp_path / "link").instance == Checkout(tmp_path / "real").instance


def test_only_the_owner_looks_into_the_private_folder(checkout: Checkout) -> None:
    checkout.make_private()
    assert checkout.private.stat().st_mode & 0o777 == 0o700


def test_defaults(checkout: Checkout) -> None:
    found = environment.variables(checkout, PACKAGES)
    assert found["PULUMI_BACKEND_URL"] == f"file://{checkout.state}"
    assert found["PULUMI_CONFIG_PASSPHRASE"] == environment.PASSPHRASE
    assert found["KUBECONFIG"] == str(checkout.kubeconfig)
    assert found["PULUMI_IGNORE_AMBIENT_PLUGINS"] == "true"
    assert found["PATH"].startswith(str(checkout.root / ".venv" / "bin"))
    assert found["DDS_NODE_IMAGE"] == ""


@pytest.mark.parametrize(
    ("given", "absent"),
    [
        ("PULUMI_BACKEND_URL", "PULUMI_BACKEND_URL"),
        ("PULUMI_CONFIG_PASSPHRASE", "PULUMI_CONFIG_PASSPHRASE"),
        ("PULUMI_CONFIG_PASSPHRASE_FILE", "PULUMI_CONFIG_PASSPHRASE"),
        ("KUBECONTEXT", "KUBECONFIG"),
        ("DDS_NODE_IMAGE", "DDS_NODE_IMAGE"),
    ],
)
def test_what_the_user_exported_wins(
    checkout: Checkout, monkeypatch: pytest.MonkeyPatch, given: str, absent: str
) -> None:
    assert absent in environment.variables(checkout, PACKAGES)
    monkeypatch.setenv(given, "theirs")
    assert absent not in environment.variables(checkout, PACKAGES)


def test_an_ordinary_machine_takes_upstream_images_and_plugins(checkout: Checkout) -> None:
    checkout.make_private()
    environment.record_images(checkout, {"DDS_NODE_IMAGE": "dds/node:1"})
    assert environment.variables(checkout, PACKAGES)["DDS_NODE_IMAGE"] == "dds/node:1"
    found = environment.variables(checkout, ORDINARY)
    assert found["DDS_NODE_IMAGE"] == ""
    assert "PULUMI_IGNORE_AMBIENT_PLUGINS" not in found


def test_exports_survive_the_shell() -> None:
    assert environment.exports({"A": "it's $HOME"}) == "export A='it'\"'\"'s $HOME'\n"


def test_the_mode_follows_what_is_reachable(checkout: Checkout) -> None:
    assert machine.decide(checkout, lambda _: True).name == "ordinary"


@pytest.mark.parametrize("missing", list(machine.PROBES.values()))
def test_one_absent_service_is_enough_for_packages(checkout: Checkout, missing: str) -> None:
    mode = machine.decide(checkout, lambda address: address != missing)
    assert mode.packages_only
    (name,) = (name for name, address in machine.PROBES.items() if address == missing)
    assert name in mode.reason


def test_a_decision_holds(checkout: Checkout) -> None:
    assert machine.decide(checkout, lambda _: False).packages_only
    again = machine.decide(checkout, lambda _: True)
    assert again.packages_only
    assert ".dds/mode" in again.reason


def test_dds_mode_decides_and_is_not_remembered(
    checkout: Checkout, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DDS_MODE", "ordinary")
    assert machine.decide(checkout, lambda _: False).name == "ordinary"
    monkeypatch.delenv("DDS_MODE")
    assert machine.decide(checkout, lambda _: False).name == "packages"


def test_an_unknown_mode_is_refused(checkout: Checkout, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DDS_MODE", "fast")
    with pytest.raises(ToolchainError, match="'fast'; must be one of ordinary, packages"):
        machine.decide(checkout, lambda _: True)


def test_plugins_of_ours_are_installed_where_the_engine_looks(checkout: Checkout) -> None:
    plugins = checkout.pulumi_home / "plugins"
    plugins_install.install(checkout, packages_only=True)
    # Of an earlier version: with it, `pulumi package get-schema` asks the language host to run it.
    mark = plugins / plugins_install.PROVIDERS[0].folder / "PulumiPlugin.yaml"
    mark.write_text("runtime: python\n")
    plugins_install.install(checkout, packages_only=True)
    assert not mark.exists()
    for plugin in (*plugins_install.PROVIDERS, *plugins_install.LANGUAGE):
        executable = plugins / plugin.folder / plugin.executable
        assert executable.stat().st_mode & 0o111
        assert plugin.module in executable.read_text()


def test_an_official_plugin_wins_and_ours_comes_back_without_it(
    checkout: Checkout, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kubernetes, docker = plugins_install.PROVIDERS
    official = tmp_path / "official"
    official.mkdir()
    (official / kubernetes.executable).write_bytes(b"\x7fELF\xff")
    executable = checkout.pulumi_home / "plugins" / kubernetes.folder / kubernetes.executable
    monkeypatch.setenv("DDS_OFFICIAL_PLUGINS", str(official))
    for packages_only in (True, False, True):
        sources = plugins_install.install(checkout, packages_only)
        assert executable.resolve() == official / kubernetes.executable
        assert sources[kubernetes.name].startswith("official")
    assert sources[docker.name] == "the project's own"
    monkeypatch.delenv("DDS_OFFICIAL_PLUGINS")
    plugins_install.install(checkout, packages_only=True)
    assert not executable.is_symlink()
    assert kubernetes.module in executable.read_text()
    assert (official / kubernetes.executable).read_bytes() == b"\x7fELF\xff"


def test_ours_go_where_the_engine_fetches_the_official_ones(checkout: Checkout) -> None:
    plugins_install.install(checkout, packages_only=True)
    plugins_install.install(checkout, packages_only=False)
    assert list((checkout.pulumi_home / "plugins").iterdir()) == []


@pytest.mark.usefixtures("checkout")
def test_only_the_exact_version_is_taken_from_the_users_home(tmp_path: Path) -> None:
    kubernetes = plugins_install.PROVIDERS[0]
    other = dataclasses.replace(kubernetes, version="4.0.0")
    for plugin in (other, kubernetes):
        assert plugins_install.official(kubernetes) is None
        folder = tmp_path / "home" / ".pulumi" / "plugins" / plugin.folder
        folder.mkdir(parents=True)
        (folder / plugin.executable).touch()
    assert plugins_install.official(kubernetes) is not None


def test_capabilities_that_are_not_granted() -> None:
    status = "Name:\tx\nCapBnd:\t{}\nSeccomp:\t0\n"
    assert docker_daemon.missing_capabilities(status.format("000001ffffffffff")) == []
    assert docker_daemon.missing_capabilities(status.format("000001fffeffffff")) == [
        "CAP_SYS_RESOURCE"
    ]


def test_what_another_run_put_there_is_worked_out_anew(
    checkout: Checkout, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = environment.variables(checkout, PACKAGES)
    assert before["DDS_NODE_IMAGE"] == ""
    for name, value in before.items():
        monkeypatch.setenv(name, value)
    checkout.make_private()
    environment.record_images(checkout, {"DDS_NODE_IMAGE": "dds/node:2"})
    environment.forget_own()
    assert environment.variables(checkout, PACKAGES)["DDS_NODE_IMAGE"] == "dds/node:2"


def test_one_checkout_s_environment_does_not_lead_another_to_its_state(
    checkout: Checkout, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in environment.variables(checkout, PACKAGES).items():
        monkeypatch.setenv(name, value)
    environment.forget_own()
    other = Checkout(tmp_path / "other")
    found = environment.variables(other, PACKAGES)
    assert found["PULUMI_BACKEND_URL"] == f"file://{other.state}"


def test_what_the_user_exports_after_make_env_stays(
    checkout: Checkout, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in environment.variables(checkout, PACKAGES).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("PULUMI_BACKEND_URL", "s3://theirs")
    environment.forget_own()
    assert "PULUMI_BACKEND_URL" not in environment.variables(checkout, PACKAGES)
