"""Application: a Deployment with all that belongs to it."""

from typing import Annotated, NotRequired

import pulumi
from pulumi_kubernetes.apps.v1 import (
    Deployment,
    DeploymentSpecArgsDict,
    DeploymentStrategyArgsDict,
)
from pulumi_kubernetes.core.v1 import Service

from components.arguments import Default, DefaultsTo, one_of, resolved
from components.values.names import AUTONAME
from components.values.reach import Reach
from components.workloads.arguments import ServingArgs
from components.workloads.pod import make_pod_resources
from components.workloads.serving import NOT_AWAITED, Reaches, ServingPlan, plan_serving

# The ReplicaSet and the pod add to the Deployment's name, but are not bound to a label's length.
_RESERVE = AUTONAME
ROLLOUTS = ("rolling", "recreate")


class ApplicationArgs(ServingArgs):
    """Arguments of Application."""

    autoscaled: NotRequired[Annotated[bool, Default(False)]]
    """Whether a HorizontalPodAutoscaler owns the number of replicas, which is then left out.
    ``replicas`` is the most that it makes."""
    rollout: NotRequired[
        Annotated[
            str,
            one_of(*ROLLOUTS),
            DefaultsTo(
                "``recreate`` with a PersistentVolumeClaim among the volumes, also of companions, "
                "otherwise ``rolling``"
            ),
        ]
    ]
    """How an update replaces the pods. ``rolling``: an old one goes when a new one is ready.
    ``recreate``: all old ones end before the first new one starts, and nobody answers meanwhile. A
    claim that one node mounts at a time (ReadWriteOnce) would keep a new pod waiting for the old one
    for ever; with one that all nodes mount, ``rolling`` is right."""


class Application(pulumi.ComponentResource):
    """A stateless program: replicas that are all alike, behind one Service.

    Registers a Deployment, a ServiceAccount and a NetworkPolicy that lets nothing through but what
    is declared; one more for each thing that it reaches, which lets it in there; a Service if there
    are ports; a PodDisruptionBudget from two replicas on.
    """

    labels: dict[str, str]
    """Labels that select the pods."""
    deployment: Deployment
    """The Deployment."""
    service: Service | None
    """The Service, if there are ports."""
    endpoint: pulumi.Output[str] | None
    """``host:port`` of the Service's first port, from anywhere in the cluster."""

    def __init__(
        self, name: str, args: ApplicationArgs, opts: pulumi.ResourceOptions | None = None
    ) -> None:
        """Register the application.

        :param name: a DNS label of at most 54 characters
        :raises InputError: an argument that cannot be right, before anything is registered
        """
        args, plan = _plan(name, args, f'Application "{name}"')
        autoscaled = args["autoscaled"]
        super().__init__(
            "dds:index:Application",
            name,
            {"image": args["image"], **({} if autoscaled else {"replicas": plan.replicas})},
            opts,
        )
        child = pulumi.ResourceOptions(parent=self)
        self.labels = dict(plan.pod.selector)
        self.service = None
        self.endpoint = None
        if plan.exposed:
            self.service = Service(
                name,
                metadata={**plan.pod.metadata(), "annotations": NOT_AWAITED},
                spec={
                    "type": "ClusterIP",
                    "selector": dict(plan.pod.selector),
                    "ports": plan.service_ports(),
                },
                opts=child,
            )
        resources = make_pod_resources(plan.pod, self)
        plan.disruption_budget(child)
        spec: DeploymentSpecArgsDict = {
            "selector": {"match_labels": dict(plan.pod.selector)},
            "strategy": _strategy(args),
            "template": resources.template,
        }
        if not autoscaled:
            spec["replicas"] = plan.replicas
        self.deployment = Deployment(
            name,
            metadata=plan.pod.metadata(),
            spec=spec,
            opts=pulumi.ResourceOptions(
                parent=self,
                depends_on=[*resources.dependencies],
                custom_timeouts=plan.timeouts(),
            ),
        )
        self._reaches = Reaches(plan.pod.where, {})
        if self.service is not None:
            self._reaches = plan.reaches(self.service, (self.deployment,))
            # What uses it comes after the pods, which are ready then.
            self.endpoint = pulumi.Output.all(
                self.reach.endpoint, self.deployment.metadata["name"]
            ).apply(lambda known: str(known[0]))
        self.register_outputs({"labels": self.labels, "endpoint": self.endpoint})

    @property
    def reach(self) -> Reach:
        """How clients reach the Service's first port; InputError without any."""
        return self._reaches.first()

    def port(self, name: str) -> Reach:
        """The same for another port of the Service, by its name."""
        return self._reaches.named(name)

    @staticmethod
    def validate(where: str, name: str, args: ApplicationArgs) -> None:
        """Check the arguments for a component that is made of an Application.

        :param where: that component, so that messages name it
        """
        _plan(name, args, where)


def _strategy(args: ApplicationArgs) -> DeploymentStrategyArgsDict:
    volumes = [*args["volumes"], *(v for each in args["companions"] for v in each.volumes)]
    claims = any("persistent_volume_claim" in volume for volume in volumes)
    if args.get("rollout", "recreate" if claims else "rolling") == "recreate":
        return {"type": "Recreate"}
    # A new pod is ready before an old one goes.
    return {"type": "RollingUpdate", "rolling_update": {"max_unavailable": 0, "max_surge": 1}}


def _plan(name: str, args: ApplicationArgs, where: str) -> tuple[ApplicationArgs, ServingPlan]:
    args = resolved(where, ApplicationArgs, args)
    return args, plan_serving(
        where,
        name,
        args,
        component="application",
        reserve=_RESERVE,
        autoscaled=args["autoscaled"],
    )
