"""RBAC of a workload's ServiceAccount: the rules of the workload and its companions, else none."""

from collections.abc import Sequence

import pulumi
from pulumi_kubernetes.core.v1 import ServiceAccount
from pulumi_kubernetes.meta.v1 import ObjectMetaArgsDict
from pulumi_kubernetes.rbac.v1 import PolicyRuleArgsDict, Role, RoleBinding

from dds_patterns.pods.companion import Rule


def permissions(
    name: str,
    metadata: ObjectMetaArgsDict,
    rules: Sequence[Rule],
    account: ServiceAccount,
    opts: pulumi.ResourceOptions,
) -> tuple[pulumi.Resource, ...]:
    """A Role with the rules, and its RoleBinding; nothing without rules."""
    if not rules:
        return ()
    role = Role(name, metadata=metadata, rules=[_rule(rule) for rule in rules], opts=opts)
    binding = RoleBinding(
        name,
        metadata=metadata,
        role_ref={
            "api_group": "rbac.authorization.k8s.io",
            "kind": "Role",
            "name": role.metadata["name"],
        },
        subjects=[
            {
                "kind": "ServiceAccount",
                "name": account.metadata["name"],
                "namespace": account.metadata["namespace"],
            }
        ],
        opts=opts,
    )
    return role, binding


def _rule(rule: Rule) -> PolicyRuleArgsDict:
    result: PolicyRuleArgsDict = {
        "api_groups": [rule.group],
        "resources": list(rule.resources),
        "verbs": list(rule.verbs),
    }
    if rule.names:
        result["resource_names"] = list(rule.names)
    return result
