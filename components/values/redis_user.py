"""A user of a Redis server beside its clients: who it is and what it may do."""

import hashlib
from dataclasses import dataclass
from typing import Annotated, ClassVar

import pulumi

from components.arguments import check_fields, matching
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


@dataclass(frozen=True)
class RedisUser:
    """What a companion logs in as. The server learns the password's SHA-256 only."""

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

    def __post_init__(self) -> None:
        check_fields(f'RedisUser "{self.name}"', self)

    def acl_line(self) -> pulumi.Output[str]:
        """The user's line in an ACL file."""
        rules = " ".join(self.rules)

        def line(password: str) -> str:
            digest = hashlib.sha256(password.encode()).hexdigest()
            return f"user {self.name} on #{digest} resetkeys resetchannels -@all {rules}"

        return pulumi.Output.from_input(self.password).apply(line)
