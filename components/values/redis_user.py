"""A user of a Redis server beside its clients: who it is and what it may do."""

import hashlib
import re
from dataclasses import dataclass

import pulumi

from components.arguments.errors import InputError
from components.values import checks

_NAME = re.compile(r"[a-z][a-z0-9-]{0,62}")
_RULE = re.compile(r"[-+][@a-z][-a-z0-9_|@]*|[~&%][^\s]+|(reset|all)(keys|channels)")


@dataclass(frozen=True)
class RedisUser:
    """What a companion logs in as. The server learns the password's SHA-256 only."""

    name: str
    """Lower-case letters, digits and dashes."""
    rules: tuple[str, ...]
    """What it may do, in the words of Redis' ACL, for example ``+info``. It starts with nothing."""
    password: pulumi.Output[str]
    """What it logs in with; a secret."""

    def __post_init__(self) -> None:
        where = f'RedisUser "{self.name}"'
        if not _NAME.fullmatch(self.name) or self.name in ("default", "admin", "probe"):
            raise InputError(
                where, "name", self.name, "must be lower-case, and not one of the store's own users"
            )
        for rule in self.rules:
            if not _RULE.fullmatch(rule):
                raise InputError(where, "rules", rule, "must be a rule such as +info or ~key:*")
        if not checks.is_deferred(self.password):
            raise InputError(where, "password", "<secret>", "must be an Output, such as a secret")

    def acl_line(self) -> pulumi.Output[str]:
        """The user's line in an ACL file."""
        rules = " ".join(self.rules)

        def line(password: str) -> str:
            digest = hashlib.sha256(password.encode()).hexdigest()
            return f"user {self.name} on #{digest} resetkeys resetchannels -@all {rules}"

        return pulumi.Output.from_input(self.password).apply(line)
