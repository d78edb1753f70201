"""Application: a Deployment with all that belongs to it."""

from typing import Annotated, NotRequired

import pulumi
from pulumi_kubernetes.apps.v1 import (
    Deployment,
    DeploymentSpecArgsDict,
    DeploymentStrategyArgsDict,
)
from pulumi_kubernetes.core.v1 import Service, ServiceSpecArgsDict

from dds_patterns.arguments import Default, resolved
from dds_patterns.arguments.place import Place
from dds_patterns.pods.hosting import ApplicationHosting, RolloutArgs
from dds_patterns.values.names import AUTONAME
from dds_patterns.workloads.arguments import ServingArgs
from dds_patterns.workloads.pod import make_pod_resources
from dds_patterns.workloads.serving import Served, ServingPlan, plan_serving

# The ReplicaSet and the pod add to the Deployment's name, but are not bound to a label's length.
_RESERVE = AUTONAME


class ApplicationArgs(ServingArgs):
    """Arguments of Application."""

    autoscaled: NotRequired[Annotated[bool, Default(False)]]
    """Whether a HorizontalPodAutoscaler sets the number of replicas, which is then left out of the
    Deployment. ``replicas`` is its maximum."""
    hosting: NotRequired[Annotated[ApplicationHosting, Default({})]]
    """Namespace, labels, nodes, resources, spread, Service and rollout."""


class Application(Served, pulumi.ComponentResource):
    """A stateless program: interchangeable replicas behind one Service.

    Registers a Deployment, a ServiceAccount and a NetworkPolicy that denies all connections but the
    declared ones; one more NetworkPolicy for each workload that it reaches, which allows its ingress
    there; a Service if there are ports; a PodDisruptionBudget from two replicas on.
    """

    deployment: Deployment
    """The Deployment."""
    service: Service | None
    """The Service, if there are ports."""

    def __init__(
        self, name: str, args: ApplicationArgs, opts: pulumi.ResourceOptions | None = None
    ) -> None:
        """Register the application.

        :param name: a DNS label of at most 54 characters
        :raises InputError: an invalid argument, before anything is registered
        """
        args, plan = _plan(name, args, f'Application "{name}"')
        autoscaled = args["autoscaled"]
        super().__init__(
            "dds:index:Application",
            name,
            {"image": args["image"], **({} if autoscaled else {"replicas": plan.replicas})},
            opts,
        )
        hosting = args["hosting"]
        child = pulumi.ResourceOptions(parent=self)
        self.labels = dict(plan.pod.selector)
        self.service = None
        self.endpoint = None
        if plan.exposed:
            self.service = Service(
                name,
                metadata=plan.service_metadata(awaited=hosting["service_type"] == "LoadBalancer"),
                spec=_service(plan, hosting),
                opts=child,
            )
        resources = make_pod_resources(plan.pod, self)
        plan.disruption_budget(child)
        spec: DeploymentSpecArgsDict = {
            "selector": {"match_labels": dict(plan.pod.selector)},
            "strategy": _strategy(args),
            "template": resources.template,
        }
        if hosting["min_ready_seconds"]:
            spec["min_ready_seconds"] = hosting["min_ready_seconds"]
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
        self._where, self.ports = plan.pod.where, {}
        if self.service is not None:
            self.ports = plan.reaches(self.service, (self.deployment,))
            # Resources that use the endpoint wait until the pods are ready.
            self.endpoint = pulumi.Output.all(
                self.reach.endpoint, self.deployment.metadata["name"]
            ).apply(lambda known: str(known[0]))
        self.register_outputs({"labels": self.labels, "endpoint": self.endpoint})

    @staticmethod
    def validate(where: str, name: str, args: ApplicationArgs) -> None:
        """Check the arguments for a component that is made of an Application.

        :param where: that component, for messages
        """
        _plan(name, args, where)


def _service(plan: ServingPlan, hosting: ApplicationHosting) -> ServiceSpecArgsDict:
    spec: ServiceSpecArgsDict = {
        "type": hosting["service_type"],
        "selector": dict(plan.pod.selector),
        "ports": plan.service_ports(),
    }
    if "external_traffic_policy" in hosting:
        spec["external_traffic_policy"] = hosting["external_traffic_policy"]
    return spec


def _strategy(args: ApplicationArgs) -> DeploymentStrategyArgsDict:
    rollout = args["hosting"]["rollout"]
    volumes = [*args["volumes"], *(v for each in args["companions"] for v in each.volumes)]
    claims = any("persistent_volume_claim" in volume for volume in volumes)
    if rollout.get("strategy", "recreate" if claims else "rolling") == "recreate":
        return {"type": "Recreate"}
    surge, unavailable = rollout.get("max_surge"), rollout.get("max_unavailable")
    # By default a new pod is ready before an old one is terminated.
    return {
        "type": "RollingUpdate",
        "rolling_update": {
            "max_surge": surge if surge is not None else 0 if unavailable else 1,
            "max_unavailable": unavailable if unavailable is not None else 1 if surge == 0 else 0,
        },
    }


def _plan(name: str, args: ApplicationArgs, where: str) -> tuple[ApplicationArgs, ServingPlan]:
    args = resolved(where, ApplicationArgs, args)
    hosting = args["hosting"]
    plan = plan_serving(
        where,
        name,
        args,
        hosting,
        component="application",
        reserve=_RESERVE,
        autoscaled=args["autoscaled"],
    )
    _check_service(where, hosting, plan)
    _check_rollout(where, hosting["rollout"], _strategy(args))
    return args, plan


def _check_service(where: str, hosting: ApplicationHosting, plan: ServingPlan) -> None:
    place, kind = Place(where, "hosting"), hosting["service_type"]
    if kind == "ClusterIP":
        if "external_traffic_policy" in hosting:
            place.key("external_traffic_policy").refuse(
                hosting["external_traffic_policy"],
                "must be left out: a Service of type ClusterIP cannot be reached from outside",
            )
    elif not plan.exposed:
        place.key("service_type").refuse(kind, "needs ports that clients can reach")


def _check_rollout(where: str, rollout: RolloutArgs, made: DeploymentStrategyArgsDict) -> None:
    given = {key: rollout[key] for key in ("max_surge", "max_unavailable") if key in rollout}
    place = Place(where, "hosting.rollout")
    for key, value in given.items():
        if made["type"] == "Recreate":
            place.key(key).refuse(
                value, "must be left out: with recreate all old pods are terminated first"
            )
    if given == {"max_surge": 0, "max_unavailable": 0}:
        place.key("max_unavailable").refuse(
            0, "must be at least 1 with max_surge 0: no pod could be replaced"
        )
