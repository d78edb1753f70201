"""What every test has in common."""

import pytest


@pytest.fixture(autouse=True)
def _no_named_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test goes to a cluster that the environment of whoever runs it names."""
    monkeypatch.delenv("KUBECONTEXT", raising=False)
