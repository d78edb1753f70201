"""The cluster's certificates and the kubeconfigs of the control plane, created by kubeadm."""

import hashlib
import json
import time
from pathlib import Path

import yaml

from toolchain.node.program.config import (
    API_PORT,
    DOMAIN,
    POD_RANGE,
    SERVICE_RANGE,
    STATE,
    NodeConfig,
)
from toolchain.node.program.host import run, write
from toolchain.node.program.supervisor import say

FOLDER = STATE / "server" / "tls"
ADMIN = FOLDER / "super-admin.conf"
CONTROLLER_MANAGER = FOLDER / "controller-manager.conf"
SCHEDULER = FOLDER / "scheduler.conf"
KUBELET = FOLDER / "kubelet.conf"
LOCAL_API = f"https://127.0.0.1:{API_PORT}"
# kubeadm's certificates are valid for a year.
RENEW_AFTER_SECONDS = 270 * 24 * 3600
MAKE_SECONDS = 300.0
# The identity of the cluster. Everything else is recreated when it is outdated.
_KEPT = ("ca.crt", "ca.key", "sa.key", "sa.pub", "front-proxy-ca.crt", "front-proxy-ca.key")
_KEPT_ETCD = ("ca.crt", "ca.key")


def _kubeadm_config(config: NodeConfig, node_ip: str, version: str) -> str:
    names = ["127.0.0.1", "localhost", node_ip, config.name, *config.tls_sans]
    documents = [
        {
            "apiVersion": "kubeadm.k8s.io/v1beta4",
            "kind": "InitConfiguration",
            "localAPIEndpoint": {"advertiseAddress": node_ip, "bindPort": API_PORT},
            "nodeRegistration": {"name": config.name},
        },
        {
            "apiVersion": "kubeadm.k8s.io/v1beta4",
            "kind": "ClusterConfiguration",
            "kubernetesVersion": version,
            "clusterName": "default",
            "controlPlaneEndpoint": f"127.0.0.1:{API_PORT}",
            "certificatesDir": str(FOLDER),
            "encryptionAlgorithm": "ECDSA-P256",
            "networking": {
                "podSubnet": POD_RANGE,
                "serviceSubnet": SERVICE_RANGE,
                "dnsDomain": DOMAIN,
            },
            "apiServer": {"certSANs": list(dict.fromkeys(names))},
        },
    ]
    return yaml.safe_dump_all(documents, sort_keys=False)


def _fits(stamp: Path, wanted: str) -> bool:
    try:
        kept = json.loads(stamp.read_text())
    except (OSError, ValueError):
        return False
    return bool(kept["for"] == wanted and time.time() - kept["made"] < RENEW_AFTER_SECONDS)


def ensure(config: NodeConfig, node_ip: str, version: str) -> None:
    """Creates missing certificates. Those that are older than 270 days, or for another address or name,
    are reissued by the same CAs, so that clients and agents still trust the server.
    """
    text = _kubeadm_config(config, node_ip, version)
    wanted = hashlib.sha256(text.encode()).hexdigest()
    stamp = FOLDER / "made-for.json"
    if _fits(stamp, wanted):
        return
    FOLDER.mkdir(parents=True, exist_ok=True, mode=0o700)
    for path in FOLDER.iterdir():
        if path.name == "etcd":
            for inner in path.iterdir():
                if inner.name not in _KEPT_ETCD:
                    inner.unlink()
        elif path.name not in _KEPT:
            path.unlink()
    file = FOLDER / "kubeadm.yaml"
    write(file, text, 0o600)
    made = ("--config", str(file))
    run("kubeadm", "init", "phase", "certs", "all", *made, seconds=MAKE_SECONDS)
    run("kubeadm", "init", "phase", "kubeconfig", "all", *made,
        "--kubeconfig-dir", str(FOLDER), seconds=MAKE_SECONDS)  # fmt: skip
    for kubeconfig in (ADMIN, CONTROLLER_MANAGER, SCHEDULER, KUBELET):
        _use_local_api(kubeconfig)
    write(stamp, json.dumps({"for": wanted, "made": time.time()}))
    say("certificates: created")


def _use_local_api(kubeconfig: Path) -> None:
    """Sets the loopback URL, which stays valid when the node's address changes."""
    loaded = yaml.safe_load(kubeconfig.read_text())
    loaded["clusters"][0]["cluster"]["server"] = LOCAL_API
    write(kubeconfig, yaml.safe_dump(loaded, sort_keys=False), 0o600)


def admin_kubeconfig() -> str:
    """The kubeconfig for users; as with k3s, cluster, user and context are named `default`."""
    loaded = yaml.safe_load(ADMIN.read_text())
    loaded["clusters"][0]["name"] = "default"
    loaded["users"][0]["name"] = "default"
    loaded["contexts"] = [{"name": "default", "context": {"cluster": "default", "user": "default"}}]
    loaded["current-context"] = "default"
    return yaml.safe_dump(loaded, sort_keys=False)
