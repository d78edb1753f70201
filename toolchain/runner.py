"""up, preview, refresh, destroy and outputs of a composition, with the Pulumi CLI."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from toolchain import (
    api_server,
    cache,
    docker_daemon,
    environment,
    images,
    installation,
    machine,
    plugins_install,
    progress,
    recovery,
    unready,
)
from toolchain.created import LABEL
from toolchain.errors import ToolchainError
from toolchain.pulumi_cli import PulumiCli

if TYPE_CHECKING:
    from toolchain.machine import Mode
    from toolchain.paths import Checkout

CLUSTER = "cluster"


@contextmanager
def session(checkout: Checkout) -> Iterator[tuple[Mode, PulumiCli]]:
    """Lock the checkout for one command, and install the CLI and the plugins."""
    checkout.make_private()
    mode = machine.decide(checkout)
    with cache.locked(checkout.private / "command.lock", "driver"):
        progress.say("machine", f"mode {mode.name}: {mode.reason}")
        with progress.step("CLI and plugins"):
            installation.ensure_cli(checkout, mode)
            for name, source in plugins_install.install(checkout, mode.packages_only).items():
                progress.say("plugins", f"{name}: {source}")
        yield mode, PulumiCli(checkout, environment.variables(checkout, mode))


def foreign_context(checkout: Checkout, stack: str) -> str | None:
    """The context of another cluster than the project's own, if the user has set one."""
    named = os.environ.get("KUBECONTEXT")
    if named:
        return named
    import yaml

    file = checkout.root / f"Pulumi.{stack}.yaml"
    loaded: dict[str, Any] = yaml.safe_load(file.read_text()) or {} if file.exists() else {}
    value = (loaded.get("config") or {}).get("dds:kubecontext")
    return str(value) if value else None


def up(checkout: Checkout, stack: str) -> None:
    """Bring up the cluster, then the composition; print its outputs."""
    with session(checkout) as (mode, cli):
        if stack == CLUSTER or not foreign_context(checkout, stack):
            _cluster_up(checkout, mode)
            # The daemon's address and the cluster's images may have changed.
            cli = PulumiCli(checkout, environment.variables(checkout, mode))  # noqa: PLW2901
        if stack != CLUSTER:
            _up(cli, stack)
        print(cli.capture(["stack", "output", "--stack", stack]), end="")


def _cluster_up(checkout: Checkout, mode: Mode) -> None:
    with progress.step("Docker daemon"):
        docker_daemon.ensure()
    if mode.packages_only:
        import docker

        with progress.step("images of the cluster"):
            made = images.ensure(docker.from_env(timeout=600))
        environment.record_images(checkout, made)
    cli = PulumiCli(checkout, environment.variables(checkout, mode))
    # Without a refresh the engine does not notice that a node's container was stopped.
    stopped = checkout.kubeconfig.exists() and not cluster_responds(cli)
    _up(cli, CLUSTER, *(["--refresh"] if stopped else []))
    write_kubeconfig(cli)


def _up(cli: PulumiCli, stack: str, *options: str) -> None:
    with progress.step(f"pulumi up {stack}"):
        cli.ensure_stack(stack)
        recovery.recover(cli, [stack])
        began = time.time()
        try:
            cli.run(["up", "--stack", stack, "--yes", "--skip-preview", *options])
        except ToolchainError:
            for reason in unready.reasons(cli, stack, began):
                progress.say("not ready", reason)
            raise


def write_kubeconfig(cli: PulumiCli) -> None:
    """Write the cluster's secret output to a file that only the user can read."""
    text = cli.capture(
        ["stack", "output", "kubeconfig", "--show-secrets", "--stack", CLUSTER]
    ).rstrip("\n")
    file = cli.checkout.kubeconfig
    part = file.with_suffix(f".{os.getpid()}")
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as out:
        out.write(text + "\n")
    part.replace(file)


def preview(checkout: Checkout, stack: str) -> None:
    """Preview the changes of `up`."""
    with session(checkout) as (_, cli):
        if stack != CLUSTER and not foreign_context(checkout, stack):
            _need_cluster(cli, f"preview of {stack}")
        cli.ensure_stack(stack)
        recovery.recover(cli, [stack])
        cli.run(["preview", "--stack", stack, "--diff"])


def _need_cluster(cli: PulumiCli, what: str) -> None:
    if CLUSTER not in cli.stacks() or not cli.checkout.kubeconfig.exists():
        raise ToolchainError(
            f"{what}: there is no cluster yet; `make up STACK=cluster` creates it, KUBECONTEXT=... "
            "selects another one, and `make render` needs none"
        )


def refresh(checkout: Checkout, stack: str) -> None:
    """Refresh the stack's state."""
    with session(checkout) as (_, cli):
        recovery.recover(cli, [stack])
        cli.run(["refresh", "--stack", stack, "--yes", "--skip-preview"])


def outputs(checkout: Checkout, stack: str, show_secrets: bool) -> None:
    """Print a stack's outputs."""
    with session(checkout) as (_, cli):
        if stack not in cli.stacks():
            raise ToolchainError(
                f"outputs: there is no stack {stack}; create it with make up STACK={stack}"
            )
        flags = ["--show-secrets"] if show_secrets else []
        print(cli.capture(["stack", "output", "--stack", stack, *flags]), end="")


def destroy(checkout: Checkout, stack: str | None) -> None:
    """Destroy one composition, or without a name all of them, the cluster last."""
    with session(checkout) as (mode, cli):
        existing = cli.stacks()
        if stack is not None:
            if stack not in existing:
                progress.say("destroy", f"there is no stack {stack}")
                return
            if stack == CLUSTER and (others := [name for name in existing if name != CLUSTER]):
                progress.say(
                    "destroy", f"with the cluster, these are destroyed: {', '.join(others)}"
                )
        if docker_daemon.host() is None and mode.packages_only and existing:
            docker_daemon.ensure()
        chosen = [stack] if stack else sorted(existing, key=lambda name: (name == CLUSTER, name))
        for name in chosen:
            _destroy(cli, name)
        if CLUSTER in chosen or stack is None:
            cli.checkout.kubeconfig.unlink(missing_ok=True)
            sweep(checkout)


def _destroy(cli: PulumiCli, stack: str) -> None:
    extra = {}
    if stack != CLUSTER and not foreign_context(cli.checkout, stack) and not cluster_responds(cli):
        # Its objects were deleted with the cluster, but are still in the state.
        progress.say(
            "destroy", f"{stack}: its cluster does not exist, removing its objects from the state"
        )
        extra["PULUMI_K8S_DELETE_UNREACHABLE"] = "true"
    with progress.step(f"pulumi destroy {stack}"):
        recovery.recover(cli, [stack])
        cli.run(["destroy", "--stack", stack, "--yes", "--skip-preview"], extra)


def cluster_responds(cli: PulumiCli) -> bool:
    """Whether the project's own cluster responds."""
    kubeconfig = Path(cli.environment.get("KUBECONFIG", cli.checkout.kubeconfig))
    if not kubeconfig.exists():
        return False
    try:
        api_server.connect(str(kubeconfig))
    except Exception:  # noqa: BLE001 any failure means no
        return False
    return True


def sweep(checkout: Checkout) -> None:
    """Remove Docker resources of this checkout that are in no state."""
    if docker_daemon.host() is None:
        return
    import docker

    client = docker.from_env()
    ours: dict[str, Any] = {"label": f"{LABEL}={checkout.instance}"}
    for container in client.containers.list(all=True, filters=ours):
        progress.say("destroy", f"removing container {container.name}")
        container.remove(force=True, v=True)
    for network in client.networks.list(filters=ours):
        progress.say("destroy", f"removing network {network.name}")
        network.remove()
    for volume in client.volumes.list(filters=ours):
        progress.say("destroy", f"removing volume {volume.name}")
        volume.remove(force=True)


def run_with_environment(checkout: Checkout, command: list[str]) -> int:
    """Run a command with the environment of `make env`; returns its exit code."""
    mode = machine.decide(checkout)
    variables = environment.variables(checkout, mode)
    return subprocess.run(command, env={**os.environ, **variables}, check=False).returncode
