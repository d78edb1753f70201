"""Singleton: ownership by having one replica only (chapter 9).

The simplest owner is the only replica. Kubernetes keeps it running, and a StatefulSet starts no
second pod before the first one is deleted, so no leader election is needed. The price is downtime: a
rollout stops the old pod before it starts the new one, and a pod on an unreachable node is replaced
only when the node is back or an operator removes it.
"""

from typing import Annotated, Any, NotRequired, cast

import pulumi

from dds_patterns.arguments import Default, resolved
from dds_patterns.arguments.files import MountPath
from dds_patterns.pods.hosting import SingletonHosting
from dds_patterns.workloads.arguments import ReachedArgs
from dds_patterns.workloads.serving import Served
from dds_patterns.workloads.stateful import StatefulApplication, StatefulApplicationArgs


class SingletonArgs(ReachedArgs):
    """Arguments of Singleton."""

    storage_path: NotRequired[MountPath]
    """Absolute path of a persistent volume, which outlives the pod. By default there is none."""
    hosting: NotRequired[Annotated[SingletonHosting, Default({})]]
    """Namespace, labels, nodes, resources and storage."""


class Singleton(Served, pulumi.ComponentResource):
    """A program of which at most one pod ever runs, also during a rollout.

    Registers what StatefulApplication does, with one replica. Its pod is called ``<name>-0``. No
    other pod can take over its requests, so by default it does not wait before SIGTERM
    (``drain_seconds``), and a drain of its node may evict it at any time.

    A forced deletion of the pod (``--grace-period=0``) breaks the guarantee of at most one: it
    removes the pod from the API before its containers have stopped.
    """

    application: StatefulApplication
    """The StatefulSet with its Service."""

    def __init__(
        self, name: str, args: SingletonArgs, opts: pulumi.ResourceOptions | None = None
    ) -> None:
        """Register the program.

        :param name: a DNS label of at most 52 characters, unique in its namespace, that does not end
            as replicas' do (-0, -r1)
        :raises InputError: an invalid argument, before anything is registered
        """
        self._where = f'Singleton "{name}"'
        workload = _workload(self._where, args)
        StatefulApplication.validate(self._where, name, workload)
        super().__init__("dds:index:Singleton", name, {"image": args["image"]}, opts)
        self.application = StatefulApplication(name, workload, pulumi.ResourceOptions(parent=self))
        self.labels, self.ports = self.application.labels, self.application.ports
        self.endpoint = self.application.endpoint
        self.register_outputs({"labels": self.labels, "endpoint": self.endpoint})

    @staticmethod
    def validate(where: str, name: str, args: SingletonArgs) -> None:
        """Check the arguments for a component that is made of a Singleton.

        :param where: that component, for messages
        """
        StatefulApplication.validate(where, name, _workload(where, args))


def _workload(where: str, args: SingletonArgs) -> StatefulApplicationArgs:
    given: dict[str, Any] = {
        "component": "singleton",
        "drain_seconds": 0,
        **resolved(where, SingletonArgs, args),
    }
    return cast(StatefulApplicationArgs, {**given, "replicas": 1})
