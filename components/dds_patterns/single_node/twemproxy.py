"""Ambassador: the application connects to localhost, twemproxy finds the shard (chapter 3)."""

import dataclasses

import pulumi

from dds_patterns.arguments import resolved
from dds_patterns.arguments.names import check_name
from dds_patterns.pods.companion import LOOPBACK, Companion
from dds_patterns.sharding import Ring
from dds_patterns.single_node.twemproxy_pool import PoolArgs, pool_of, program
from dds_patterns.values.reach import Reach
from dds_patterns.workloads.program import ProgramArgs


class TwemproxyAmbassadorArgs(PoolArgs, ProgramArgs):
    """Arguments of TwemproxyAmbassador."""


class TwemproxyAmbassador(pulumi.ComponentResource):
    """A twemproxy beside the application, in front of a sharded Redis or memcached.

    Registers its configuration: an auto-named ConfigMap, or a Secret if it holds a password, so
    that a change rolls the pods. ``companion`` adds the rest to any workload.
    """

    companion: Companion
    """What a workload takes in ``companions``."""
    endpoint: pulumi.Output[str]
    """``host:port`` for the application in the same pod."""
    reach: Reach
    """The same for a companion, with the credentials."""
    statistics: Reach
    """Statistics as JSON on each connection, for the containers of the same pod."""
    ring: pulumi.Output[Ring]
    """Where this ambassador sends each key."""

    def __init__(
        self, name: str, args: TwemproxyAmbassadorArgs, opts: pulumi.ResourceOptions | None = None
    ) -> None:
        """Register the configuration.

        :param name: a DNS label of at most 56 characters; names the container
        :raises InputError: an invalid argument, before anything is registered
        """
        where = f'TwemproxyAmbassador "{name}"'
        check_name(where, name, reserve=7)
        given, args = args, resolved(where, TwemproxyAmbassadorArgs, args)
        pool = pool_of(where, given, args, address=LOOPBACK, beside="the containers of its pod")
        super().__init__(
            "dds:index:TwemproxyAmbassador",
            name,
            {"image": args["image"], "policy": args["policy"]},
            opts,
        )
        store = args["store"]
        self.reach = dataclasses.replace(
            Reach.local(args["listen_port"], app_protocol=pool.protocol),
            credentials=store.credentials,
        )
        self.endpoint = self.reach.endpoint
        self.statistics = Reach.local(args["stats_port"])
        self.ring = pool.ring(store.endpoints)
        self.companion = program(
            where, name, args, pool, part="ambassador", hosting=args["hosting"]
        ).companion(pulumi.ResourceOptions(parent=self))
        self.register_outputs({"endpoint": self.endpoint})
