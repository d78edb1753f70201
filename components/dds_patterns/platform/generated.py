"""Password: a random secret that stays the same from one update to the next."""

import dataclasses
import secrets
import string
from collections.abc import Mapping
from typing import Annotated, Any, NotRequired, TypedDict

import pulumi
from pulumi.dynamic import CreateResult, DiffResult, Resource, ResourceProvider, UpdateResult

from dds_patterns.arguments import Default, Secret, between, resolved
from dds_patterns.arguments.names import check_resource_name
from dds_patterns.arguments.place import Place

# Letters and digits only: no configuration language needs them quoted.
_ALPHABET = string.ascii_letters + string.digits


class PasswordArgs(TypedDict):
    """Arguments of Password."""

    length: NotRequired[Annotated[int, between(16, 128), Default(32)]]
    """Letters and digits. 32 are 190 bits."""
    keepers: NotRequired[Annotated[Mapping[str, Secret[str]], Default({})]]
    """Values whose change generates a new password, without keeping the former one."""
    generation: NotRequired[Annotated[int, between(1, 1_000_000), Default(1)]]
    """Another number generates a new password too, but keeps the former one as ``former``."""


class RotationArgs(TypedDict):
    """Rotation of generated passwords without downtime."""

    generation: NotRequired[Annotated[int, between(1, 1_000_000), Default(1)]]
    """Another number generates new passwords. Servers accept them and the former ones, then a
    rolling update of the clients switches to the new ones."""
    keep_former: NotRequired[Annotated[bool, Default(True)]]
    """Whether servers still accept the passwords before the last change of ``generation``. Set it
    to false when no client uses them any more, or at once if they have leaked: servers then reject
    clients that are not updated yet."""


class PasswordProvider(ResourceProvider):
    """Generates a password on creation, on replacement and for another generation."""

    # What is serialised is a reference to this class, which is no secret.
    serialize_as_secret_always = False

    def create(self, props: dict[str, Any]) -> CreateResult:
        """Generate a password."""
        outs = {
            **_given(props),
            "value": _drawn(props),
            "former": "",
            "former_generation": 0,
        }
        return CreateResult(id_=secrets.token_hex(8), outs=outs)

    def diff(self, _id: str, _olds: dict[str, Any], _news: dict[str, Any]) -> DiffResult:
        """Another length or keeper replaces the password; another generation keeps the former."""
        olds, news = _given(_olds), _given(_news)
        replaces = [key for key in ("length", "keepers") if olds[key] != news[key]]
        # A state from before generations is completed, so that previews know that there is no
        # former password.
        changes = olds != news or "former" not in _olds
        return DiffResult(changes=changes, replaces=replaces, delete_before_replace=False)

    def update(self, _id: str, _olds: dict[str, Any], _news: dict[str, Any]) -> UpdateResult:
        """Generate the next generation's password."""
        olds, news = _given(_olds), _given(_news)
        outs = {
            **news,
            "value": _drawn(_news),
            "former": _olds["value"],
            "former_generation": olds["generation"],
        }
        if olds["generation"] == news["generation"]:
            outs |= {"value": _olds["value"], "former": "", "former_generation": 0}
        return UpdateResult(outs=outs)


def _given(props: Mapping[str, Any]) -> dict[str, Any]:
    # The engine's numbers are floats; a state from before there were generations has none.
    return {
        "length": int(props["length"]),
        "keepers": props["keepers"],
        "generation": int(props.get("generation", 1)),
    }


def _drawn(props: Mapping[str, Any]) -> str:
    return "".join(secrets.choice(_ALPHABET) for _ in range(int(props["length"])))


class Password(Resource, name="Password"):
    """A random password. It is a secret in state and in outputs."""

    value: pulumi.Output[str]
    """The password."""
    former: pulumi.Output[str]
    """The password of the former generation; empty if there is none."""
    former_generation: pulumi.Output[int]
    """Number of that generation; 0 if there is none."""

    def __init__(
        self,
        name: str,
        args: PasswordArgs | None = None,
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        """Register the password.

        :raises InputError: an invalid argument
        """
        where = f'Password "{name}"'
        check_resource_name(where, name)
        args = resolved(where, PasswordArgs, {} if args is None else args)
        super().__init__(
            PasswordProvider(),
            name,
            {**args, "value": None, "former": None, "former_generation": None},
            pulumi.ResourceOptions.merge(
                opts, pulumi.ResourceOptions(additional_secret_outputs=["value", "former"])
            ),
        )


@dataclasses.dataclass(frozen=True)
class Rotated:
    """A password of a server's user, and the former one as long as the server accepts it."""

    value: pulumi.Output[str]
    """What clients log in with; a secret."""
    former: pulumi.Output[str]
    """A secret; empty if there is none."""
    former_generation: pulumi.Output[int]
    """Number of its generation; 0 if there is none."""
    generation: int = 1
    """Number of the current generation."""

    @property
    def accepted(self) -> pulumi.Output[list[str]]:
        """All passwords that the server accepts, the current one first."""
        return pulumi.Output.all(self.value, self.former).apply(
            lambda known: [password for password in known if password]
        )

    def login(self, user: str) -> str:
        """Login name of the current generation, for a server with one password for each user."""
        return _login(user, self.generation)

    def logins(self, user: str) -> pulumi.Output[list[str]]:
        """All login names of the user, in the order of ``accepted``."""
        present = self.login(user)
        return self.former_generation.apply(
            lambda former: [present, _login(user, int(former))] if former else [present]
        )


def _login(user: str, generation: int) -> str:
    return user if generation == 1 else f"{user}-{generation}"


def rotated(name: str, rotation: RotationArgs, opts: pulumi.ResourceOptions) -> Rotated:
    """Register a generated password.

    :param rotation: as it was resolved
    """
    generation = rotation["generation"]
    made = Password(name, {"generation": generation}, opts)
    alone = dataclasses.replace(given(made.value), generation=generation)
    if not rotation["keep_former"]:
        return alone
    return dataclasses.replace(
        alone,
        former=pulumi.Output.secret(made.former),
        former_generation=made.former_generation,
    )


def given(value: pulumi.Input[str], former: pulumi.Input[str] | None = None) -> Rotated:
    """A password that is managed elsewhere, with the former one if it is still accepted."""
    return Rotated(
        pulumi.Output.secret(value),
        pulumi.Output.secret(former or ""),
        pulumi.Output.from_input(0),
    )


def check_rotation(where: str, rotation: RotationArgs, *, generated: bool) -> None:
    """Refuse a rotation of passwords that are not generated.

    :param generated: whether any is
    """
    if generated:
        return
    for key, default in (("generation", 1), ("keep_former", True)):
        value: Any = rotation[key]  # type: ignore[literal-required]
        if value != default:
            Place(where, f"rotation.{key}").refuse(
                value, "must be left out: no password is generated here"
            )
