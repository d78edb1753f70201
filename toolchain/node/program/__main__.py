"""Entry point: `python3 -m node server|agent [flags]`."""

import os
import signal
import sys
import traceback
from types import FrameType

from toolchain.node.program import agent, containerd, dns_relay, host, network, server
from toolchain.node.program.config import ConfigError, parse
from toolchain.node.program.supervisor import Supervisor, say
from toolchain.node.program.waiting import LateError, StoppedError

# `docker stop` kills after 10 s; these add up to 7.5. First the programs that would restart pods, then the
# pods, then the programs that pods need; the programs of one tuple stop at the same time.
POD_GRACE = 3.5
BEFORE_PODS = ("kubelet", "kube-proxy", "kube-scheduler", "kube-controller-manager")
AFTER_PODS = (("kube-apiserver",), ("etcd", "containerd"))
BEFORE_SECONDS, AFTER_SECONDS = 1.0, 1.5
HOUSEKEEPING_SECONDS = 60.0


def _start(supervisor: Supervisor, arguments: list[str]) -> None:
    config = parse(arguments)
    host.prepare()
    node_ip = host.address(config.node_ip)
    say(f"{config.role} {config.name} at {node_ip}")
    network.keep_inside()
    resolv, upstreams = host.pod_resolv(host.RESOLV.read_text())
    host.write(host.POD_RESOLV, resolv)
    if upstreams:
        dns_relay.start(upstreams, supervisor.stopping)
    {"server": server, "agent": agent}[config.role].start(supervisor, config, node_ip)


def _stop(supervisor: Supervisor) -> None:
    supervisor.stop(BEFORE_PODS, BEFORE_SECONDS)
    containerd.end_pods(POD_GRACE)
    for names in AFTER_PODS:
        supervisor.stop(names, AFTER_SECONDS)
    say("stopped")


def main(arguments: list[str]) -> int:
    """Runs the node until SIGTERM or SIGINT. Exit status 2 is an invalid configuration."""
    supervisor = Supervisor()

    def stop(_number: int, _frame: FrameType | None) -> None:
        supervisor.stopping.set()

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    status = 0
    try:
        _start(supervisor, arguments)
        say("running")
        while not supervisor.stopping.wait(HOUSEKEEPING_SECONDS):
            supervisor.limit_logs()
    except ConfigError as error:
        print(f"node: {error}", file=sys.stderr, flush=True)
        status = 2
    except (LateError, OSError) as error:
        say(f"cannot start: {error}")
        status = 1
    except StoppedError:
        pass
    # A bug; the running programs are still stopped in order.
    except Exception:  # noqa: BLE001
        traceback.print_exc()
        status = 1
    say("stopping")
    supervisor.stopping.set()
    _stop(supervisor)
    return status


if __name__ == "__main__":
    code = main(sys.argv[1:])
    sys.stdout.flush()
    # Everything is stopped; threads blocked on a socket would keep the interpreter running.
    os._exit(code)
