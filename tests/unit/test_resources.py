"""Requests and limits of components that have defaults of their own."""

from collections.abc import Callable
from typing import Any

import pytest

from dds_patterns import Application, Election, EtcdCluster, EventBus, Prometheus
from dds_patterns.arguments.errors import InputError
from dds_patterns.values.metrics import ScrapeJob
from dds_patterns.values.reach import Reach
from tests.unit.support.examples import IMAGE
from tests.unit.support.manifests import assert_valid, objects, the
from toolchain.graph import build

JOB = ScrapeJob("a", Reach("a", ("a.svc:9121",), pods={"app": "a"}))


def prometheus(resources: Any) -> None:
    Prometheus("one", {"image": IMAGE, "jobs": [JOB], "hosting": {"resources": resources}})


def etcd(resources: Any) -> None:
    EtcdCluster("one", {"image": IMAGE, "quota_mib": 64, "hosting": {"resources": resources}})


def bus(resources: Any) -> None:
    EventBus("one", {"image": IMAGE, "tools_image": IMAGE, "hosting": {"resources": resources}})


def election(resources: Any) -> None:
    made = Election(
        "one", {"image": IMAGE, "backend": "lease", "hosting": {"resources": resources}}
    )
    Application("web", {"image": IMAGE, "companions": [made.companion]})


# Default requests of cpu and memory, and limits of the same.
DEFAULTS: dict[Callable[[Any], None], tuple[str, str, str, str]] = {
    prometheus: ("50m", "96Mi", "1", "384Mi"),
    etcd: ("100m", "128Mi", "1", "320Mi"),
    bus: ("50m", "256Mi", "1", "256Mi"),
    election: ("25m", "48Mi", "1", "128Mi"),
}
every = pytest.mark.parametrize("component", DEFAULTS, ids=lambda each: each.__name__)


def made(component: Callable[[Any], None], resources: Any) -> tuple[str | None, ...]:
    graph = build(lambda: component(resources))
    assert_valid(objects(graph))
    spec: dict[str, Any] = (
        the(graph, "Deployment") if component is election else the(graph, "StatefulSet")
    )["spec"]["template"]["spec"]
    containers = spec["initContainers" if component is election else "containers"]
    found = containers[0]["resources"]
    assert set(found["requests"]) == {"cpu", "memory", "ephemeral-storage"}
    return tuple(
        found[part].get(resource)
        for part in ("requests", "limits")
        for resource in ("cpu", "memory")
    )


@every
@pytest.mark.parametrize(
    ("given", "changed"),
    [
        ({}, {}),
        # What is left out keeps the component's own default.
        ({"requests": {"cpu": "200m"}}, {0: "200m"}),
        ({"limits": {"memory": "2Gi"}}, {3: "2Gi"}),
        ({"limits": {"cpu": "none"}}, {2: None}),
        ({"requests": {"cpu": "3"}, "limits": {"cpu": "none"}}, {0: "3", 2: None}),
        # The default of the other side follows what is given.
        ({"limits": {"memory": "40Mi"}}, {1: "40Mi", 3: "40Mi"}),
        ({"limits": {"cpu": "10m"}}, {0: "10m", 2: "10m"}),
        ({"requests": {"cpu": "2", "memory": "1Gi"}}, {0: "2", 1: "1Gi", 2: "2", 3: "1Gi"}),
    ],
    ids=str,
)
def test_what_is_given_is_merged_with_the_components_defaults(
    component: Callable[[Any], None], given: Any, changed: dict[int, str | None]
) -> None:
    wanted: list[str | None] = list(DEFAULTS[component])
    for place, quantity in changed.items():
        wanted[place] = quantity
    assert made(component, given) == tuple(wanted)


@every
@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            {"requests": {"memory": "2Gi"}, "limits": {"memory": "1Gi"}},
            "hosting.resources.requests.memory is '2Gi'; must not be above the limit 1Gi",
        ),
        (
            {"limits": {"memory": "none"}},
            "hosting.resources.limits.memory is 'none'; must be a size",
        ),
        (
            {"requests": {"cpu": "none"}},
            "hosting.resources.requests.cpu is 'none'; must be a number",
        ),
    ],
    ids=str,
)
def test_what_is_wrong_is_refused_where_it_is_given(
    component: Callable[[Any], None], given: Any, message: str
) -> None:
    def program() -> None:
        with pytest.raises(InputError, match=f' "one": {message}'):
            component(given)

    assert not build(program).nodes
