"""Arguments that a component refuses."""

from collections.abc import Callable

import pytest

from dds_patterns.arguments.errors import InputError
from toolchain.graph import build


def refused(make: Callable[[], object]) -> str:
    """The message of the refusal; nothing is registered."""
    messages: list[str] = []

    def program() -> None:
        with pytest.raises(InputError) as caught:
            make()
        messages.append(str(caught.value))

    assert not build(program).nodes, "something was registered before the refusal"
    (message,) = messages
    return message
