"""The environment of every figure: this checkout's own cluster and its images."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.live.support.cluster import Cluster
from tests.live.support.kube import Kube
from tests.live.support.stacks import Stack, throwaway
from tests.live.support.variants import built_images

PROGRAMS = Path(__file__).parent / "programs"


@dataclass(frozen=True)
class Ground:
    """The cluster, and a folder for temporary stacks."""

    cluster: Cluster
    kube: Kube
    folder: Path

    @contextmanager
    def stack(self, program: Path, name: str) -> Iterator[Stack]:
        """A temporary stack whose objects are deleted with their namespace."""
        with throwaway(self.cluster, program, self.folder / name, destroy=False) as stack:
            yield stack

    def images(self, *names: str) -> Mapping[str, str]:
        """References of the project's images, which are built if necessary."""
        return built_images(self.cluster, self.folder / "images", names)


@contextmanager
def ground() -> Iterator[Ground]:
    """The environment for one figure; without a cluster, the error says to run `make up`."""
    cluster = Cluster.own()
    with TemporaryDirectory(prefix="dds-bench-") as folder:
        kube = Kube(cluster.kubeconfig)
        try:
            yield Ground(cluster, kube, Path(folder))
        finally:
            kube.close()
