"""Objects that the server creates in the cluster: RBAC and tokens for nodes, DNS, storage, metrics."""

import string
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from toolchain.node.program import containerd, pki
from toolchain.node.program.api import APPLY, FIELD_MANAGER, Api
from toolchain.node.program.config import ADDONS, DOMAIN, SERVICE_DNS, STATE, NodeConfig
from toolchain.node.program.join import bootstrap_token, kubeconfig
from toolchain.node.program.supervisor import say
from toolchain.node.program.waiting import until

MANIFESTS = Path(__file__).parent / "manifests"
STORAGE = STATE / "storage"
ROLE_LABEL = "node-role.kubernetes.io/control-plane"
# API path and plural of each kind in the manifests.
_KINDS = {
    "Secret": ("/api/v1", "secrets"),
    "ConfigMap": ("/api/v1", "configmaps"),
    "Service": ("/api/v1", "services"),
    "ServiceAccount": ("/api/v1", "serviceaccounts"),
    "Deployment": ("/apis/apps/v1", "deployments"),
    "Role": ("/apis/rbac.authorization.k8s.io/v1", "roles"),
    "RoleBinding": ("/apis/rbac.authorization.k8s.io/v1", "rolebindings"),
    "ClusterRole": ("/apis/rbac.authorization.k8s.io/v1", "clusterroles"),
    "ClusterRoleBinding": ("/apis/rbac.authorization.k8s.io/v1", "clusterrolebindings"),
    "StorageClass": ("/apis/storage.k8s.io/v1", "storageclasses"),
    "APIService": ("/apis/apiregistration.k8s.io/v1", "apiservices"),
}


def rendered(name: str, values: Mapping[str, str]) -> list[dict[str, Any]]:
    """The objects of `manifests/<name>.yaml` with `${…}` substituted."""
    text = string.Template((MANIFESTS / f"{name}.yaml").read_text()).substitute(values)
    return list(yaml.load_all(text, Loader=yaml.CSafeLoader))


def path(item: Mapping[str, Any]) -> str:
    """The API path of an object."""
    prefix, plural = _KINDS[item["kind"]]
    namespace = item["metadata"].get("namespace")
    middle = f"/namespaces/{namespace}" if namespace else ""
    return f"{prefix}{middle}/{plural}/{item['metadata']['name']}"


def apply(api: Api, item: Mapping[str, Any]) -> None:
    """Server-side apply of one object; forces conflicts with other field managers."""
    api.call("PATCH", f"{path(item)}?fieldManager={FIELD_MANAGER}&force=true", item, APPLY)


def _values(config: NodeConfig) -> dict[str, str]:
    token_id, secret = bootstrap_token(config.token)
    # Only the CA is published and signed; each agent has its own URL of the server (K3S_URL).
    info = kubeconfig(pki.LOCAL_API, (pki.FOLDER / "ca.crt").read_text(), {})
    values = {
        "token_id": token_id,
        "token_secret": secret,
        "cluster_info": info.replace("\n", "\n    "),
        "domain": DOMAIN,
        "dns": SERVICE_DNS,
        "storage": str(STORAGE),
    }
    for name, reference in containerd.images().items():
        values[f"image_{name.replace('-', '_')}"] = reference
    return values


def _apply_file(api: Api, name: str, values: Mapping[str, str], stop: threading.Event) -> None:
    pending = rendered(name, values)

    def all_applied() -> bool:
        while pending:
            apply(api, pending[0])
            pending.pop(0)
        return True

    until(f"applying {name}", all_applied, stop, timeout=120, period=0.5)
    say(f"{name}: applied")


def apply_base(api: Api, config: NodeConfig, stop: threading.Event) -> None:
    """Applies the objects that nodes need to join and to run."""
    _apply_file(api, "base", _values(config), stop)


def apply_addons(api: Api, config: NodeConfig, stop: threading.Event) -> None:
    """Applies every add-on that is not disabled."""
    for name in ADDONS:
        if name not in config.disabled:
            _apply_file(api, name, _values(config), stop)


def label_server(api: Api, name: str, stop: threading.Event) -> None:
    """Labels this node as control plane, which a kubelet may not do itself."""
    where = f"/api/v1/nodes/{name}"
    item = {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": name, "labels": {ROLE_LABEL: "true"}},
    }

    def labelled() -> bool:
        # Apply alone would create a node that does not exist yet.
        api.call("GET", where)
        api.call("PATCH", f"{where}?fieldManager={FIELD_MANAGER}&force=true", item, APPLY)
        return True

    until(f"node {name}", labelled, stop, timeout=120)
