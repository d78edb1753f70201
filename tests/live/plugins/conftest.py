"""Fixtures of the plugins' own tests."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.live.plugins.program import Program, program
from tests.live.plugins.relay import Relay
from tests.live.support.cluster import Cluster
from tests.live.support.kube import Kube


@pytest.fixture
def objects(cluster: Cluster, namespace: str, tmp_path: Path) -> Iterator[Program]:
    """A throw-away stack whose objects go into the test's own namespace."""
    with program(cluster, tmp_path / "stack", namespace) as made:
        yield made


@pytest.fixture
def relay(cluster: Cluster) -> Iterator[Relay]:
    """A way to the API server that can be cut."""
    with Relay(cluster.checkout.api_port) as made:
        yield made


@pytest.fixture(scope="session")
def image(kube: Kube) -> tuple[str, str]:
    """An image that is on a node already, and that node: CoreDNS, which ends at once when asked to."""
    pod = kube.core.list_namespaced_pod("kube-system", label_selector="k8s-app=kube-dns").items[0]
    return str(pod.spec.containers[0].image), str(pod.spec.node_name)
