"""Subscriber: takes events from a bus and posts each to the function that it is for (chapter 8)."""

import dataclasses
import json
import math
from collections.abc import Mapping, Sequence
from typing import Any, NotRequired, TypedDict, cast

import pulumi

from components.arguments.errors import InputError
from components.serving.event_bus import bus_client
from components.values import checks
from components.values.bus import BusTopology, topic
from components.values.edges import Edge
from components.values.targets import Target
from components.workloads.application import Application, ApplicationArgs

PUBLISH_PORT, WATCH_PORT = 8080, 8081
MOST_ATTEMPTS = 100

_CONFIG = "/etc/events/deliver.json"
# A consumer of the bus is called <subscriber>-<subscription>; the Deployment adds nine characters.
_RESERVE = 9
_NAME_RESERVE = 63 - 40
# For the last fetch, for passing on and for closing.
_GRACE_SECONDS = 15


class DeliveryArgs(TypedDict):
    """How an event is delivered, and how often it is tried."""

    attempts: NotRequired[int]
    """Deliveries before an event goes to the dead letters, from 1 to 100. Defaults to 8."""
    first_delay_seconds: NotRequired[float]
    """Seconds from the first failed attempt to the second, from 0.01 to 3600. Defaults to 1. Each
    further one is twice as long, and all are spread by a tenth."""
    longest_delay_seconds: NotRequired[float]
    """Bound of these, from ``first_delay_seconds`` to 3600. Defaults to 60."""
    timeout_seconds: NotRequired[float]
    """Seconds for an answer, from 0.1 to 3600. Defaults to 30. Pods that are told to end take as
    long to finish what they deliver."""
    in_flight: NotRequired[int]
    """Events that one pod of the subscriber delivers at a time, from 1 to 256. Defaults to 4."""


class SubscriptionArgs(DeliveryArgs):
    """Which events go where."""

    name: str
    """A DNS label of at most 40 characters. With the subscriber's name it is what the bus remembers
    its place by. A changed one begins with the events that are there, which are those that others
    have not acknowledged yet."""
    topic: str
    """Topic, such as ``login.requested``."""
    target: Target
    """Where each event is posted."""


class SubscriberArgs(TypedDict):
    """Arguments of Subscriber."""

    image: pulumi.Input[str]
    """The project's image ``events``, with a tag or digest."""
    bus: BusTopology
    """The bus."""
    subscriptions: Sequence[SubscriptionArgs]
    """At least one."""
    accepts: NotRequired[Sequence[str]]
    """Topics that clients may publish by ``POST /events/<topic>``. By default none."""
    clients: NotRequired[Sequence[Mapping[str, str]]]
    """Labels of pods of the namespace that may publish; an empty mapping is every pod."""
    monitors: NotRequired[Sequence[Mapping[str, str]]]
    """Labels of pods of the namespace that may ask for ``/metrics`` at port 8081."""
    replicas: NotRequired[pulumi.Input[int]]
    """Pods that share the events, at least 1. Defaults to 2."""
    namespace: NotRequired[pulumi.Input[str]]
    """Namespace. Defaults to the provider's."""


class Subscriber(pulumi.ComponentResource):
    """Delivers events of a bus by HTTP, each at least once.

    The event's data is the body of a POST request, its CloudEvents attributes are headers
    (``ce-id``, ``ce-type``, ``ce-time``), and ``Idempotency-Key`` is the same for every attempt: what
    has an effect must have it once for each key. An answer from 200 to 299 acknowledges the event;
    anything else, and none, is tried again until ``attempts`` have failed. Then the event lies in
    the stream ``dead``. A delivery during which the subscriber was killed counts as an attempt.

    Registers an Application. Its pods carry the bus's delivery label, which the receivers name in
    their ``clients``.
    """

    application: Application
    """The pods."""
    endpoint: pulumi.Output[str]
    """URL under which topics are published: ``<endpoint>/<topic>``."""

    def __init__(
        self, name: str, args: SubscriberArgs, opts: pulumi.ResourceOptions | None = None
    ) -> None:
        """Register the subscriber.

        :param name: a DNS label of at most 54 characters, unique for its bus
        :raises InputError: an argument that cannot be right, before anything is registered
        """
        where = f'Subscriber "{name}"'
        checks.known_arguments(where, SubscriberArgs, args)
        accepts = {topic(where, "accepts", one): one for one in args.get("accepts", ())}
        subscriptions = _subscriptions(where, args["subscriptions"])
        firsts = {
            one: [delivery.name for delivery in subscriptions if delivery.topic == one]
            for one in accepts
        }
        plan = DeliveryPlan(name, subscriptions, accepts, firsts)
        workload = delivery_pods(where, cast(Mapping[str, Any], args), plan)
        Application.validate(where, name, workload)
        super().__init__("dds:index:Subscriber", name, {"image": args["image"]}, opts)
        self.application = Application(name, workload, pulumi.ResourceOptions(parent=self))
        self.endpoint = endpoint_of(self.application)
        self.register_outputs({"endpoint": self.endpoint})


@dataclasses.dataclass(frozen=True)
class Delivery:
    """One checked subscription."""

    name: str
    topic: str
    target: Target
    settings: Mapping[str, float]
    required: Mapping[str, str] = dataclasses.field(default_factory=dict)
    """Topic by the step that every event goes on to."""
    optional: Mapping[str, tuple[str, str]] = dataclasses.field(default_factory=dict)
    """Field and topic by step."""

    @classmethod
    def checked(
        cls, where: str, argument: str, name: str, on: str, target: Target, args: Mapping[str, Any]
    ) -> "Delivery":
        """A delivery whose settings are in ``args``."""
        if not isinstance(cast(object, target), Target):
            raise InputError(where, f"{argument}.target", target, "must be a Target")
        return cls(
            name=checks.dns_label(where, f"{argument}.name", name, reserve=_NAME_RESERVE),
            topic=topic(where, f"{argument}.topic", on),
            target=target,
            settings=delivery_settings(where, argument, args),
        )

    def document(self) -> dict[str, Any]:
        """What the program is told, but for the URL."""
        return {
            "name": self.name,
            "topic": self.topic,
            **self.settings,
            "required": dict(self.required),
            "optional": {step: list(pair) for step, pair in self.optional.items()},
        }


@dataclasses.dataclass(frozen=True)
class DeliveryPlan:
    """What the pods of a subscriber do."""

    name: str
    deliveries: Sequence[Delivery]
    accepts: Mapping[str, str]
    """Topic by the name that clients publish it under."""
    firsts: Mapping[str, Sequence[str]]
    """Names of the deliveries that a published event goes to, by the same name."""

    def document(self) -> pulumi.Output[str]:
        """The program's configuration file."""

        def text(urls: Sequence[str]) -> str:
            document = {
                "name": self.name,
                "accepts": dict(self.accepts),
                "firsts": {name: list(steps) for name, steps in self.firsts.items()},
                "subscriptions": [
                    {**one.document(), "url": url}
                    for one, url in zip(self.deliveries, urls, strict=True)
                ],
            }
            return json.dumps(document, indent=1)

        return pulumi.Output.all(*(one.target.url for one in self.deliveries)).apply(text)


def delivery_settings(where: str, argument: str, args: Mapping[str, Any]) -> dict[str, float]:
    """Checked DeliveryArgs under the names that the program knows."""

    def number(key: str, default: float, minimum: float, maximum: float) -> float:
        given = cast(float, args.get(key, default))
        return checks.number(where, f"{argument}.{key}", given, minimum=minimum, maximum=maximum)

    first = number("first_delay_seconds", 1, 0.01, 3600)
    longest: Any = args.get("longest_delay_seconds", max(60, first))
    return {
        "attempts": checks.integer(
            where, f"{argument}.attempts", args.get("attempts", 8), minimum=1, maximum=MOST_ATTEMPTS
        ),
        "first_delay": first,
        "longest_delay": checks.number(
            where, f"{argument}.longest_delay_seconds", longest, minimum=first, maximum=3600
        ),
        "timeout": number("timeout_seconds", 30, 0.1, 3600),
        "in_flight": checks.integer(
            where, f"{argument}.in_flight", args.get("in_flight", 4), minimum=1, maximum=256
        ),
    }


def delivery_pods(where: str, args: Mapping[str, Any], plan: DeliveryPlan) -> ApplicationArgs:
    """The pods that deliver.

    :param args: those of SubscriberArgs that concern the pods
    """
    bus: object = args["bus"]
    if not isinstance(bus, BusTopology):
        raise InputError(where, "bus", bus, "must be a BusTopology, most often bus.topology")
    checks.dns_label(where, "name", plan.name, reserve=_RESERVE)
    if args.get("clients") and not plan.accepts:
        raise InputError(
            where, "clients", list(args["clients"]), "must be left out: nothing is accepted"
        )
    pod = bus_client(args["image"], "deliver", bus)
    edges = [*pod["egress"]]
    for delivery in plan.deliveries:
        if delivery.target.edge not in edges:
            edges.append(delivery.target.edge)
    longest = max(one.settings["timeout"] for one in plan.deliveries)
    workload: dict[str, Any] = {
        **pod,
        "files": {_CONFIG: plan.document()},
        "labels": {**pod["labels"], **dict([bus.delivery_label])},
        "egress": edges,
        "ports": [
            {"name": "publish", "port": PUBLISH_PORT},
            {"name": "watch", "port": WATCH_PORT},
        ],
        "expose": ["publish"],
        "clients": [*args.get("clients", ())],
        "ingress": [Edge(ports=(WATCH_PORT,), pods=pods) for pods in args.get("monitors", ())],
        "replicas": args.get("replicas", 2),
        "startup": {"path": "/readyz", "port": "watch", "failure_threshold": 180},
        "readiness": {"path": "/readyz", "port": "watch"},
        "liveness": {"path": "/healthz", "port": "watch"},
        # An event that is being delivered at the end is finished.
        "grace_seconds": _GRACE_SECONDS + math.ceil(longest),
        "resources": {"limits": {"memory": "192Mi"}},
    }
    if "namespace" in args:
        workload["namespace"] = args["namespace"]
    return cast(ApplicationArgs, workload)


def endpoint_of(application: Application) -> pulumi.Output[str]:
    """URL at which a subscriber's pods accept events."""
    return pulumi.Output.concat("http://", application.endpoint or "", "/events")


def _subscriptions(where: str, given: Sequence[SubscriptionArgs]) -> list[Delivery]:
    if not given:
        raise InputError(where, "subscriptions", given, "must have at least one subscription")
    found = []
    for position, one in enumerate(given):
        argument = f"subscriptions[{position}]"
        checks.known_arguments(f"{where}: {argument}", SubscriptionArgs, one)
        found.append(
            Delivery.checked(where, argument, one["name"], one["topic"], one["target"], one)
        )
    checks.unique(where, "subscriptions.name", [one.name for one in found])
    return found
