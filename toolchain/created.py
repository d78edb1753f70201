"""Finds and deletes what a creation that was never recorded may have made.

The name that was chosen stands in the recorded inputs. Nothing is deleted that does not carry the
mark of this project: the instance label on a Docker resource, Pulumi's field manager on an object.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from toolchain import progress
from toolchain.errors import ToolchainError

if TYPE_CHECKING:
    from toolchain.paths import Checkout

LABEL = "dds.instance"
FIELD_MANAGER = "pulumi-kubernetes"
GONE_TIMEOUT = 120.0
# With three further attempts.
ANSWER_SECONDS = 10.0
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


def delete(checkout: Checkout, environment: Mapping[str, str], resource: Mapping[str, Any]) -> None:
    """Delete what the creation of `resource` made, if it made anything, and wait until it is gone.

    Types that leave nothing outside the state are left alone.
    """
    kind = str(resource.get("type"))
    if kind in DOCKER_KINDS:
        _delete_docker(checkout, environment, DOCKER_KINDS[kind], resource)
    elif kind.startswith("kubernetes:") and "metadata" in (resource.get("inputs") or {}):
        _delete_object(environment, resource)


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


def _delete_object(environment: Mapping[str, str], resource: Mapping[str, Any]) -> None:
    import kubernetes
    from kubernetes import dynamic
    from kubernetes.dynamic.exceptions import NotFoundError, ResourceNotFoundError

    inputs = resource["inputs"]
    namespace, name = identity(resource)
    context = os.environ.get("KUBECONTEXT") or None
    try:
        connection = kubernetes.config.new_client_from_config(  # type: ignore[no-untyped-call]
            config_file=environment.get("KUBECONFIG"), context=context
        )
        # What follows has no bound of its own: a cluster that hangs would be waited for without end.
        kubernetes.client.VersionApi(connection).get_code(_request_timeout=ANSWER_SECONDS)
        client = dynamic.DynamicClient(connection)  # type: ignore[no-untyped-call]
        api = client.resources.get(api_version=inputs["apiVersion"], kind=inputs["kind"])
        where = {"name": name, "namespace": namespace or None}
        found = api.get(**where)
    except (NotFoundError, ResourceNotFoundError):
        return
    except Exception as error:  # noqa: BLE001 whatever keeps the cluster from answering
        progress.say("recovery", f"{inputs['kind']} {name}: the cluster does not answer ({error})")
        return
    managers = [entry.get("manager", "") for entry in found.metadata.managedFields or []]
    if not any(manager.startswith(FIELD_MANAGER) for manager in managers):
        progress.say("recovery", f"{inputs['kind']} {name} is not Pulumi's; left alone")
        return
    api.delete(**where, body={"propagationPolicy": "Foreground"})
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
    progress.say("recovery", f"deleted {inputs['kind']} {name}")
