"""The real nutcracker before several redis in one pod: where it puts keys, for any node names."""

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tests.live.support import pods
from tests.live.support.kube import InPod, Kube

FIRST_REDIS = 7000
FIRST_PROXY = 7100


@dataclass(frozen=True)
class Measured:
    """Where each key was found."""

    placement: Mapping[int, str]
    """By number of shards: one digit a key, the shard that holds it."""


@dataclass(frozen=True)
class RingPod:
    """Creates the pods and takes the measurements."""

    kube: Kube
    images: Mapping[str, str]
    namespace: str

    def measure(
        self, rings: Mapping[int, Sequence[str]], hash_name: str, shape: str, count: int
    ) -> Measured:
        """Write ``count`` keys of the printf form through each ring, and find where they are.

        :param rings: node names by number of shards, at most nine
        """
        name = f"ring-{secrets.token_hex(3)}"
        servers = max(rings)
        self.kube.apply(pods.config_map(self.namespace, f"{name}-programs", _programs()))
        self.kube.apply(
            pods.config_map(
                self.namespace,
                f"{name}-rings",
                {f"{shards}.yaml": _pool(shards, names, hash_name)
                 for shards, names in rings.items()},
            )
        )  # fmt: skip
        start_servers = (
            f"for n in $(seq 0 {servers - 1}); do "
            f"redis-server --port $(({FIRST_REDIS} + n)) --save '' --appendonly no "
            "--dir /tmp --protected-mode no & done; wait"
        )
        start_proxies = (
            "for file in /rings/*.yaml; do "
            "nutcracker -o /dev/stderr -c $file -a 127.0.0.1 "
            "-s $((7200 + $(basename $file .yaml))) & done; wait"
        )
        manifest = pods.pod(
            self.namespace,
            name,
            [
                pods.container("redis", self.images["redis"], ["sh", "-c", start_servers]),
                pods.container(
                    "nutcracker", self.images["twemproxy"], ["sh", "-c", start_proxies],
                    {"/rings": f"{name}-rings"},
                ),
                pods.container(
                    "client", self.images["toolbox"], ["sleep", "infinity"],
                    {f"{InPod.FOLDER}/tests/live/in_pod": f"{name}-programs"},
                ),
            ],
            config_maps=[f"{name}-programs", f"{name}-rings"],
        )  # fmt: skip
        addresses = [{"host": "127.0.0.1", "port": FIRST_REDIS + n} for n in range(servers)]
        found = {}
        with pods.running(self.kube, manifest) as pod:
            client = InPod(self.kube, pod, "client")
            # None of them has a probe.
            proxies = [{"host": "127.0.0.1", "port": FIRST_PROXY + shards} for shards in rings]
            client.ask("answering", addresses=[*addresses, *proxies])
            for shards in rings:
                at = {"host": "127.0.0.1", "port": FIRST_PROXY + shards}
                written = client.ask("fill", at=at, shape=shape, count=count)
                assert written["answers"] == {"ok": count}, (shards, written)
                # Also where no key of this ring may be.
                asked = client.ask("place", shards=addresses, shape=shape, count=count)
                found[shards] = asked["placement"]
                client.ask("flush", shards=addresses)
        return Measured(found)


def _programs() -> dict[str, str]:
    return {path.rpartition("/")[2]: content for path, content in InPod.files().items()}


def _pool(shards: int, names: Sequence[str], hash_name: str) -> str:
    servers = "".join(
        f"    - 127.0.0.1:{FIRST_REDIS + index}:1 {name}\n" for index, name in enumerate(names)
    )
    return (
        "ring:\n"
        f"  listen: 127.0.0.1:{FIRST_PROXY + shards}\n"
        f"  hash: {hash_name}\n"
        "  distribution: ketama\n"
        "  redis: true\n"
        f"  servers:\n{servers}"
    )
