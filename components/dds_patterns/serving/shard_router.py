"""ShardRouter: a proxy in front of all shards, for clients without an ambassador (chapter 6)."""

import dataclasses
from collections.abc import Sequence
from typing import Annotated, NotRequired, cast

import pulumi

from dds_patterns.arguments import Default, Later, between, resolved
from dds_patterns.pods.companion import ANYWHERE, Companion
from dds_patterns.pods.hosting import ApplicationHosting
from dds_patterns.sharding import Ring
from dds_patterns.single_node.twemproxy_pool import PoolArgs, pool_of, program
from dds_patterns.values.peers import Clients
from dds_patterns.values.reach import Reach
from dds_patterns.workloads.application import Application, ApplicationArgs


class ShardRouterArgs(PoolArgs):
    """Arguments of ShardRouter."""

    replicas: NotRequired[Annotated[Later[Annotated[int, between(1, 1000)]], Default(2)]]
    """Number of pods. Each has the whole hash ring, so any of them finds any key."""
    companions: NotRequired[Annotated[Sequence[Companion], Default(())]]
    """Companions of each pod, such as an exporter of its statistics."""
    clients: NotRequired[Clients]
    """Clients that may connect, besides workloads with ``reach`` in ``reaches``; ``{}`` is every pod of
    the namespace."""
    hosting: NotRequired[Annotated[ApplicationHosting, Default({})]]
    """Namespace, labels, nodes, spread, rollout and resources."""


class ShardRouter(pulumi.ComponentResource):
    """Replicas of twemproxy in front of a sharded Redis or memcached.

    Registers an Application: a Deployment with its Service, NetworkPolicies and PodDisruptionBudget.
    It maps each key to the same shard as every TwemproxyAmbassador of the store, so both can be used
    at once.
    """

    reach: Reach
    """How clients reach it, like a single server, with the store's credentials."""
    endpoint: pulumi.Output[str]
    """``host:port`` from anywhere in the cluster."""
    ring: pulumi.Output[Ring]
    """The hash ring that maps each key to a shard."""
    application: Application
    """The pods."""

    def __init__(
        self, name: str, args: ShardRouterArgs, opts: pulumi.ResourceOptions | None = None
    ) -> None:
        """Register the router.

        :param name: a DNS label of at most 54 characters
        :raises InputError: an invalid argument, before anything is registered
        """
        where = f'ShardRouter "{name}"'
        given, args = args, resolved(where, ShardRouterArgs, args)
        pool = pool_of(where, given, args, address=ANYWHERE, beside="clients without one")
        workload = cast(
            ApplicationArgs,
            {
                **program(
                    where, name, args, pool, part="shard-router", hosting=args["hosting"]
                ).workload(),
                "replicas": args["replicas"],
                "companions": args["companions"],
                "clients": args["clients"],
                "hosting": args["hosting"],
            },
        )
        Application.validate(where, name, workload)
        super().__init__(
            "dds:index:ShardRouter", name, {"image": args["image"], "policy": args["policy"]}, opts
        )
        store = args["store"]
        self.ring = pool.ring(store.endpoints)
        self.application = Application(name, workload, pulumi.ResourceOptions(parent=self))
        self.reach = dataclasses.replace(
            self.application.port(pool.protocol), credentials=store.credentials
        )
        self.endpoint = self.reach.endpoint
        self.register_outputs({"endpoint": self.endpoint})
