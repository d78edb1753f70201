"""What every unit test has in common."""

import functools
import gc
from collections.abc import Iterator

import hypothesis
import kubernetes_validate.utils
import pulumi.runtime.resource
import pytest
from pulumi.runtime.proto import source_pb2

# How long an example takes is the machine's: a composition may come up beside the tests.
hypothesis.settings.register_profile("any machine", deadline=None)
hypothesis.settings.load_profile("any machine")


@pytest.fixture(autouse=True)
def _no_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment of `make env` describes this machine's cluster; unit tests have none."""
    for name in ("KUBECONFIG", "DDS_NODE_IMAGE", "DDS_REGISTRY_IMAGE"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(autouse=True, scope="session")
def _quick() -> Iterator[None]:
    """Leave out what costs a third of the time and that no test looks at.

    These are the place in the source that the SDK finds out for each resource, from a stack that
    is deep under pytest; the schema of all kinds, read from its file for each object; and most
    searches for circles of what is no longer needed.
    """
    gc.set_threshold(50_000, 20, 100)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pulumi.runtime.resource, "_get_stack_trace", source_pb2.StackTrace)
        schemas = functools.cache(kubernetes_validate.utils.schema_contents)
        patch.setattr(kubernetes_validate.utils, "schema_contents", schemas)
        yield
