"""Declares the objects of ``objects.json`` with the Kubernetes provider, and nothing else.

Tokens and properties go to the provider as they are written, past the SDK's own checks; the SDK's
classes would add ``apiVersion`` and ``kind``, and so does this. In a property
``{"$secret": value}`` is a secret and ``{"$id": "name"}`` the id of another object, which a preview
does not know yet.
"""

import json
from importlib import metadata
from pathlib import Path
from typing import Any

import pulumi

VERSION = metadata.version("pulumi-kubernetes")
made: dict[str, pulumi.CustomResource] = {}


def _value(value: Any) -> Any:
    if isinstance(value, dict):
        if set(value) == {"$secret"}:
            return pulumi.Output.secret(value["$secret"])
        if set(value) == {"$id"}:
            return made[value["$id"]].id
        return {key: _value(item) for key, item in value.items()}
    return [_value(item) for item in value] if isinstance(value, list) else value


def _identity(token: str) -> dict[str, str]:
    """What the SDK's class of a token such as core/v1:ConfigMap declares of itself."""
    api_version, _, kind = token.partition(":")
    return {"apiVersion": api_version.removeprefix("core/"), "kind": kind}


class _Provider(pulumi.ProviderResource):
    pass


def main() -> None:
    """Declare everything in order."""
    document = json.loads(Path("objects.json").read_text())
    provider = _Provider(
        "kubernetes",
        "cluster",
        {key: _value(value) for key, value in document["provider"].items()},
        pulumi.ResourceOptions(version=VERSION),
    )
    for item in document["objects"]:
        timeouts = item.get("timeouts")
        options = pulumi.ResourceOptions(
            provider=provider,
            version=VERSION,
            depends_on=[made[name] for name in item.get("after", ())],
            ignore_changes=item.get("ignore"),
            import_=item.get("import"),
            aliases=[pulumi.Alias(name=name) for name in item.get("aliases", ())],
            custom_timeouts=pulumi.CustomTimeouts(**timeouts) if timeouts else None,
        )
        made[item["name"]] = pulumi.CustomResource(
            f"kubernetes:{item['type']}",
            item["name"],
            {**_identity(item["type"]), **_value(item["properties"])},
            options,
        )


main()
