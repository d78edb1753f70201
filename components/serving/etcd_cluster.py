"""EtcdCluster: the consistent store that ownership is kept in (chapter 9).

Members are StatefulSet pods with a volume each. Before etcd starts, a small program of the project
(``images/etcd``) completes its configuration and brings an empty volume into the cluster: as a
member of a new cluster if all are empty, as a replacement if others have data.
"""

import pulumi

from components.arguments import InputError
from components.arguments.declared import arguments_of
from components.arguments.engine import resolve
from components.arguments.place import Place
from components.platform.generated import Password
from components.serving.etcd_plan import (
    NO_KEYS,
    ROOT_PASSWORD,
    SCHEDULED_LIMIT,
    TASK_LIMIT,
    EtcdKeys,
    EtcdPlan,
)
from components.serving.etcd_settings import (
    CLIENT_PORT,
    PEER_PORT,
    EtcdClusterArgs,
    complete,
)
from components.values.etcd import EtcdTopology, EtcdUser
from components.values.names import child
from components.workloads.application import Application
from components.workloads.scheduled import ScheduledTask
from components.workloads.stateful import StatefulApplication, replica_services
from components.workloads.task import Task


class EtcdCluster(pulumi.ComponentResource):
    """Members of an etcd cluster with TLS, users, upkeep and a way back.

    Registers a StatefulSet with volumes and all that belongs to it (a NetworkPolicy that lets in
    pods with the client label only; a PodDisruptionBudget that takes one member at a time), a
    Service with an address of its own for each member, two authorities with their certificates, a Job that enables authentication, a CronJob for
    defragmentation, and one for snapshots if they are wanted. The update is done when
    authentication is on.
    """

    topology: EtcdTopology
    """Where the members are, for clients."""
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

        :param name: a DNS label of at most 49 characters, unique in its namespace
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
        keys = EtcdKeys.made(name, plan, args.get("authority"), own)
        self.root_password = pulumi.Output.secret(
            args["root_password"]
            if "root_password" in args
            else Password(f"{name}-root", {}, own).value
        )
        self.topology = EtcdTopology(
            name=name,
            endpoints=plan.endpoints,
            authority=keys.client["ca.crt"],
            client_label=plan.client_label,
            server_labels=plan.selector,
            port=CLIENT_PORT,
        )
        before: list[pulumi.Resource] = [
            *replica_services(
                name,
                args["members"],
                selector=plan.selector,
                ports={"client": CLIENT_PORT, "peer": PEER_PORT},
                namespace=args.get("namespace"),
                # Members find each other before any of them is ready.
                not_ready=True,
                opts=own,
            )
        ]
        restore_host: pulumi.Input[str] | None = None
        if "restore" in args:
            server = Application(plan.restore_name, plan.restore_server(args["restore"], keys), own)
            before.append(server)
            endpoint = pulumi.Output.from_input(server.endpoint)
            restore_host = endpoint.apply(lambda known: str(known).partition(":")[0])
        secret_files = keys.files() | {ROOT_PASSWORD: self.root_password}
        self.application = StatefulApplication(
            name,
            plan.members(secret_files, keys.created, restore_host),
            pulumi.ResourceOptions(parent=self, depends_on=before),
        )
        ready = pulumi.ResourceOptions(parent=self, depends_on=[self.application])
        self._access = ready
        self._enabled = Task(
            child(name, "access", limit=TASK_LIMIT),
            plan.access(self.topology, self.root_password, {}),
            ready,
        )
        self.defragmentation = ScheduledTask(
            child(name, "defragment", limit=SCHEDULED_LIMIT),
            plan.defragment(self.topology, self.root_password),
            ready,
        )
        self.snapshot = None
        if "snapshots" in args:
            self.snapshot = ScheduledTask(
                child(name, "snapshot", limit=SCHEDULED_LIMIT),
                plan.snapshot(args["snapshots"], self.topology, self.root_password),
                ready,
            )
        self.register_outputs({"endpoints": list(plan.endpoints)})

    def user(self, name: str, prefix: str) -> EtcdUser:
        """Register a user that may read and write the keys with a prefix, and no others.

        A Job creates it, or gives it another prefix, without anybody's doing.

        :param name: as EtcdUser says
        :param prefix: beginning of the keys, such as ``/shop/``
        :raises InputError: for a name that is there already, or a bad name or prefix
        """
        where = f'{self._plan.where}, user "{name}"'
        declared = arguments_of(EtcdUser)
        resolve(Place(where, "name"), declared["username"], name)
        resolve(Place(where, "prefix"), declared["prefix"], prefix)
        if name in self._users:
            raise InputError(where, "name", name, "must be unique, it stands twice")
        self._users.add(name)
        own = pulumi.ResourceOptions(parent=self)
        resource = child(self._plan.name, f"user-{name}", limit=TASK_LIMIT)
        password = Password(resource, {}, own)
        task = Task(
            resource,
            self._plan.access(self.topology, self.root_password, {name: (prefix, password.value)}),
            pulumi.ResourceOptions(parent=self, depends_on=[self.application, self._enabled]),
        )
        # Known when the Job is done, so that what uses it waits for the user.
        there = pulumi.Output.all(password.value, task.job.id).apply(lambda known: str(known[0]))
        return EtcdUser(name, pulumi.Output.secret(there), prefix)
