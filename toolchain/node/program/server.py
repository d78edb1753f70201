"""A server: a node with the control plane."""

from toolchain.node.program import addons, background, containerd, control_plane, host, kubelet, pki
from toolchain.node.program.api import Api
from toolchain.node.program.config import ADDONS, NodeConfig
from toolchain.node.program.network import Network
from toolchain.node.program.policies import Policies
from toolchain.node.program.supervisor import Supervisor, say
from toolchain.node.program.waiting import until

# It took 65 s on a busy machine.
START_SECONDS = 280.0


def start(supervisor: Supervisor, config: NodeConfig, node_ip: str) -> None:
    """Starts everything and returns once the cluster is usable; the node may become Ready later."""
    stop = supervisor.stopping
    # After a restart the old kubeconfig must not exist before the API server is ready.
    config.kubeconfig.unlink(missing_ok=True)
    containerd.start(supervisor)
    wanted = tuple(_IMAGE_OF[name] for name in ADDONS if name not in config.disabled)
    background.start(
        "images", stop, lambda: containerd.import_images((*containerd.ON_EVERY_NODE, *wanted), stop)
    )
    pki.ensure(config, node_ip, host.run("kubeadm", "version", "-o", "short").strip())
    control_plane.start_etcd(supervisor)
    control_plane.start_api_server(supervisor, config, node_ip)
    api = Api(pki.ADMIN)
    until("the API server", api.ready, stop, timeout=START_SECONDS)
    say("API server: ready")
    control_plane.start_controllers(supervisor, config)
    containerd.ready(stop)
    kubelet.start_kubelet(
        supervisor, config, node_ip, kubeconfig=pki.KUBELET, ca=pki.FOLDER / "ca.crt"
    )
    Network(api, config.name, node_ip, stop)
    Policies(api, config.name, stop)
    addons.apply_base(api, config, stop)
    kubelet.start_proxy(supervisor, config, pki.KUBELET)
    addons.apply_addons(api, config, stop)
    addons.label_server(api, config.name, stop)
    host.write(config.kubeconfig, pki.admin_kubeconfig(), config.kubeconfig_mode)
    say(f"{config.kubeconfig}: written")


_IMAGE_OF = {
    "coredns": "coredns",
    "local-storage": "local-path-provisioner",
    "metrics-server": "metrics-server",
}
