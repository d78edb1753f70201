"""Jobs: indexes, when they are complete, what a failed pod means, and Jobs that other programs make."""

import json
import re
from typing import Any

import pulumi
import pytest

from dds_patterns import Application, ScheduledTask, Task, TaskTemplate
from dds_patterns.arguments.errors import InputError
from dds_patterns.arguments.shapes import on_the_wire
from dds_patterns.workloads.job_arguments import intervals
from tests.unit.support.examples import EXAMPLES, IMAGE, companion
from tests.unit.support.manifests import assert_valid, objects, the
from tests.unit.support.refusals import refused
from toolchain.graph import Graph, build

INDEXED = {"completions": 4, "indexed": True}
PER_INDEX = {**INDEXED, "backoff_limit_per_index": 1}
DISRUPTED = {
    "action": "Ignore",
    "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}],
}


def task(**args: Any) -> Graph:
    return build(lambda: Task("job", {"image": IMAGE, **args}))  # type: ignore[typeddict-item]


def spec(**args: Any) -> dict[str, Any]:
    """Of a task's Job, which the API's schema knows."""
    job = the(task(**args), "Job")
    assert_valid([job])
    found: dict[str, Any] = job["spec"]
    return found


def template(args: dict[str, Any]) -> Graph:
    """A template whose manifest is the program's output."""

    def program() -> None:
        made = TaskTemplate("one", {"image": IMAGE, **args})  # type: ignore[typeddict-item]
        pulumi.export("manifest", made.manifest)

    return build(program)


def manifest(graph: Graph) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(graph.outputs[""]["manifest"])
    return found


# What a Job says


def test_a_job_without_more_is_the_one_that_it_was() -> None:
    assert set(spec()) == {
        "activeDeadlineSeconds", "backoffLimit", "parallelism", "completions", "template",
    }  # fmt: skip


def test_each_index_has_retries_of_its_own_in_place_of_those_of_the_job() -> None:
    found = spec(**PER_INDEX, max_failed_indexes=0)
    assert found["completionMode"] == "Indexed"
    assert (found["completions"], found["backoffLimitPerIndex"]) == (4, 1)
    assert found["maxFailedIndexes"] == 0
    # Kubernetes then has no bound for all of them together.
    assert "backoffLimit" not in found
    # None at all is not the same as not saying so.
    assert spec(**INDEXED, backoff_limit_per_index=0)["backoffLimitPerIndex"] == 0
    assert spec(**INDEXED)["backoffLimit"] == 2


def test_a_job_is_complete_when_one_of_the_rules_holds() -> None:
    rules = [{"succeeded_indexes": "0-1,3", "succeeded_count": 2}, {"succeeded_count": 3}]
    assert spec(**INDEXED, success_policy=rules)["successPolicy"] == {
        "rules": [{"succeededIndexes": "0-1,3", "succeededCount": 2}, {"succeededCount": 3}]
    }
    assert "successPolicy" not in spec(success_policy=[])


def test_exit_codes_are_those_of_the_application_unless_another_container_is_named() -> None:
    found = spec(
        companions=[companion()],
        pod_failure_policy=[
            {"action": "fail_job", "exit_codes": [42, 7]},
            {"action": "count", "exit_codes_not_in": [1], "container": "proxy"},
        ],
    )
    assert found["podFailurePolicy"]["rules"] == [
        DISRUPTED,
        # The API takes them in order only.
        {
            "action": "FailJob",
            "onExitCodes": {"containerName": "job", "operator": "In", "values": [7, 42]},
        },
        {
            "action": "Count",
            "onExitCodes": {"containerName": "proxy", "operator": "NotIn", "values": [1]},
        },
    ]
    # The API takes nothing else beside a failure policy.
    assert found["podReplacementPolicy"] == "Failed"
    assert found["template"]["spec"]["restartPolicy"] == "Never"


def test_a_rule_for_disruptions_stands_where_the_user_has_put_it() -> None:
    found = spec(
        pod_failure_policy=[
            {"action": "fail_job", "exit_codes": [42]},
            {"action": "count", "pod_condition": "DisruptionTarget"},
        ]
    )["podFailurePolicy"]["rules"]
    assert [rule["action"] for rule in found] == ["FailJob", "Count"]


def test_an_index_fails_without_another_try() -> None:
    found = spec(**PER_INDEX, pod_failure_policy=[{"action": "fail_index", "exit_codes": [3]}])
    assert [rule["action"] for rule in found["podFailurePolicy"]["rules"]] == [
        "Ignore",
        "FailIndex",
    ]


def test_what_the_api_lets_nobody_change_replaces_the_job() -> None:
    """Or an update would be refused by the cluster. The first four are the provider's own."""
    known = {"spec.completions", "spec.parallelism", "spec.selector", "spec.template"}
    graph = build(lambda: EXAMPLES["Task with indexes"].make("one", job()))
    fields = {f"spec.{field}" for field in the(graph, "Job")["spec"]}
    changeable = {
        "spec.activeDeadlineSeconds", "spec.maxFailedIndexes", "spec.podReplacementPolicy",
        "spec.ttlSecondsAfterFinished",
    }  # fmt: skip
    assert fields <= changeable | known | {*graph.one("Job").replace_on_changes}


def test_a_scheduled_task_makes_the_same_jobs() -> None:
    args = {
        **PER_INDEX,
        "ttl_seconds_after_finished": 0,
        "success_policy": [{"succeeded_count": 1}],
    }
    graph = build(
        lambda: ScheduledTask("job", {"image": IMAGE, "schedule": "17 3 * * *", **args})  # type: ignore[typeddict-item]
    )
    made = the(graph, "CronJob")["spec"]["jobTemplate"]["spec"]
    assert without_template(made) == without_template(spec(**args))
    assert made["ttlSecondsAfterFinished"] == 0


def without_template(spec: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in spec.items() if key != "template"}


@pytest.mark.parametrize(
    ("component", "least"), [(Task, 2), (TaskTemplate, 2), (ScheduledTask, 1)], ids=str
)
def test_retries_that_nobody_gave(component: Any, least: int) -> None:
    def program() -> None:
        made = component("job", {"image": IMAGE} | scheduled(component))
        pulumi.export("manifest", getattr(made, "manifest", None))

    graph = build(program)
    text = str([*objects(graph), graph.outputs[""].get("manifest")])
    assert f"backoffLimit': {least}" in text.replace('"', "'")


def scheduled(component: Any) -> dict[str, Any]:
    return {"schedule": "17 3 * * *"} if component is ScheduledTask else {}


# A Job as text


def job() -> dict[str, Any]:
    """All arguments of a Job, with Kubernetes' shapes in either spelling, and within Outputs."""
    return {
        **EXAMPLES["Task with indexes"].full(),
        "component": "part",
        "volumes": [
            {"name": "a", "empty_dir": {"size_limit": "1Mi"}},
            {"name": "b", "emptyDir": {"sizeLimit": "1Mi"}},
            {"name": "c", "config_map": pulumi.Output.from_input({"default_mode": 0o440})},
            {"name": "d", "secret": pulumi.Output.from_input({"secretName": "x", "optional": True})},
            {
                "name": "e",
                "projected": {"sources": [{"config_map": {"name": "x", "items": [{"key": "a_b", "path": "c_d"}]}}]},
            },
            {"name": "f", "csi": {"driver": "x", "volume_attributes": {"some_key": "v"}}},
        ],
        "volume_mounts": [{"name": "a", "mountPath": "/a"}],
        "env": {"A_KEY": pulumi.Output.from_input("v")},
    }  # fmt: skip


def test_the_text_is_the_job_that_pulumi_makes_of_a_task() -> None:
    """Spelt as Kubernetes does, whatever the user's spelling, and with the keys that users choose."""

    def program() -> None:
        pulumi.export("manifest", TaskTemplate("one", job()).manifest)  # type: ignore[arg-type]

    made = manifest(build(program))
    assert_valid([made])
    graph = build(lambda: Task("one", job()))  # type: ignore[arg-type]
    assert unnamed(made["spec"]) == unnamed(the(graph, "Job")["spec"])
    labels = the(graph, "Job")["metadata"]["labels"]
    assert made["metadata"]["labels"] == labels
    assert made["metadata"]["annotations"] == {"example.com/owner": "green"}


def unnamed(spec: dict[str, Any]) -> Any:
    """Without the end of each name that Pulumi has made up."""
    return json.loads(re.sub(r'-[0-9a-f]{8}"', '"', json.dumps(spec)))


def test_the_text_has_no_name_and_says_where_the_job_belongs() -> None:
    graph = template({})
    made = manifest(graph)
    assert (made["apiVersion"], made["kind"]) == ("batch/v1", "Job")
    assert made["metadata"]["generateName"] == "one-"
    assert "name" not in made["metadata"]
    account = the(graph, "ServiceAccount")
    assert made["metadata"]["namespace"] == "default"
    assert made["spec"]["template"]["spec"]["serviceAccountName"] == account["metadata"]["name"]
    assert {body["kind"] for body in objects(graph)} == {"ServiceAccount", "NetworkPolicy"}
    placed = manifest(template({"hosting": {"namespace": "there"}}))
    assert placed["metadata"]["namespace"] == "there"


def test_what_has_the_text_comes_after_what_the_pods_need() -> None:
    def program() -> None:
        made = TaskTemplate("one", {"image": IMAGE, "files": {"/etc/app/a": "x"}})
        Application("queue", {"image": IMAGE, "files": {"/etc/job/job.json": made.manifest}})

    graph = build(program)
    needed = graph.one("ConfigMap", "queue-files").dependencies
    for kind, name in (
        ("NetworkPolicy", "one"), ("ServiceAccount", "one"), ("ConfigMap", "one-files"),
    ):  # fmt: skip
        assert graph.one(kind, name).urn in needed


def test_a_secret_file_is_in_the_text_by_its_name_only() -> None:

    def program() -> None:
        files = {"/etc/app/a": pulumi.Output.secret("swordfish")}
        made = TaskTemplate("one", {"image": IMAGE, "secret_files": files})
        pulumi.export("manifest", made.manifest)

    graph = build(program)
    assert "swordfish" not in graph.outputs[""]["manifest"]
    name = the(graph, "Secret")["metadata"]["name"]
    volumes = manifest(graph)["spec"]["template"]["spec"]["volumes"]
    assert [volume["secret"]["secretName"] for volume in volumes] == [name]


def test_the_rules_are_enough_to_make_and_follow_jobs() -> None:
    def program() -> None:
        made = TaskTemplate("one", {"image": IMAGE})
        Application("queue", {"image": IMAGE, "rules": made.rules})

    (rule,) = the(build(program), "Role")["rules"]
    assert (rule["apiGroups"], rule["resources"]) == (["batch"], ["jobs"])
    assert rule["verbs"] == ["create", "get", "list", "watch", "delete"]


def test_a_key_that_the_sdk_does_not_know_stays_as_it_is() -> None:
    """What stands in an Output is for the API server to judge."""
    from pulumi_kubernetes.batch.v1 import JobArgsDict  # noqa: PLC0415 (loads a third of the SDK)

    given = {"api_version": "batch/v1", "spec": {"some_key": {"other_key": 1}}}
    assert on_the_wire(JobArgsDict, given) == {
        "apiVersion": "batch/v1", "spec": {"some_key": {"other_key": 1}},
    }  # fmt: skip


# Bad input


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"backoff_limit_per_index": 1},
            "backoff_limit_per_index is 1; must be left out without indexed",
        ),
        (
            {"success_policy": [{"succeeded_count": 1}]},
            "success_policy is [{'succeeded_count': 1}]; must be left out without indexed",
        ),
        (
            {**INDEXED, "max_failed_indexes": 0},
            "max_failed_indexes is 0; must be left out without backoff_limit_per_index",
        ),
        (
            {**PER_INDEX, "max_failed_indexes": 5},
            "max_failed_indexes is 5; must be at most 4, the completions",
        ),
        (
            {**PER_INDEX, "backoff_limit": 2},
            "backoff_limit is 2; must be left out with backoff_limit_per_index",
        ),
        ({**INDEXED, "completions": 100_001}, "completions is 100001; must be from 1 to 100000"),
        ({**INDEXED, "parallelism": 100_001}, "parallelism is 100001; must be from 1 to 100000"),
        (
            {**INDEXED, "success_policy": [{"succeeded_count": 1}, {"succeeded_indexes": "0,3-4"}]},
            "success_policy[1].succeeded_indexes is '0,3-4'; must be below 4, the completions",
        ),
        (
            {**INDEXED, "success_policy": [{"succeeded_indexes": "2-1"}]},
            "success_policy[0].succeeded_indexes is '2-1'; must be in rising order",
        ),
        (
            {**INDEXED, "success_policy": [{"succeeded_count": 5}]},
            "success_policy[0].succeeded_count is 5; must be at most 4, the completions",
        ),
        (
            {**INDEXED, "success_policy": [{"succeeded_indexes": "0-1,3", "succeeded_count": 4}]},
            "success_policy[0].succeeded_count is 4; must be at most 3, the indexes beside it",
        ),
        (
            {"pod_failure_policy": [{"action": "fail_index", "exit_codes": [1]}]},
            "pod_failure_policy[0].action is 'fail_index'; needs backoff_limit_per_index",
        ),
        (
            {
                "companions": [companion()],
                "pod_failure_policy": [{"action": "count", "exit_codes": [1], "container": "prxy"}],
            },
            "pod_failure_policy[0].container is 'prxy'; did you mean proxy? known are job, proxy",
        ),
        (
            {"pod_failure_policy": [{"action": "count", "exit_codes": [0]}]},
            "pod_failure_policy[0].exit_codes[0] is 0; must be from 1 to 255",
        ),
        (
            {"pod_failure_policy": [{"action": "FailJob", "exit_codes": [1]}]},
            "pod_failure_policy[0].action is 'FailJob'; must be one of fail_job",
        ),
        (
            {"pod_failure_policy": [{"action": "count"}]},
            "pod_failure_policy[0] is {'action': 'count'}; must be a rule for one of exit_codes",
        ),
    ],
    ids=str,
)
@pytest.mark.parametrize("component", [Task, ScheduledTask, TaskTemplate])
def test_what_the_api_server_would_refuse_is_refused_first(
    component: Any, change: Any, message: str
) -> None:
    args = {"image": IMAGE, **scheduled(component), **change}
    assert message in refused(lambda: component("job", args))
    with pytest.raises(InputError, match='Whole "it"'):
        component.validate('Whole "it"', "job", args)


@pytest.mark.parametrize(
    ("component", "longest"), [(Task, 48), (TaskTemplate, 48), (ScheduledTask, 39)]
)
def test_the_last_pods_have_host_names(component: Any, longest: int) -> None:
    """The host name of an indexed pod ends in its index, which the API server counts."""
    args = {"image": IMAGE, "completions": 100_000, "indexed": True, **scheduled(component)}
    build(lambda: component("a" * longest, args))
    job_name = longest + len("-0123abcd") + (len("-12345678") if scheduled(component) else 0)
    assert job_name + len("-99999") <= 63
    assert "name is" in refused(lambda: component("a" * (longest + 1), args))


def test_intervals() -> None:
    assert intervals("0-2,5") == [(0, 2), (5, 5)]
