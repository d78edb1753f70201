"""The programs under ``examples`` do on the cluster what they say, with the wheel of the package."""

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests import wheel
from tests.live.support.cluster import ROOT, Cluster
from tests.live.support.kube import Kube, Pod
from tests.live.support.stacks import Stack, throwaway
from tests.live.support.variants import built_images
from tests.live.support.waiting import eventually

WORKER = "worker"


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return wheel.built(tmp_path_factory.mktemp("wheel"))


@contextmanager
def example(cluster: Cluster, name: str, folder: Path, package: Path) -> Iterator[Stack]:
    """An example in the environment that its project names, with nothing but the package."""
    program = ROOT / "examples" / name
    with throwaway(cluster, program, folder, destroy=False) as stack:
        wheel.installed(package, stack.work / "venv")
        yield stack


@pytest.fixture
def election(cluster: Cluster, kube: Kube, tmp_path: Path, package: Path) -> Iterator[Stack]:
    images = built_images(cluster, tmp_path, ("elector", "toolbox"))
    with example(cluster, "election", tmp_path / "stack", package) as stack:
        stack.up(elector=images["elector"], worker=images["toolbox"])
        yield stack
        kube.forget_namespace(stack.outputs()["namespace"])


def test_of_two_workers_one_works_and_the_other_takes_over(election: Stack, kube: Kube) -> None:
    namespace = election.outputs()["namespace"]

    def says(pod: Pod) -> str:
        return (kube.logs(pod, WORKER).splitlines() or [""])[-1]

    def roles() -> tuple[Pod, Pod] | None:
        pods = [p for p in kube.pods(namespace) if p.ready]
        working = [p for p in pods if " works with token " in says(p)]
        waiting = [
            p for p in pods if any(says(p).endswith(f" waits for {w.name}") for w in working)
        ]
        return (working[0], waiting[0]) if len(working) == len(waiting) == 1 else None

    def stand() -> str:
        return "\n".join(f"{p.name}: {says(p)}" for p in kube.pods(namespace))

    found = eventually(roles, 60, lambda: f"one works, one waits\n{stand()}", 0.5)
    assert found
    first, second = found
    kube.delete_pod(first)

    def followed() -> bool:
        # The one that waited, or who took the place of the first.
        pods = [p for p in kube.pods(namespace) if p.ready and p.uid != first.uid]
        assert second.uid in {p.uid for p in pods}
        return any(" works with token " in says(p) for p in pods)

    eventually(followed, 60, "another one works", 0.2)


POST = """
import json, sys, urllib.request
body, headers = sys.argv[2].encode(), {"Content-Type": "application/json"}
print(urllib.request.urlopen(urllib.request.Request(sys.argv[1], body, headers)).read().decode())
"""


@pytest.fixture(scope="module")
def eventful(
    cluster: Cluster, kube: Kube, tmp_path_factory: pytest.TempPathFactory, package: Path
) -> Iterator[dict[str, Stack]]:
    """The examples of chapter 8, deployed at the same time."""
    folder = tmp_path_factory.mktemp("eventful")
    images = built_images(cluster, folder, ("function", "events", "nats", "toolbox"))
    given = {
        "functions": {"function": images["function"], "api": images["toolbox"]},
        "pipeline": {name: images[name] for name in ("function", "events", "nats")},
    }
    with ExitStack() as stacks, ThreadPoolExecutor() as pool:
        made = {
            name: stacks.enter_context(example(cluster, name, folder / name, package))
            for name in given
        }
        list(pool.map(lambda name: made[name].up(**given[name]), given))
        yield made
        for stack in made.values():
            kube.forget_namespace(stack.outputs()["namespace"])


def posted(kube: Kube, stack: Stack, instance: str, container: str, path: str, body: Any) -> Any:
    """What the program in a pod answers on its own port, as by the port-forward of the README."""
    labels = {"app.kubernetes.io/instance": instance}
    pod = next(p for p in kube.pods(stack.outputs()["namespace"], labels) if p.ready)
    command = ["python3", "-c", POST, f"http://127.0.0.1:8080{path}", json.dumps(body)]
    return json.loads(kube.run(pod, container, command))


def test_the_api_gets_the_defaults_that_it_lacks(eventful: dict[str, Stack], kube: Kube) -> None:
    stack = eventful["functions"]
    answer = posted(kube, stack, "defaults", "defaults", "/", {"name": "foo"})
    assert answer == {"painted": {"name": "foo", "color": "blue"}}
    assert posted(kube, stack, "greet", "greet", "/", {"name": "foo"}) == {"hello": "foo"}


def test_an_order_with_a_gift_is_wrapped(eventful: dict[str, Stack], kube: Kube) -> None:
    stack = eventful["pipeline"]
    order = {"order": 7, "gift": "ribbon"}
    event = posted(kube, stack, "orders", "events", "/events/orders", order)["id"]

    def said() -> str:
        labels = {"app.kubernetes.io/instance": "wrap"}
        pods = [p for p in kube.pods(stack.outputs()["namespace"], labels) if p.ready]
        return "\n".join(kube.logs(pod, "wrap") for pod in pods)

    says = f"wrapped in ribbon once for {event}/orders/check/wrap"
    eventually(lambda: says in said(), 60, lambda: f"it says {says!r}, not\n{said()}", 0.5)
