"""EtcdCluster: the consistent store that ownership is kept in (chapter 9).

Members are StatefulSet pods with a volume each. Before etcd starts, a small program of the project
(``images/etcd``) completes its configuration and brings an empty volume into the cluster: as a
member of a new cluster if all are empty, as a replacement if others have data.
"""

import dataclasses

import pulumi

from components.arguments import InputError, nearest
from components.serving.etcd_plan import (
    NO_KEYS,
    SCHEDULED_LIMIT,
    TASK_LIMIT,
    EtcdKeys,
    EtcdPasswords,
    EtcdPlan,
    member_urls,
)
from components.serving.etcd_settings import CLIENT_PORT, PEER_PORT, EtcdClusterArgs, complete
from components.values.metrics import ScrapeJob
from components.values.names import child
from components.values.reach import Credentials, Reach
from components.workloads.application import Application
from components.workloads.scheduled import ScheduledTask
from components.workloads.service_reach import service_reach
from components.workloads.serving import service_port
from components.workloads.stateful import StatefulApplication, replica_services
from components.workloads.task import Task


class EtcdCluster(pulumi.ComponentResource):
    """Members of an etcd cluster with TLS, users, upkeep and a way back.

    Registers a StatefulSet with volumes and all that belongs to it (with a PodDisruptionBudget that
    takes one member at a time), a Service with an address of its own for each member, two
    authorities with their certificates, a Job that enables authentication and makes the users what
    is declared, a CronJob for defragmentation, and one for snapshots if they are wanted. The update
    is done when authentication is on and the users are there.
    """

    reach: Reach
    """How clients reach the members, by TLS. ``user`` gives the same with a user's credentials."""
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
            as replicas' do (-0, -r1)
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
        own = pulumi.ResourceOptions(parent=self)
        services = replica_services(
            name,
            args["members"],
            labels=plan.selector,
            selector=plan.selector,
            ports=[service_port("client", CLIENT_PORT), service_port("peer", PEER_PORT)],
            hosting=args["hosting"],
            # Members find each other before any of them is ready.
            not_ready=True,
            opts=own,
        )
        keys = EtcdKeys.made(plan, services[0].metadata["namespace"], own)
        passwords = EtcdPasswords.made(plan, own)
        self.root_password = passwords.root
        snapshot: Reach | None = None
        if "restore" in args:
            server = Application(
                child(name, "restore", limit=TASK_LIMIT),
                plan.restore_server(args["restore"], keys),
                own,
            )
            snapshot = server.reach
        self.application = StatefulApplication(
            name,
            plan.members({**keys.member, **passwords.root_file()}, keys.created, snapshot),
            pulumi.ResourceOptions(parent=self, depends_on=services),
        )
        # What waited for a member to be ready would never see why it is not.
        self.job = ScrapeJob(
            name, dataclasses.replace(self.application.port("metrics"), depends_on=())
        )
        members = service_reach(
            name,
            services,
            CLIENT_PORT,
            pods=plan.selector,
            app_protocol="etcd",
            authority=keys.authority,
            depends_on=(self.application.stateful_set, *services),
        )
        self.defragmentation = ScheduledTask(
            child(name, "defragment", limit=SCHEDULED_LIMIT),
            plan.defragment(members, passwords),
            own,
        )
        self.snapshot = None
        if "snapshots" in args:
            self.snapshot = ScheduledTask(
                child(name, "snapshot", limit=SCHEDULED_LIMIT),
                plan.snapshot(args["snapshots"], members, passwords),
                own,
            )
        # Whatever logs in as root knows the other password before it is set.
        crons = [task.cron_job for task in (self.defragmentation, self.snapshot) if task]
        first = dataclasses.replace(members, depends_on=(*members.depends_on, *crons))
        access = Task(child(name, "access", limit=TASK_LIMIT), plan.access(first, passwords), own)
        self.reach = dataclasses.replace(members, depends_on=(*members.depends_on, access.job))
        # Credentials come from the passwords and not from the Job, which may be replaced: what has
        # them is then no other in a preview.
        self._users = {
            user.name: dataclasses.replace(
                self.reach,
                path=user.prefix,
                credentials=Credentials(user.password.value, user.password.login(user.name)),
            )
            for user in passwords.users.values()
        }
        self._where = where
        self.register_outputs({"endpoints": member_urls(members)})

    def user(self, name: str) -> Reach:
        """How one of ``users`` reaches the members.

        :returns: with its credentials, its prefix as ``path``, and ready when the user is there
        :raises InputError: for a name that is not declared
        """
        if name not in self._users:
            raise InputError(
                self._where, "name", name, f"must be one of users: {nearest(name, self._users)}"
            )
        return self._users[name]
