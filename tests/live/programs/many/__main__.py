"""So many small objects of five kinds; none at all for 0."""

import pulumi

config = pulumi.Config()
objects = config.require_int("objects")
if objects:
    import pulumi_kubernetes as kubernetes

    from tests.live.programs.common import in_namespace

    options = in_namespace(config.require("namespace"))
    labels = {"app.kubernetes.io/name": "many"}
    for number in range(objects // 5):
        name = f"many-{number}"
        kubernetes.core.v1.ConfigMap(name, data={"number": str(number)}, opts=options)
        kubernetes.core.v1.ServiceAccount(name, automount_service_account_token=False, opts=options)
        kubernetes.core.v1.Service(
            name,
            spec={"cluster_ip": "None", "selector": labels, "ports": [{"port": 80}]},
            opts=options,
        )
        kubernetes.networking.v1.NetworkPolicy(
            name,
            spec={"pod_selector": {"match_labels": labels}, "policy_types": ["Ingress"]},
            opts=options,
        )
        kubernetes.policy.v1.PodDisruptionBudget(
            name,
            spec={"max_unavailable": 1, "selector": {"match_labels": labels}},
            opts=options,
        )
