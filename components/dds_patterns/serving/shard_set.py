"""ShardSet: a program in independent shards, each with one or more replicas (chapter 6).

The client chooses the shard of a request; the set gives each shard a stable number, a stable address
and a place on the hash ring. A shard's replicas are the pods with its number in several StatefulSets,
the ranks: each rank has one replica of every shard, and a rolling update goes from rank to rank.
"""

import dataclasses
from typing import Annotated, Any, NotRequired, TypedDict, cast

import pulumi

from dds_patterns.arguments import (
    Default,
    DefaultsTo,
    InputError,
    between,
    nearest,
    one_of,
    resolved,
)
from dds_patterns.arguments.containers import EnvName
from dds_patterns.arguments.declared import arguments_of
from dds_patterns.arguments.names import PortName, check_name
from dds_patterns.pods.hosting import object_metadata
from dds_patterns.pods.labels import POD_INDEX, SHARDS_OF
from dds_patterns.sharding import DEFAULT_HASH, HASHES, MOST_SHARDS, RingPlan, forecast, plan
from dds_patterns.values.names import child
from dds_patterns.values.reach import Credentials, Reach
from dds_patterns.values.topology import HashTag, Topology
from dds_patterns.workloads.rank import Rank
from dds_patterns.workloads.service_reach import service_reach
from dds_patterns.workloads.serving import disruption_budget, service_port
from dds_patterns.workloads.stateful import (
    RESERVE,
    StatefulApplication,
    StatefulApplicationArgs,
    StatefulArgs,
    replica_services,
)

MOST_REPLICAS = 9


class ShardingArgs(TypedDict):
    """The number of shards, and how a key is mapped to one."""

    shards: NotRequired[Annotated[int, between(1, MOST_SHARDS), Default(3)]]
    """Number of shards. A changed number remaps keys, which their new shards do not have: a cache
    refills, the data of a store must be migrated."""
    hash: NotRequired[Annotated[str, one_of(*HASHES), Default(DEFAULT_HASH)]]
    """Hash function of the proxies, by twemproxy's name. Others than murmur can distribute some keys
    unevenly."""
    hash_tag: NotRequired[Annotated[HashTag, Default("")]]
    """Two characters such as ``{}``: keys with the same part between them share a shard."""


class ShardSetArgs(ShardingArgs, StatefulArgs):
    """Arguments of ShardSet."""

    replicas: NotRequired[Annotated[int, between(1, MOST_REPLICAS), Default(1)]]
    """Pods of each shard, any of which may get a request. Data is not replicated between them."""
    port: NotRequired[Annotated[PortName, DefaultsTo("the first that the Service offers")]]
    """Name of the port on which clients reach the shards. There must be one."""
    shard_variable: NotRequired[EnvName]
    """Name of an environment variable for the shard's number, from 0."""
    credentials: NotRequired[Credentials]
    """The clients' credentials, for the set's reach."""


class ShardSet(pulumi.ComponentResource):
    """A program in independent shards, each with a stable address.

    Registers a StatefulApplication for each replica that a shard has: the first is called ``name``,
    further ones ``name-r1``, ``name-r2``, and the pod ``i`` of each belongs to shard ``i``. Each shard
    has a Service ``name-<i>``, and from two replicas on a PodDisruptionBudget that allows one
    eviction at a time.
    """

    reach: Reach
    """How clients reach the shards, one endpoint each, with the topology, and the credentials."""
    shards: tuple[Reach, ...]
    """How clients reach each shard alone."""
    endpoints: pulumi.Output[list[str]]
    """``host:port`` of each shard."""
    plan: RingPlan
    """Names of the shards on the ring and the share of the keys that each is predicted to hold."""
    labels: dict[str, str]
    """The label that selects all pods of the set."""
    applications: tuple[StatefulApplication, ...]
    """The ranks, each with one replica of every shard."""

    def __init__(
        self, name: str, args: ShardSetArgs, opts: pulumi.ResourceOptions | None = None
    ) -> None:
        """Register the set.

        :param name: a DNS label of at most 52 characters, or 49 with replicas, unique in its
            namespace, that does not end as replicas' do (-0, -r1)
        :raises InputError: an invalid argument, before anything is registered
        """
        args = _checked(f'ShardSet "{name}"', name, args)
        shards, replicas, hosting = args["shards"], args["replicas"], args["hosting"]
        super().__init__(
            "dds:index:ShardSet",
            name,
            {"image": args["image"], "shards": shards, "replicas": replicas},
            opts,
        )
        self.plan = plan(shards, args["hash"])
        for line in forecast(self.plan):
            pulumi.log.info(line, self)
        own = pulumi.ResourceOptions(parent=self)
        made: list[StatefulApplication] = []
        for number in range(replicas):
            # An update replaces one replica of a shard at a time, while the others are ready.
            rank = _rank(name, args, after=tuple(each.stateful_set for each in made[-1:]))
            application = f"{name}-r{number}" if number else name
            made.append(StatefulApplication(application, _workload(name, args), own, rank=rank))
        self.applications, self.labels, first = tuple(made), {SHARDS_OF: name}, made[0]
        port = first.port(args["port"])
        services = replica_services(
            name,
            shards,
            labels=first.labels,
            selector=self.labels,
            ports=[
                service_port(
                    args["port"],
                    port.ports[0],
                    protocol=port.protocol,
                    app_protocol=port.app_protocol,
                )
            ],
            hosting=hosting,
            opts=own,
        )
        for shard in range(shards if replicas > 1 else 0):
            disruption_budget(
                child(name, str(shard)),
                object_metadata(first.labels, hosting, version=args.get("version")),
                self._selector(shard),
                own,
            )
        self.reach = service_reach(
            name,
            services,
            port.ports[0],
            pods=self.labels,
            protocol=port.protocol,
            app_protocol=port.app_protocol,
            credentials=args.get("credentials"),
            topology=Topology(self.plan.names, args["hash"], args["hash_tag"]),
            depends_on=(*(each.stateful_set for each in self.applications), *services),
        )
        self.shards = tuple(
            dataclasses.replace(
                self.reach,
                name=f"{name}-{shard}",
                endpoints=(endpoint,),
                pods=self._selector(shard),
                topology=None,
            )
            for shard, endpoint in enumerate(self.reach.endpoints)
        )
        self.endpoints = pulumi.Output.all(*self.reach.endpoints)
        self.register_outputs({"labels": self.labels, "endpoints": self.endpoints})

    @staticmethod
    def validate(where: str, name: str, args: ShardSetArgs) -> None:
        """Check the arguments for a component that is made of a ShardSet.

        :param where: that component, so that messages name it
        """
        _checked(where, name, args)

    def _selector(self, shard: int) -> dict[str, str]:
        """Labels that select the pods of one shard."""
        return {**self.labels, POD_INDEX: str(shard)}


def _rank(name: str, args: ShardSetArgs, after: tuple[pulumi.Resource, ...] = ()) -> Rank:
    return Rank({SHARDS_OF: name}, args["replicas"] > 1, args.get("shard_variable", ""), after)


def _workload(name: str, args: ShardSetArgs) -> StatefulApplicationArgs:
    known = arguments_of(StatefulApplicationArgs)
    given: dict[str, Any] = {key: value for key, value in args.items() if key in known}
    named = {"application": name, "component": "shard", **given}
    return cast(StatefulApplicationArgs, {**named, "replicas": args["shards"]})


def _checked(where: str, name: str, args: ShardSetArgs) -> ShardSetArgs:
    args = resolved(where, ShardSetArgs, args)
    suffix = 0 if args["replicas"] == 1 else len(f"-r{args['replicas'] - 1}")
    check_name(where, name, reserve=RESERVE + suffix, service=True, replicated=True)
    variable = args.get("shard_variable")
    if variable in args["env"]:
        raise InputError(where, "shard_variable", variable, "must not be set in env as well")
    offered = StatefulApplication.validate(
        where, name, _workload(name, args), rank=_rank(name, args)
    )
    if not offered:
        raise InputError(where, "ports", args["ports"], "must have one that clients can reach")
    if args.setdefault("port", offered[0]) not in offered:
        raise InputError(where, "port", args["port"], nearest(args["port"], offered))
    return args
