import dataclasses
from typing import Any

import pytest

from toolchain.plugins.kubernetes import immutable
from toolchain.plugins.kubernetes.diff import compare
from toolchain.plugins.kubernetes.normal import normal
from toolchain.plugins.kubernetes.plugin import KubernetesProvider
from toolchain.plugins.provider.cancellation import Cancellation
from toolchain.plugins.provider.engine import Engine
from toolchain.plugins.provider.provider import Diff, DiffKind, DiffRequest
from toolchain.plugins.provider.values import Secret

NAMED = {"name": "x", "namespace": "n"}


def difference(
    group_kind: str,
    old: dict[str, Any],
    new: dict[str, Any],
    *,
    mutable_config: bool = False,
    mutable_secret: bool = False,
) -> Diff:
    old = {"metadata": NAMED, **old}
    new = {"metadata": NAMED, **new}
    rule = immutable.fixed(
        group_kind, old, mutable_config=mutable_config, mutable_secret=mutable_secret
    )
    return compare(old, new, rule)


@pytest.mark.parametrize(
    ("old", "new", "same"),
    [
        ({"limits": {"cpu": "0.5"}}, {"limits": {"cpu": "500m"}}, True),
        ({"requests": {"storage": "1024Mi"}}, {"requests": {"storage": "1Gi"}}, True),
        ({"emptyDir": {"sizeLimit": "1Gi"}}, {"emptyDir": {"sizeLimit": "1024Mi"}}, True),
        ({"limits": {"cpu": "0.5"}}, {"limits": {"cpu": "0.6"}}, False),
        # An argument and a version are texts, whatever they look like.
        ({"args": ["1.0"]}, {"args": ["1"]}, False),
        ({"labels": {"version": "1.0"}}, {"labels": {"version": "1"}}, False),
        ({"ingress": []}, {}, True),
        ({"ingress": [{}]}, {"ingress": []}, False),
        ({"emptyDir": {}}, {}, False),
        ({"automount": False}, {}, False),
    ],
)
def test_what_the_server_writes_alike_is_no_change(
    old: dict[str, Any], new: dict[str, Any], same: bool
) -> None:
    assert (difference("apps/Deployment", {"spec": old}, {"spec": new}).details == {}) is same


@pytest.mark.parametrize(
    ("kind", "old", "new", "replaces"),
    [
        ("ConfigMap", {"data": {"a": "1"}}, {"data": {"a": "2"}}, True),
        ("ConfigMap", {"binaryData": {"a": "1"}}, {}, True),
        ("Secret", {"stringData": {"a": "1"}}, {"stringData": {"a": "2"}}, True),
        ("Secret", {"type": "Opaque"}, {"type": "x"}, True),
        ("Service", {"spec": {"clusterIP": "None"}}, {"spec": {}}, True),
        ("Service", {"spec": {"type": "ClusterIP"}}, {"spec": {"type": "NodePort"}}, False),
        ("apps/StatefulSet", {"spec": {"replicas": 1}}, {"spec": {"replicas": 2}}, False),
        ("apps/StatefulSet", {"spec": {"serviceName": "a"}}, {"spec": {"serviceName": "b"}}, True),
        ("apps/StatefulSet", {"spec": {"template": {"a": 1}}}, {"spec": {"template": {}}}, False),
        ("apps/StatefulSet", {"spec": {"volumeClaimTemplates": [1]}}, {"spec": {}}, True),
        ("batch/Job", {"spec": {"parallelism": 1}}, {"spec": {"parallelism": 2}}, False),
        ("batch/Job", {"spec": {"template": {"a": 1}}}, {"spec": {"template": {"a": 2}}}, True),
        ("batch/Job", {"spec": {"completions": 1}}, {"spec": {"completions": 2}}, True),
        ("apps/Deployment", {"spec": {"selector": {"a": 1}}}, {"spec": {"selector": {}}}, True),
        ("apps/Deployment", {"spec": {"template": {"a": 1}}}, {"spec": {"template": {}}}, False),
        (
            "rbac.authorization.k8s.io/RoleBinding",
            {"roleRef": {"name": "a"}},
            {"roleRef": {}},
            True,
        ),
        ("policy/PodDisruptionBudget", {"spec": {"a": 1}}, {"spec": {"a": 2}}, False),
        (
            "PersistentVolumeClaim",
            {"spec": {"resources": {"requests": {"storage": "1Gi"}}}},
            {"spec": {"resources": {"requests": {"storage": "2Gi"}}}},
            False,
        ),
        ("PersistentVolumeClaim", {"spec": {"accessModes": ["a"]}}, {"spec": {}}, True),
        (
            "Pod",
            {"spec": {"containers": [{"image": "a"}]}},
            {"spec": {"containers": [{"image": "b"}]}},
            False,
        ),
        (
            "Pod",
            {"spec": {"containers": [{"name": "a"}]}},
            {"spec": {"containers": [{"name": "b"}]}},
            True,
        ),
        ("ConfigMap", {"kind": "ConfigMap"}, {"kind": "Secret"}, True),
    ],
)
def test_a_change_replaces_only_where_the_server_demands_it(
    kind: str, old: dict[str, Any], new: dict[str, Any], replaces: bool
) -> None:
    found = difference(kind, old, new)
    assert found.details
    assert any(one.name.endswith("_REPLACE") for one in found.details.values()) is replaces


def test_a_block_that_goes_replaces_if_it_held_a_fixed_field() -> None:
    found = difference("Service", {"spec": {"clusterIP": "None"}}, {})
    assert found.details == {"spec": DiffKind.DELETE_REPLACE}
    found = difference("Service", {"spec": {"type": "NodePort"}}, {})
    assert found.details == {"spec": DiffKind.DELETE}


def test_mutable_data_is_updated_unless_the_object_is_immutable() -> None:
    one, other = {"data": {"a": "1"}}, {"data": {"a": "2"}}
    assert difference("ConfigMap", one, other, mutable_config=True).details == {
        "data.a": DiffKind.UPDATE
    }
    assert difference("Secret", one, other, mutable_config=True).details == {
        "data.a": DiffKind.UPDATE_REPLACE
    }
    assert difference("Secret", one, other, mutable_secret=True).details == {
        "data.a": DiffKind.UPDATE
    }
    sealed = {"data": {"a": "1"}, "immutable": True}
    assert difference("ConfigMap", sealed, other, mutable_config=True).details["data.a"] is (
        DiffKind.UPDATE_REPLACE
    )


def test_paths_are_the_engines() -> None:
    old = {"metadata": {**NAMED, "annotations": {"a.b/c": "1"}}, "spec": {"l": [{"x": 1}, 2]}}
    new = {"metadata": {**NAMED, "annotations": {"a.b/c": "2"}}, "spec": {"l": [{"x": 2}], "y": 1}}
    assert difference("apps/Deployment", old, new).details == {
        'metadata.annotations["a.b/c"]': DiffKind.UPDATE,
        "spec.l[0].x": DiffKind.UPDATE,
        "spec.l[1]": DiffKind.DELETE,
        "spec.y": DiffKind.ADD,
    }


def test_equal_inputs_do_not_differ_whatever_the_status() -> None:
    assert not difference(
        "apps/Deployment", {"spec": {"a": None}, "status": 1}, {"spec": {}}
    ).details


@pytest.mark.parametrize(
    ("old", "new", "first"),
    [
        ({"name": "a"}, {"name": "a"}, True),
        ({"name": "a"}, {"name": "b"}, False),
        ({"name": "a", "namespace": "x"}, {"name": "a", "namespace": "y"}, False),
        (
            {"name": "a-1", "annotations": {"pulumi.com/autonamed": "true"}},
            {"name": "a-1", "annotations": {"pulumi.com/autonamed": "true"}},
            False,
        ),
    ],
)
def test_only_an_object_that_keeps_its_name_goes_before_its_replacement(
    old: dict[str, Any], new: dict[str, Any], first: bool
) -> None:
    found = difference(
        "ConfigMap", {"metadata": old, "data": {"a": "1"}}, {"metadata": new, "data": {"a": "2"}}
    )
    assert found.delete_before_replace is first


@pytest.mark.parametrize("where", ["old inputs", "state"])
def test_a_state_of_before_the_normal_form_does_not_differ(where: str) -> None:
    provider = KubernetesProvider(Engine("127.0.0.1:1"), Cancellation())
    kind = {"apiVersion": "v1", "kind": "Secret", "metadata": NAMED}
    written = {**kind, "stringData": Secret({"a": "1"})}
    request = DiffRequest(
        "urn", "kubernetes:core/v1:Secret", "x", identity="n/x",
        old_inputs=written if where == "old inputs" else {},
        state={"__inputs": Secret(written)}, ignore_changes=(), inputs={},
    )  # fmt: skip
    for text, same in (("1", True), ("2", False)):
        inputs = normal({**kind, "stringData": {"a": text}})
        found = provider.diff(dataclasses.replace(request, inputs=inputs))
        assert (found.details == {}) is same
