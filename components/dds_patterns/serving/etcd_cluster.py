"""EtcdCluster: the consistent store for leader election and locks (chapter 9).

Members are StatefulSet pods with a volume each. Before etcd starts, a small program of the project
(``images/etcd``) completes its configuration. A member with an empty volume joins: as a member of
a new cluster if all volumes are empty, as a replacement if others have data.
"""

import dataclasses

import pulumi

from dds_patterns.arguments import InputError, nearest
from dds_patterns.serving.etcd_plan import (
    NO_KEYS,
    EtcdKeys,
    EtcdPasswords,
    EtcdPlan,
)
from dds_patterns.serving.etcd_settings import CLIENT_PORT, PEER_PORT, EtcdClusterArgs, complete
from dds_patterns.values.metrics import ScrapeJob
from dds_patterns.values.names import child
from dds_patterns.values.reach import Credentials, Reach
from dds_patterns.workloads.application import Application
from dds_patterns.workloads.job import LONGEST_TASK
from dds_patterns.workloads.scheduled import LONGEST_SCHEDULED_TASK, ScheduledTask
from dds_patterns.workloads.service_reach import service_reach
from dds_patterns.workloads.serving import service_port
from dds_patterns.workloads.stateful import StatefulApplication, replica_services
from dds_patterns.workloads.task import Task


class EtcdCluster(pulumi.ComponentResource):
    """An etcd cluster with TLS, users, defragmentation, snapshots and restore.

    Registers a StatefulSet with volumes and all that belongs to it (with a PodDisruptionBudget that
    allows one eviction at a time), a Service with a stable address for each member, two
    certificate authorities with their certificates, a Job that enables authentication and reconciles
    the users, a CronJob for defragmentation, and one for snapshots if ``snapshots`` is given. The
    update is complete when authentication is enabled and the users exist.
    """

    reach: Reach
    """How clients reach the members, over TLS, without credentials."""
    users: dict[str, Reach]
    """How each declared user reaches the members, by its name: with its credentials and with its
    prefix as ``path``. Clients wait until the user exists."""
    endpoints: pulumi.Output[list[str]]
    """``host:port`` of each member, for clients."""
    job: ScrapeJob
    """The scrape job of the members."""
    application: StatefulApplication
    """The members."""
    root_password: pulumi.Output[str]
    """Password of the user ``root``; a secret."""
    snapshot: ScheduledTask | None
    """The CronJob that takes snapshots, if ``snapshots`` is given."""
    defragmentation: ScheduledTask
    """The CronJob that defragments."""

    def __init__(
        self, name: str, args: EtcdClusterArgs, opts: pulumi.ResourceOptions | None = None
    ) -> None:
        """Register the cluster.

        :param name: a DNS label of at most 52 characters, unique in its namespace, that does not end
            as replicas' do (-0, -r1)
        :raises InputError: an invalid argument, before anything is registered
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
                child(name, "restore", limit=LONGEST_TASK),
                plan.restore_server(args["restore"], keys),
                own,
            )
            snapshot = server.reach
        self.application = StatefulApplication(
            name,
            plan.members({**keys.member, **passwords.root_file()}, keys.created, snapshot),
            pulumi.ResourceOptions(parent=self, depends_on=services),
        )
        # Prometheus must not wait for ready members: its metrics show why one is not ready.
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
            child(name, "defragment", limit=LONGEST_SCHEDULED_TASK),
            plan.defragment(members, passwords),
            own,
        )
        self.snapshot = None
        if "snapshots" in args:
            self.snapshot = ScheduledTask(
                child(name, "snapshot", limit=LONGEST_SCHEDULED_TASK),
                plan.snapshot(args["snapshots"], members, passwords),
                own,
            )
        # Every pod that logs in as root has the new password before it is set.
        crons = [task.cron_job for task in (self.defragmentation, self.snapshot) if task]
        first = dataclasses.replace(members, depends_on=(*members.depends_on, *crons))
        access = Task(child(name, "access", limit=LONGEST_TASK), plan.access(first, passwords), own)
        self.reach = dataclasses.replace(members, depends_on=(*members.depends_on, access.job))
        # Credentials come from the passwords and not from the Job: a replaced Job then shows no
        # change of its clients in a preview.
        self.users = {
            user.name: dataclasses.replace(
                self.reach,
                path=user.prefix,
                credentials=Credentials(user.password.value, user.password.login(user.name)),
            )
            for user in passwords.users.values()
        }
        self._where = where
        self.endpoints = pulumi.Output.all(*self.reach.endpoints)
        self.register_outputs({"endpoints": self.endpoints, "root_password": self.root_password})

    def user(self, name: str) -> Reach:
        """One of ``users``; InputError, with the nearest name, for one that is not declared."""
        if name not in self.users:
            raise InputError(
                self._where, "name", name, f"must be one of users: {nearest(name, self.users)}"
            )
        return self.users[name]
