"""Prepares the node's container: mounts, cgroups, sysctls, DNS."""

import contextlib
import ipaddress
import json
import re
import subprocess
from collections.abc import Sequence
from pathlib import Path

from toolchain.node.program.config import STATE
from toolchain.node.program.supervisor import say

CGROUPS = Path("/sys/fs/cgroup")
RESOLV = Path("/etc/resolv.conf")
POD_RESOLV = Path("/run/node/resolv.conf")
# Link-local, so that it is the same on every node and never collides with a network.
RELAY_ADDRESS = "169.254.20.10"
# Timeout of commands: a client of a program that hangs would hang too.
COMMAND_SECONDS = 60.0
_SYSCTLS = {
    "net/ipv4/ip_forward": "1",
    # Otherwise only one ICMP error a second is sent, and other clients would wait for their timeout.
    "net/ipv4/icmp_ratelimit": "0",
    # Only for pods on a bridge; this node has none, but a pod may create one.
    "net/bridge/bridge-nf-call-iptables": "1",
}


def run(*argv: str, check: bool = True, seconds: float = COMMAND_SECONDS) -> str:
    """Runs a command and returns its output; OSError has its error messages.

    A command that takes more than `seconds` (60) is killed, which is an OSError independent of `check`.
    """
    return _run(argv, check, seconds)


def feed(text: str, *argv: str) -> None:
    """Runs a command with `text` as its input, at most 60 s; OSError has its error messages."""
    _run(argv, True, COMMAND_SECONDS, text)


def _run(argv: Sequence[str], check: bool, seconds: float, text: str | None = None) -> str:
    try:
        done = subprocess.run(
            argv, input=text, capture_output=True, text=True, check=False, timeout=seconds
        )
    except subprocess.TimeoutExpired:
        raise TimeoutError(f"{' '.join(argv)}: timed out after {seconds:.0f} s") from None
    if check and done.returncode:
        raise OSError(f"{' '.join(argv)}: exit {done.returncode}: {done.stderr.strip()}")
    return done.stdout


def prepare() -> None:
    """Sets up mounts, cgroups, sysctls and folders. Settings that the container may not change stay."""
    run("mount", "-o", "remount,rw", "/sys", check=False)
    for folder in [CGROUPS, *sorted(CGROUPS.iterdir())]:
        if folder.is_mount():
            run("mount", "-o", "remount,rw", str(folder), check=False)
            run("mount", "-o", "remount,rw,bind", str(folder), check=False)
    run("mount", "--make-rshared", "/")
    if (CGROUPS / "cgroup.controllers").exists():
        _delegate_controllers()
    for name, value in _SYSCTLS.items():
        path = Path("/proc/sys") / name
        try:
            if path.read_text().strip() != value:
                path.write_text(value)
        except OSError as error:
            say(f"sysctl {name}: not set to {value}: {error.strerror}")
    _keep_on_volume(Path("/var/lib/kubelet"), STATE / "agent" / "kubelet")
    for wanted in ("/run/node", "/etc/cni/net.d", "/var/log/pods"):
        Path(wanted).mkdir(parents=True, exist_ok=True)
    for stale in Path("/etc/cni/net.d").iterdir():
        stale.unlink()


def _delegate_controllers() -> None:
    """With cgroup v2 a group with processes cannot enable controllers for its children, so the node's
    own processes move into a child before the kubelet creates the pods' groups.
    """
    own = CGROUPS / "node"
    own.mkdir(exist_ok=True)
    for pid in (CGROUPS / "cgroup.procs").read_text().split():
        # An exited process cannot be moved.
        with contextlib.suppress(OSError):
            (own / "cgroup.procs").write_text(pid)
    for controller in (CGROUPS / "cgroup.controllers").read_text().split():
        try:
            (CGROUPS / "cgroup.subtree_control").write_text(f"+{controller}")
        except OSError as error:
            say(f"cgroup controller {controller} cannot be enabled: {error.strerror}")


def _keep_on_volume(folder: Path, kept: Path) -> None:
    """Mounts the kubelet's folder from the volume: pods' volumes must not be on the container's layer."""
    folder.mkdir(parents=True, exist_ok=True)
    if folder.is_mount():
        return
    kept.mkdir(parents=True, exist_ok=True)
    run("mount", "--bind", str(kept), str(folder))
    run("mount", "--make-rshared", str(folder))


def address(wanted: str = "") -> str:
    """This node's IPv4 address: the given one, or the source address of the default route."""
    if wanted:
        return wanted
    for query in (("route", "get", "1.1.1.1"), ("addr", "show", "scope", "global")):
        answer = run("ip", "-4", "-j", *query, check=False)
        for entry in json.loads(answer or "[]"):
            found = entry.get("prefsrc") or next(
                (info["local"] for info in entry.get("addr_info", [])), ""
            )
            if found:
                return str(ipaddress.IPv4Address(found))
    raise OSError("this node has no IPv4 address except loopback; connect it to a network")


def mtu(node_ip: str) -> int:
    """The MTU of the interface with the node's address; 1500 if it is not found."""
    for entry in json.loads(run("ip", "-4", "-j", "addr", "show", check=False) or "[]"):
        if any(info["local"] == node_ip for info in entry["addr_info"]):
            return int(entry["mtu"])
    return 1500


def nameservers(text: str) -> list[str]:
    """The nameservers of a resolv.conf."""
    return re.findall(r"^\s*nameserver\s+(\S+)", text, re.MULTILINE)


def pod_resolv(text: str) -> tuple[str, Sequence[str]]:
    """The pods' resolv.conf, and the upstreams of the relay, if it is needed.

    A pod cannot reach the loopback addresses of its node. Docker's resolver (127.0.0.11) is one; if the
    node has only such nameservers, pods use the relay. The node's search domains are not for pods.
    """
    servers = nameservers(text)
    usable = [server for server in servers if not ipaddress.ip_address(server).is_loopback]
    if usable:
        return "".join(f"nameserver {server}\n" for server in usable), ()
    return f"nameserver {RELAY_ADDRESS}\n", servers


def write(path: Path, text: str, mode: int = 0o644) -> None:
    """Writes a file atomically."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    partial.unlink(missing_ok=True)
    partial.touch(mode=mode)
    partial.write_text(text)
    partial.chmod(mode)
    partial.rename(path)
