"""ExistingSecret: what somebody else keeps in the cluster, in place of a generated password."""

import base64
from typing import Any

import pulumi
import pytest
from pulumi.runtime import mocks

from dds_patterns import EventBus, ExistingSecret, InputError
from toolchain.graph import Graph, Providers, build


class Cluster(Providers):
    """One that has the Secret ``shop/database``."""

    def __init__(self, data: dict[str, str]) -> None:
        super().__init__()
        self.data = {key: base64.b64encode(value.encode()).decode() for key, value in data.items()}
        self.read: list[str | None] = []

    def new_resource(self, args: mocks.MockResourceArgs) -> tuple[str | None, dict[str, Any]]:
        if not args.resource_id:
            return super().new_resource(args)
        self.read.append(args.resource_id)
        return args.resource_id, {"data": self.data}


def read(key: str, cluster: Cluster) -> Graph:
    def program() -> None:
        existing = ExistingSecret(
            "database", {"secret": "database", "namespace": pulumi.Output.from_input("shop")}
        )
        pulumi.export("value", existing.value(key))

    return build(program, providers=cluster)


def test_what_a_key_holds_is_read_and_stays_a_secret() -> None:
    cluster = Cluster({"password": "swordfish", "user": "app"})
    graph = read("password", cluster)
    assert cluster.read == ["shop/database"]
    assert graph.outputs[""]["value"] == "swordfish"
    assert "value" in graph.output_secrets[""]


def test_a_key_that_is_not_there_is_refused_with_those_that_are() -> None:
    with pytest.raises(InputError) as refused:
        read("passwort", Cluster({"password": "swordfish", "user": "app"}))
    assert str(refused.value) == (
        "ExistingSecret \"database\": key is 'passwort'; must be the key of a text in database: "
        "did you mean password? known are password, user"
    )
    with pytest.raises(InputError, match="known are none"):
        read("password", Cluster({}))


def test_bytes_that_are_no_text_are_refused_without_being_shown() -> None:
    cluster = Cluster({"password": ""})
    cluster.data["password"] = base64.b64encode(b"\xff\xfe").decode()
    with pytest.raises(InputError, match="must be the key of a text in database"):
        read("password", cluster)


def test_all_that_are_texts_are_an_output_and_secret() -> None:
    cluster = Cluster({"password": "swordfish", "user": "app"})
    cluster.data["seal"] = base64.b64encode(b"\xff\xfe").decode()
    graph = read("user", cluster)
    urn = graph.one("ExistingSecret").urn
    assert graph.outputs[urn] == {"values": {"password": "swordfish", "user": "app"}}
    assert graph.output_secrets[urn] == {"values"}


def bus(cluster: Cluster) -> Graph:
    """A bus whose clients' password somebody else keeps."""

    def program() -> None:
        existing = ExistingSecret("database", {"secret": "database", "namespace": "shop"})
        args: Any = {
            "image": "registry.example/nats:2",
            "tools_image": "registry.example/events:1",
            "password": existing.value("password"),
        }
        EventBus("bus", args)

    return build(program, providers=cluster)


def test_a_component_takes_it_in_place_of_a_generated_one() -> None:
    word = "swordfish-of-the-vault"
    graph = bus(Cluster({"password": word}))
    assert {node.name for node in graph.all("Password")} == {"bus-admin"}
    secrets = [node.inputs["stringData"] for node in graph.all("Secret") if node.inputs]
    assert any(word in text for data in secrets for text in data.values())


def test_one_that_the_component_cannot_take_is_refused_without_being_shown() -> None:
    with pytest.raises(InputError, match='"bus": password is <secret>; must be from 16') as refused:
        bus(Cluster({"password": "short\n"}))
    assert "short" not in str(refused.value)
