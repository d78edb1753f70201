"""Subscriber: takes events from a bus and posts each to the function that it is for (chapter 8)."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, NotRequired, TypedDict, cast

import pulumi

from components.arguments import (
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
from components.arguments.constraints import Constraint
from components.arguments.images import Image
from components.arguments.names import check_name, dns_label
from components.arguments.place import Place
from components.pods.hosting import ApplicationHosting, with_resources
from components.serving.event_bus import bus_client
from components.values.flow import STEP_LIMIT
from components.values.names import AUTONAME
from components.values.peers import Clients
from components.values.reach import Credentials, Reach, speaking
from components.workloads.application import Application, ApplicationArgs

PUBLISH_PORT, WATCH_PORT = 8080, 8081
MOST_ATTEMPTS = 100

_CONFIG = "/etc/events/deliver.json"
_PATH = "/events"
_ATTEMPTS, _TIMEOUT, _IN_FLIGHT = 8, 30, 4
_FIRST_DELAY, _LONGEST_DELAY = 1, 60
# For the last fetch, for passing on and for closing.
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
"""What events are about; a bus knows it as part of a subject."""
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
"""What events are posted to: its ``url``."""


class DeliveryArgs(TypedDict):
    """How an event is delivered, and how often it is tried."""

    attempts: NotRequired[Annotated[int, between(1, MOST_ATTEMPTS), DefaultsTo(f"{_ATTEMPTS}")]]
    """Deliveries before an event goes to the dead letters."""
    first_delay_seconds: NotRequired[
        Annotated[float, between(0.01, 3600), DefaultsTo(f"{_FIRST_DELAY}")]
    ]
    """Seconds from the first failed attempt to the second. Each further one is twice as long, and
    all are spread by a tenth."""
    longest_delay_seconds: NotRequired[
        Annotated[
            float,
            between(0.01, 3600),
            DefaultsTo(f"{_LONGEST_DELAY}, or ``first_delay_seconds`` if that is more"),
        ]
    ]
    """Bound of these, at least ``first_delay_seconds``."""
    timeout_seconds: NotRequired[Annotated[float, between(0.1, 3600), DefaultsTo(f"{_TIMEOUT}")]]
    """Seconds for an answer. Pods that are told to end take as long to finish what they deliver."""
    in_flight: NotRequired[Annotated[int, between(1, 256), DefaultsTo(f"{_IN_FLIGHT}")]]
    """Events that one pod of the subscriber delivers at a time."""


class SubscriptionArgs(DeliveryArgs):
    """Which events go where."""

    name: Annotated[str, dns_label(STEP_LIMIT)]
    """With the subscriber's name it is what the bus remembers its place by. A changed one begins
    with the events that are there, which are those that others have not acknowledged yet."""
    topic: Topic
    """Kind of the events, such as ``login.requested``."""
    target: Target
    """What each event is posted to, such as a function's ``reach``, or somebody's webhook:
    ``Reach.outside("https://hooks.example.org/in", cidrs=[...])``."""


class SubscriberArgs(TypedDict):
    """Arguments of Subscriber."""

    image: Later[Image]
    """The project's image ``events``."""
    bus: Annotated[Reach, speaking("nats")]
    """The bus, with the credentials that it is logged in to."""
    subscriptions: Annotated[Sequence[SubscriptionArgs], NOT_EMPTY]
    """Which events go where, each with a name of its own."""
    accepts: NotRequired[Annotated[Sequence[Topic], DISTINCT, Default(())]]
    """Topics that clients may publish by ``POST /events/<topic>``."""
    clients: NotRequired[Clients]
    """Who may publish, beside what has ``reach`` among its ``reaches``; ``{}`` is every pod of the
    namespace."""
    metrics_clients: NotRequired[Clients]
    """Who may ask for ``/metrics`` at port 8081; ``{}`` is every pod of the namespace."""
    replicas: NotRequired[Annotated[Later[Annotated[int, between(1)]], Default(2)]]
    """Pods that share the events."""
    hosting: NotRequired[Annotated[ApplicationHosting, Default({})]]
    """Namespace, labels, nodes, spread, rollout and resources, of which the default limit of memory is
    192Mi."""


class Delivering(pulumi.ComponentResource):
    """What Subscriber and Pipeline register and give alike."""

    application: Application
    """The pods that deliver."""
    endpoint: pulumi.Output[str]
    """URL for POST requests, each of which is an event; of a Subscriber its topic stands behind that:
    ``<endpoint>/<topic>``."""
    reach: Reach
    """How those who publish reach it: its ``url`` is that one."""

    def _deliver(self, name: str, workload: ApplicationArgs, path: str) -> None:
        """Register the pods."""
        self.application = Application(name, workload, pulumi.ResourceOptions(parent=self))
        self.endpoint = pulumi.Output.concat("http://", self.application.endpoint or "", path)
        self.reach = self.application.reach.at(path)
        self.register_outputs({"endpoint": self.endpoint})


class Subscriber(Delivering):
    """Delivers events of a bus by HTTP, each at least once.

    The event's data is the body of a POST request, its CloudEvents attributes are headers
    (``ce-id``, ``ce-type``, ``ce-time``), and ``Idempotency-Key`` is the same for every attempt: what
    has an effect must have it once for each key. An answer from 200 to 299 acknowledges the event;
    anything else, and none, is tried again until ``attempts`` have failed. Then the event lies in
    the stream ``dead``. A delivery during which the subscriber was killed counts as an attempt.

    Registers an Application, which is let in by what it delivers to.
    """

    def __init__(
        self, name: str, args: SubscriberArgs, opts: pulumi.ResourceOptions | None = None
    ) -> None:
        """Register the subscriber.

        :param name: a DNS label of at most 54 characters, unique for its bus
        :raises InputError: an argument that cannot be right, before anything is registered
        """
        where = f'Subscriber "{name}"'
        check_name(where, name, reserve=AUTONAME, service=True)
        args = resolved(where, SubscriberArgs, args)
        if args["clients"] and not args["accepts"]:
            raise InputError(
                where, "clients", args["clients"], "must be left out: nothing is accepted"
            )
        deliveries = _deliveries(where, args["subscriptions"])
        accepts = {topic: topic for topic in args["accepts"]}
        workload = delivery_pods(where, name, cast(Mapping[str, Any], args), deliveries, accepts)
        Application.validate(where, name, workload)
        super().__init__("dds:index:Subscriber", name, {"image": args["image"]}, opts)
        self._deliver(name, workload, _PATH)


@dataclasses.dataclass(frozen=True)
class Delivery:
    """One checked subscription."""

    name: str
    topic: str
    target: Reach
    settings: Mapping[str, float]
    required: Mapping[str, str] = dataclasses.field(default_factory=dict)
    """Topic by the step that every event goes on to."""
    optional: Mapping[str, tuple[str, str]] = dataclasses.field(default_factory=dict)
    """Field and topic by step."""


def delivery_settings(
    where: str, argument: str, given: DeliveryArgs, common: DeliveryArgs | None = None
) -> dict[str, float]:
    """How to deliver, under the names that the program knows.

    :param argument: what ``given`` is in messages
    :param common: what holds where ``given`` says nothing
    """
    said: DeliveryArgs = {**(common or {}), **given}
    place = Place(where, argument)
    first = said.get("first_delay_seconds", _FIRST_DELAY)
    longest = said.get("longest_delay_seconds", max(_LONGEST_DELAY, first))
    if longest < first:
        # Only one of the two may be what stands here.
        if "longest_delay_seconds" in given:
            place.key("longest_delay_seconds").refuse(
                longest, f"must be at least first_delay_seconds, which is {first}"
            )
        place.key("first_delay_seconds").refuse(
            first, f"must be at most longest_delay_seconds, which is {longest}"
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
    pod = bus_client(args["image"], "deliver", args["bus"], where)
    longest = max(one.settings["timeout"] for one in deliveries)
    workload: dict[str, Any] = {
        **pod,
        "files": {_CONFIG: _config(name, deliveries, accepts)},
        "reaches": [*pod["reaches"], *(one.target for one in deliveries)],
        "ports": [
            {"name": "publish", "port": PUBLISH_PORT, "app_protocol": "http"},
            {"name": "watch", "port": WATCH_PORT, "clients": args["metrics_clients"]},
        ],
        "expose": ["publish"],
        "clients": args["clients"],
        "replicas": args["replicas"],
        "startup": {"path": "/readyz", "port": "watch", "failure_threshold": 180},
        "readiness": {"path": "/readyz", "port": "watch"},
        "liveness": {"path": "/healthz", "port": "watch"},
        # An event that is being delivered at the end is finished.
        "grace_seconds": _GRACE_SECONDS + math.ceil(longest),
        "hosting": with_resources(where, args["hosting"], limits={"memory": "192Mi"}),
    }
    return cast(ApplicationArgs, workload)


def _config(
    name: str, deliveries: Sequence[Delivery], accepts: Mapping[str, str]
) -> pulumi.Output[str]:
    """What the program is told."""
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
