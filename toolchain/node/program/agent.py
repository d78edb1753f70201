"""An agent: a node that joins a server once."""

from pathlib import Path

import yaml

from toolchain.node.program import background, containerd, host, kubelet
from toolchain.node.program.api import Api
from toolchain.node.program.config import STATE, NodeConfig
from toolchain.node.program.join import bootstrap_kubeconfig, discover
from toolchain.node.program.network import Network
from toolchain.node.program.policies import Policies
from toolchain.node.program.supervisor import Supervisor, say
from toolchain.node.program.waiting import until

FOLDER = STATE / "agent"
CA = FOLDER / "server-ca.crt"
KUBECONFIG = FOLDER / "kubelet.kubeconfig"
BOOTSTRAP = Path("/run/node/bootstrap.kubeconfig")


def start(supervisor: Supervisor, config: NodeConfig, node_ip: str) -> None:
    """Starts everything and returns once the node has its certificate. Waits for its server without timeout."""
    stop = supervisor.stopping
    containerd.start(supervisor)
    background.start(
        "images", stop, lambda: containerd.import_images(containerd.ON_EVERY_NODE, stop)
    )
    bootstrap = None if _joined(config) else _bootstrap(supervisor, config)
    containerd.ready(stop)
    kubelet.start_kubelet(
        supervisor, config, node_ip, kubeconfig=KUBECONFIG, ca=CA, bootstrap=bootstrap
    )
    until("the node's certificate", _has_credential, stop, timeout=float("inf"))
    if bootstrap:
        say("joined")
    kubelet.start_proxy(supervisor, config, KUBECONFIG)
    api = Api(KUBECONFIG)
    Network(api, config.name, node_ip, stop)
    Policies(api, config.name, stop)


def _has_credential() -> bool:
    # The kubelet writes the kubeconfig first; it names the certificate.
    return all(path.exists() for path in (CA, KUBECONFIG, kubelet.CERTIFICATE))


def _joined(config: NodeConfig) -> bool:
    """Whether this node has a certificate; if so, its kubeconfig gets the server's current URL."""
    if not _has_credential():
        return False
    loaded = yaml.safe_load(KUBECONFIG.read_text())
    cluster = loaded["clusters"][0]["cluster"]
    if cluster["server"] != config.server_url:
        cluster["server"] = config.server_url
        host.write(KUBECONFIG, yaml.safe_dump(loaded, sort_keys=False), 0o600)
        say(f"server: now at {config.server_url}")
    return True


def _bootstrap(supervisor: Supervisor, config: NodeConfig) -> Path:
    say(f"server: waiting for {config.server_url}")
    ca = until(
        f"the server at {config.server_url}",
        lambda: discover(config.server_url, config.token),
        supervisor.stopping,
        timeout=float("inf"),
    )
    host.write(CA, ca)
    host.write(BOOTSTRAP, bootstrap_kubeconfig(config.server_url, ca, config.token), 0o600)
    say("server: found, its CA is signed with the token")
    return BOOTSTRAP
