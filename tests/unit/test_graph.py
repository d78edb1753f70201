"""The recording monitor itself."""

import asyncio
import gc
from typing import Any

import pulumi
import pytest
from pulumi_kubernetes.core.v1 import ConfigMap, Namespace, Service

from dds_patterns import Password
from dds_patterns.arguments.errors import InputError
from toolchain.graph import GraphError, Secret, build


class Pair(pulumi.ComponentResource):
    def __init__(self, name: str, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("dds:index:Pair", name, {"size": 2}, opts)
        child = pulumi.ResourceOptions(parent=self)
        first = ConfigMap(f"{name}-first", data={"a": "1"}, opts=child)
        ConfigMap(f"{name}-second", data={"first": first.metadata["name"]}, opts=child)
        self.register_outputs({"first": first.metadata["name"]})


def test_what_is_registered_is_recorded() -> None:
    graph = build(lambda: Pair("pair"))
    pair = graph.one("Pair")
    assert pair.urn == "urn:pulumi:test::dds::dds:index:Pair::pair"
    assert pair.inputs == {"size": 2}
    first, second = graph.children(pair)
    assert first.urn.split("::")[2] == "dds:index:Pair$kubernetes:core/v1:ConfigMap"
    assert second.dependencies == (first.urn,)
    assert second.inputs["data"]["first"] == first.outputs["metadata"]["name"]
    assert graph.outputs[pair.urn] == {"first": first.outputs["metadata"]["name"]}


def test_auto_names_are_the_same_for_the_same_program_and_differ_within_it() -> None:
    def program() -> None:
        Pair("one")
        Pair("two")

    def names() -> list[str]:
        return sorted(n.outputs["metadata"]["name"] for n in build(program).all("ConfigMap"))

    assert names() == names()
    assert len(set(names())) == 4


def test_one_name_under_two_parents_is_two_objects() -> None:
    class Other(pulumi.ComponentResource):
        def __init__(self) -> None:
            super().__init__("dds:index:Other", "other")
            ConfigMap("pair-first", opts=pulumi.ResourceOptions(parent=self))
            self.register_outputs({})

    def program() -> None:
        Pair("pair")
        Other()

    nodes = build(program).all("ConfigMap", "pair-first")
    assert len({n.outputs["metadata"]["name"] for n in nodes}) == 2


def test_a_urn_cannot_be_registered_twice() -> None:
    def program() -> None:
        ConfigMap("same")
        ConfigMap("same")

    with pytest.raises(GraphError, match=r"duplicate URN .*same"):
        build(program)


def test_a_call_that_nobody_answers_is_an_error() -> None:
    def program() -> None:
        pulumi.export("answer", pulumi.runtime.invoke("other:index:ask", {}).value)

    with pytest.raises(GraphError, match="no mock for the invoke other:index:ask"):
        build(program)
    graph = build(program, calls={"other:index:ask": lambda _: {"answer": 42}})
    assert graph.outputs[""]["answer"] == {"answer": 42}


def test_a_false_assertion_in_an_apply_is_raised() -> None:
    def wrong(_: object) -> None:
        raise InputError("Test", "x", 1, "must not be")

    with pytest.raises(InputError):
        build(lambda: pulumi.Output.from_input(1).apply(wrong))


def test_secrets_are_recorded_by_their_path() -> None:
    def program() -> None:
        ConfigMap("readable", data={"a": "1"})
        pulumi.export("secret", pulumi.Output.secret("x"))
        pulumi.export("open", "x")
        ConfigMap("hidden", data={"a": pulumi.Output.secret("1")})

    graph = build(program)
    assert graph.one("ConfigMap", "readable").secrets == frozenset()
    assert graph.one("ConfigMap", "hidden").secrets == {"data"}
    assert graph.one("ConfigMap", "hidden").inputs["data"] == {"a": "1"}
    assert graph.output_secrets[""] == {"secret"}


# The SDK leaves coroutines behind when a reference fails; they are collected within this test.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_other_stacks_are_answered() -> None:
    def program() -> None:
        other = pulumi.StackReference("organization/dds/cluster")
        pulumi.export("kubeconfig", other.require_output("kubeconfig"))
        pulumi.export("registry", other.require_output("registry"))

    references = {"organization/dds/cluster": {"kubeconfig": Secret("k"), "registry": "r"}}
    graph = build(program, references=references)
    assert graph.outputs[""] == {"kubeconfig": "k", "registry": "r"}
    assert graph.output_secrets[""] == {"kubeconfig"}
    with pytest.raises(
        GraphError, match="no outputs for the referenced stack organization/dds/cluster"
    ):
        build(program)
    gc.collect()


def test_a_stack_sees_its_own_outputs_of_the_last_update_which_are_none_at_first() -> None:
    def program() -> None:
        own = pulumi.StackReference("organization/dds/mine")
        pulumi.export("last", own.get_output("count"))

    assert build(program, stack="mine").outputs[""] == {}
    later = build(program, stack="mine", references={"organization/dds/mine": {"count": 3}})
    assert later.outputs[""] == {"last": 3}


def test_a_preview_does_not_know_what_only_an_update_can_know() -> None:
    seen: list[str] = []

    def program() -> None:
        config_map = ConfigMap("a")
        config_map.id.apply(lambda _: seen.append("id"))
        config_map.metadata["name"].apply(lambda _: seen.append("name"))
        Password("p").value.apply(lambda _: seen.append("password"))

    build(program, preview=True)
    assert seen == ["name"]
    seen.clear()
    build(program)
    assert sorted(seen) == ["id", "name", "password"]


def test_secret_outputs_of_dynamic_resources_are_secret() -> None:
    graph = build(lambda: pulumi.export("p", Password("p").value))
    assert graph.output_secrets[""] == {"p"}
    assert graph.outputs[""]["p"].startswith("value-")


def test_options_are_recorded() -> None:
    def program() -> None:
        ConfigMap(
            "a",
            opts=pulumi.ResourceOptions(
                protect=True,
                delete_before_replace=True,
                replace_on_changes=["data"],
                aliases=[pulumi.Alias(name="b")],
                custom_timeouts=pulumi.CustomTimeouts(create="5m"),
            ),
        )

    node = build(program).one("ConfigMap")
    assert node.protect
    assert node.delete_before_replace
    assert node.replace_on_changes == ("data",)
    assert node.timeouts == {"create": "5m"}
    assert 'name: "b"' in str(node.aliases)


def test_hooks_are_recorded() -> None:
    def program() -> None:
        hook = pulumi.ResourceHook("look", lambda _: None)
        ConfigMap(
            "a",
            opts=pulumi.ResourceOptions(hooks=pulumi.ResourceHookBinding(after_create=[hook])),
        )

    assert build(program).one("ConfigMap").hooks == {"after_create": ("look",)}


def test_transforms_run_from_the_inside_out() -> None:
    def add(text: str) -> pulumi.ResourceTransform:
        def transform(args: pulumi.ResourceTransformArgs) -> pulumi.ResourceTransformResult | None:
            if args.type_ != "kubernetes:core/v1:ConfigMap":
                return None
            data: Any = args.props["data"]
            return pulumi.ResourceTransformResult(
                {**args.props, "data": {**data, "order": data.get("order", "") + text}}, args.opts
            )

        return transform

    def program() -> None:
        pulumi.runtime.register_resource_transform(add("stack"))
        parent = pulumi.ComponentResource(
            "dds:index:P", "p", None, pulumi.ResourceOptions(transforms=[add("parent ")])
        )
        ConfigMap(
            "a",
            data={},
            opts=pulumi.ResourceOptions(parent=parent, transforms=[add("own ")]),
        )

    assert build(program).one("ConfigMap").inputs["data"]["order"] == "own parent stack"


def test_configuration_is_that_of_the_run_only() -> None:
    def program() -> None:
        pulumi.export("a", pulumi.Config("dds").get("a"))

    assert build(program, config={"dds:a": "1"}).outputs[""] == {"a": "1"}
    assert build(program).outputs[""] == {}


def test_nothing_is_left_of_a_run_that_failed() -> None:
    def fail() -> None:
        ConfigMap("a")
        raise RuntimeError("stop")

    with pytest.raises(RuntimeError):
        build(fail)
    assert len(build(lambda: ConfigMap("a")).nodes) == 1
    with pytest.raises(RuntimeError):
        asyncio.get_running_loop()


def test_objects_without_namespace_get_none() -> None:
    def program() -> None:
        Namespace("n")
        Service("s")

    graph = build(program)
    assert "namespace" not in graph.one("Namespace").outputs["metadata"]
    assert graph.one("Service").outputs["metadata"]["namespace"] == "default"


def test_finders_say_what_there_is() -> None:
    graph = build(lambda: Pair("pair"))
    with pytest.raises(GraphError, match=r"found 2 in: .*pair-first"):
        graph.one("ConfigMap")
    with pytest.raises(GraphError, match="found 0"):
        graph.one("Secret")
    with pytest.raises(GraphError, match="found 2"):
        graph.child(graph.one("Pair"), "ConfigMap")
