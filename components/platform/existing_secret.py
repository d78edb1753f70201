"""ExistingSecret: a Secret of the cluster that somebody else keeps, read for what a component needs."""

import base64
from collections.abc import Mapping
from typing import TypedDict

import pulumi
from pulumi_kubernetes.core.v1 import Secret

from components.arguments import InputError, Later, nearest, resolved
from components.arguments.names import Namespace, ObjectName, check_resource_name


class ExistingSecretArgs(TypedDict):
    """Arguments of ExistingSecret."""

    secret: ObjectName
    """Name of the Secret."""
    namespace: Later[Namespace]
    """Its namespace."""


class ExistingSecret(pulumi.ComponentResource):
    """Passwords that an operator or a vault keeps in a Secret, in place of generated ones.

    Registers nothing: each preview and update reads the Secret as it is then, and fails without it.
    What its keys hold is a secret in the state and in outputs. When the Secret changes, the next
    update changes what was made of it; nothing follows it before.
    """

    def __init__(
        self, name: str, args: ExistingSecretArgs, opts: pulumi.ResourceOptions | None = None
    ) -> None:
        """Read the Secret.

        :param name: of the resource
        :raises InputError: an argument that cannot be right
        """
        self._where = f'ExistingSecret "{name}"'
        check_resource_name(self._where, name)
        args = resolved(self._where, ExistingSecretArgs, args)
        super().__init__("dds:index:ExistingSecret", name, {"secret": args["secret"]}, opts)
        found = Secret.get(
            name,
            pulumi.Output.concat(args["namespace"], "/", args["secret"]),
            opts=pulumi.ResourceOptions(parent=self),
        )
        self._data: pulumi.Output[Mapping[str, str]] = pulumi.Output.secret(found.data)
        self._secret = args["secret"]
        self.register_outputs({})

    def value(self, key: str) -> pulumi.Output[str]:
        """What the Secret has under a key, a secret.

        :raises InputError: when it is read: the Secret has no such key, or no text under it
        """

        def decoded(data: Mapping[str, str] | None) -> str:
            known = data or {}
            if key not in known:
                raise InputError(
                    self._where, "key", key, f"is not in {self._secret}; {nearest(key, known)}"
                )
            try:
                return base64.b64decode(known[key]).decode()
            except ValueError:
                raise InputError(
                    self._where, "key", key, f"must be the key of a text in {self._secret}"
                ) from None

        return self._data.apply(decoded)
