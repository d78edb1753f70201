"""The interface of a resource provider, with plain Python values."""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from toolchain.plugins.provider.errors import ProviderError

if TYPE_CHECKING:
    from toolchain.plugins.provider.cancellation import Cancellation
    from toolchain.plugins.provider.engine import Engine

Properties = dict[str, Any]


class DiffKind(enum.Enum):
    """The kind of a property's change; the values are those of the protocol."""

    ADD = 0
    ADD_REPLACE = 1
    DELETE = 2
    DELETE_REPLACE = 3
    UPDATE = 4
    UPDATE_REPLACE = 5


@dataclasses.dataclass(frozen=True)
class CheckFailure:
    """A failure of an input; ``property`` is a path such as ``ports[0].internal``."""

    property: str
    reason: str


@dataclasses.dataclass(frozen=True)
class CheckResult:
    """Inputs with defaults filled in, and their failures."""

    inputs: Properties
    failures: Sequence[CheckFailure] = ()


@dataclasses.dataclass(frozen=True)
class Diff:
    """The changes of an update.

    :param details: kind of change by property path; a ``*_REPLACE`` replaces the object
    """

    details: Mapping[str, DiffKind] = dataclasses.field(default_factory=dict)
    delete_before_replace: bool = False


@dataclasses.dataclass(frozen=True)
class ReadResult:
    """An object's current state; an empty id if it does not exist."""

    identity: str
    properties: Properties = dataclasses.field(default_factory=dict)
    inputs: Properties = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Autonaming:
    """The stack's autonaming (``pulumi:autonaming``); without ``name``, names must be explicit."""

    name: str | None


@dataclasses.dataclass(frozen=True)
class ResourceRequest:
    """The common part of all requests for a resource.

    :param urn: the resource's URN
    :param type: its token, for example ``docker:index/container:Container``
    :param name: its name in the program
    """

    urn: str
    type: str
    name: str


@dataclasses.dataclass(frozen=True)
class CheckRequest(ResourceRequest):
    """``old_inputs`` is empty for a new object and for a replacement."""

    old_inputs: Properties
    inputs: Properties
    random_seed: bytes
    autonaming: Autonaming | None = None


@dataclasses.dataclass(frozen=True)
class DiffRequest(ResourceRequest):
    """``state`` is the outputs of the last operation."""

    identity: str
    old_inputs: Properties
    state: Properties
    inputs: Properties
    ignore_changes: Sequence[str]


@dataclasses.dataclass(frozen=True)
class CreateRequest(ResourceRequest):
    """``timeout`` in seconds; 0: the provider's default."""

    inputs: Properties
    timeout: float
    preview: bool


@dataclasses.dataclass(frozen=True)
class UpdateRequest(ResourceRequest):
    """``timeout`` in seconds; 0: the provider's default."""

    identity: str
    old_inputs: Properties
    state: Properties
    inputs: Properties
    timeout: float
    preview: bool


@dataclasses.dataclass(frozen=True)
class DeleteRequest(ResourceRequest):
    """``timeout`` in seconds; 0: the provider's default."""

    identity: str
    old_inputs: Properties
    state: Properties
    timeout: float


@dataclasses.dataclass(frozen=True)
class ReadRequest(ResourceRequest):
    """``state`` and ``inputs`` are empty for an import."""

    identity: str
    state: Properties
    inputs: Properties


class Provider:
    """A provider of resources. Every call runs in a thread of its own.

    Methods raise `ProviderError` (or `IncompleteError`) for errors that users should read.
    """

    name = "provider"
    supports_autonaming = False

    def __init__(self, engine: Engine, cancellation: Cancellation) -> None:
        self.engine = engine
        self.cancellation = cancellation

    def check_config(self, old: Properties, new: Properties) -> CheckResult:  # noqa: ARG002
        """Validates the provider's own arguments."""
        return CheckResult(new)

    def diff_config(self, old: Properties, new: Properties) -> Diff:
        """Compares the provider's own arguments."""
        changed = sorted(key for key in old.keys() | new.keys() if old.get(key) != new.get(key))
        return Diff(dict.fromkeys(changed, DiffKind.UPDATE))

    def configure(self, arguments: Properties) -> None:
        """Sets the provider's arguments; called once, before any resource.

        As the SDK sends them, values other than strings may be JSON text.
        """

    def check(self, request: CheckRequest) -> CheckResult:
        """Fills in and validates inputs."""
        raise NotImplementedError

    def diff(self, request: DiffRequest) -> Diff:
        """Returns the changes of an update."""
        raise NotImplementedError

    def create(self, request: CreateRequest) -> tuple[str, Properties]:
        """Creates the object and returns its id and outputs; in a preview the id is empty."""
        raise NotImplementedError

    def update(self, request: UpdateRequest) -> Properties:
        """Updates the object and returns its outputs."""
        raise NotImplementedError

    def delete(self, request: DeleteRequest) -> None:
        """Deletes the object and waits until it is gone; a missing object is not an error."""
        raise NotImplementedError

    def read(self, request: ReadRequest) -> ReadResult:
        """Returns the object's current state, for refresh, import and ``get``."""
        raise NotImplementedError

    def invoke(self, token: str, arguments: Properties) -> Properties:  # noqa: ARG002
        """Calls a function of the provider."""
        raise ProviderError(f"the function {token} is not supported by this {self.name} plugin")
