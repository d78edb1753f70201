"""Where this checkout works, in which mode, and what it puts in the environment."""

from __future__ import annotations

import dataclasses
import os
import time
from pathlib import Path

import pytest

from toolchain import builds, docker_daemon, environment, machine, plugins_install
from toolchain.errors import ToolchainError
from toolchain.machine import Mode
from toolchain.paths import Checkout

PACKAGES = Mode("packages", "test")
ORDINARY = Mode("ordinary", "test")
KUBERNETES, DOCKER = plugins_install.PROVIDERS
# What stays where the engine fetches everything else.
COMPONENTS = {f"{plugins_install.COMPONENTS.folder}{end}" for end in ("", ".lock")}
ELF = b"\x7fELF\xff"
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


@pytest.fixture
def built(checkout: Checkout, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The program of a build that takes minutes elsewhere."""
    assert builds.tools().is_relative_to(checkout.root.parent), "not the machine's own cache"

    def ensure(name: str) -> Path:
        folder = builds.tools() / f"{name}-0" / "bin"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / KUBERNETES.executable).write_bytes(ELF)
        return folder

    monkeypatch.setattr(builds, "ensure", ensure)
    return builds.tools().resolve() / f"{KUBERNETES.built_by}-0" / "bin" / KUBERNETES.executable


def test_plugins_are_installed_where_the_engine_looks(checkout: Checkout, built: Path) -> None:
    plugins = checkout.pulumi_home / "plugins"
    plugins_install.install(checkout, packages_only=True)
    # Of an earlier version: with it, `pulumi package get-schema` asks the language host to run it.
    mark = plugins / DOCKER.folder / "PulumiPlugin.yaml"
    mark.write_text("runtime: python\n")
    plugins_install.install(checkout, packages_only=True)
    assert not mark.exists()
    for plugin in (DOCKER, *plugins_install.LANGUAGE):
        executable = plugins / plugin.folder / plugin.executable
        assert executable.stat().st_mode & 0o111
        assert plugin.module in executable.read_text()
    assert (plugins / KUBERNETES.folder / KUBERNETES.executable).resolve() == built


@pytest.mark.usefixtures("built")
def test_a_schema_kept_from_earlier_code_is_older_than_the_components(checkout: Checkout) -> None:
    """The language host for YAML reads the kept schema as long as it is not older."""
    plugins = checkout.pulumi_home / "plugins"
    plugins_install.install(checkout, packages_only=True)
    folder = plugins / plugins_install.COMPONENTS.folder
    before = time.time() - 3600
    os.utime(folder, (before, before))
    plugins_install.install(checkout, packages_only=True)
    assert folder.stat().st_mtime > before + 60


def test_an_official_plugin_wins_and_ours_comes_back_without_it(
    checkout: Checkout, built: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    official = tmp_path / "official"
    official.mkdir()
    installed = {
        plugin: checkout.pulumi_home / "plugins" / plugin.folder / plugin.executable
        for plugin in plugins_install.PROVIDERS
    }
    for plugin in plugins_install.PROVIDERS:
        (official / plugin.executable).write_bytes(ELF)
    monkeypatch.setenv("DDS_OFFICIAL_PLUGINS", str(official))
    for packages_only in (True, False, True):
        sources = plugins_install.install(checkout, packages_only)
        for plugin, executable in installed.items():
            assert executable.resolve() == official / plugin.executable
            assert sources[plugin.name] == f"official ({official / plugin.executable})"
    monkeypatch.delenv("DDS_OFFICIAL_PLUGINS")
    sources = plugins_install.install(checkout, packages_only=True)
    assert sources == {"kubernetes": plugins_install.BUILT, "docker": plugins_install.OWN}
    assert installed[KUBERNETES].resolve() == built
    assert not installed[DOCKER].is_symlink()
    assert DOCKER.module in installed[DOCKER].read_text()
    for plugin in plugins_install.PROVIDERS:
        assert (official / plugin.executable).read_bytes() == ELF


@pytest.mark.usefixtures("built")
def test_ours_go_where_the_engine_fetches_the_official_ones(checkout: Checkout) -> None:
    plugins_install.install(checkout, packages_only=True)
    sources = plugins_install.install(checkout, packages_only=False)
    assert set(sources.values()) == {plugins_install.FETCHED}
    assert {path.name for path in (checkout.pulumi_home / "plugins").iterdir()} == COMPONENTS


def test_a_state_of_an_earlier_pin_finds_its_version(checkout: Checkout, built: Path) -> None:
    """Until a stack's next update its state names the version that it was made with."""
    plugins = checkout.pulumi_home / "plugins"
    earlier = dataclasses.replace(KUBERNETES, version="4.34.2", module="toolchain.plugins.gone")
    executable = plugins / earlier.folder / earlier.executable
    executable.parent.mkdir(parents=True)
    executable.write_text(plugins_install.launcher(earlier))
    for _ in range(2):
        plugins_install.install(checkout, packages_only=True)
        assert executable.resolve() == built
    plugins_install.install(checkout, packages_only=False)
    assert {path.name for path in plugins.iterdir()} == COMPONENTS


def test_what_the_user_has_linked_stays_where_the_engine_fetches(
    checkout: Checkout, tmp_path: Path
) -> None:
    theirs = tmp_path / "theirs"
    theirs.write_bytes(ELF)
    executable = checkout.pulumi_home / "plugins" / KUBERNETES.folder / KUBERNETES.executable
    executable.parent.mkdir(parents=True)
    executable.symlink_to(theirs)
    plugins_install.install(checkout, packages_only=False)
    assert executable.resolve() == theirs


@pytest.mark.usefixtures("checkout")
def test_only_the_exact_version_is_taken_from_the_users_home(tmp_path: Path) -> None:
    other = dataclasses.replace(KUBERNETES, version="4.0.0")
    for plugin in (other, KUBERNETES):
        assert plugins_install.official(KUBERNETES) is None
        folder = tmp_path / "home" / ".pulumi" / "plugins" / plugin.folder
        folder.mkdir(parents=True)
        (folder / plugin.executable).touch()
    assert plugins_install.official(KUBERNETES) is not None


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
