"""`python -m toolchain <command>`: the commands of the Makefile."""

from __future__ import annotations

import argparse
import importlib
import os
import sys

from toolchain import environment, progress
from toolchain.errors import ToolchainError
from toolchain.paths import Checkout

DEFAULT_STACK = "ambassadors"
# Commands that are modules with a `main(arguments) -> int`.
MODULES = ("render", "lint", "pr-preview", "doctor", "checks", "trace", "reference", "schema")


def parser() -> argparse.ArgumentParser:
    """The command line."""
    top = argparse.ArgumentParser(prog="python -m toolchain", description=__doc__)
    commands = top.add_subparsers(dest="command", required=True, metavar="command")

    def add(name: str, text: str, stack: bool = True) -> argparse.ArgumentParser:
        command = commands.add_parser(name, help=text, description=text)
        if stack:
            command.add_argument(
                "--stack", default=os.environ.get("STACK") or DEFAULT_STACK, help="composition"
            )
        return command

    add("up", "bring up the cluster and the composition; print its outputs")
    add("preview", "preview the changes of `up`")
    add("refresh", "refresh the state of every resource")
    add("outputs", "print the outputs").add_argument("--show-secrets", action="store_true")
    destroy = add(
        "destroy",
        "destroy every composition and then the cluster; with --stack only that composition "
        "(cluster: the cluster, with everything that runs on it)",
        stack=False,
    )
    destroy.add_argument("--stack", default=None, help="only this composition")
    add("env", 'print the environment, for: eval "$(make env)"', stack=False)
    add("docker", "start a Docker daemon if none runs", stack=False)
    add("base-image", "pull or build the base image if the daemon does not have it", stack=False)
    add("images", "build the images of the cluster (node, registry)", stack=False)
    build = add("build", "build tools from their Go modules", stack=False)
    build.add_argument("tools", nargs="*", help="default: all tools of the driver")
    run = add("run", "run a command in the environment of `env`", stack=False)
    run.add_argument("words", nargs=argparse.REMAINDER)
    for name in MODULES:
        module = add(name, f"see `{name} --help`", stack=False)
        module.add_argument("words", nargs=argparse.REMAINDER)
    return top


def main(arguments: list[str]) -> int:
    """Run one command and return its exit code."""
    environment.forget_own()
    # The rest of the command line belongs to the module, --help included.
    if arguments and arguments[0] in MODULES:
        module = importlib.import_module(f"toolchain.{arguments[0].replace('-', '_')}")
        return int(module.main(arguments[1:]) or 0)
    given = parser().parse_args(arguments)
    checkout = Checkout()
    if given.command == "env":
        from toolchain import installation, machine, plugins_install

        mode = machine.decide(checkout)
        installation.ensure_cli(checkout, mode)
        plugins_install.install(checkout, mode.packages_only)
        print(environment.exports(environment.variables(checkout, mode)), end="")
    elif given.command == "docker":
        from toolchain import docker_daemon

        print(docker_daemon.ensure())
    elif given.command == "base-image":
        import docker

        from toolchain import base_image, docker_daemon, machine

        docker_daemon.ensure()
        pull = not machine.decide(checkout).packages_only
        print(base_image.ensure(docker.from_env(timeout=600), pull))
    elif given.command == "images":
        import docker

        from toolchain import docker_daemon, images

        docker_daemon.ensure()
        checkout.make_private()
        made = images.ensure(docker.from_env(timeout=600))
        environment.record_images(checkout, made)
        for name, reference in made.items():
            print(f"{name}={reference}")
    elif given.command == "build":
        from toolchain import builds

        for folder in builds.ensure_all(given.tools or list(builds.TOOLS)).values():
            print(folder)
    elif given.command == "run":
        from toolchain import runner

        return runner.run_with_environment(checkout, given.words)
    else:
        return _pulumi(checkout, given)
    return 0


def _pulumi(checkout: Checkout, given: argparse.Namespace) -> int:
    from toolchain import runner

    try:
        if given.command == "outputs":
            runner.outputs(checkout, given.stack, given.show_secrets)
        else:
            getattr(runner, given.command)(checkout, given.stack)
    finally:
        if given.command in ("up", "destroy"):
            progress.print_summary()
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except ToolchainError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)
    except ModuleNotFoundError as error:
        # PackageNotFoundError is a subclass.
        print(
            f"error: {sys.executable} does not have the package {error.name} of requirements.txt; "
            "`make` uses the project's own Python, .venv/bin/python",
            file=sys.stderr,
        )
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)
