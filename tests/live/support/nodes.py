"""Faults made from the node: signals to a container's main process, and the node itself."""

import shlex
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import docker
from docker.models.containers import Container

from tests.live.support.cluster import Cluster
from tests.live.support.kube import Pod

# On k3s `ctr` and its socket belong to k3s; on the project's own node they are containerd's.
_TASKS = 'if command -v k3s >/dev/null 2>&1; then k3s ctr "$@"; else ctr "$@"; fi'

# The process $1 with all its descendants; printed, and in $family.
FAMILY = """
family=$1
found=1
while [ $found = 1 ]; do
  found=0
  for stat in /proc/[0-9]*/stat; do
    read -r line 2>/dev/null < "$stat" || continue
    pid=${line%% *}
    rest=${line##*) }
    set -- $rest
    case " $family " in *" $pid "*) continue ;; esac
    case " $family " in *" $2 "*) family="$family $pid"; found=1 ;; esac
  done
done
echo "$family"
"""


class Nodes:
    """The containers that are this checkout's Kubernetes nodes."""

    def __init__(self, cluster: Cluster) -> None:
        self._docker = docker.DockerClient(
            base_url=cluster.environment.get("DOCKER_HOST") or "unix:///var/run/docker.sock"
        )
        self._instance = cluster.instance

    def close(self) -> None:
        """Close the connection to the Docker daemon."""
        self._docker.close()

    @property
    def docker(self) -> docker.DockerClient:
        """The Docker daemon that runs the nodes."""
        return self._docker

    @property
    def instance(self) -> str:
        """First part of the names of this checkout's containers."""
        return self._instance

    @property
    def network(self) -> str:
        """Name of the network that the nodes are on."""
        server = self.container(f"{self._instance}-server")
        networks: list[str] = sorted(server.attrs["NetworkSettings"]["Networks"])
        return networks[0]

    def container(self, node: str) -> Container:
        """The Docker container that is the node; only one of this instance is ever returned."""
        found = self._docker.containers.list(filters={"label": f"dds.instance={self._instance}"})
        for container in found:
            if node in (container.name, container.attrs["Config"]["Hostname"]):
                return container
        names = ", ".join(str(container.name) for container in found) or "none"
        raise AssertionError(f"node {node} is no container of {self._instance}; there are {names}")

    def run(self, node: str, script: str, *arguments: str) -> str:
        """Run a POSIX shell script in the node and return what it printed."""
        done = self.container(node).exec_run(["sh", "-c", script, "sh", *arguments])
        text: str = done.output.decode(errors="replace")
        if done.exit_code != 0:
            raise AssertionError(f"{node}: {shlex.join([script, *arguments])}: {text}")
        return text

    def pid(self, pod: Pod, container: str) -> int:
        """Process id, in the node, of the container's main process."""
        return self.pids(pod, [container])[0]

    def pids(self, pod: Pod, containers: Sequence[str]) -> list[int]:
        """The process ids of several containers, in their order."""
        listing = self.run(pod.node, _TASKS, "--namespace", "k8s.io", "task", "list")
        tasks = {words[0]: words[1] for words in map(str.split, listing.splitlines()) if words}
        found = []
        for container in containers:
            wanted = pod.containers.get(container)
            assert wanted, f"{pod.name} has no running container {container}: {pod.containers}"
            assert wanted in tasks, f"{pod.node} has no task {wanted}:\n{listing}"
            found.append(int(tasks[wanted]))
        return found

    def signal_all(self, node: str, pids: Sequence[int], name: str) -> None:
        """Send a signal to several processes at once; those that have ended are skipped."""
        self.run(node, 'name=$1; shift; kill -s "$name" "$@" 2>/dev/null || true', name,
                 *map(str, pids))  # fmt: skip

    def in_network(self, node: str, pid: int, *command: str) -> str:
        """Run a command of the node in the network namespace of a process."""
        return self.run(node, 'pid=$1; shift; nsenter --target "$pid" --net "$@"', str(pid),
                        *command)  # fmt: skip

    def signal(self, pod: Pod, container: str, name: str) -> int:
        """Send a signal to the container's main process; returns its process id in the node."""
        pid = self.pid(pod, container)
        self.run(pod.node, 'kill -s "$1" "$2"', name, str(pid))
        return pid

    def kill(self, pod: Pod, container: str) -> None:
        """SIGKILL, as the kernel does when memory runs out."""
        self.signal(pod, container, "KILL")

    @contextmanager
    def paused(self, pod: Pod, container: str) -> Iterator[None]:
        """SIGSTOP now and SIGCONT at the end: connections stay open and nothing responds.

        It stops all processes of the container, since many servers' main process does no work.
        """
        pid = str(self.pid(pod, container))
        pids = self.run(pod.node, FAMILY, pid).split()
        self.run(pod.node, 'kill -s STOP "$1"', pid)
        # A probe's command, say, may have ended by now.
        self.run(pod.node, 'kill -s STOP "$@" 2>/dev/null || true', *pids)
        try:
            yield
        finally:
            # The kubelet may have killed it meanwhile; then there is nothing to continue.
            self.run(pod.node, 'kill -s CONT "$@" 2>/dev/null || true', *pids)

    @contextmanager
    def all_paused(self, node: str, pids: Sequence[int]) -> Iterator[None]:
        """As `paused`, for several processes of a node at once."""
        self.signal_all(node, pids, "STOP")
        try:
            yield
        finally:
            self.signal_all(node, pids, "CONT")

    def restart(self, node: str, grace: int = 10) -> None:
        """Restart the node's container, waiting ``grace`` seconds before it is killed."""
        self.container(node).restart(timeout=grace)
