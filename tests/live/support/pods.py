"""Pods without any component of the project, for tests that must not depend on one."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from tests.live.support.kube import Kube, Pod

USER = 10001


def container(
    name: str, image: str, command: Sequence[str], mounts: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """A container that the restricted level admits; ``mounts`` is volume names by path."""
    return {
        "name": name,
        "image": image,
        "command": list(command),
        "volumeMounts": [
            {"name": volume, "mountPath": path} for path, volume in (mounts or {}).items()
        ],
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        "resources": {"requests": {"cpu": "10m", "memory": "32Mi"}},
    }


def pod(
    namespace: str,
    name: str,
    containers: Sequence[dict[str, Any]],
    labels: Mapping[str, str] | None = None,
    config_maps: Sequence[str] = (),
    node: str = "",
) -> dict[str, Any]:
    """The manifest of a pod; each of ``config_maps`` becomes a volume of the same name."""
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": namespace, "labels": dict(labels or {})},
        "spec": {
            "automountServiceAccountToken": False,
            "terminationGracePeriodSeconds": 0,
            "restartPolicy": "Never",
            **({"nodeSelector": {"kubernetes.io/hostname": node}} if node else {}),
            "securityContext": {
                "runAsNonRoot": True,
                "runAsUser": USER,
                "runAsGroup": USER,
                "fsGroup": USER,
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            "containers": list(containers),
            "volumes": [{"name": name, "configMap": {"name": name}} for name in config_maps],
        },
    }


def config_map(namespace: str, name: str, data: Mapping[str, str]) -> dict[str, Any]:
    """The manifest of a ConfigMap."""
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": name, "namespace": namespace},
        "data": dict(data),
    }


@contextmanager
def running(kube: Kube, manifest: Mapping[str, Any], timeout: float = 90) -> Iterator[Pod]:
    """The pod while it runs; deleted at the end."""
    kube.apply(manifest)
    metadata = manifest["metadata"]
    try:
        yield kube.ready_pod(metadata["namespace"], metadata["name"], timeout)
    finally:
        kube.delete("v1", "Pod", metadata["namespace"], metadata["name"])
