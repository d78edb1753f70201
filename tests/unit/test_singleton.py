"""Singleton: one pod, and nothing that would make it two."""

from typing import Any

import pytest

from dds_patterns import Singleton
from dds_patterns.arguments.errors import InputError
from tests.unit.support.manifests import assert_valid, objects, the
from toolchain.graph import Graph, build

REQUIRED: dict[str, Any] = {
    "image": "registry.example/app:1.0",
    "ports": [{"name": "http", "port": 8080}],
}
MODES = [pytest.param(True, id="preview"), pytest.param(False, id="update")]


def made(preview: bool = False, **args: Any) -> Graph:
    given: Any = {**REQUIRED, **args}
    return build(lambda: Singleton("owner", given), preview=preview)


@pytest.mark.parametrize("preview", MODES)
def test_a_stateful_set_of_one(preview: bool) -> None:
    (node,) = made(preview).all("StatefulSet")
    spec = node.inputs["spec"]
    assert spec["replicas"] == 1
    # Its rollout deletes the pod and waits for its end before it makes the next.
    assert spec.get("updateStrategy", {}).get("type", "RollingUpdate") == "RollingUpdate"


def test_it_is_no_deployment() -> None:
    """A Deployment starts a second pod during a rollout, and whenever a node falls silent."""
    assert objects(made(), "Deployment") == []


def test_nothing_keeps_its_node_from_being_drained() -> None:
    assert objects(made(), "PodDisruptionBudget") == []


def test_it_does_not_wait_for_clients_to_go_elsewhere() -> None:
    spec = the(made(), "StatefulSet")["spec"]["template"]["spec"]
    assert "lifecycle" not in spec["containers"][0]
    assert "topologySpreadConstraints" not in spec
    waiting = the(made(drain_seconds=4), "StatefulSet")["spec"]["template"]["spec"]
    assert waiting["containers"][0]["lifecycle"]["preStop"]["sleep"]["seconds"] == 4


def test_its_pod_is_labelled_as_what_it_is() -> None:
    labels = the(made(), "StatefulSet")["spec"]["template"]["metadata"]["labels"]
    assert labels["app.kubernetes.io/component"] == "singleton"


@pytest.mark.parametrize("preview", MODES)
@pytest.mark.parametrize(
    ("args", "said"),
    [
        ({"replicas": 2}, "replicas is not an argument"),
        ({"replicas": 1}, "replicas is not an argument"),
        ({"hosting": {"spread": {}}}, "hosting.spread is not an argument"),
        ({"ordered": True}, "ordered is not an argument"),
        ({"ports": [], "clients": [{}]}, "needs ports"),
        ({"image": "app"}, "must have a tag"),
        ({"storage_path": "data"}, "storage_path is 'data'"),
        (
            {"hosting": {"storage": {"size": "1Gi"}}},
            "hosting.storage is .* must be left out without a storage_path",
        ),
    ],
    ids=str,
)
def test_what_is_refused(args: dict[str, Any], said: str, preview: bool) -> None:
    with pytest.raises(InputError, match=f'Singleton "owner".*{said}'):
        made(preview, **args)


def test_it_needs_no_port() -> None:
    """What runs a schedule or takes work from a queue is asked by nobody."""

    def program() -> None:
        owner = Singleton("owner", {"image": REQUIRED["image"]})
        assert owner.endpoint is None
        with pytest.raises(InputError, match="must have one to be reached at"):
            owner.reach  # noqa: B018 (it raises)
        with pytest.raises(InputError, match="ports is 'http'; known are none"):
            owner.port("http")

    graph = build(program)
    assert_valid(objects(graph))
    assert "ports" not in the(graph, "Service")["spec"]


def test_a_long_name_is_refused() -> None:
    with pytest.raises(InputError, match="at most 52 characters"):
        build(lambda: Singleton("x" * 53, {"image": "a:1", "ports": REQUIRED["ports"]}))
