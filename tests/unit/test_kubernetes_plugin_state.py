from typing import Any

import pytest

from toolchain.plugins.kubernetes import merge, normal, ownership, quantity, state
from toolchain.plugins.kubernetes.client import ApiError
from toolchain.plugins.provider.values import UNKNOWN, Secret


def live(**rest: Any) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "x", "namespace": "n", "uid": "u", "labels": {"a": "1", "b": "2"}},
        **rest,
    }


def test_outputs_are_the_live_object_and_what_the_official_plugin_adds() -> None:
    inputs = {"kind": "ConfigMap", "data": {"a": Secret("1"), "b": "2"}}
    found = state.outputs(inputs, live(data={"a": "1", "b": "2"}), "manager", "v1")
    assert found["__inputs"] == inputs
    assert found["__fieldManager"] == "manager"
    assert found["__initialApiVersion"] == "v1"
    assert found["data"] == {"a": Secret("1"), "b": "2"}
    assert found["metadata"]["uid"] == "u"


def test_what_a_secret_holds_is_secret_whatever_the_program_says() -> None:
    inputs = {"kind": "Secret", "stringData": {"a": "1"}}
    thing = {**live(data={"a": "MQ=="}), "kind": "Secret"}
    found = state.outputs(inputs, thing, "manager", "v1")
    assert found["data"] == Secret({"a": "MQ=="})
    assert found["__inputs"]["stringData"] == Secret({"a": "1"})


def test_ids_are_namespace_and_name() -> None:
    assert state.identity("n", "x") == "n/x"
    assert state.identity(None, "x") == "x"
    assert state.split_identity("n/x") == ("n", "x")
    assert state.split_identity("x") == (None, "x")


def test_the_server_gets_no_nulls_and_no_status() -> None:
    inputs = {"spec": {"a": None, "b": Secret("1"), "c": [{"d": None}]}, "status": {"x": 1}}
    assert state.body(inputs) == {"spec": {"b": "1", "c": [{}]}}


@pytest.mark.parametrize(
    ("declared", "actual", "observed"),
    [
        ({"a": "1"}, {"a": "2", "b": "3"}, {"a": "2"}),
        ({"a": "1", "b": "1"}, {"a": "1"}, {"a": "1"}),
        ({"cpu": "0.5", "memory": "1024Mi"}, {"cpu": "500m", "memory": "1Gi"}, None),
        ({"empty": "", "none": None, "no": False, "l": [], "m": {}, "n": 0}, {}, None),
        (
            [{"name": "a", "x": 1}],
            [{"name": "z"}, {"name": "a", "x": 2, "y": 3}],
            [{"name": "a", "x": 2}],
        ),
        ([{"name": "a"}, {"name": "b"}], [{"name": "b"}], [{"name": "b"}]),
        ([{"port": 1}], [{"port": 1, "protocol": "TCP"}], None),
        (["a"], ["a", "b"], ["a", "b"]),
        ("8080", 8080, None),
    ],
)
def test_drift_shows_in_the_declared_fields_only(declared: Any, actual: Any, observed: Any) -> None:
    inputs = {"kind": "ConfigMap", "apiVersion": "v1", "spec": {"field": declared}}
    found = state.observed_inputs(inputs, live(spec={"field": actual, "default": 1}))
    assert found["spec"]["field"] == (declared if observed is None else observed)
    assert "default" not in found["spec"]


def test_drift_in_a_secret_is_seen_and_stays_secret() -> None:
    inputs = normal.normal(
        {"apiVersion": "v1", "kind": "Secret", "stringData": Secret({"a": "old"})}
    )
    thing = {**live(data={"a": "bmV3"}), "kind": "Secret"}
    assert state.observed_inputs(inputs, thing)["data"] == Secret({"a": "bmV3"})


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        (
            {"kind": "Secret", "stringData": {"a": "1", "b": Secret("2")}, "data": {"a": "x"}},
            {"kind": "Secret", "data": Secret({"a": "MQ==", "b": "Mg=="})},
        ),
        (
            {"kind": "Secret", "stringData": Secret({"a": UNKNOWN, "b": "ü"})},
            {"kind": "Secret", "data": Secret({"a": UNKNOWN, "b": "w7w="})},
        ),
        (
            {"kind": "Secret", "stringData": UNKNOWN, "data": {"a": "x"}},
            {"kind": "Secret", "data": Secret(UNKNOWN)},
        ),
        ({"kind": "Secret", "stringData": {}}, {"kind": "Secret", "stringData": {}}),
        (
            {"kind": "ConfigMap", "stringData": {"a": "1"}, "data": {"value": ""}},
            {"kind": "ConfigMap", "stringData": {"a": "1"}, "data": {"value": ""}},
        ),
        (
            {"kind": "Pod", "spec": {"containers": [{"env": [{"name": "A", "value": ""}],
                                                     "resources": {"limits": {}}}],
                                     "volumes": [{"name": "v", "emptyDir": {}}]}},
            {"kind": "Pod", "spec": {"containers": [{"env": [{"name": "A"}], "resources": {}}],
                                     "volumes": [{"name": "v", "emptyDir": {}}]}},
        ),
        (
            {"kind": "NetworkPolicy", "spec": {"podSelector": {"matchLabels": {}}, "egress": []}},
            {"kind": "NetworkPolicy", "spec": {"podSelector": {}, "egress": []}},
        ),
    ],
)  # fmt: skip
def test_inputs_are_kept_in_the_form_that_the_official_plugin_keeps(
    given: dict[str, Any], kept: dict[str, Any]
) -> None:
    version = {"apiVersion": "v1"}
    assert normal.normal({**version, **given}) == {**version, **kept}
    assert normal.normal({**version, **kept}) == {**version, **kept}
    # What only its own definition describes stays as it is.
    custom = {**given, "apiVersion": "example.org/v1"}
    assert normal.normal(custom) == custom


def test_imported_inputs_leave_out_what_the_server_says() -> None:
    thing = live(data={"a": "1"}, status={"x": 1})
    thing["metadata"]["annotations"] = {
        "kubectl.kubernetes.io/last-applied-configuration": "{}",
        "mine": "1",
    }
    assert state.imported_inputs(thing) == {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {
            "name": "x",
            "namespace": "n",
            "labels": {"a": "1", "b": "2"},
            "annotations": {"mine": "1"},
        },
        "data": {"a": "1"},
    }


@pytest.mark.parametrize(
    ("one", "other", "equal"),
    [
        ("1", 1, True),
        ("0.5", "500m", True),
        ("1Gi", "1024Mi", True),
        ("1e3", "1k", True),
        ("1G", "1Gi", False),
        ("abc", "abd", False),
        (True, 1, True),
        ("true", True, False),
    ],
)
def test_quantities_are_compared_as_numbers(one: Any, other: Any, equal: bool) -> None:
    assert quantity.same(one, other) is equal


def entry(manager: str, fields: dict[str, Any], operation: str = "Update") -> dict[str, Any]:
    return {"manager": manager, "operation": operation, "apiVersion": "v1", "fieldsV1": fields}


def test_creation_gives_its_fields_to_the_manager_of_updates() -> None:
    thing = live()
    thing["metadata"]["managedFields"] = [
        entry("pulumi-kubernetes", {"f:data": {"f:a": {}}}),
        entry("pulumi-kubernetes-1", {"f:data": {"f:b": {}}}, "Apply"),
        entry("kubectl", {"f:data": {"f:c": {}}}),
        {**entry("pulumi-kubernetes", {"f:status": {}}), "subresource": "status"},
    ]
    found = ownership.taken_over(thing, "pulumi-kubernetes-1")
    assert found is not None
    assert found[0]["manager"] == "pulumi-kubernetes-1"
    assert found[0]["operation"] == "Apply"
    assert found[0]["fieldsV1"] == {"f:data": {"f:a": {}, "f:b": {}}}
    assert [item["manager"] for item in found[1:]] == ["kubectl", "pulumi-kubernetes"]
    thing["metadata"]["managedFields"] = found
    assert ownership.taken_over(thing, "pulumi-kubernetes-1") is None


def conflict(manager: str, field: str) -> ApiError:
    cause = {"message": f'conflict with "{manager}" using v1', "field": field}
    return ApiError(409, {"reason": "Conflict", "details": {"causes": [cause]}}, "")


def test_another_managers_field_is_only_taken_when_its_value_was_seen() -> None:
    thing = live(spec={"replicas": 7})
    error = conflict("hpa", ".spec.replicas")
    assert not ownership.may_force(error, thing, {"spec": {"replicas": 3}})
    assert ownership.may_force(error, thing, {"spec": {"replicas": 7}})
    assert ownership.may_force(conflict("pulumi-kubernetes", ".spec.replicas"), thing, {})
    assert "spec.replicas is managed by hpa" in str(ownership.conflict_error("X", error))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ('.spec.ports[port=80,protocol="TCP"].name', "web"),
        (".metadata.annotations.example.org/x.y", "1"),
        (".spec.list[1]", "b"),
        ('.spec.list[="a"]', "a"),
    ],
)
def test_field_paths_of_the_server_are_followed(field: str, value: str) -> None:
    thing = {
        "metadata": {"annotations": {"example.org/x.y": "1"}},
        "spec": {
            "ports": [{"port": 81}, {"port": 80, "protocol": "TCP", "name": "web"}],
            "list": ["a", "b"],
        },
    }
    assert ownership.at(thing, field) == value


def test_a_merged_object_keeps_defaults_and_loses_what_the_program_took_out() -> None:
    before = {"metadata": {"labels": {"a": "1", "b": "1"}}, "spec": {"ports": [{"port": 80}]}}
    after = {"metadata": {"labels": {"a": "2"}}, "spec": {"ports": [{"port": 81}]}}
    thing = {
        "metadata": {"uid": "u", "labels": {"a": "1", "b": "1", "theirs": "1"}},
        "spec": {"ports": [{"port": 80, "protocol": "TCP"}], "clusterIP": "10.0.0.1"},
    }
    assert merge.merged(thing, before, after) == {
        "metadata": {"uid": "u", "labels": {"a": "2", "theirs": "1"}},
        "spec": {"ports": [{"port": 81}], "clusterIP": "10.0.0.1"},
    }
