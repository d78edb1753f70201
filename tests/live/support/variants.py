"""Variants of the sharded store, deployed by the real CLI into namespaces of their own."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from tests.live.support.cluster import Cluster
from tests.live.support.kube import Kube
from tests.live.support.nodes import Nodes
from tests.live.support.sharded import Sharded
from tests.live.support.stacks import PROGRAMS, throwaway
from toolchain.cache import made_once

IMAGES = ("redis", "twemproxy", "toolbox")


def built_images(
    cluster: Cluster, folder: Path, names: tuple[str, ...] = IMAGES
) -> Mapping[str, str]:
    """References, by digest, of the project's images, built and pushed if missing.

    :param folder: shared by the processes of one test session, of which the first builds
    """
    purpose = "-".join(("images", *names))

    def build(made: Path) -> None:
        # Its results are images in the registry, which the next session uses again.
        with throwaway(cluster, PROGRAMS / "images", made / "stack", destroy=False) as stack:
            stack.up(
                registry=cluster.registry,
                folder=str(cluster.checkout.root / "images"),
                names=list(names),
            )
            (made / "references.json").write_text(json.dumps(stack.outputs()))

    made = made_once(folder / purpose, purpose, build)
    references: dict[str, str] = json.loads((made / "references.json").read_text())
    return references


@contextmanager
def sharded(
    cluster: Cluster,
    kube: Kube,
    nodes: Nodes,
    images: Mapping[str, str],
    name: str,
    folder: Path,
    config: Mapping[str, object],
) -> Iterator[Sharded]:
    """A sharded store with a client, until the end of the block."""
    with (
        kube.namespace(name) as namespace,
        # Deleting the namespace deletes everything in it; destroying first would only take longer.
        throwaway(cluster, PROGRAMS / "sharded", folder, destroy=False) as stack,
    ):
        stack.up(namespace=namespace, images=dict(images), **config)
        topology = stack.outputs()["topology"]
        yield Sharded(kube, nodes, stack, namespace, topology)
