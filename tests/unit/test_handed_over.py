"""What stores and buses hand to others: each value is held against its declaration."""

from typing import Any

import pulumi
import pytest

from components.arguments.declared import arguments_of
from components.arguments.errors import InputError
from components.values.bus import BusTopology
from components.values.etcd import EtcdTopology, EtcdUser
from components.values.redis_user import RedisUser
from tests.unit.support.odd import arguments, odd_values
from toolchain.graph import build

PASSWORD = "swordfish-long-enough"


def values() -> dict[Any, dict[str, Any]]:
    return {
        EtcdTopology: {
            "name": "etcd",
            "endpoints": ("https://etcd-0:2379",),
            "authority": pulumi.Output.from_input("-----BEGIN CERTIFICATE-----\n"),
            "client_label": ("dds/client-of-etcd", "true"),
            "server_labels": {"app": "etcd"},
            "port": 2379,
        },
        EtcdUser: {
            "username": "shop",
            "password": pulumi.Output.secret(PASSWORD),
            "prefix": "/shop/",
        },
        BusTopology: {
            "name": "bus",
            "server": "bus-client:4222",
            "port": 4222,
            "username": "client",
            "password": pulumi.Output.secret(PASSWORD),
            "client_label": ("dds/client-of-bus", "true"),
            "delivery_label": ("dds/delivers-for-bus", "true"),
            "server_labels": {"app": "bus"},
        },
        RedisUser: {
            "name": "metrics",
            "rules": ("+info", "-@all", "~key:*", "%R~key:*", "+slowlog|get", "resetkeys"),
            "password": pulumi.Output.secret(PASSWORD),
        },
    }


@pytest.mark.parametrize("kind", [EtcdTopology, EtcdUser, BusTopology, RedisUser])
def test_an_odd_field_is_refused_by_name(kind: Any) -> None:
    tried: list[str] = []

    def program() -> None:
        fields = values()[kind]
        kind(**fields)
        for argument in arguments(kind, fields):
            for value, path in odd_values(argument):
                with pytest.raises(InputError) as caught:
                    kind(**argument.put(value))
                assert f": {path}" in str(caught.value)
                assert "secret@" not in str(caught.value)
                tried.append(path)

    build(program)
    assert set(arguments_of(kind)) <= {path.partition("[")[0] for path in tried}
