"""A user of a Redis server for a companion: its name, passwords and ACL rules."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar

import pulumi

from dds_patterns.arguments import InputError, check_fields, matching
from dds_patterns.arguments.constraints import password
from dds_patterns.arguments.declared import Deferrable

RedisPassword = Annotated[str, password(8)]
"""A password that needs no quoting in the configuration of Redis or of a proxy."""
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
"""One rule of an ACL that neither contains a password nor breaks out of the user's line."""


def hashed(passwords: Sequence[str | None]) -> str:
    """The passwords as entries of an ACL; empty ones are left out."""
    # Redis itself stores these hashes; the password is never in the servers' pods.
    digests = [hashlib.sha256(each.encode()).hexdigest() for each in passwords if each]
    return " ".join(f"#{digest}" for digest in dict.fromkeys(digests))


@dataclass(frozen=True)
class RedisUser:
    """The user of a companion. The server gets only the SHA-256 of its passwords."""

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
    """Its name."""
    rules: tuple[AclRule, ...]
    """Its permissions, as rules of Redis' ACL, for example ``+info``. It starts without any."""
    password: Annotated[pulumi.Output[str], Deferrable(secret=True)]
    """Its password; a secret."""
    former: Annotated[pulumi.Output[str], Deferrable(secret=True)] | None = None
    """The former password, which the server still accepts; a secret. None or empty is no
    password."""

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
    """Refuse a component's name that is no user name of a store, before anything is registered."""
    try:
        RedisUser(name, rules, pulumi.Output.from_input(""))
    except InputError as error:
        raise InputError(where, "name", name, error.expected) from None
