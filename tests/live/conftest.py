"""Fixtures of the live tests. They run on this checkout's own cluster and touch no other."""

from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from typing import Protocol, TypeVar

import pytest

from tests.live.support import events as event_tests
from tests.live.support.adapters import Adapters
from tests.live.support.adapters import adapters as deployed_adapters
from tests.live.support.cluster import Cluster, NoClusterError
from tests.live.support.kube import Kube
from tests.live.support.nodes import Nodes
from tests.live.support.observed import Record
from tests.live.support.ring_pod import RingPod
from tests.live.support.sharded import Sharded
from tests.live.support.sidecars import Sidecars
from tests.live.support.sidecars import deployed as deployed_sidecars
from tests.live.support.split import USER, USERS, Rolled, Split
from tests.live.support.split import split as deployed_split
from tests.live.support.two_factor import SlowLogins
from tests.live.support.two_factor import slow_logins as begun_logins
from tests.live.support.variants import built_images, sharded

T = TypeVar("T")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--record",
        action="store_true",
        help="write what clients saw during the faults to docs/figures/faults.json",
    )


# What several files use and what takes long to deploy: a fixture each, deployed by one process only. No test
# uses two of them.
DEPLOYED = ("store", "cache", "seed", "ring_pods", "split", "adapters", "sidecars", "events")
HERE = Path(__file__).parent
KEPT = pytest.StashKey[ExitStack]()


def pytest_configure(config: pytest.Config) -> None:
    config.stash[KEPT] = ExitStack()


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the live tests, and group those that share a deployment for one process."""
    first: dict[str, int] = {}
    for item in items:
        group = _group(item)
        first.setdefault(group, len(first))
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.live)
            # The plugins' tests share nothing, so any process may take the next one.
            if HERE / "plugins" not in item.path.parents:
                item.add_marker(pytest.mark.xdist_group(group))
    # One group after the other, also where one process runs all of them.
    items.sort(key=lambda item: first[_group(item)])


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(
    item: pytest.Item, nextitem: pytest.Item | None
) -> Generator[None, object, object]:
    """Delete what a group deployed after its last test: its probes alone keep a processor busy."""
    try:
        return (yield)
    finally:
        if nextitem is None or _group(nextitem) != _group(item):
            item.config.stash[KEPT].close()


def _group(item: pytest.Item) -> str:
    parameters = getattr(item, "callspec", None)
    used = {
        *getattr(item, "fixturenames", ()),
        *(map(str, parameters.params.values()) if parameters else ()),
    }
    return next((name for name in DEPLOYED if name in used), item.path.stem)


@pytest.fixture(scope="session")
def cluster() -> Cluster:
    """The checkout's own cluster; without one the tests fail rather than pass unseen."""
    try:
        own = Cluster.own()
    except NoClusterError as error:
        pytest.fail(str(error), pytrace=False)
    return own


@pytest.fixture(scope="session")
def kube(cluster: Cluster) -> Iterator[Kube]:
    """The cluster's API."""
    api = Kube(cluster.kubeconfig)
    yield api
    api.close()


@pytest.fixture(scope="session")
def nodes(cluster: Cluster) -> Iterator[Nodes]:
    """The cluster's nodes as Docker containers."""
    containers = Nodes(cluster)
    yield containers
    containers.close()


@pytest.fixture(scope="session")
def kept(pytestconfig: pytest.Config) -> Iterator[ExitStack]:
    """Closed after the last test of a group, and at the end."""
    with pytestconfig.stash[KEPT] as stack:
        yield stack


class Deploy(Protocol):
    """Deploys something for all tests of a group."""

    def __call__(
        self,
        deployed: Callable[[Cluster, Kube, Nodes, Path], AbstractContextManager[T]],
        name: str,
        /,
    ) -> T: ...


@pytest.fixture(scope="session")
def deploy(
    cluster: Cluster,
    kube: Kube,
    nodes: Nodes,
    tmp_path_factory: pytest.TempPathFactory,
    kept: ExitStack,
) -> Deploy:
    """Deploys until the last test of the group, in a folder with the given name."""

    def deploying(
        deployed: Callable[[Cluster, Kube, Nodes, Path], AbstractContextManager[T]], name: str, /
    ) -> T:
        return kept.enter_context(deployed(cluster, kube, nodes, tmp_path_factory.mktemp(name)))

    return deploying


@pytest.fixture(scope="session")
def record(cluster: Cluster, pytestconfig: pytest.Config) -> Record:
    """Keeps what clients saw, with ``--record``."""
    file = cluster.checkout.root / "docs" / "figures" / "faults.json"
    return Record(file, bool(pytestconfig.getoption("--record", default=False)))


@pytest.fixture
def namespace(kube: Kube, request: pytest.FixtureRequest) -> Iterator[str]:
    """A namespace for one test."""
    purpose = request.node.originalname.removeprefix("test_").replace("_", "-")[:30].rstrip("-")
    with kube.namespace(purpose) as name:
        yield name


@pytest.fixture(scope="session")
def images(
    cluster: Cluster, tmp_path_factory: pytest.TempPathFactory, worker_id: str
) -> Mapping[str, str]:
    """References, by digest, of the project's images in the cluster's registry."""
    own = tmp_path_factory.getbasetemp()
    return built_images(cluster, own if worker_id == "master" else own.parent)


@pytest.fixture(scope="session")
def variants(
    cluster: Cluster,
    kube: Kube,
    nodes: Nodes,
    images: Mapping[str, str],
    tmp_path_factory: pytest.TempPathFactory,
    kept: ExitStack,
) -> Callable[..., Sharded]:
    """Deploys variants of the sharded store, each once a session."""

    def deploy(name: str, **config: object) -> Sharded:
        folder = tmp_path_factory.mktemp(name) / "stack"
        return kept.enter_context(sharded(cluster, kube, nodes, images, name, folder, config))

    return deploy


@pytest.fixture(scope="session")
def store(variants: Callable[..., Sharded]) -> Sharded:
    """Three shards that keep what they acknowledged."""
    return variants("store", shards=3, role="store")


@pytest.fixture(scope="session")
def cache(variants: Callable[..., Sharded]) -> Sharded:
    """Three shards of which a dead one is ejected."""
    return variants("cache", shards=3, role="cache")


@pytest.fixture(scope="session")
def seed(variants: Callable[..., Sharded]) -> Sharded:
    """Three shards behind the settings that the book prints."""
    return variants("seed", shards=3, role="store", policy="seed")


@pytest.fixture(scope="session")
def ring_pods(kube: Kube, images: Mapping[str, str], kept: ExitStack) -> RingPod:
    """Pods with several redis and the real nutcracker."""
    return RingPod(kube, images, kept.enter_context(kube.namespace("rings")))


@pytest.fixture(scope="session")
def split(deploy: Deploy) -> Split:
    """Two arms of an experiment, a front before them, and pods with other companions."""
    return deploy(deployed_split, "split")


@pytest.fixture(scope="session")
def at_ten(split: Split) -> list[str]:
    """What each user sees at 10 %, asked twice each."""
    return split.seen("front", 8080, USERS, headers=USER, each=2)


@pytest.fixture(scope="session")
def rolled(split: Split, at_ten: list[str]) -> Rolled:
    """From 10 to 20 %, with new pods of the arms and of the broker's applications too."""
    assert at_ten, "they were asked before"
    return split.update(percent=20)


@pytest.fixture(scope="session")
def adapters(deploy: Deploy) -> Adapters:
    """The composition ``adapters``."""
    return deploy(deployed_adapters, "adapters")


@pytest.fixture(scope="session")
def sidecars(deploy: Deploy) -> Sidecars:
    """The composition ``sidecars``, a server that wants client certificates, and a client."""
    return deploy(deployed_sidecars, "sidecars")


@pytest.fixture(scope="session")
def events(
    cluster: Cluster,
    kube: Kube,
    nodes: Nodes,
    tmp_path_factory: pytest.TempPathFactory,
    worker_id: str,
    kept: ExitStack,
) -> event_tests.Events:
    """A bus, a pipeline whose steps do what their events say, and two-factor."""
    own = tmp_path_factory.getbasetemp()
    shared = own if worker_id == "master" else own.parent
    built = built_images(cluster, shared, event_tests.IMAGES)
    folder = tmp_path_factory.mktemp("events") / "stack"
    return kept.enter_context(event_tests.deployed(cluster, kube, nodes, built, folder))


@pytest.fixture(scope="session")
def slow_logins(events: event_tests.Events) -> SlowLogins:
    """Logins that take minutes, begun while others are tested."""
    return begun_logins(events)
