"""The reach of pods behind Services: the only code that formats the address of a Service."""

from collections.abc import Mapping, Sequence
from typing import Any

import pulumi
from pulumi_kubernetes.core.v1 import Service

from dds_patterns.values.reach import Reach


def service_reach(
    name: str,
    services: Sequence[Service],
    port: int,
    *,
    pods: Mapping[str, str],
    target_port: int | None = None,
    **more: Any,
) -> Reach:
    """How clients in any namespace reach workloads of this package, whose pods are isolated.

    :param services: in one namespace: one, or one for each member or shard, in order
    :param port: of the Services
    :param pods: labels of the pods behind them
    :param target_port: port at the pods. Defaults to ``port``
    :param more: other fields of the Reach
    """
    return Reach(
        name=name,
        endpoints=tuple(
            pulumi.Output.concat(
                service.metadata["name"], ".", service.metadata["namespace"], f".svc:{port}"
            )
            for service in services
        ),
        pods=pods,
        namespace=services[0].metadata["namespace"],
        ports=(port if target_port is None else target_port,),
        isolated=True,
        **more,
    )
