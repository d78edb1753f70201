"""EventBus: events that are kept until they are delivered (chapter 8).

The bus is NATS with JetStream: streams on a volume. A Job with the project's own program
(``images/events``) makes them. Who takes events from them is a ``Subscriber``.
"""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from typing import Annotated, NotRequired, TypedDict

import pulumi
from pulumi_kubernetes.core.v1 import Service

from components.arguments import (
    Default,
    DefaultsTo,
    InputError,
    Later,
    Secret,
    between,
    matching,
    resolved,
)
from components.arguments.constraints import Constraint, password
from components.arguments.images import Image
from components.platform.generated import Rotated, RotationArgs, check_rotation, given, rotated
from components.pods import labels as pod_labels
from components.pods.hosting import (
    PodHosting,
    SingletonHosting,
    narrowed,
    object_metadata,
    with_resources,
    with_storage,
)
from components.serving.singleton import Singleton, SingletonArgs
from components.values.names import child
from components.values.peers import Clients
from components.values.reach import Credentials, Reach
from components.workloads.arguments import PodArgs
from components.workloads.service_reach import service_reach
from components.workloads.task import Task, TaskArgs

CLIENT_PORT, MONITOR_PORT = 4222, 8222
PASSWORD_FILE = "/etc/events-bus/password"  # noqa: S105 (a path)
"""Where the project's programs look for the password."""

_DATA = "/data"
_CONFIG = "/etc/nats/nats.conf"
_USERS = "/etc/nats-users/users.conf"
_PLAN = "/etc/events/setup.json"
_TASK_LIMIT = 48
_USER, _ADMIN = "client", "admin"
_PASSWORDS = {_USER: "password", _ADMIN: "admin_password"}
# Stands for the server, which is made only after the arguments are checked.
_NOT_YET = dataclasses.replace(
    Reach.local(CLIENT_PORT, app_protocol="nats"), credentials=Credentials("not-known-yet", _ADMIN)
)
_PLANNED = (
    "events_mb", "keep_hours", "dead_mb", "keep_dead_hours", "records_mb", "duplicate_seconds",
)  # fmt: skip
_YEAR_SECONDS = 365 * 24 * 3600

# What a client may do: publish, take and acknowledge, look at what is stored, make and delete places
# to take from. Not make, change or empty a stream.
_CLIENT_MAY = (
    "events.>", "records.>", "dead.>", "$KV.>", "$JS.ACK.>",
    "$JS.API.INFO", "$JS.API.STREAM.INFO.*", "$JS.API.STREAM.MSG.GET.*", "$JS.API.DIRECT.GET.>",
    "$JS.API.CONSUMER.CREATE.>", "$JS.API.CONSUMER.DURABLE.CREATE.>", "$JS.API.CONSUMER.INFO.>",
    "$JS.API.CONSUMER.MSG.NEXT.>", "$JS.API.CONSUMER.LIST.events",
    # A subscriber deletes the place of a subscription that it has no more.
    "$JS.API.CONSUMER.DELETE.events.>",
)  # fmt: skip


_Password = Annotated[str, password(16)]
_Megabytes = Annotated[int, between(1, 1_048_576)]
_Hours = Annotated[int, between(1, 8760)]


class BucketArgs(TypedDict):
    """Keys with values that end by themselves, for services that need a small store."""

    name: Annotated[
        str,
        matching(
            r"[a-z0-9][-a-z0-9]*",
            "lower-case letters, digits and dashes, such as codes",
            most=32,
            odd=("Codes", "-a", "a.b", "a_b", "a>", "a\n"),
        ),
    ]
    """What clients call it."""
    seconds: Annotated[int, between(1, _YEAR_SECONDS)]
    """Seconds for which a value is kept."""
    size_mb: NotRequired[Annotated[_Megabytes, Default(16)]]
    """Most that it takes in MiB."""


class EventBusArgs(TypedDict):
    """Arguments of EventBus."""

    image: Later[Image]
    """Image with nats-server, the project's ``nats`` or the upstream one; proven with 2.15. Not 2.9.10,
    which after a restart delivers an event that waits for another try twice, or not at all."""
    tools_image: Later[Image]
    """The project's image ``events``, which makes the streams."""
    events_mb: NotRequired[Annotated[_Megabytes, Default(256)]]
    """Most that published events take in MiB. When it is reached, publishing is refused until some
    are delivered; nothing is overwritten. A quarter more, at least 1 MiB, is kept for what steps
    pass on."""
    keep_hours: NotRequired[Annotated[_Hours, Default(72)]]
    """Hours for which the records of an event's way are kept, and the event itself until every
    subscription has acknowledged it: no step may be away for longer."""
    dead_mb: NotRequired[Annotated[_Megabytes, Default(64)]]
    """Most that dead letters take in MiB. When it is reached, an event that cannot be delivered
    stays where it is and is tried again."""
    keep_dead_hours: NotRequired[Annotated[_Hours, Default(720)]]
    """Hours for which a dead letter is kept."""
    records_mb: NotRequired[Annotated[_Megabytes, Default(64)]]
    """Most that the records of steps take in MiB; the oldest go first."""
    duplicate_seconds: NotRequired[Annotated[int, between(1, 3600), Default(600)]]
    """Seconds within which an event that is published again with the same id is known."""
    buckets: NotRequired[
        Annotated[
            Sequence[BucketArgs],
            Constraint(
                "buckets of different names",
                lambda buckets: len({bucket["name"] for bucket in buckets}) == len(buckets),
                ([{"name": "a", "seconds": 1}, {"name": "a", "seconds": 2}],),
            ),
            Default(()),
        ]
    ]
    """Buckets of keys and values."""
    password: NotRequired[Annotated[Secret[_Password], DefaultsTo("generated")]]
    """The clients' password. Another one is refused to those that have not been replaced yet."""
    admin_password: NotRequired[Annotated[Secret[_Password], DefaultsTo("generated")]]
    """The administrator's."""
    rotation: NotRequired[Annotated[RotationArgs, Default({})]]
    """When generated passwords are replaced. Users of another generation have other names, so that
    those of the former one go on."""
    clients: NotRequired[Clients]
    """Who may connect, beside what has ``reach`` among its ``reaches``; ``{}`` is every pod of the
    namespace."""
    metrics_clients: NotRequired[Clients]
    """Who may ask the monitoring port, 8222, which answers in JSON (``/varz``, ``/jsz``), beside
    what has ``monitoring`` among its ``reaches``; ``{}`` is every pod of the namespace."""
    hosting: NotRequired[Annotated[SingletonHosting, Default({})]]
    """Namespace, labels, nodes and resources, of which default requests are cpu 50m and memory 256Mi,
    and the default limit of memory is 256Mi. ``storage.size`` is at least what the streams may take.
    ``resources`` and ``storage`` are those of the server."""


class EventBus(pulumi.ComponentResource):
    """A server with three streams: events, dead letters, and records of what steps did.

    Registers a StatefulSet of one replica with a volume and all that belongs to it, a Service with
    an address that stays, two passwords (the clients', who cannot change or empty a stream, and the
    administrator's), and a Job that makes the streams. While the server is away nothing is lost:
    publishing is refused, and what was not acknowledged is delivered when it is back. A message is
    in the volume's file system when it is acknowledged; a machine that loses power may lose the last
    moments, as it does with any file that is not flushed.
    """

    reach: Reach
    """How clients reach it, with the user that they log in as. The streams are there first."""
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
        :raises InputError: an argument that cannot be right, before anything is registered
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
            # It has an address as soon as the server is ready, which is waited for there.
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
        self.register_outputs({"server": self.reach.endpoint})


def _logins(user: str, password: Rotated) -> pulumi.Output[dict[str, str]]:
    """Passwords by the names of the user, the present one first."""
    return pulumi.Output.all(password.logins(user), password.accepted).apply(
        lambda known: dict(zip(known[0], known[1], strict=True))
    )


def _credentials(user: str, password: Rotated) -> Credentials:
    return Credentials(password.value, password.login(user))


def users_conf(clients: Mapping[str, str], admins: Mapping[str, str]) -> str:
    """The part of the configuration that is secret: who may do what.

    :param clients: passwords by user
    :param admins: the same of those who may do everything
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


def _stored_mb(args: EventBusArgs) -> int:
    buckets = sum(bucket["size_mb"] for bucket in args["buckets"])
    # What is passed on finds room where publishing does not (rules.room of the program).
    room = max(-(-args["events_mb"] // 4), 1)
    return args["events_mb"] + room + args["dead_mb"] + args["records_mb"] + buckets


def _nats_conf(name: str, args: EventBusArgs) -> str:
    """The server's configuration, but for its users."""
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
  max_file_store: {_stored_mb(args)}MB
}}
# Relative to this file.
include "../nats-users/users.conf"
"""


def _setup_json(args: EventBusArgs) -> str:
    """What streams and buckets there are to be."""
    plan = {key: value for key, value in args.items() if key in _PLANNED}
    plan["buckets"] = [
        {"name": bucket["name"], "seconds": bucket["seconds"], "mb": bucket["size_mb"]}
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
        return child(self.name, "streams", limit=_TASK_LIMIT)

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
            # Ready when its streams are loaded; alive while its JetStream answers at all.
            "startup": {"path": "/healthz", "port": "monitor", "failure_threshold": 300},
            "readiness": {"path": "/healthz", "port": "monitor", "period_seconds": 3},
            "liveness": {"path": "/healthz?js-server-only=true", "port": "monitor"},
            "grace_seconds": 20,
            "hosting": args["hosting"],
        }

    def setup(self, reach: Reach) -> TaskArgs:
        """What makes the streams."""
        return {
            **bus_client(self.args["tools_image"], "setup", reach),  # type: ignore[typeddict-item]
            "files": {_PLAN: _setup_json(self.args)},
            "timeout_seconds": 180,
            "hosting": narrowed(self.args["hosting"], PodHosting, without=("resources",)),
        }


def bus_client(
    image: pulumi.Input[str], command: str, bus: Reach, where: str = "bus_client"
) -> PodArgs:
    """A pod that runs a program of the image ``events`` against a bus.

    :param where: the component that it is for, so that messages name it
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
        where, hosting, _stored_mb(args), "which is what the streams may take"
    )
    return args
