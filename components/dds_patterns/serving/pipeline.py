"""Pipeline: a typed graph of functions that events pass through (chapter 8).

Each edge of the graph is a topic of an event bus: steps are decoupled, and no step needs another one
to be available.
"""

from collections.abc import Mapping
from typing import Annotated, Any, NotRequired, TypedDict, cast

import pulumi

from dds_patterns.arguments import Default, InputError, Later, between, nearest, resolved
from dds_patterns.arguments.images import Image
from dds_patterns.arguments.names import check_name
from dds_patterns.pods.hosting import ApplicationHosting
from dds_patterns.pods.images import image_of
from dds_patterns.serving.subscriber import (
    Delivering,
    Delivery,
    DeliveryArgs,
    Target,
    delivery_pods,
    delivery_settings,
)
from dds_patterns.values.flow import Flow, StepName
from dds_patterns.values.names import AUTONAME
from dds_patterns.values.peers import Clients
from dds_patterns.values.reach import Reach, speaking
from dds_patterns.workloads.application import Application


class PipelineArgs(TypedDict):
    """Arguments of Pipeline."""

    image: NotRequired[Annotated[Later[Image], image_of("events")]]
    """The project's image ``events``."""
    bus: Annotated[Reach, speaking("nats")]
    """The bus that carries the events, with credentials for it."""
    flow: Flow
    """The graph of steps. Events are published under its name."""
    targets: Mapping[StepName, Target]
    """The target of each step, by its name: a function's ``reach``, or an external webhook,
    ``Reach.outside("https://hooks.example.org/in", cidrs=[...])``."""
    delivery: NotRequired[Annotated[DeliveryArgs, Default({})]]
    """Delivery and retries, for steps that have none in ``deliveries``."""
    deliveries: NotRequired[Annotated[Mapping[StepName, DeliveryArgs], Default({})]]
    """The same for single steps, by name; ``delivery`` completes it."""
    clients: NotRequired[Clients]
    """Clients that may publish events, besides workloads with ``reach`` in ``reaches``; ``{}`` is every
    pod of the namespace."""
    metrics_clients: NotRequired[Clients]
    """Clients that may scrape ``/metrics`` on port 8081; ``{}`` is every pod of the namespace."""
    replicas: NotRequired[Annotated[Later[Annotated[int, between(1)]], Default(2)]]
    """Number of pods that deliver."""
    hosting: NotRequired[Annotated[ApplicationHosting, Default({})]]
    """Namespace, labels, nodes, spread, rollout and resources; the default memory limit is 192Mi."""


class Pipeline(Delivering):
    """Functions that follow each other, with at-least-once delivery between them.

    ``POST <url>`` with JSON is answered with 202 and the event's id once the event is stored. A
    publisher may set the id in the header ``ce-id``; the same id again is a duplicate. Each step
    gets the data as its body. If its response is a JSON object, it is merged into the data for the
    next steps. Their events are published before this one is acknowledged, so a step or subscriber
    that is killed in between is retried with the same ``Idempotency-Key``, and no event is lost. A
    step with several incoming edges gets an event for each.

    Registers an Application that delivers, as Subscriber does.
    """

    def __init__(
        self, name: str, args: PipelineArgs, opts: pulumi.ResourceOptions | None = None
    ) -> None:
        """Register the pipeline.

        :param name: a DNS label of at most 54 characters, unique for its bus
        :raises InputError: an invalid argument, before anything is registered
        """
        where = f'Pipeline "{name}"'
        check_name(where, name, reserve=AUTONAME, service=True)
        args = resolved(where, PipelineArgs, args)
        flow = args["flow"]
        accepts = {flow.name: topic_of(flow, flow.first)}
        deliveries = _deliveries(where, args)
        workload = delivery_pods(where, name, cast(Mapping[str, Any], args), deliveries, accepts)
        Application.validate(where, name, workload)
        super().__init__(
            "dds:index:Pipeline", name, {"image": args["image"], "steps": list(flow.steps)}, opts
        )
        self._deliver(name, workload, f"/events/{flow.name}")
        self.register_outputs({"url": self.url})


def topic_of(flow: Flow, step: str) -> str:
    """The topic of a step's events."""
    return f"{flow.name}.{step}"


def _deliveries(where: str, args: PipelineArgs) -> list[Delivery]:
    flow, targets, deliveries = args["flow"], args["targets"], args["deliveries"]
    for argument, given in (("targets", targets), ("deliveries", deliveries)):
        for step in given:
            if step not in flow.steps:
                raise InputError(where, argument, step, nearest(step, flow.steps))
    delivery_settings(where, "delivery", args["delivery"])
    found = []
    for step in flow.steps:
        if step not in targets:
            raise InputError(
                where, "targets", sorted(targets), f"must have a target for the step {step}"
            )
        edges = flow.edges(step)
        own = deliveries.get(step, {})
        found.append(
            Delivery(
                step,
                topic_of(flow, step),
                targets[step],
                delivery_settings(where, f"deliveries[{step}]", own, args["delivery"]),
                required={to: topic_of(flow, to) for to, key in edges if key is None},
                optional={to: (key, topic_of(flow, to)) for to, key in edges if key is not None},
            )
        )
    return found
