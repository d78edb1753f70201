"""EtcdCluster: the consistent store that ownership is kept in (chapter 9).

Members are StatefulSet pods with a volume each. Before etcd starts, a small program of the project
(``images/etcd``) completes its configuration and brings an empty volume into the cluster: as a
member of a new cluster if all are empty, as a replacement if others have data.
"""

import dataclasses

import pulumi

from components.arguments import InputError, resolved
from components.platform.generated import Password
from components.serving.etcd_plan import (
    NO_KEYS,
    ROOT_PASSWORD,
    SCHEDULED_LIMIT,
    TASK_LIMIT,
    EtcdKeys,
    EtcdPlan,
    member_urls,
)
from components.serving.etcd_settings import (
    CLIENT_PORT,
    PEER_PORT,
    EtcdClusterArgs,
    UserArgs,
    complete,
)
from components.values.metrics import ScrapeJob
from components.values.names import child
from components.values.reach import Credentials, Reach
from components.workloads.application import Application
from components.workloads.scheduled import ScheduledTask
from components.workloads.service_reach import service_reach
from components.workloads.stateful import (
    StatefulApplication,
    replica_services,
)
from components.workloads.task import Task


class EtcdCluster(pulumi.ComponentResource):
    """Members of an etcd cluster with TLS, users, upkeep and a way back.

    Registers a StatefulSet with volumes and all that belongs to it (with a PodDisruptionBudget that
    takes one member at a time), a Service with an address of its own for each member, two
    authorities with their certificates, a Job that enables authentication, a CronJob for
    defragmentation, and one for snapshots if they are wanted. The update is done when
    authentication is on.
    """

    reach: Reach
    """How clients reach the members, by TLS. ``user`` gives the same with credentials."""
    job: ScrapeJob
    """What Prometheus scrapes the members with."""
    application: StatefulApplication
    """The members."""
    root_password: pulumi.Output[str]
    """Password of the user ``root``; a secret."""
    snapshot: ScheduledTask | None
    """What takes snapshots, if they are wanted."""
    defragmentation: ScheduledTask
    """What defragments."""

    def __init__(
        self, name: str, args: EtcdClusterArgs, opts: pulumi.ResourceOptions | None = None
    ) -> None:
        """Register the cluster.

        :param name: a DNS label of at most 52 characters, unique in its namespace, that does not end
            in a dash and digits
        :raises InputError: an argument that cannot be right, before anything is registered
        """
        where = f'EtcdCluster "{name}"'
        args = complete(where, name, args)
        plan = EtcdPlan(name, args)
        StatefulApplication.validate(where, name, plan.members(NO_KEYS, "", None))
        super().__init__(
            "dds:index:EtcdCluster",
            name,
            {"image": args["image"], "members": args["members"]},
            opts,
        )
        self._plan = plan
        self._users: set[str] = set()
        own = pulumi.ResourceOptions(parent=self)
        services = replica_services(
            name,
            args["members"],
            selector=plan.selector,
            ports={"client": CLIENT_PORT, "peer": PEER_PORT},
            hosting=args["hosting"],
            # Members find each other before any of them is ready.
            not_ready=True,
            opts=own,
        )
        keys = EtcdKeys.made(plan, services[0].metadata["namespace"], args.get("authority"), own)
        self.root_password = pulumi.Output.secret(
            args["root_password"]
            if "root_password" in args
            else Password(f"{name}-root", {}, own).value
        )
        snapshot: Reach | None = None
        if "restore" in args:
            server = Application(plan.restore_name, plan.restore_server(args["restore"], keys), own)
            snapshot = server.reach
        self.application = StatefulApplication(
            name,
            plan.members(
                keys.files() | {ROOT_PASSWORD: self.root_password}, keys.created, snapshot
            ),
            pulumi.ResourceOptions(parent=self, depends_on=services),
        )
        # What waited for a member to be ready would never see why it is not.
        self.job = ScrapeJob(
            name, dataclasses.replace(self.application.port("metrics"), depends_on=())
        )
        self._members = service_reach(
            name,
            services,
            CLIENT_PORT,
            pods=plan.selector,
            app_protocol="etcd",
            authority=keys.client["ca.crt"],
            depends_on=(self.application.stateful_set, *services),
        )
        enabled = Task(
            child(name, "access", limit=TASK_LIMIT),
            plan.access(self._members, self.root_password, {}),
            own,
        )
        self.reach = dataclasses.replace(
            self._members, depends_on=(*self._members.depends_on, enabled.job)
        )
        self.defragmentation = ScheduledTask(
            child(name, "defragment", limit=SCHEDULED_LIMIT),
            plan.defragment(self._members, self.root_password),
            own,
        )
        self.snapshot = None
        if "snapshots" in args:
            self.snapshot = ScheduledTask(
                child(name, "snapshot", limit=SCHEDULED_LIMIT),
                plan.snapshot(args["snapshots"], self._members, self.root_password),
                own,
            )
        self.register_outputs({"endpoints": member_urls(self._members)})

    def user(self, name: str, prefix: str) -> Reach:
        """Register a user that may read and write the keys with a prefix, and no others.

        A Job creates it, or gives it another prefix, without anybody's doing.

        :param name: from 1 to 32 lower-case letters, digits and dashes, not ``root``
        :param prefix: beginning of the keys, such as ``/shop/``
        :returns: how it reaches the members: with its credentials, the prefix as ``path``, and ready
            when the user is there
        :raises InputError: for a name that is there already, or a bad name or prefix
        """
        where = f'{self._plan.where}, user "{name}"'
        resolved(where, UserArgs, {"name": name, "prefix": prefix})
        if name in self._users:
            raise InputError(where, "name", name, "must be unique, it stands twice")
        self._users.add(name)
        resource = child(self._plan.name, f"user-{name}", limit=TASK_LIMIT)
        password = Password(resource, {}, pulumi.ResourceOptions(parent=self)).value
        task = Task(
            resource,
            self._plan.access(self.reach, self.root_password, {name: (prefix, password)}),
            pulumi.ResourceOptions(parent=self),
        )
        return dataclasses.replace(
            self.reach,
            path=prefix,
            credentials=Credentials(password, name),
            depends_on=(*self.reach.depends_on, task.job),
        )
