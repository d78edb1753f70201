"""Finds and deletes resources of creations that were interrupted before they were recorded.

Their names are in the recorded inputs. Only resources with a mark of this project are deleted: the
instance label on a Docker resource, Pulumi's field manager on an object. A Kubernetes object must also
be newer than the start of the killed run, because a creation adopts an existing object. PersistentVolumeClaims
with explicit names are never deleted: the next creation adopts them, with their data.
"""

from __future__ import annotations

import contextlib
import os
import re
import time
from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any

from toolchain import api_server, progress
from toolchain.errors import ToolchainError

if TYPE_CHECKING:
    from toolchain.paths import Checkout

LABEL = "dds.instance"
FIELD_MANAGER = "pulumi-kubernetes"
AUTONAMED = "pulumi.com/autonamed"
GONE_TIMEOUT = 120.0
DOCKER_KINDS = {
    "docker:index/container:Container": "containers",
    "docker:index/network:Network": "networks",
    "docker:index/volume:Volume": "volumes",
}


def identity(resource: Mapping[str, Any]) -> tuple[str, ...]:
    """The key of a resource within its type: namespace and name, or its Docker name."""
    inputs = resource.get("inputs") or {}
    metadata = inputs.get("metadata")
    if isinstance(metadata, Mapping):
        return str(metadata.get("namespace") or ""), str(metadata.get("name") or "")
    return (str(inputs.get("name") or resource.get("urn") or ""),)


def delete(
    checkout: Checkout,
    environment: Mapping[str, str],
    resource: Mapping[str, Any],
    began: float | None,
) -> None:
    """Delete the result of the interrupted creation of `resource`, if there is one, and wait.

    Types without anything outside the state are skipped.

    :param began: start of the run of this creation, in Unix seconds; None: unknown
    """
    kind = str(resource.get("type"))
    if kind in DOCKER_KINDS:
        _delete_docker(checkout, environment, DOCKER_KINDS[kind], resource)
    elif kind.startswith("kubernetes:") and "metadata" in (resource.get("inputs") or {}):
        _delete_object(environment, resource, began)


def _delete_docker(
    checkout: Checkout, environment: Mapping[str, str], kind: str, resource: Mapping[str, Any]
) -> None:
    import docker
    import docker.errors

    (name,) = identity(resource)
    client = docker.from_env(environment={**os.environ, **environment})
    try:
        found = getattr(client, kind).get(name)
    except docker.errors.NotFound:
        return
    attributes = found.attrs
    labels = (attributes.get("Config") or attributes).get("Labels") or {}
    if labels.get(LABEL) != checkout.instance:
        progress.say("recovery", f"{kind} {name} belongs to another checkout; not deleted")
        return
    if kind == "containers":
        found.remove(force=True, v=True)
    elif kind == "volumes":
        found.remove(force=True)
    else:
        found.remove()
    progress.say("recovery", f"deleted {kind.rstrip('s')} {name}")


def _delete_object(
    environment: Mapping[str, str], resource: Mapping[str, Any], began: float | None
) -> None:
    from kubernetes import dynamic
    from kubernetes.dynamic.exceptions import NotFoundError, ResourceNotFoundError

    inputs = resource["inputs"]
    namespace, name = identity(resource)
    try:
        connection = api_server.of_the_command(environment)
        client = dynamic.DynamicClient(connection)  # type: ignore[no-untyped-call]
        api = client.resources.get(api_version=inputs["apiVersion"], kind=inputs["kind"])
        where = {"name": name, "namespace": namespace or None}
        found = api.get(**where)
    except (NotFoundError, ResourceNotFoundError):
        return
    except Exception as error:  # noqa: BLE001 any error of the cluster
        progress.say("recovery", f"{inputs['kind']} {name}: the cluster does not respond ({error})")
        return
    if reason := _not_made(inputs["kind"], found.metadata, inputs["metadata"], began):
        progress.say("recovery", f"{inputs['kind']} {name} {reason}; not deleted")
        return
    # Otherwise the StatefulSet's claims might be deleted with it.
    orphaning = inputs["kind"] == "StatefulSet"
    api.delete(**where, body={"propagationPolicy": "Orphan" if orphaning else "Foreground"})
    deadline = time.monotonic() + GONE_TIMEOUT
    while True:
        try:
            api.get(**where)
        except NotFoundError:
            break
        if time.monotonic() > deadline:
            raise ToolchainError(
                f"recovery: {inputs['kind']} {namespace}/{name}, left by a killed run, is still "
                f"being deleted after {GONE_TIMEOUT:.0f} s; check its finalizers"
            )
        time.sleep(0.5)
    if orphaning:
        _delete_orphans(client, found)
    progress.say("recovery", f"deleted {inputs['kind']} {name}")


def _delete_orphans(client: Any, stateful_set: Any) -> None:
    """Delete the orphaned pods of a StatefulSet, which another one of its name would adopt."""
    from kubernetes.dynamic.exceptions import NotFoundError

    pods = client.resources.get(api_version="v1", kind="Pod")
    namespace = stateful_set.metadata.namespace
    selector = stateful_set.spec.selector.matchLabels.to_dict()
    labels = ",".join(f"{key}={value}" for key, value in selector.items())
    replica = re.compile(rf"{re.escape(stateful_set.metadata.name)}-\d+")
    for pod in pods.get(namespace=namespace, label_selector=labels).items:
        if replica.fullmatch(pod.metadata.name) and not pod.metadata.ownerReferences:
            with contextlib.suppress(NotFoundError):
                pods.delete(name=pod.metadata.name, namespace=namespace)


def _not_made(kind: str, metadata: Any, declared: Mapping[str, Any], began: float | None) -> str:
    """Why an object was, or may have been, created by another run than the killed one; empty if it
    was not.

    :param metadata: metadata of the object
    :param declared: metadata of the recorded inputs
    """
    managers = [entry.get("manager", "") for entry in metadata.managedFields or []]
    if not any(manager.startswith(FIELD_MANAGER) for manager in managers):
        return "is not Pulumi's"
    if (declared.get("annotations") or {}).get(AUTONAMED) == "true":
        # A part of the name is random, so it is unique.
        return ""
    if kind == "PersistentVolumeClaim":
        return "may hold data"
    if began is None:
        return "may be older than the killed run"
    # creationTimestamp has whole seconds.
    if datetime.fromisoformat(metadata.creationTimestamp).timestamp() < int(began):
        return "is older than the killed run"
    return ""
