"""The Docker daemon: an existing one, or one started here if possible.

A running daemon is used as it is. If there is none, and the user is root on a Debian-like machine,
missing packages are installed and a daemon is started on the default socket. It continues to run after
the command.
"""

from __future__ import annotations

import http
import http.client
import json
import os
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

from toolchain import cache, paths, progress
from toolchain.errors import ToolchainError

DEFAULT_SOCKET = Path("/var/run/docker.sock")
PIDFILE = Path("/var/run/docker.pid")
PACKAGES = {
    "dockerd": "docker.io",
    "containerd": "containerd",
    "runc": "runc",
    "iptables": "iptables",
    "debootstrap": "debootstrap",
}
RUNTIME = "runc-granted"
START_TIMEOUT = 60.0

# In the order of the bits in linux/capability.h, up to those of runc 1.1.
CAPABILITIES = [
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_ADMIN",
    "NET_RAW",
    "IPC_LOCK",
    "IPC_OWNER",
    "SYS_MODULE",
    "SYS_RAWIO",
    "SYS_CHROOT",
    "SYS_PTRACE",
    "SYS_PACCT",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_NICE",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "MKNOD",
    "LEASE",
    "AUDIT_WRITE",
    "AUDIT_CONTROL",
    "SETFCAP",
    "MAC_OVERRIDE",
    "MAC_ADMIN",
    "SYSLOG",
    "WAKE_ALARM",
    "BLOCK_SUSPEND",
    "AUDIT_READ",
    "PERFMON",
    "BPF",
    "CHECKPOINT_RESTORE",
]

# A wrapper, because dockerd has no setting for this: for a privileged container it requests every
# capability that it knows.
WRAPPER = """\
#!/bin/sh
# Removes capabilities that this machine does not grant from runc's input.
previous=
for argument in "$@"; do
  case $previous in
    --bundle|-b) clean=$argument/config.json ;;
    --process|-p) clean=$argument ;;
  esac
  previous=$argument
done
if [ -n "${clean-}" ] && [ -f "$clean" ]; then
  @PYTHON@ -IS @CLEANER@ "$clean" || exit 1
fi
exec @RUNC@ "$@"
"""

CLEANER = '''\
"""Remove capabilities that are not granted from a runc bundle's config or exec's process file."""
import json
import sys

MISSING = set(@MISSING@)
with open(sys.argv[1]) as file:
    document = json.load(file)
process = document.get("process", document)
kept = process.get("capabilities") or {}
for kind, names in kept.items():
    kept[kind] = [name for name in names or [] if name not in MISSING]
with open(sys.argv[1], "w") as file:
    json.dump(document, file)
'''


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: str, timeout: float) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


def answers(path: Path, timeout: float = 3.0) -> bool:
    """Whether a Docker daemon responds on the socket `path` within `timeout` seconds."""
    connection = _UnixConnection(str(path), timeout)
    try:
        connection.request("GET", "/_ping")
        return connection.getresponse().status == http.HTTPStatus.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def host() -> str | None:
    """The DOCKER_HOST of a reachable daemon, or None.

    Tried in this order: DOCKER_HOST, the default socket, the current context of the docker CLI.
    """
    named = os.environ.get("DOCKER_HOST")
    if named:
        if not named.startswith("unix://"):
            return named
        return named if answers(Path(named.removeprefix("unix://"))) else None
    if answers(DEFAULT_SOCKET):
        return f"unix://{DEFAULT_SOCKET}"
    context = _context_host()
    if context and context.startswith("unix://") and answers(Path(context.removeprefix("unix://"))):
        return context
    return None


def _context_host() -> str | None:
    if not shutil.which("docker"):
        return None
    shown = subprocess.run(
        ["docker", "context", "inspect", "--format", "{{.Endpoints.docker.Host}}"],
        capture_output=True,
        text=True,
        check=False,
        stdin=subprocess.DEVNULL,
    )
    return shown.stdout.strip() or None if shown.returncode == 0 else None


def missing_capabilities(status: str) -> list[str]:
    """The names of capabilities that are not in CapBnd of a /proc/<pid>/status."""
    line = next(line for line in status.splitlines() if line.startswith("CapBnd:"))
    granted = int(line.split()[1], 16)
    return [f"CAP_{name}" for bit, name in enumerate(CAPABILITIES) if not granted >> bit & 1]


def is_debian_like() -> bool:
    """Whether this machine uses apt."""
    return Path("/etc/debian_version").exists() and shutil.which("apt-get") is not None


def ensure() -> str:
    """Return the DOCKER_HOST of a running daemon; starts one if possible.

    Raises ToolchainError if none runs and none can be started.
    """
    found = host()
    if found:
        return found
    if os.environ.get("DOCKER_HOST"):
        raise ToolchainError(
            f"docker: DOCKER_HOST is {os.environ['DOCKER_HOST']!r}, but no daemon responds there; "
            "start it or unset DOCKER_HOST"
        )
    if os.geteuid() != 0 or not is_debian_like():
        raise ToolchainError(
            "docker: no daemon responds on "
            f"{DEFAULT_SOCKET}; install and start Docker Engine or Docker Desktop (a daemon is "
            "started automatically only for root on Debian and its derivatives)"
        )
    # The lock is beside the socket, because users share the daemon but not the cache.
    with cache.locked(Path("/var/run/dds-docker.lock"), "docker"):
        if not answers(DEFAULT_SOCKET):
            _install()
            _start()
    return f"unix://{DEFAULT_SOCKET}"


def _install() -> None:
    absent = sorted(package for program, package in PACKAGES.items() if not shutil.which(program))
    if not absent:
        return
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    log = paths.cache_root() / "docker" / "apt.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    with progress.heartbeat("docker", f"apt-get install {' '.join(absent)}"), log.open("w") as out:
        for command in (
            ["apt-get", "update", "-q"],
            ["apt-get", "install", "-qy", "--no-install-recommends", *absent],
        ):
            done = subprocess.run(
                command,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                check=False,
            )
            if done.returncode:
                raise ToolchainError(
                    f"docker: {' '.join(command)} failed; the end of {log}:\n"
                    + "\n".join(log.read_text().splitlines()[-15:])
                )


def _start() -> None:
    folder = paths.cache_root() / "docker"
    folder.mkdir(parents=True, exist_ok=True)
    log = folder / "dockerd.log"
    dockerd = shutil.which("dockerd", path=f"/usr/sbin:/usr/bin:{os.environ.get('PATH', '')}")
    if dockerd is None:
        raise ToolchainError("docker: dockerd is not on PATH after installing docker.io")
    command = [dockerd, "--host", f"unix://{DEFAULT_SOCKET}"]
    missing = missing_capabilities(Path("/proc/self/status").read_text())
    if missing:
        progress.say(
            "docker", f"this machine does not grant {', '.join(missing)}; containers run without"
        )
        wrapper = write_wrapper(folder, missing)
        command += ["--add-runtime", f"{RUNTIME}={wrapper}", "--default-runtime", RUNTIME]
    _remove_stale_pidfile()
    progress.say("docker", f"starting dockerd (log: {log})")
    with log.open("a") as out:
        # A new session: Ctrl-C in `make` must not reach the daemon.
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            cwd="/",
            start_new_session=True,
        )
    deadline = time.monotonic() + START_TIMEOUT
    while not answers(DEFAULT_SOCKET):
        if process.poll() is not None or time.monotonic() > deadline:
            raise ToolchainError(
                f"docker: dockerd did not start; the end of {log}:\n"
                + "\n".join(log.read_text().splitlines()[-15:])
            )
        time.sleep(0.2)
    progress.say("docker", "dockerd runs")


def write_wrapper(folder: Path, missing: list[str]) -> Path:
    """Write the runtime wrapper for these capabilities into `folder` and return its path."""
    python = shutil.which("python3", path="/usr/bin:/usr/local/bin") or _base_python()
    runc = shutil.which("runc", path=f"/usr/sbin:/usr/bin:{os.environ.get('PATH', '')}")
    if runc is None:
        raise ToolchainError("docker: runc is not on PATH; install the package runc")
    cleaner = folder / "granted.py"
    cleaner.write_text(CLEANER.replace("@MISSING@", json.dumps(missing)))
    wrapper = folder / RUNTIME
    wrapper.write_text(
        WRAPPER.replace("@PYTHON@", python)
        .replace("@CLEANER@", str(cleaner))
        .replace("@RUNC@", runc)
    )
    wrapper.chmod(0o755)
    return wrapper


def _base_python() -> str:
    return str(Path(getattr(sys, "_base_executable", sys.executable)).resolve())


def _remove_stale_pidfile() -> None:
    """Delete the pid file of a daemon that was killed, with which a new one would not start."""
    try:
        pid = int(PIDFILE.read_text())
    except (OSError, ValueError):
        return
    try:
        running = Path(f"/proc/{pid}/comm").read_text().strip() == "dockerd"
    except OSError:
        running = False
    if not running:
        PIDFILE.unlink(missing_ok=True)
