"""A reach opens both sides, also across namespaces, to those only that have it, and orders updates."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest

from tests.live.support.cluster import Cluster
from tests.live.support.kube import Kube, Pod
from tests.live.support.stacks import PROGRAMS, Stack, throwaway
from tests.live.support.variants import built_images
from tests.live.support.waiting import eventually

IMAGES = ("nginx", "prometheus", "redis", "redis-exporter", "toolbox", "twemproxy")

NETWORKING = "networking.k8s.io/v1"
# Whoever listens there, it is no API server.
NOWHERE = "192.0.2.1/32"
CONNECT = """
import socket, sys
try:
    socket.create_connection((sys.argv[1], int(sys.argv[2])), 3).close()
    print("open")
except OSError:
    print("closed")
"""
SET = """
import os, socket
proxy = socket.create_connection(("127.0.0.1", 6379), 5)
def ask(*words):
    sent = [f"*{len(words)}", *(line for word in words for line in (f"${len(word)}", word)), ""]
    proxy.sendall("\\r\\n".join(sent).encode())
    print(proxy.recv(64).decode().strip())
ask("AUTH", os.environ["WORD"])
for number in range(20):
    ask("SET", f"key-{number}", str(number))
"""
LIST = """
import pathlib, ssl, urllib.request
folder = pathlib.Path("/var/run/secrets/kubernetes.io/serviceaccount")
request = urllib.request.Request(
    f"https://kubernetes.default.svc/api/v1/namespaces/{(folder / 'namespace').read_text()}/configmaps",
    headers={"Authorization": f"Bearer {(folder / 'token').read_text()}"},
)
trusted = ssl.create_default_context(cafile=folder / "ca.crt")
try:
    print(urllib.request.urlopen(request, timeout=5, context=trusted).status)
except OSError as error:
    print(type(error).__name__)
"""


@dataclass
class Shop:
    """The deployed program."""

    kube: Kube
    stack: Stack
    data: str
    shop: str
    values: dict[str, object] = field(default_factory=dict)

    def up(self, **changes: object) -> None:
        self.values |= changes
        self.stack.up(**self.values)

    def pod(self, instance: str, namespace: str = "") -> Pod:
        """The only pod of a workload, once it is ready and no other is left."""

        def condition() -> Pod | None:
            labels = {"app.kubernetes.io/instance": instance}
            pods = self.kube.pods(namespace or self.shop, labels)
            return pods[0] if len(pods) == 1 and pods[0].ready else None

        found = eventually(condition, 120, lambda: f"one pod of {instance} is ready")
        assert found is not None
        return found

    def python(self, instance: str, script: str, *arguments: str, **env: str) -> str:
        words = [f"{key}={value}" for key, value in env.items()]
        command = ["env", *words, "python3", "-c", script, *arguments]
        return self.kube.run(self.pod(instance), instance, command).strip()

    def sees(self, instance: str) -> str:
        """Whether a workload's pod can connect to the page: ``open`` or ``closed``."""
        host, _, port = str(self.stack.outputs()["web"]).partition(":")
        return self.python(instance, CONNECT, host, port)

    def policies(self) -> set[str]:
        """Those of the stores' and the page's namespace, without what auto-naming added."""
        found = self.kube.objects(NETWORKING, "NetworkPolicy", self.data)
        return {policy["metadata"]["name"].rpartition("-")[0] for policy in found}


@pytest.fixture(scope="module")
def shop(cluster: Cluster, kube: Kube, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    folder = tmp_path_factory.mktemp("reach")
    images = built_images(cluster, folder / "images", IMAGES)
    with (
        kube.namespace("data") as data,
        kube.namespace("shop") as shop,
        # The namespaces take all with them when they go.
        throwaway(cluster, PROGRAMS / "reach", folder / "stack", destroy=False) as stack,
    ):
        made = Shop(kube, stack, data, shop)
        network = {"api_server": [{"cidr": NOWHERE}]}
        made.up(
            data=data, shop=shop, images=dict(images), connected=True, generation=1,
            **{"dds:network": network},
        )  # fmt: skip
        yield made


def test_what_has_a_reach_connects_from_another_namespace(shop: Shop) -> None:
    assert shop.sees("client") == "open"
    assert "client-to-web" in shop.policies()


def test_what_is_let_out_only_does_not_get_in(shop: Shop) -> None:
    assert shop.sees("stranger") == "closed"


def test_an_ambassador_finds_the_shards_and_logs_in(shop: Shop) -> None:
    word = str(shop.stack.outputs()["password"])
    answers = shop.python("client", SET, WORD=word).splitlines()
    assert answers == ["+OK"] * 21


def test_metrics_come_from_another_namespace_and_of_another_pod(shop: Shop) -> None:
    """``near`` is scraped across namespaces, ``far`` measures across them."""
    query = ["promtool", "query", "instant", "--format=json", "http://127.0.0.1:9090", "redis_up"]

    def up() -> dict[str, str]:
        found = json.loads(shop.kube.run(shop.pod("prometheus"), "prometheus", query))
        return {one["metric"]["job"]: one["value"][1] for one in found}

    eventually(
        lambda: up() == {"near": "1", "far": "1"}, 60, lambda: f"both say that it is up: {up()}"
    )


def test_the_way_to_the_api_server_is_where_the_configuration_says(shop: Shop) -> None:
    assert shop.python("reader", LIST) == "URLError"
    (found,) = [
        each
        for each in shop.kube.objects("v1", "Endpoints", "default")
        if each["metadata"]["name"] == "kubernetes"
    ]
    (subset,) = found["subsets"]
    servers = [{"cidr": f"{address['ip']}/32"} for address in subset["addresses"]]
    shop.up(**{"dds:network": {"api_server": servers}})
    eventually(lambda: shop.python("reader", LIST) == "200", 30, "the API server answers")


def test_clients_roll_after_their_store_is_ready_again(shop: Shop) -> None:
    before = shop.pod("client")
    shop.up(generation=2)
    after = shop.pod("client")
    assert after.uid != before.uid
    (client,) = shop.kube.objects("v1", "Pod", shop.shop, "app.kubernetes.io/instance=client")
    stores = shop.kube.objects("v1", "Pod", shop.data, "app.kubernetes.io/instance=store")
    ready = [
        condition["lastTransitionTime"]
        for store in stores
        for condition in store["status"]["conditions"]
        if condition["type"] == "Ready"
    ]
    assert len(ready) == 2
    assert max(ready) <= client["metadata"]["creationTimestamp"]


def test_what_lets_a_client_in_goes_when_it_reaches_no_more(shop: Shop) -> None:
    assert "client-to-web" in shop.policies()
    shop.up(connected=False)
    assert "client-to-web" not in shop.policies()
    assert shop.sees("client") == "closed"
