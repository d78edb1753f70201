"""The node's configuration: command line, environment and files.

The interface is the part of k3s's that the project uses. Anything else is refused by name, so that no
flag is silently ignored.
"""

import argparse
import ipaddress
import os
import secrets
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn
from urllib.parse import urlsplit

POD_RANGE = "10.42.0.0/16"
SERVICE_RANGE = "10.43.0.0/16"
SERVICE_API = "10.43.0.1"
SERVICE_DNS = "10.43.0.10"
DOMAIN = "cluster.local"
API_PORT = 6443

STATE = Path("/var/lib/rancher/k3s")
KUBECONFIG = Path("/etc/rancher/k3s/k3s.yaml")
REGISTRIES = Path("/etc/rancher/k3s/registries.yaml")
UNSUPPORTED_FILES = (Path("/etc/rancher/k3s/config.yaml"),)

ADDONS = ("coredns", "local-storage", "metrics-server")
# Components of k3s that this node does not have, so they can always be disabled.
NEVER_PRESENT = ("servicelb", "traefik", "runtimes")


class ConfigError(Exception):
    """Invalid configuration; the message names the setting and what would be valid."""


@dataclass(frozen=True)
class NodeConfig:
    """The node's configuration. Addresses are IPv4; an empty `node_ip` is the default route's address."""

    role: str
    token: str
    name: str
    server_url: str = ""
    node_ip: str = ""
    tls_sans: tuple[str, ...] = ()
    disabled: frozenset[str] = frozenset()
    labels: tuple[str, ...] = ()
    taints: tuple[str, ...] = ()
    kubelet_args: tuple[str, ...] = ()
    apiserver_args: tuple[str, ...] = ()
    controller_manager_args: tuple[str, ...] = ()
    scheduler_args: tuple[str, ...] = ()
    kubeconfig: Path = KUBECONFIG
    kubeconfig_mode: int = 0o600


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise ConfigError(message)


def _parser(role: str) -> _Parser:
    parser = _Parser(prog=role, allow_abbrev=False, add_help=False)
    parser.add_argument("-t", "--token")
    parser.add_argument("--token-file")
    parser.add_argument("--node-name")
    parser.add_argument("--node-ip")
    for flag in ("--node-label", "--node-taint", "--kubelet-arg"):
        parser.add_argument(flag, action="append", default=[])
    if role == "agent":
        parser.add_argument("-s", "--server")
        return parser
    for flag in (
        "--tls-san",
        "--disable",
        "--kube-apiserver-arg",
        "--kube-controller-manager-arg",
        "--kube-scheduler-arg",
    ):
        parser.add_argument(flag, action="append", default=[])
    # These do not exist here; accepted because programs for k3s pass them.
    parser.add_argument("--disable-cloud-controller", action="store_true")
    parser.add_argument("--disable-helm-controller", action="store_true")
    parser.add_argument("--write-kubeconfig")
    parser.add_argument("--write-kubeconfig-mode")
    return parser


def _split(values: Sequence[str]) -> tuple[str, ...]:
    return tuple(part.strip() for value in values for part in value.split(",") if part.strip())


def _pairs(flag: str, values: Sequence[str]) -> tuple[str, ...]:
    for value in values:
        if "=" not in value:
            raise ConfigError(f"{flag} is {value!r}; it must be name=value")
    return tuple(values)


def _address(flag: str, value: str) -> str:
    try:
        return str(ipaddress.IPv4Address(value)) if value else ""
    except ValueError:
        raise ConfigError(f"{flag} is {value!r}; it must be an IPv4 address") from None


def _is_https(url: str) -> bool:
    try:
        where = urlsplit(url)
        return where.scheme == "https" and bool(where.hostname) and where.port != 0
    except ValueError:
        return False


def _disabled(values: Sequence[str]) -> frozenset[str]:
    known = (*ADDONS, *NEVER_PRESENT)
    chosen = _split(values)
    for value in chosen:
        if value not in known:
            raise ConfigError(f"--disable is {value!r}; it must be one of {', '.join(known)}")
    return frozenset(chosen) & frozenset(ADDONS)


def _mode(value: str) -> int:
    try:
        return int(value, 8)
    except ValueError:
        raise ConfigError(
            f"--write-kubeconfig-mode is {value!r}; it must be an octal mode such as 600"
        ) from None


def password(token: str) -> str:
    """The shared secret of a token: `K10<hash>::server:<secret>` or the secret alone."""
    return token.rsplit(":", 1)[1] if token.startswith("K10") and "::" in token else token


def ca_hash(token: str) -> str:
    """The SHA-256 of the cluster's CA file in a `K10…` token, or an empty text."""
    return token[3:].split("::", 1)[0] if token.startswith("K10") and "::" in token else ""


def _kept_token(state: Path) -> str:
    path = state / "server" / "token"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(".partial")
        partial.touch(mode=0o600)
        partial.write_text(secrets.token_hex(24) + "\n")
        partial.rename(path)
    return path.read_text().strip()


def _token(flags: argparse.Namespace, env: Mapping[str, str]) -> str:
    if flags.token:
        return str(flags.token)
    file = flags.token_file or env.get("K3S_TOKEN_FILE", "")
    if file:
        try:
            return Path(file).read_text().strip()
        except OSError as error:
            raise ConfigError(f"--token-file is {file!r}; {error.strerror}") from None
    return env.get("K3S_TOKEN", "")


def parse(
    arguments: Sequence[str],
    env: Mapping[str, str] | None = None,
    state: Path = STATE,
    unsupported: Sequence[Path] = UNSUPPORTED_FILES,
) -> NodeConfig:
    """The node's configuration from `server|agent` and its flags, and the K3S_… variables.

    Raises ConfigError for an unknown flag, or an invalid value or file.
    """
    env = os.environ if env is None else env
    if not arguments or arguments[0] not in ("server", "agent"):
        given = arguments[0] if arguments else ""
        raise ConfigError(f"the command is {given!r}; it must be 'server' or 'agent'")
    for file in unsupported:
        if file.exists():
            raise ConfigError(f"{file} is not read by this node; pass its settings as flags")
    role = arguments[0]
    flags = _parser(role).parse_args(arguments[1:])
    name = flags.node_name or env.get("K3S_NODE_NAME", "") or socket.gethostname()
    common: dict[str, Any] = {
        "role": role,
        "name": name.lower(),
        "node_ip": _address("--node-ip", flags.node_ip or ""),
        "labels": _pairs("--node-label", _split(flags.node_label)),
        "taints": _split(flags.node_taint),
        "kubelet_args": _pairs("--kubelet-arg", flags.kubelet_arg),
    }
    token = _token(flags, env)
    if role == "agent":
        url = (flags.server or env.get("K3S_URL", "")).rstrip("/")
        if not _is_https(url):
            raise ConfigError(f"--server (K3S_URL) is {url!r}; it must be https://<host>:<port>")
        if not token:
            raise ConfigError("--token (K3S_TOKEN) is empty; an agent needs its server's token")
        return NodeConfig(**common, token=token, server_url=url)
    if env.get("K3S_URL"):
        raise ConfigError("K3S_URL is set; a server does not join another one")
    mode = flags.write_kubeconfig_mode or env.get("K3S_KUBECONFIG_MODE") or "600"
    return NodeConfig(
        **common,
        token=token or _kept_token(state),
        tls_sans=_split(flags.tls_san),
        disabled=_disabled(flags.disable),
        apiserver_args=_pairs("--kube-apiserver-arg", flags.kube_apiserver_arg),
        controller_manager_args=_pairs(
            "--kube-controller-manager-arg", flags.kube_controller_manager_arg
        ),
        scheduler_args=_pairs("--kube-scheduler-arg", flags.kube_scheduler_arg),
        kubeconfig=Path(
            flags.write_kubeconfig or env.get("K3S_KUBECONFIG_OUTPUT") or str(KUBECONFIG)
        ),
        kubeconfig_mode=_mode(mode),
    )
