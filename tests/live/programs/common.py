"""What all these programs share."""

import os
from pathlib import Path

import pulumi
import pulumi_kubernetes as kubernetes

# Of pods that are replaced under load: on a machine this busy all nodes may hear of an endpoint's
# end later than the default's five seconds.
DRAIN_SECONDS = 15


def in_namespace(name: str) -> pulumi.ResourceOptions:
    """Options for resources that go to one namespace of the cluster KUBECONFIG names."""
    provider = kubernetes.Provider(
        "target", kubeconfig=Path(os.environ["KUBECONFIG"]).read_text(), namespace=name
    )
    return pulumi.ResourceOptions(providers={"kubernetes": provider})
