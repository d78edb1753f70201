"""The container runtime: its configuration, and the images of the node image."""

import contextlib
import os
import shutil
import signal
import threading
import time
from pathlib import Path

from toolchain.node.program.config import REGISTRIES, STATE
from toolchain.node.program.host import run, write
from toolchain.node.program.registries import hosts_files
from toolchain.node.program.supervisor import Supervisor, say
from toolchain.node.program.waiting import until

SOCKET = Path("/run/containerd/containerd.sock")
ENDPOINT = f"unix://{SOCKET}"
ROOT = STATE / "agent" / "containerd"
CERTS = Path("/etc/containerd/certs.d")
PLUGINS = Path("/usr/lib/cni")
# Written by the build of the node image: <name>.tar and its reference in <name>.ref.
IMAGES = Path("/usr/share/node/images")
ON_EVERY_NODE = ("pause", "busybox")
ANSWER_SECONDS = 10.0
# Short, because it runs while the node stops.
LIST_SECONDS = 3.0
# All images together take up to 20 s on a busy machine.
IMPORT_SECONDS = 300.0

_CONFIG = """\
version = 2
root = "{root}"
state = "/run/containerd"
[plugins."io.containerd.grpc.v1.cri"]
  # Lowering a score needs CAP_SYS_RESOURCE, which not every machine grants.
  restrict_oom_score_adj = true
  sandbox_image = "{pause}"
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "{plugins}"
    conf_dir = "/etc/cni/net.d"
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "overlayfs"
    default_runtime_name = "runc"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
  [plugins."io.containerd.grpc.v1.cri".registry]
    config_path = "{certs}"
"""


def images() -> dict[str, str]:
    """The references of the images in the node image, by name."""
    return {file.stem: file.read_text().strip() for file in IMAGES.glob("*.ref")}


def start(supervisor: Supervisor) -> None:
    """Starts containerd with the registries of registries.yaml."""
    shutil.rmtree(CERTS, ignore_errors=True)
    if REGISTRIES.exists():
        for name, text in hosts_files(REGISTRIES.read_text()).items():
            write(CERTS / name, text)
            say(f"registry {name.rsplit('/', 1)[0]}: endpoints taken from {REGISTRIES}")
    CERTS.mkdir(parents=True, exist_ok=True)
    ROOT.mkdir(parents=True, exist_ok=True)
    config = Path("/etc/containerd/config.toml")
    pause = images()["pause"]
    write(config, _CONFIG.format(root=ROOT, pause=pause, plugins=PLUGINS, certs=CERTS))
    supervisor.start("containerd", ["containerd", "--config", str(config)])


def responds() -> bool:
    """Whether containerd responds."""
    run("ctr", "--connect-timeout", "1s", "version", seconds=ANSWER_SECONDS)
    return True


def ready(stop: threading.Event) -> None:
    """Waits until containerd responds; a kubelet would exit without it."""
    until("containerd", responds, stop, timeout=60)


def import_images(names: tuple[str, ...], stop: threading.Event) -> None:
    """Imports the images that containerd does not have; their references have a hash."""
    ready(stop)
    present = run("ctr", "-n", "k8s.io", "images", "list", "-q").split()
    for name in names:
        if images()[name] not in present:
            file = str(IMAGES / f"{name}.tar")
            run("ctr", "-n", "k8s.io", "images", "import", file, seconds=IMPORT_SECONDS)
            say(f"image {name}: imported")


def _pids() -> list[int]:
    """The first process of every container, pause included; none if containerd does not respond."""
    command = ("ctr", "--timeout", "2s", "-n", "k8s.io", "tasks", "list")
    try:
        listed = run(*command, check=False, seconds=LIST_SECONDS)
    except OSError:
        return []
    words = [line.split() for line in listed.splitlines()[1:]]
    return [int(entry[1]) for entry in words if entry[2:] == ["RUNNING"]]


def end_pods(grace: float) -> None:
    """Sends SIGTERM to the first process of every container, and waits up to `grace` seconds for all."""
    if not SOCKET.exists():
        return
    pids = _pids()
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)
    end = time.monotonic() + grace
    while time.monotonic() < end and any(_lives(pid) for pid in pids):
        time.sleep(0.1)


def _lives(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"
