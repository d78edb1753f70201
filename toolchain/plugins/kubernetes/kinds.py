"""Which kinds of objects there are, under which paths, and which of them have a namespace."""

from __future__ import annotations

import dataclasses
from typing import Final

_NAMESPACED: Final[dict[str, str]] = {
    "v1": "ConfigMap=configmaps Endpoints=endpoints Event=events LimitRange=limitranges "
    "PersistentVolumeClaim=persistentvolumeclaims Pod=pods PodTemplate=podtemplates "
    "ReplicationController=replicationcontrollers ResourceQuota=resourcequotas Secret=secrets "
    "Service=services ServiceAccount=serviceaccounts",
    "apps/v1": "ControllerRevision=controllerrevisions DaemonSet=daemonsets "
    "Deployment=deployments ReplicaSet=replicasets StatefulSet=statefulsets",
    "autoscaling/v2": "HorizontalPodAutoscaler=horizontalpodautoscalers",
    "batch/v1": "CronJob=cronjobs Job=jobs",
    "coordination.k8s.io/v1": "Lease=leases",
    "discovery.k8s.io/v1": "EndpointSlice=endpointslices",
    "networking.k8s.io/v1": "Ingress=ingresses NetworkPolicy=networkpolicies",
    "policy/v1": "PodDisruptionBudget=poddisruptionbudgets",
    "rbac.authorization.k8s.io/v1": "Role=roles RoleBinding=rolebindings",
    "storage.k8s.io/v1": "CSIStorageCapacity=csistoragecapacities",
}
_CLUSTER_WIDE: Final[dict[str, str]] = {
    "v1": "Namespace=namespaces Node=nodes PersistentVolume=persistentvolumes",
    "admissionregistration.k8s.io/v1": "MutatingWebhookConfiguration=mutatingwebhookconfigurations "
    "ValidatingAdmissionPolicy=validatingadmissionpolicies "
    "ValidatingAdmissionPolicyBinding=validatingadmissionpolicybindings "
    "ValidatingWebhookConfiguration=validatingwebhookconfigurations",
    "apiextensions.k8s.io/v1": "CustomResourceDefinition=customresourcedefinitions",
    "apiregistration.k8s.io/v1": "APIService=apiservices",
    "networking.k8s.io/v1": "IngressClass=ingressclasses",
    "node.k8s.io/v1": "RuntimeClass=runtimeclasses",
    "rbac.authorization.k8s.io/v1": "ClusterRole=clusterroles "
    "ClusterRoleBinding=clusterrolebindings",
    "scheduling.k8s.io/v1": "PriorityClass=priorityclasses",
    "storage.k8s.io/v1": "CSIDriver=csidrivers CSINode=csinodes StorageClass=storageclasses "
    "VolumeAttachment=volumeattachments",
}
_NOT_OBJECTS: Final = frozenset({"helm.sh", "kustomize", "yaml"})


@dataclasses.dataclass(frozen=True)
class Kind:
    """A kind of object and where the API server has it.

    :param api_version: ``v1`` or ``group/version``
    :param plural: its name in paths
    """

    api_version: str
    kind: str
    plural: str
    namespaced: bool

    @property
    def group_kind(self) -> str:
        """Group and kind, for example ``apps/Deployment``; only the kind in the core group."""
        group, _, version = self.api_version.rpartition("/")
        return f"{group}/{self.kind}" if version and group else self.kind

    def collection(self, namespace: str | None) -> str:
        """The path of the collection in a namespace."""
        root = (
            f"/apis/{self.api_version}" if "/" in self.api_version else f"/api/{self.api_version}"
        )
        within = f"/namespaces/{namespace}" if self.namespaced else ""
        return f"{root}{within}/{self.plural}"

    def path(self, namespace: str | None, name: str) -> str:
        """The path of one object."""
        return f"{self.collection(namespace)}/{name}"


def _table() -> dict[tuple[str, str], Kind]:
    table = {}
    for namespaced, groups in ((True, _NAMESPACED), (False, _CLUSTER_WIDE)):
        for api_version, pairs in groups.items():
            for pair in pairs.split():
                kind, plural = pair.split("=")
                table[api_version, kind] = Kind(api_version, kind, plural, namespaced)
    return table


KNOWN: Final = _table()
_BUILT_IN_VERSIONS: Final = frozenset(api_version for api_version, _ in KNOWN)
_BUILT_IN_GROUPS: Final = frozenset(version.rpartition("/")[0] for version in _BUILT_IN_VERSIONS)


def get(api_version: str, kind: str) -> Kind:
    """A built-in kind that is known to exist.

    Raises:
        KeyError: There is none.
    """
    return KNOWN[api_version, kind]


def split_token(token: str) -> tuple[str, str]:
    """Gives apiVersion and kind of a token such as ``kubernetes:apps/v1:Deployment``."""
    _, middle, kind = token.split(":", 2)
    api_version = middle.removeprefix("core/")
    return api_version, kind


def refusal(token: str) -> str | None:
    """Why a type cannot be had from this plugin; None if it can."""
    parts = token.split(":")
    if len(parts) != 3:  # noqa: PLR2004 - package, module and name
        return f"{token} is not a type of the kubernetes package"
    api_version, kind = split_token(token)
    group = api_version.split("/", 1)[0]
    known = sorted(name for version, name in KNOWN if version == api_version)
    if group in _NOT_OBJECTS or api_version == "index":
        why = "it is made of other resources or of charts, which only the official plugin knows"
    elif kind.endswith("Patch"):
        why = "patches of objects that others own are only in the official plugin"
    elif (api_version, kind) in KNOWN:
        return None
    elif kind.endswith("List"):
        why = "lists are only in the official plugin; declare the objects one by one"
    elif known:
        why = f"{api_version} has {', '.join(known)}"
    elif group in _BUILT_IN_GROUPS or group.endswith(".k8s.io") or "." not in group:
        versions = sorted(version for version in _BUILT_IN_VERSIONS)
        why = f"supported versions are {', '.join(versions)}, and custom resources"
    else:
        return None
    return f"{token} is not supported by this kubernetes plugin: {why}"


def is_custom(api_version: str) -> bool:
    """Whether objects of this version are custom resources, which the server has to describe."""
    return api_version not in _BUILT_IN_VERSIONS
