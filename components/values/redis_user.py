"""A user of a Redis server beside its clients: who it is and what it may do."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar

import pulumi

from components.arguments import InputError, check_fields, matching
from components.arguments.constraints import password
from components.arguments.declared import Deferrable

RedisPassword = Annotated[str, password(8)]
"""A password that neither Redis' configuration nor that of a proxy reads differently."""
AclRule = Annotated[
    str,
    matching(
        r"[-+](@[a-z]+|[a-z][-a-z0-9_.]*(\|[-a-z0-9_]+)?)|[~&][!-~]+|%(R|W|RW|WR)~[!-~]+"
        r"|(reset|all)(keys|channels)",
        "a rule such as +info or ~key:*",
        most=512,
        odd=("info", "+info >swordfish", ">swordfish", "nopass", "on", "~", "%x", "+a\n", "~ä"),
    ),
]
"""One rule of an ACL, of those that neither name a password nor leave the user's line."""


def hashed(passwords: Sequence[str | None]) -> str:
    """The words by which an ACL takes each of the passwords; an empty one is none."""
    # What Redis itself keeps; the password is never in the servers' pods.
    digests = [hashlib.sha256(each.encode()).hexdigest() for each in passwords if each]
    return " ".join(f"#{digest}" for digest in dict.fromkeys(digests))


@dataclass(frozen=True)
class RedisUser:
    """What a companion logs in as. The server learns the SHA-256 of its passwords only."""

    GIVEN_BY: ClassVar[str] = "exporter.user"

    name: Annotated[
        str,
        matching(
            r"(?!(default|admin|probe)$)[a-z][-a-z0-9]*",
            "lower-case letters, digits and dashes, beginning with a letter, and not one of the "
            "store's own users",
            most=63,
            odd=("default", "admin", "probe", "A", "1a", "a b", "a\n", "a on nopass"),
        ),
    ]
    """What it is called."""
    rules: tuple[AclRule, ...]
    """What it may do, in the words of Redis' ACL, for example ``+info``. It starts with nothing."""
    password: Annotated[pulumi.Output[str], Deferrable(secret=True)]
    """What it logs in with; a secret."""
    former: Annotated[pulumi.Output[str], Deferrable(secret=True)] | None = None
    """The password before this one, which the server takes as well; a secret. None or an empty one
    is no password."""

    def __post_init__(self) -> None:
        check_fields(f'RedisUser "{self.name}"', self)

    def acl_line(self) -> pulumi.Output[str]:
        """The user's line in an ACL file."""
        rules = " ".join(self.rules)

        def line(passwords: Sequence[str | None]) -> str:
            digests = hashed(passwords)
            return f"user {self.name} on {digests} resetkeys resetchannels -@all {rules}"

        return pulumi.Output.all(self.password, self.former).apply(line)


def check_user(where: str, name: str, rules: tuple[str, ...]) -> None:
    """Refuse a component's name by which a store could not know it, before anything is registered."""
    try:
        RedisUser(name, rules, pulumi.Output.from_input(""))
    except InputError as error:
        raise InputError(where, "name", name, error.expected) from None
