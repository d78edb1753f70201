"""EventBus: events that are persisted until they are delivered (chapter 8).

The bus is NATS with JetStream: streams on a volume. A Job with the project's own program
(``images/events``) creates them. A ``Subscriber`` consumes events from them.
"""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from typing import Annotated, NotRequired, TypedDict

import pulumi
from pulumi_kubernetes.core.v1 import Service

from dds_patterns.arguments import (
    Default,
    DefaultsTo,
    InputError,
    Later,
    Secret,
    between,
    matching,
    resolved,
)
from dds_patterns.arguments.constraints import Constraint, password
from dds_patterns.arguments.images import Image
from dds_patterns.platform.generated import Rotated, RotationArgs, check_rotation, given, rotated
from dds_patterns.pods import labels as pod_labels
from dds_patterns.pods.hosting import (
    PodHosting,
    SingletonHosting,
    narrowed,
    object_metadata,
    with_resources,
    with_storage,
)
from dds_patterns.pods.images import image_of
from dds_patterns.serving.singleton import Singleton, SingletonArgs
from dds_patterns.values.names import child
from dds_patterns.values.peers import Clients
from dds_patterns.values.reach import Credentials, Reach
from dds_patterns.workloads.arguments import PodArgs
from dds_patterns.workloads.job import LONGEST_TASK
from dds_patterns.workloads.service_reach import service_reach
from dds_patterns.workloads.task import Task, TaskArgs

CLIENT_PORT, MONITOR_PORT = 4222, 8222
PASSWORD_FILE = "/etc/events-bus/password"  # noqa: S105 (a path)
"""Where the project's programs read the password."""

_DATA = "/data"
_CONFIG = "/etc/nats/nats.conf"
_USERS = "/etc/nats-users/users.conf"
_PLAN = "/etc/events/setup.json"
_USER, _ADMIN = "client", "admin"
_PASSWORDS = {_USER: "password", _ADMIN: "admin_password"}
# Placeholder for the server, which is registered after the arguments are checked.
_NOT_YET = dataclasses.replace(
    Reach.local(CLIENT_PORT, app_protocol="nats"), credentials=Credentials("not-known-yet", _ADMIN)
)
_PLANNED = (
    "events_mib", "keep_hours", "dead_mib", "keep_dead_hours", "records_mib", "duplicate_seconds",
)  # fmt: skip
_YEAR_SECONDS = 365 * 24 * 3600

# What a client may do: publish, consume and acknowledge, read what is stored, create and delete
# consumers. It may not create, change or purge a stream.
_CLIENT_MAY = (
    "events.>", "records.>", "dead.>", "$KV.>", "$JS.ACK.>",
    "$JS.API.INFO", "$JS.API.STREAM.INFO.*", "$JS.API.STREAM.MSG.GET.*", "$JS.API.DIRECT.GET.>",
    "$JS.API.CONSUMER.CREATE.>", "$JS.API.CONSUMER.DURABLE.CREATE.>", "$JS.API.CONSUMER.INFO.>",
    "$JS.API.CONSUMER.MSG.NEXT.>", "$JS.API.CONSUMER.LIST.events",
    # A subscriber deletes the durable consumer of a subscription that is no longer declared.
    "$JS.API.CONSUMER.DELETE.events.>",
)  # fmt: skip


_Password = Annotated[str, password(16)]
_Megabytes = Annotated[int, between(1, 1_048_576)]
_Hours = Annotated[int, between(1, 8760)]


class BucketArgs(TypedDict):
    """A key-value bucket whose values expire, for services that need a small store."""

    name: Annotated[
        str,
        matching(
            r"[a-z0-9][-a-z0-9]*",
            "lower-case letters, digits and dashes, such as codes",
            most=32,
            odd=("Codes", "-a", "a.b", "a_b", "a>", "a\n"),
        ),
    ]
    """Name by which clients use it."""
    ttl_seconds: Annotated[int, between(1, _YEAR_SECONDS)]
    """Seconds after which a value expires."""
    size_mib: NotRequired[Annotated[_Megabytes, Default(16)]]
    """Maximum size in MiB."""


class EventBusArgs(TypedDict):
    """Arguments of EventBus."""

    image: NotRequired[Annotated[Later[Image], image_of("nats")]]
    """Image with nats-server, the project's ``nats`` or the upstream one; tested with 2.15. Not 2.9.10,
    which after a restart delivers an event that waits for a retry twice, or not at all."""
    tools_image: NotRequired[Annotated[Later[Image], image_of("events")]]
    """The project's image ``events``, which creates the streams."""
    events_mib: NotRequired[Annotated[_Megabytes, Default(256)]]
    """Maximum size of published events in MiB. At the limit the bus refuses to publish more until some
    are delivered (back-pressure); nothing is overwritten. A quarter more, at least 1 MiB, is reserved
    for events that steps pass on."""
    keep_hours: NotRequired[Annotated[_Hours, Default(72)]]
    """Hours for which the trace records of an event are kept, and the event itself unless every
    subscription has acknowledged it before: no step may be down for longer."""
    dead_mib: NotRequired[Annotated[_Megabytes, Default(64)]]
    """Maximum size of dead letters in MiB. At the limit an event that cannot be delivered stays in its
    stream and is retried."""
    keep_dead_hours: NotRequired[Annotated[_Hours, Default(720)]]
    """Hours for which a dead letter is kept."""
    records_mib: NotRequired[Annotated[_Megabytes, Default(64)]]
    """Maximum size of the trace records in MiB; the oldest are deleted first."""
    duplicate_seconds: NotRequired[Annotated[int, between(1, 3600), Default(600)]]
    """Deduplication window: seconds within which an event with the same id is stored once."""
    buckets: NotRequired[
        Annotated[
            Sequence[BucketArgs],
            Constraint(
                "buckets of different names",
                lambda buckets: len({bucket["name"] for bucket in buckets}) == len(buckets),
                ([{"name": "a", "ttl_seconds": 1}, {"name": "a", "ttl_seconds": 2}],),
            ),
            Default(()),
        ]
    ]
    """Key-value buckets."""
    password: NotRequired[Annotated[Secret[_Password], DefaultsTo("generated")]]
    """The clients' password. After a change, pods that have not been replaced yet cannot log in."""
    admin_password: NotRequired[Annotated[Secret[_Password], DefaultsTo("generated")]]
    """The administrator's."""
    rotation: NotRequired[Annotated[RotationArgs, Default({})]]
    """When generated passwords are replaced. Each generation has its own usernames, so that clients
    with the former password keep working."""
    clients: NotRequired[Clients]
    """Clients that may connect, besides workloads with ``reach`` in ``reaches``; ``{}`` is every pod of
    the namespace."""
    metrics_clients: NotRequired[Clients]
    """Clients that may query the monitoring port, 8222, which answers in JSON (``/varz``, ``/jsz``),
    besides workloads with ``monitoring`` in ``reaches``; ``{}`` is every pod of the namespace."""
    hosting: NotRequired[Annotated[SingletonHosting, Default({})]]
    """Namespace, labels, nodes and resources. Default requests are cpu 50m and memory 256Mi; the
    default memory limit is 256Mi. ``storage.size`` is at least the maximum size of the streams.
    ``resources`` and ``storage`` apply to the server only."""


class EventBus(pulumi.ComponentResource):
    """A NATS server with three streams: events, dead letters, and trace records of steps.

    Registers a StatefulSet of one replica with a volume and all that belongs to it, a Service with
    a stable address, two passwords (the clients', which cannot change or purge a stream, and the
    administrator's), and a Job that creates the streams. While the server is down nothing is lost:
    publishers get errors, and events that were not acknowledged are delivered after its restart. A
    message is in the volume's file system when it is acknowledged; a machine that loses power may
    lose the most recent ones, since the file system is not flushed (fsync) for each.
    """

    reach: Reach
    """How clients reach it, with their credentials. Clients wait until the streams exist."""
    endpoint: pulumi.Output[str]
    """``host:port`` for clients, from anywhere in the cluster."""
    monitoring: Reach
    """How its monitoring port is reached."""
    server: Singleton
    """The server."""

    def __init__(
        self, name: str, args: EventBusArgs, opts: pulumi.ResourceOptions | None = None
    ) -> None:
        """Register the bus.

        :param name: a DNS label of at most 52 characters, unique in its namespace, that does not end
            as replicas' do (-0, -r1)
        :raises InputError: an invalid argument, before anything is registered
        """
        where = f'EventBus "{name}"'
        args = _checked(where, args)
        plan = _Plan(name, args)
        Singleton.validate(where, name, plan.server({_USERS: ""}))
        Task.validate(where, plan.setup_name, plan.setup(_NOT_YET))
        super().__init__("dds:index:EventBus", name, {"image": args["image"]}, opts)
        own = pulumi.ResourceOptions(parent=self)
        passwords = {
            user: given(args[argument])  # type: ignore[literal-required]
            if argument in args
            else rotated(f"{name}-{user}", args["rotation"], own)
            for user, argument in _PASSWORDS.items()
        }
        users = pulumi.Output.all(*(_logins(user, passwords[user]) for user in _PASSWORDS)).apply(
            lambda known: users_conf(*known)
        )
        self.server = Singleton(name, plan.server({_USERS: users}), own)
        hosting = args["hosting"]
        service = Service(
            f"{name}-client",
            metadata={
                **object_metadata(
                    plan.selector, hosting, annotations=hosting["service_annotations"]
                ),
                "name": f"{name}-client",
            },
            spec={
                "selector": plan.selector,
                "ports": [{"name": "client", "port": CLIENT_PORT, "target_port": CLIENT_PORT}],
            },
            # It has endpoints as soon as the server is ready, and the Singleton waits for that.
            opts=pulumi.ResourceOptions(parent=self, depends_on=[self.server]),
        )
        admins = service_reach(
            name,
            [service],
            CLIENT_PORT,
            pods=plan.selector,
            app_protocol="nats",
            credentials=_credentials(_ADMIN, passwords[_ADMIN]),
            depends_on=(self.server.application.stateful_set, service),
        )
        setup = Task(plan.setup_name, plan.setup(admins), own)
        self.reach = dataclasses.replace(
            admins,
            credentials=_credentials(_USER, passwords[_USER]),
            depends_on=(*admins.depends_on, setup.job),
        )
        self.monitoring = self.server.port("monitor")
        self.endpoint = self.reach.endpoint
        self.register_outputs({"endpoint": self.endpoint})

    @staticmethod
    def client(
        image: pulumi.Input[str], command: str, bus: Reach, where: str = "EventBus.client"
    ) -> PodArgs:
        """Arguments of a pod that runs a program of the image ``events`` as a client of a bus.

        :param bus: a bus' ``reach``
        :param where: the component that it is for, in messages
        :raises InputError: a bus without credentials
        """
        credentials = bus.credentials
        if credentials is None or not credentials.username:
            raise InputError(
                where, "bus.credentials", credentials,
                "must be given, with a username, as in the reach of an EventBus",
            )  # fmt: skip
        return {
            "image": image,
            "application": "events",
            "component": command,
            "command": ["python3", "-m", "events", command],
            "env": {"BUS": bus.endpoint, "BUS_USER": credentials.username},
            "secret_files": {PASSWORD_FILE: credentials.password},
            "reaches": [bus],
        }


def _logins(user: str, password: Rotated) -> pulumi.Output[dict[str, str]]:
    """Passwords by the names of the user, the current one first."""
    return pulumi.Output.all(password.logins(user), password.accepted).apply(
        lambda known: dict(zip(known[0], known[1], strict=True))
    )


def _credentials(user: str, password: Rotated) -> Credentials:
    return Credentials(password.value, password.login(user))


def users_conf(clients: Mapping[str, str], admins: Mapping[str, str]) -> str:
    """The secret part of the configuration: users and their permissions.

    :param clients: passwords by user
    :param admins: the same of users with all permissions
    """
    allowed = "\n".join(f'          "{subject}"' for subject in _CLIENT_MAY)
    users = [f'    {{ user: "{user}", password: "{word}" }}\n' for user, word in admins.items()]
    users += [
        f"""\
    {{
      user: "{user}", password: "{word}"
      permissions {{
        publish {{ allow: [
{allowed}
        ] }}
        subscribe {{ allow: ["_INBOX.>"] }}
      }}
    }}
"""
        for user, word in clients.items()
    ]
    return f"""\
# Users of the bus. Generated.
authorization {{
  timeout: 3
  users: [
{"".join(users)}  ]
}}
"""


def _stored_mib(args: EventBusArgs) -> int:
    buckets = sum(bucket["size_mib"] for bucket in args["buckets"])
    # Space for events that steps pass on when publishers are refused (rules.room of the program).
    room = max(-(-args["events_mib"] // 4), 1)
    return args["events_mib"] + room + args["dead_mib"] + args["records_mib"] + buckets


def _nats_conf(name: str, args: EventBusArgs) -> str:
    """The server's configuration, without its users."""
    return f"""\
# NATS with JetStream. Generated.
server_name: "{name}"
listen: "0.0.0.0:{CLIENT_PORT}"
# Health and statistics; the NetworkPolicy lets in who is named.
http: "0.0.0.0:{MONITOR_PORT}"
max_payload: 1MB
jetstream {{
  store_dir: "{_DATA}"
  # Everything is on the volume.
  max_memory_store: 1MB
  max_file_store: {_stored_mib(args)}MB
}}
# Relative to this file.
include "../nats-users/users.conf"
"""


def _setup_json(args: EventBusArgs) -> str:
    """The streams and buckets to create."""
    plan = {key: value for key, value in args.items() if key in _PLANNED}
    plan["buckets"] = [
        {"name": bucket["name"], "seconds": bucket["ttl_seconds"], "mb": bucket["size_mib"]}
        for bucket in args["buckets"]
    ]
    return json.dumps(plan, indent=1)


@dataclasses.dataclass(frozen=True)
class _Plan:
    """The workloads of one bus, from its checked arguments."""

    name: str
    args: EventBusArgs

    @property
    def selector(self) -> dict[str, str]:
        return pod_labels.selector("nats", self.name, "bus")

    @property
    def setup_name(self) -> str:
        return child(self.name, "streams", limit=LONGEST_TASK)

    def server(self, secret_files: Mapping[str, pulumi.Input[str]]) -> SingletonArgs:
        """NATS itself."""
        args = self.args
        return {
            "image": args["image"],
            "application": "nats",
            "component": "bus",
            "command": ["nats-server", "--config", _CONFIG],
            "files": {_CONFIG: _nats_conf(self.name, args)},
            "secret_files": secret_files,
            "storage_path": _DATA,
            "ports": [
                {"name": "client", "port": CLIENT_PORT, "app_protocol": "nats"},
                {
                    "name": "monitor",
                    "port": MONITOR_PORT,
                    "app_protocol": "http",
                    "clients": args["metrics_clients"],
                },
            ],
            "clients": args["clients"],
            # Ready when its streams are loaded; alive while JetStream answers.
            "startup": {"path": "/healthz", "port": "monitor", "failure_threshold": 300},
            "readiness": {"path": "/healthz", "port": "monitor", "period_seconds": 3},
            "liveness": {"path": "/healthz?js-server-only=true", "port": "monitor"},
            "termination_grace_period_seconds": 20,
            "hosting": args["hosting"],
        }

    def setup(self, reach: Reach) -> TaskArgs:
        """The Job that creates the streams."""
        return {
            **EventBus.client(self.args["tools_image"], "setup", reach),  # type: ignore[typeddict-item]
            "files": {_PLAN: _setup_json(self.args)},
            "timeout_seconds": 180,
            "hosting": narrowed(self.args["hosting"], PodHosting, without=("resources",)),
        }


def _checked(where: str, args: EventBusArgs) -> EventBusArgs:
    args = resolved(where, EventBusArgs, args)
    check_rotation(where, args["rotation"], generated=not {*_PASSWORDS.values()} <= {*args})
    hosting = with_resources(
        where,
        args["hosting"],
        requests={"cpu": "50m", "memory": "256Mi"},
        limits={"memory": "256Mi"},
    )
    args["hosting"] = with_storage(
        where, hosting, _stored_mib(args), "the maximum size of the streams"
    )
    return args
