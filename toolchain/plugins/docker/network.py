"""The type docker:index/network:Network."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import docker.errors

from toolchain.plugins.docker.engine import DockerError, Operation, explain, found
from toolchain.plugins.docker.ownership import clear_network, label_pairs, labels_of
from toolchain.plugins.docker.resources import ResourceType
from toolchain.plugins.docker.schema import Field, labels

if TYPE_CHECKING:
    from toolchain.plugins.provider.provider import Properties

_REMOVAL_SECONDS = 30.0

FIELDS = {
    "name": Field("string"),
    "labels": labels(),
    "driver": Field("string", computed=True),
    "options": Field("map", computed=True),
    "internal": Field("boolean", computed=True),
    "attachable": Field("boolean"),
    "ipv6": Field("boolean"),
    "ipamDriver": Field("string", default="default"),
    "ipamOptions": Field("map"),
    "ipamConfigs": Field(
        "objects_set",
        computed=True,
        fields={
            "subnet": Field("string"),
            "ipRange": Field("string"),
            "gateway": Field("string"),
            "auxAddress": Field("map"),
        },
    ),
}


def _ipam(inputs: Properties) -> dict[str, Any]:
    keys = {
        "subnet": "Subnet",
        "ipRange": "IPRange",
        "gateway": "Gateway",
        "auxAddress": "AuxiliaryAddresses",
    }
    configs = [
        {keys[name]: value for name, value in config.items() if name in keys and value}
        for config in inputs.get("ipamConfigs") or []
    ]
    ipam: dict[str, Any] = {"Driver": inputs.get("ipamDriver") or "default"}
    if configs:
        ipam["Config"] = configs
    if inputs.get("ipamOptions"):
        ipam["Options"] = inputs["ipamOptions"]
    return ipam


def _create(operation: Operation, inputs: Properties) -> tuple[str, Properties]:
    wanted = labels_of(inputs.get("labels"))
    clear_network(operation, inputs["name"], wanted)
    made = operation.client.create_network(
        inputs["name"],
        driver=inputs.get("driver"),
        options=inputs.get("options"),
        ipam=_ipam(inputs),
        internal=bool(inputs.get("internal")),
        labels=wanted,
        enable_ipv6=bool(inputs.get("ipv6")),
        attachable=inputs.get("attachable"),
        check_duplicate=True,
    )
    state = _read(operation, made["Id"], inputs)
    if state is None:
        raise DockerError(f"network {inputs['name']!r} was removed during its creation")
    return state


def _read(operation: Operation, identity: str, _state: Properties) -> tuple[str, Properties] | None:
    client = operation.client
    details = found(lambda: client.inspect_network(identity))
    if details is None:
        return None
    ipam = details.get("IPAM") or {}
    configs = []
    for config in ipam.get("Config") or []:
        entry: Properties = {}
        for theirs, ours in (("Subnet", "subnet"), ("IPRange", "ipRange"), ("Gateway", "gateway")):
            if config.get(theirs):
                entry[ours] = config[theirs]
        if config.get("AuxiliaryAddresses"):
            entry["auxAddress"] = config["AuxiliaryAddresses"]
        configs.append(entry)
    return details["Id"], {
        "name": details["Name"],
        "labels": label_pairs(details.get("Labels")),
        "driver": details["Driver"],
        "options": details.get("Options") or {},
        "internal": bool(details.get("Internal")),
        "attachable": bool(details.get("Attachable")),
        "ingress": bool(details.get("Ingress")),
        "ipv6": bool(details.get("EnableIPv6")),
        "ipamDriver": ipam.get("Driver") or "default",
        "ipamOptions": ipam.get("Options") or {},
        "ipamConfigs": configs,
        "scope": details.get("Scope") or "",
    }


def _update(
    operation: Operation, identity: str, state: Properties, _inputs: Properties
) -> Properties:
    current = _read(operation, identity, state)
    if current is None:
        raise DockerError(f"network {identity[:12]} does not exist; run again with --refresh")
    return current[1]


def _delete(operation: Operation, identity: str, _state: Properties) -> None:
    client = operation.client
    refusal = ""

    def removed() -> bool:
        nonlocal refusal
        try:
            client.remove_network(identity)
        except docker.errors.NotFound:
            return True
        except docker.errors.APIError as error:
            refusal = explain(error)
            if "active endpoints" not in refusal:
                raise
            return False
        return found(lambda: client.inspect_network(identity)) is None

    def late() -> str:
        details = found(lambda: client.inspect_network(identity)) or {}
        names = sorted(one["Name"] for one in (details.get("Containers") or {}).values())
        return f"{refusal}; still connected: {', '.join(names) or 'unknown'}"

    operation.until(removed, _REMOVAL_SECONDS, late, every=0.5)


NETWORK = ResourceType(
    type_name="docker:index/network:Network",
    fields=FIELDS,
    create=_create,
    read=_read,
    update=_update,
    delete=_delete,
    meta='{"schema_version":"1"}',
)
