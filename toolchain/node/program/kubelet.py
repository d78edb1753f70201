"""The kubelet and kube-proxy, which run on every node."""

from pathlib import Path

import yaml

from toolchain.node.program import containerd
from toolchain.node.program.config import DOMAIN, POD_RANGE, SERVICE_DNS, STATE, NodeConfig
from toolchain.node.program.host import POD_RESOLV, write
from toolchain.node.program.supervisor import Supervisor

CERTIFICATES = STATE / "agent" / "kubelet-pki"
CERTIFICATE = CERTIFICATES / "kubelet-client-current.pem"
KUBELET_CONFIG = Path("/etc/kubernetes/kubelet.yaml")
PROXY_CONFIG = Path("/etc/kubernetes/kube-proxy.yaml")


def kubelet_config(ca: Path) -> dict[str, object]:
    """The kubelet's configuration; `ca` is the CA of clients of its API."""
    return {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "authentication": {
            "anonymous": {"enabled": False},
            "webhook": {"enabled": True},
            "x509": {"clientCAFile": str(ca)},
        },
        "authorization": {"mode": "Webhook"},
        "cgroupDriver": "cgroupfs",
        "clusterDNS": [SERVICE_DNS],
        "clusterDomain": DOMAIN,
        "containerRuntimeEndpoint": containerd.ENDPOINT,
        "failCgroupV1": False,
        "failSwapOn": False,
        # Lowering a score needs CAP_SYS_RESOURCE, which not every machine grants.
        "oomScoreAdj": 0,
        "resolvConf": str(POD_RESOLV),
        "rotateCertificates": True,
        "serializeImagePulls": False,
        "registryPullQPS": 0,
        # The disk is the machine's, and mostly not filled by pods.
        "evictionHard": {
            "memory.available": "100Mi",
            "nodefs.available": "1%",
            "nodefs.inodesFree": "1%",
            "imagefs.available": "1%",
        },
        "imageGCHighThresholdPercent": 97,
        "imageGCLowThresholdPercent": 95,
    }


def start_kubelet(
    supervisor: Supervisor,
    config: NodeConfig,
    node_ip: str,
    *,
    kubeconfig: Path,
    ca: Path,
    bootstrap: Path | None = None,
) -> None:
    """Starts the kubelet; with `bootstrap` it first requests a certificate and writes `kubeconfig`."""
    write(KUBELET_CONFIG, yaml.safe_dump(kubelet_config(ca), sort_keys=False))
    argv = [
        "kubelet",
        f"--config={KUBELET_CONFIG}",
        f"--kubeconfig={kubeconfig}",
        # Beside the kubeconfig that refers to them, apart from the rest of /var/lib/kubelet.
        f"--cert-dir={CERTIFICATES}",
        f"--hostname-override={config.name}",
        f"--node-ip={node_ip}",
        # The image cannot be pulled, so it must not be garbage-collected.
        f"--pod-infra-container-image={containerd.images()['pause']}",
    ]
    if bootstrap:
        argv.append(f"--bootstrap-kubeconfig={bootstrap}")
    if config.labels:
        argv.append(f"--node-labels={','.join(config.labels)}")
    if config.taints:
        argv.append(f"--register-with-taints={','.join(config.taints)}")
    supervisor.start("kubelet", argv + [f"--{arg}" for arg in config.kubelet_args])


def proxy_config(kubeconfig: Path) -> dict[str, object]:
    """kube-proxy's configuration."""
    return {
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "clientConnection": {"kubeconfig": str(kubeconfig)},
        "clusterCIDR": POD_RANGE,
        "mode": "iptables",
        # A container may not change these settings of the machine.
        "conntrack": {
            "maxPerCore": 0,
            "min": 0,
            "tcpEstablishedTimeout": "0s",
            "tcpCloseWaitTimeout": "0s",
        },
    }


def start_proxy(supervisor: Supervisor, config: NodeConfig, kubeconfig: Path) -> None:
    """Starts kube-proxy with the node's own credentials."""
    write(PROXY_CONFIG, yaml.safe_dump(proxy_config(kubeconfig), sort_keys=False))
    supervisor.start(
        "kube-proxy",
        ["kube-proxy", f"--config={PROXY_CONFIG}", f"--hostname-override={config.name}"],
    )
