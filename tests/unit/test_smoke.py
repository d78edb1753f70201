"""SmokeTest: when it runs, what it runs, and what it tells."""

from typing import Any

import pulumi
import pytest

from dds_patterns import Application, SmokeTest
from dds_patterns.arguments.errors import InputError
from dds_patterns.platform.smoke import COVERS_ANNOTATION
from tests.unit.support.examples import IMAGE
from tests.unit.support.manifests import objects, the
from toolchain.graph import Graph, build


def check(covers: Any = (), *, preview: bool = False, **args: Any) -> Graph:
    def program() -> None:
        values = covers() if callable(covers) else covers
        given: Any = {"image": IMAGE, "script": "exit 0", "covers": values, **args}
        SmokeTest("check", given)

    return build(program, preview=preview)


def digest(graph: Graph) -> str:
    metadata = the(graph, "Job")["spec"]["template"]["metadata"]
    result: str = metadata["annotations"][COVERS_ANNOTATION]
    return result


def test_it_runs_again_when_what_it_covers_changes_and_only_then() -> None:
    assert digest(check(["a", 1])) == digest(check(["a", 1]))
    assert digest(check(["a", 1])) != digest(check(["a", 2]))
    assert digest(check([{"x": 1, "y": 2}])) == digest(check([{"y": 2, "x": 1}]))


def test_outputs_are_covered() -> None:
    known = check(lambda: [pulumi.Output.from_input("a")])
    assert digest(known) == digest(check(["a"]))


def test_a_covered_secret_leaves_its_digest_only() -> None:
    graph = check(lambda: [pulumi.Output.secret("swordfish")])
    assert digest(graph) == digest(check(["swordfish"]))
    assert "swordfish" not in str([node.inputs for node in graph])
    assert not graph.one("Job").secrets


def test_what_is_not_known_yet_does_not_stop_a_preview() -> None:
    unknown = check(lambda: [pulumi.Output.from_input("a")], preview=True)
    assert len(unknown.all("Job")) == 1


def test_it_runs_again_when_the_script_changes() -> None:
    graph = check()
    volumes = the(graph, "Job")["spec"]["template"]["spec"]["volumes"]
    (volume,) = [v for v in volumes if "configMap" in v]
    # The object is replaced when the script changes, and its new name changes the Job.
    assert volume["configMap"]["name"] == the(graph, "ConfigMap")["metadata"]["name"]
    assert "name" not in graph.one("ConfigMap").inputs["metadata"]


def test_the_job_is_bounded_replaced_after_a_failure_and_kept_after_a_success() -> None:
    job = the(check(timeout_seconds=30, backoff_limit=0), "Job")
    assert job["spec"]["activeDeadlineSeconds"] == 30
    assert job["spec"]["backoffLimit"] == 0
    assert job["metadata"]["annotations"]["pulumi.com/replaceUnready"] == "true"
    assert "ttlSecondsAfterFinished" not in job["spec"]
    assert the(check(), "Job")["spec"]["activeDeadlineSeconds"] == 120


def test_the_check_is_named_wherever_a_failure_shows() -> None:
    job = the(check(), "Job")
    template = job["spec"]["template"]
    assert template["metadata"]["annotations"]["dds/check"] == "check"
    assert template["spec"]["containers"][0]["name"] == "check"
    assert job["metadata"]["name"].startswith("check-")
    assert template["spec"]["containers"][0]["terminationMessagePolicy"] == "FallbackToLogsOnError"


@pytest.mark.parametrize(
    ("script", "command"),
    [
        ("exit 0", ["/bin/sh", "-eu"]),
        ("#!/bin/sh\nexit 0", ["/bin/sh", "-eu"]),
        ("#!/usr/bin/env python3\nprint()", ["python3", "-u"]),
        ("# python\nexit 0", ["/bin/sh", "-eu"]),
    ],
)
def test_the_first_line_names_the_interpreter(script: str, command: list[str]) -> None:
    for given in (lambda: script, lambda: pulumi.Output.from_input(script)):

        def program(given: Any = given) -> None:
            SmokeTest("check", {"image": IMAGE, "script": given()})

        graph = build(program)
        (container,) = the(graph, "Job")["spec"]["template"]["spec"]["containers"]
        assert container["command"] == [*command, "/opt/check/script"]
        (config,) = objects(graph, "ConfigMap")
        assert list(config["data"].values()) == [script]


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ({"script": " "}, "must not be empty"),
        ({"reaches": ["web:80"]}, r"reaches\[0\] is 'web:80'; must be a Reach"),
        ({"egress": []}, "egress is not an argument"),
        ({"files": {"/opt/check/script": "y"}}, "files is '/opt/check/script'; must not lie in"),
        ({"secret_files": {"/opt/check/x": "y"}}, "secret_files is .*; must not lie in /opt/check"),
    ],
)
def test_bad_input_is_refused(args: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        check(**args)


def test_what_it_reaches_lets_it_in_and_is_ready_first() -> None:
    def program() -> None:
        web = Application("web", {"image": IMAGE, "ports": [{"name": "http", "port": 8080}]})
        SmokeTest("check", {"image": IMAGE, "script": "exit 0", "reaches": [web.reach]})

    graph = build(program)
    (own,) = [n for n in graph.all("NetworkPolicy") if n.name == "check"]
    (out,) = own.inputs["spec"]["egress"][1:]
    web = {"app.kubernetes.io/instance": "web"}
    assert web.items() <= out["to"][0]["podSelector"]["matchLabels"].items()
    (let_in,) = [n for n in graph.all("NetworkPolicy") if n.name == "check-to-web"]
    assert web.items() <= let_in.inputs["spec"]["podSelector"]["matchLabels"].items()
    assert graph.one("Deployment").urn in graph.one("Job").dependencies


@pytest.mark.parametrize(
    ("value", "argument"),
    [
        ({"b", "a"}, "covers[1]"),
        (frozenset("a"), "covers[1]"),
        ({"a": [1, {"b", "c"}]}, "covers[1][a][1]"),
        ((1, {"b": object()}), "covers[1][1][b]"),
        ({"a": b"bytes"}, "covers[1][a]"),
        (lambda: 1, "covers[1]"),
    ],
    ids=["set", "frozenset", "nested", "object", "bytes", "function"],
)
@pytest.mark.parametrize("known", ["now", "later", "in part"])
def test_what_has_no_stable_form_is_not_covered(value: Any, argument: str, known: str) -> None:
    def covers() -> list[Any]:
        if known == "now":
            return ["a", value]
        if known == "later":
            return ["a", pulumi.Output.from_input("b").apply(lambda _: value)]
        return ["a", [pulumi.Output.secret("b").apply(lambda _: value)]]

    if known == "in part":
        argument = argument.replace("covers[1]", "covers[1][0]", 1)
    with pytest.raises(InputError) as caught:
        check(covers)
    assert caught.value.argument == argument
    assert "has no form that stays the same" in str(caught.value)
    assert "bytes" not in str(caught.value).partition(";")[0], "it may be a secret"


def test_a_mapping_that_is_covered_has_texts_for_keys() -> None:
    # Of numbers and texts together there is no order.
    with pytest.raises(InputError, match=r"covers\[0\]\[a\] \(a key\) is <secret>; must be a text"):
        check([{"a": {1: "b"}}])


def test_a_resource_is_not_covered_but_depended_on() -> None:
    def program() -> None:
        other = pulumi.ComponentResource("dds:index:Other", "other")
        with pytest.raises(InputError, match="depends_on"):
            SmokeTest("check", {"image": IMAGE, "script": "x", "covers": [other]})

    build(program)
