"""The checkout's own cluster, and no other: where it is and whether it responds."""

import os
import shlex
import subprocess
import sys
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import yaml

from toolchain.paths import Checkout

ROOT = Checkout().root


class NoClusterError(Exception):
    """There is no cluster of this checkout; the message says what to do."""


def _own_addresses(checkout: Checkout) -> set[str]:
    return {f"https://{host}:{checkout.api_port}" for host in ("127.0.0.1", "localhost")}


@dataclass(frozen=True)
class Cluster:
    """The cluster that `make up` made for this checkout."""

    checkout: Checkout
    kubeconfig: Path

    @classmethod
    def own(cls, checkout: Checkout | None = None) -> "Cluster":
        """The checkout's own cluster.

        Raises NoClusterError where there is none, and refuses a kubeconfig of another cluster:
        these tests pause, kill and cordon what they find.
        """
        checkout = checkout or Checkout()
        file = checkout.kubeconfig
        if not file.is_file():
            raise NoClusterError(f"{file} is not there; run `make up` first")
        config = yaml.safe_load(file.read_text())
        servers = {entry["cluster"]["server"] for entry in config["clusters"]}
        if not servers <= _own_addresses(checkout):
            raise NoClusterError(
                f"{file} leads to {', '.join(sorted(servers))}, which is not this checkout's "
                f"cluster on port {checkout.api_port}; the tests touch no other"
            )
        return cls(checkout, file)

    @property
    def instance(self) -> str:
        """The prefix of the names of its containers."""
        return self.checkout.instance

    @property
    def registry(self) -> str:
        """host:port of its registry, the same name on the host and in the nodes."""
        return f"localhost:{self.checkout.registry_port}"

    @property
    def context(self) -> str:
        """The kubeconfig's context."""
        return str(yaml.safe_load(self.kubeconfig.read_text())["current-context"])

    @cached_property
    def environment(self) -> dict[str, str]:
        """Environment for the Pulumi CLI and kubectl, as `make env` prints it."""
        shown = subprocess.run(
            [sys.executable, "-m", "toolchain", "env"],
            cwd=self.checkout.root,
            capture_output=True,
            text=True,
            check=False,
        )
        if shown.returncode:
            raise NoClusterError(f"`make env` failed:\n{shown.stderr}")
        variables = dict(os.environ)
        for line in shown.stdout.splitlines():
            words = shlex.split(line.removeprefix("export "))
            for word in words:
                name, separator, value = word.partition("=")
                if separator:
                    variables[name] = value.replace("$PATH", variables.get("PATH", ""))
        variables["KUBECONFIG"] = str(self.kubeconfig)
        variables.pop("KUBECONTEXT", None)
        return variables
