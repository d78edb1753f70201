"""Subscriber: consumes events of a bus and posts each to the function for its topic (chapter 8)."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, NotRequired, TypedDict, cast

import pulumi

from dds_patterns.arguments import (
    DISTINCT,
    NOT_EMPTY,
    Default,
    DefaultsTo,
    InputError,
    Later,
    between,
    matching,
    resolved,
)
from dds_patterns.arguments.constraints import Constraint
from dds_patterns.arguments.images import Image
from dds_patterns.arguments.names import check_name, dns_label
from dds_patterns.arguments.place import Place
from dds_patterns.pods.hosting import ApplicationHosting, with_resources
from dds_patterns.pods.images import image_of
from dds_patterns.serving.event_bus import EventBus
from dds_patterns.values.flow import STEP_LIMIT
from dds_patterns.values.names import AUTONAME
from dds_patterns.values.peers import Clients
from dds_patterns.values.reach import Credentials, Reach, speaking
from dds_patterns.workloads.application import Application, ApplicationArgs

MOST_ATTEMPTS = 100

_CONFIG = "/etc/events/deliver.json"
_PATH = "/events"
_ATTEMPTS, _TIMEOUT, _IN_FLIGHT = 8, 30, 4
_FIRST_DELAY, _LONGEST_DELAY = 1, 60
# For the last fetch, for publishing follow-up events and for closing.
_GRACE_SECONDS = 15
_WORD = "[a-z0-9]([-a-z0-9]*[a-z0-9])?"

Topic = Annotated[
    str,
    matching(
        rf"{_WORD}(\.{_WORD})*",
        "a topic: lower-case letters, digits and dashes, with dots between words, such as "
        "login.requested",
        most=128,
        odd=("Login", "a..b", ".a", "a.", "a.-b", "a_b", "a.>", "a.*", "a b", "a\n", "$sys"),
    ),
]
"""The kind of events; part of a NATS subject."""
_ELSEWHERE = Reach.outside("http://hooks.example.org/in", cidrs=["203.0.113.0/24"])
Target = Annotated[
    Reach,
    speaking("http", "https"),
    Constraint(
        "in another pod or outside, and without credentials and authority: none are used",
        lambda reach: not reach.is_local and reach.credentials is None and reach.authority is None,
        (
            Reach.local(8080),
            dataclasses.replace(_ELSEWHERE, credentials=Credentials("not-a-secret")),
        ),
    ),
]
"""Where events are posted: its ``url``."""


class DeliveryArgs(TypedDict):
    """How an event is delivered and retried."""

    attempts: NotRequired[Annotated[int, between(1, MOST_ATTEMPTS), DefaultsTo(f"{_ATTEMPTS}")]]
    """Delivery attempts before an event becomes a dead letter."""
    first_delay_seconds: NotRequired[
        Annotated[float, between(0.01, 3600), DefaultsTo(f"{_FIRST_DELAY}")]
    ]
    """Seconds from the first failed attempt to the second: exponential backoff, doubled for each
    further attempt, with a jitter of a tenth."""
    max_delay_seconds: NotRequired[
        Annotated[
            float,
            between(0.01, 3600),
            DefaultsTo(f"{_LONGEST_DELAY}, or ``first_delay_seconds`` if that is more"),
        ]
    ]
    """Maximum of the backoff, at least ``first_delay_seconds``."""
    timeout_seconds: NotRequired[Annotated[float, between(0.1, 3600), DefaultsTo(f"{_TIMEOUT}")]]
    """Timeout of a delivery in seconds. Terminating pods take as long to finish their deliveries."""
    in_flight: NotRequired[Annotated[int, between(1, 256), DefaultsTo(f"{_IN_FLIGHT}")]]
    """Events that one pod of the subscriber delivers at a time."""


class SubscriptionArgs(DeliveryArgs):
    """A topic and the target of its events."""

    name: Annotated[str, dns_label(STEP_LIMIT)]
    """With the subscriber's name it identifies the durable consumer on the bus. A changed name is a
    new consumer. It begins with the events that other subscriptions have not acknowledged yet."""
    topic: Topic
    """Topic of the events, such as ``login.requested``."""
    target: Target
    """Where each event is posted, such as a function's ``reach``, or an external webhook:
    ``Reach.outside("https://hooks.example.org/in", cidrs=[...])``."""


class SubscriberArgs(TypedDict):
    """Arguments of Subscriber."""

    image: NotRequired[Annotated[Later[Image], image_of("events")]]
    """The project's image ``events``."""
    bus: Annotated[Reach, speaking("nats")]
    """The bus, with credentials for it."""
    subscriptions: Annotated[Sequence[SubscriptionArgs], NOT_EMPTY]
    """Topics and their targets, each with a unique name."""
    accepts: NotRequired[Annotated[Sequence[Topic], DISTINCT, Default(())]]
    """Topics that clients may publish by ``POST /events/<topic>``."""
    clients: NotRequired[Clients]
    """Clients that may publish, besides workloads with ``reach`` in ``reaches``; ``{}`` is every pod of
    the namespace."""
    metrics_clients: NotRequired[Clients]
    """Clients that may scrape ``/metrics`` on port 8081; ``{}`` is every pod of the namespace."""
    replicas: NotRequired[Annotated[Later[Annotated[int, between(1)]], Default(2)]]
    """Number of pods, which share the events."""
    hosting: NotRequired[Annotated[ApplicationHosting, Default({})]]
    """Namespace, labels, nodes, spread, rollout and resources; the default memory limit is 192Mi."""


class Delivering(pulumi.ComponentResource):
    """What Subscriber and Pipeline have in common."""

    application: Application
    """The pods that deliver."""
    url: pulumi.Output[str]
    """URL for POST requests, each of which publishes an event; for a Subscriber the topic is appended:
    ``<url>/<topic>``."""
    reach: Reach
    """How publishers reach it, with the same ``url``."""

    def _deliver(self, name: str, workload: ApplicationArgs, path: str) -> None:
        """Register the pods."""
        self.application = Application(name, workload, pulumi.ResourceOptions(parent=self))
        self.url = pulumi.Output.concat("http://", self.application.endpoint or "", path)
        self.reach = self.application.reach.at(path)


class Subscriber(Delivering):
    """Delivers events of a bus over HTTP, each at least once.

    The event's data is the body of a POST request, its CloudEvents attributes are headers
    (``ce-id``, ``ce-type``, ``ce-time``), and ``Idempotency-Key`` is the same for every attempt: the
    target must be idempotent for each key. A status from 200 to 299 acknowledges the event; after any
    other status, or none, it is retried until ``attempts`` have failed. Then it is moved to the dead
    letters, the stream ``dead``. A delivery during which the subscriber was killed counts as an
    attempt.

    Registers an Application, and NetworkPolicies that let it connect to its targets.
    """

    def __init__(
        self, name: str, args: SubscriberArgs, opts: pulumi.ResourceOptions | None = None
    ) -> None:
        """Register the subscriber.

        :param name: a DNS label of at most 54 characters, unique for its bus
        :raises InputError: an invalid argument, before anything is registered
        """
        where = f'Subscriber "{name}"'
        check_name(where, name, reserve=AUTONAME, service=True)
        args = resolved(where, SubscriberArgs, args)
        if args["clients"] and not args["accepts"]:
            raise InputError(where, "clients", args["clients"], "must be left out without accepts")
        deliveries = _deliveries(where, args["subscriptions"])
        accepts = {topic: topic for topic in args["accepts"]}
        workload = delivery_pods(where, name, cast(Mapping[str, Any], args), deliveries, accepts)
        Application.validate(where, name, workload)
        super().__init__("dds:index:Subscriber", name, {"image": args["image"]}, opts)
        self._deliver(name, workload, _PATH)
        self.register_outputs({"url": self.url})


@dataclasses.dataclass(frozen=True)
class Delivery:
    """One checked subscription."""

    name: str
    topic: str
    target: Reach
    settings: Mapping[str, float]
    required: Mapping[str, str] = dataclasses.field(default_factory=dict)
    """Topic by next step, for every event."""
    optional: Mapping[str, tuple[str, str]] = dataclasses.field(default_factory=dict)
    """Field and topic by next step, for events that have the field."""


def delivery_settings(
    where: str, argument: str, given: DeliveryArgs, common: DeliveryArgs | None = None
) -> dict[str, float]:
    """The settings of a delivery, by the names that the program reads.

    :param argument: name of ``given`` in messages
    :param common: defaults for keys that ``given`` does not have
    """
    said: DeliveryArgs = {**(common or {}), **given}
    place = Place(where, argument)
    first = said.get("first_delay_seconds", _FIRST_DELAY)
    longest = said.get("max_delay_seconds", max(_LONGEST_DELAY, first))
    if longest < first:
        # One of the two may come from the defaults; the message names the given one.
        if "max_delay_seconds" in given:
            place.key("max_delay_seconds").refuse(
                longest, f"must be at least first_delay_seconds, which is {first}"
            )
        place.key("first_delay_seconds").refuse(
            first, f"must be at most max_delay_seconds, which is {longest}"
        )
    return {
        "attempts": said.get("attempts", _ATTEMPTS),
        "first_delay": first,
        "longest_delay": longest,
        "timeout": said.get("timeout_seconds", _TIMEOUT),
        "in_flight": said.get("in_flight", _IN_FLIGHT),
    }


def delivery_pods(
    where: str,
    name: str,
    args: Mapping[str, Any],
    deliveries: Sequence[Delivery],
    accepts: Mapping[str, str],
) -> ApplicationArgs:
    """The pods that deliver.

    :param args: those of SubscriberArgs that concern the pods
    :param accepts: topic by the name that clients publish it under
    """
    pod = EventBus.client(args["image"], "deliver", args["bus"], where)
    longest = max(one.settings["timeout"] for one in deliveries)
    workload: dict[str, Any] = {
        **pod,
        "files": {_CONFIG: _config(name, deliveries, accepts)},
        "reaches": [*pod["reaches"], *(one.target for one in deliveries)],
        "ports": [
            {"name": "publish", "port": 8080, "app_protocol": "http"},
            {"name": "watch", "port": 8081, "clients": args["metrics_clients"]},
        ],
        "expose": ["publish"],
        "clients": args["clients"],
        "replicas": args["replicas"],
        "startup": {"path": "/readyz", "port": "watch", "failure_threshold": 180},
        "readiness": {"path": "/readyz", "port": "watch"},
        "liveness": {"path": "/healthz", "port": "watch"},
        # Deliveries in flight at SIGTERM are completed.
        "termination_grace_period_seconds": _GRACE_SECONDS + math.ceil(longest),
        "hosting": with_resources(where, args["hosting"], limits={"memory": "192Mi"}),
    }
    return cast(ApplicationArgs, workload)


def _config(
    name: str, deliveries: Sequence[Delivery], accepts: Mapping[str, str]
) -> pulumi.Output[str]:
    """The program's configuration file."""
    document = {
        "name": name,
        "accepts": accepts,
        "firsts": {
            published: [one.name for one in deliveries if one.topic == topic]
            for published, topic in accepts.items()
        },
        "subscriptions": [
            {
                "name": one.name,
                "topic": one.topic,
                **one.settings,
                "required": one.required,
                "optional": one.optional,
                "url": one.target.url,
            }
            for one in deliveries
        ],
    }
    return pulumi.Output.json_dumps(document, indent=1)


def _deliveries(where: str, subscriptions: Sequence[SubscriptionArgs]) -> list[Delivery]:
    DISTINCT.check(Place(where, "subscriptions.name"), [one["name"] for one in subscriptions])
    return [
        Delivery(
            one["name"],
            one["topic"],
            one["target"],
            delivery_settings(where, f"subscriptions[{position}]", one),
        )
        for position, one in enumerate(subscriptions)
    ]
