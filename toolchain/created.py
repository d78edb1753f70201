"""Finds and deletes what a creation that was never recorded may have made.

The name that was chosen stands in the recorded inputs. Nothing is deleted that does not carry the
mark of this project: the instance label on a Docker resource, Pulumi's field manager on an object.
An object, whose creation takes over one that is there, must have come with the killed run as well.
Claims of volumes with names of their own stay in any case: the next creation takes them over, with the
data that may be on them.
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
    """What tells a resource from others of its type: namespace and name, or its Docker name."""
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
    """Delete what the creation of `resource` made, if it made anything, and wait until it is gone.

    Types that leave nothing outside the state are left alone.

    :param began: when the run of this creation began, in seconds of the epoch; None: unknown
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
        progress.say("recovery", f"{kind} {name} is not of this checkout; left alone")
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
    except Exception as error:  # noqa: BLE001 whatever keeps the cluster from answering
        progress.say("recovery", f"{inputs['kind']} {name}: the cluster does not answer ({error})")
        return
    if reason := _not_made(inputs["kind"], found.metadata, inputs["metadata"], began):
        progress.say("recovery", f"{inputs['kind']} {name} {reason}; left alone")
        return
    # The claims of a StatefulSet may be bound to go with it.
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
                f"being deleted after {GONE_TIMEOUT:.0f} s; see what holds it"
            )
        time.sleep(0.5)
    if orphaning:
        _delete_orphans(client, found)
    progress.say("recovery", f"deleted {inputs['kind']} {name}")


def _delete_orphans(client: Any, stateful_set: Any) -> None:
    """Delete the pods that a StatefulSet has left behind, which are those that another of its name
    would take over.
    """
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
    """Why an object was not made by the killed run, or cannot be told from one that was not; empty if
    it was.

    :param metadata: the object's
    :param declared: what the creation asked for
    """
    managers = [entry.get("manager", "") for entry in metadata.managedFields or []]
    if not any(manager.startswith(FIELD_MANAGER) for manager in managers):
        return "is not Pulumi's"
    if (declared.get("annotations") or {}).get(AUTONAMED) == "true":
        # Half of the name is random: nobody else has it.
        return ""
    if kind == "PersistentVolumeClaim":
        return "may hold data"
    if began is None:
        return "may be older than the killed run"
    # Whole seconds in what the server says.
    if datetime.fromisoformat(metadata.creationTimestamp).timestamp() < int(began):
        return "is older than the killed run"
    return ""
