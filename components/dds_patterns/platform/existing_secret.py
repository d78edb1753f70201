"""ExistingSecret: passwords from a Secret that is managed elsewhere."""

import base64
import contextlib
from collections.abc import Mapping
from typing import TypedDict

import pulumi
from pulumi_kubernetes.core.v1 import Secret

from dds_patterns.arguments import InputError, Later, nearest, resolved
from dds_patterns.arguments.names import Namespace, ObjectName, check_resource_name


class ExistingSecretArgs(TypedDict):
    """Arguments of ExistingSecret."""

    secret: ObjectName
    """Name of the Secret."""
    namespace: Later[Namespace]
    """Its namespace."""


class ExistingSecret(pulumi.ComponentResource):
    """Passwords that an operator or a vault keeps in a Secret, in place of generated ones.

    Registers nothing: each preview and update reads the current Secret, and fails without it. Its
    values are secrets in the state and in outputs. A change of the Secret takes effect with the
    next update, not before.
    """

    values: pulumi.Output[dict[str, str]]
    """The Secret's texts, by their keys; a secret. Values that are no texts are left out."""

    def __init__(
        self, name: str, args: ExistingSecretArgs, opts: pulumi.ResourceOptions | None = None
    ) -> None:
        """Read the Secret.

        :param name: of the resource
        :raises InputError: an invalid argument
        """
        self._where = f'ExistingSecret "{name}"'
        check_resource_name(self._where, name)
        args = resolved(self._where, ExistingSecretArgs, args)
        super().__init__("dds:index:ExistingSecret", name, {"secret": args["secret"]}, opts)
        found = Secret.get(  # type: ignore[attr-defined]
            name,
            pulumi.Output.concat(args["namespace"], "/", args["secret"]),
            opts=pulumi.ResourceOptions(parent=self),
        )
        data: pulumi.Output[Mapping[str, str] | None] = pulumi.Output.secret(found.data)
        self.values = data.apply(_texts)
        self._secret = args["secret"]
        self.register_outputs({"values": self.values})

    def value(self, key: str) -> pulumi.Output[str]:
        """One of ``values``, a secret.

        :raises InputError: when it is read: the Secret has no such key, or its value is no text
        """

        def known(values: Mapping[str, str]) -> str:
            if key not in values:
                expected = f"must be the key of a text in {self._secret}: {nearest(key, values)}"
                raise InputError(self._where, "key", key, expected)
            return values[key]

        return self.values.apply(known)


def _texts(data: Mapping[str, str] | None) -> dict[str, str]:
    found = {}
    for key, encoded in (data or {}).items():
        with contextlib.suppress(ValueError):
            found[key] = base64.b64decode(encoded).decode()
    return found
