"""Password: a random secret that stays the same from one update to the next."""

import secrets
import string
from collections.abc import Mapping
from typing import Annotated, Any, NotRequired, TypedDict

import pulumi
from pulumi.dynamic import CreateResult, DiffResult, Resource, ResourceProvider

from components.arguments import Default, Secret, between, resolved
from components.arguments.names import check_resource_name

# Letters and digits only: no configuration language needs them quoted.
_ALPHABET = string.ascii_letters + string.digits


class PasswordArgs(TypedDict):
    """Arguments of Password."""

    length: NotRequired[Annotated[int, between(16, 128), Default(32)]]
    """Letters and digits. 32 are 190 bits."""
    keepers: NotRequired[Annotated[Mapping[str, Secret[str]], Default({})]]
    """Values whose change makes a new password. Without any it never changes."""


class PasswordProvider(ResourceProvider):
    """Makes a password on creation, and a new one only when it is replaced."""

    # What is serialised is a reference to this class, which is no secret.
    serialize_as_secret_always = False

    def create(self, props: dict[str, Any]) -> CreateResult:
        """Draw a password."""
        length = int(props["length"])
        value = "".join(secrets.choice(_ALPHABET) for _ in range(length))
        outs = {"length": props["length"], "keepers": props["keepers"], "value": value}
        return CreateResult(id_=secrets.token_hex(8), outs=outs)

    def diff(self, _id: str, _olds: dict[str, Any], _news: dict[str, Any]) -> DiffResult:
        """Another length or keeper is another password."""
        replaces = [key for key in ("length", "keepers") if _olds.get(key) != _news.get(key)]
        return DiffResult(changes=bool(replaces), replaces=replaces, delete_before_replace=False)


class Password(Resource, name="Password"):
    """A random password. It is a secret in state and in outputs."""

    value: pulumi.Output[str]
    """The password."""

    def __init__(
        self,
        name: str,
        args: PasswordArgs | None = None,
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        """Register the password.

        :raises InputError: an argument that cannot be right
        """
        where = f'Password "{name}"'
        check_resource_name(where, name)
        args = resolved(where, PasswordArgs, {} if args is None else args)
        super().__init__(
            PasswordProvider(),
            name,
            {**args, "value": None},
            pulumi.ResourceOptions.merge(
                opts, pulumi.ResourceOptions(additional_secret_outputs=["value"])
            ),
        )
