import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from toolchain import builds, kubernetes_stubs, lint, manifest_checks, manifests
from toolchain.errors import ToolchainError
from toolchain.lint import Rendering, Step
from toolchain.manifest_checks import Exemption, Finding

REASON = "written down"


def config_map(**fields: Any) -> dict[str, Any]:
    metadata = {"name": "c-0a1b2c3d", "namespace": "shop"}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {}, **fields}


def pod(**fields: Any) -> dict[str, Any]:
    container = {"name": "web", "image": "r/web:1", **fields}
    metadata = {"name": "p", "namespace": "shop"}
    return {
        "apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": {"containers": [container]}
    }  # fmt: skip


Render = Callable[..., Rendering]


@pytest.fixture
def rendering() -> Render:
    def make(*bodies: dict[str, Any]) -> Rendering:
        def write(folder: Path) -> None:
            folder.mkdir(parents=True)
            for number, body in enumerate(bodies):
                (folder / f"{number}.yaml").write_text(yaml.safe_dump(body))

        return Rendering("demo", write)

    return make


@pytest.fixture
def exemptions(tmp_path: Path) -> Callable[..., Path]:
    def write(*entries: dict[str, str]) -> Path:
        path = tmp_path / "exemptions.yaml"
        path.write_text(yaml.safe_dump(list(entries)))
        return path

    return write


def test_valid_manifests_pass(rendering: Render, exemptions: Callable[..., Path]) -> None:
    assert lint.check_manifests([rendering(config_map())], exemptions()) == []


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        (config_map(dat={}), "ConfigMap/c: schema: '': additional properties 'dat' not allowed"),
        (config_map(data={"a": 1}), "ConfigMap/c: schema: '/data/a': got number, want null or str"),
        (config_map(kind="ConfigMop"), "ConfigMop/c: schema: could not find schema"),
        (pod(imag="x"), "additional properties 'imag' not allowed"),
    ],
)
def test_kubeconform_refuses_what_the_api_would(
    rendering: Render, exemptions: Callable[..., Path], body: dict[str, Any], problem: str
) -> None:
    problems = lint.check_manifests([rendering(body)], exemptions())
    assert any(problem in line for line in problems), problems


def test_kube_score_finds_what_is_bad_practice(
    rendering: Render, exemptions: Callable[..., Path]
) -> None:
    problems = lint.check_manifests([rendering(pod(image="r/web:latest"))], exemptions())
    assert "Pod/p: container-image-tag: web: Image with latest tag" in problems
    # An optional check, and one that looks at other objects.
    assert any(line.startswith("Pod/p: container-seccomp-profile:") for line in problems)
    assert any(line.startswith("Pod/p: pod-networkpolicy:") for line in problems)


def test_an_annotation_exempts_nothing(rendering: Render, exemptions: Callable[..., Path]) -> None:
    body = pod(image="r/web:latest")
    body["metadata"]["annotations"] = {"kube-score/ignore": "container-image-tag"}
    problems = lint.check_manifests([rendering(body)], exemptions())
    assert any("container-image-tag" in line for line in problems)


def test_an_exemption_covers_its_finding_only(
    rendering: Render, exemptions: Callable[..., Path]
) -> None:
    listed = exemptions({"check": "container-image-tag", "object": "Pod/*", "reason": REASON})
    problems = lint.check_manifests([rendering(pod(image="r/web:latest"))], listed)
    assert problems
    assert not any("container-image-tag" in line for line in problems)


def test_an_exemption_that_covers_nothing_is_a_problem(
    rendering: Render, exemptions: Callable[..., Path]
) -> None:
    listed = exemptions({"check": "service-type", "object": "*", "reason": REASON})
    assert lint.check_manifests([rendering(config_map())], listed) == [
        "exemption service-type for * matches no finding; remove it"
    ]


def test_judging_is_by_check_and_object() -> None:
    findings = [
        Finding("a", "Pod/x", "bad"),
        Finding("b", "Pod/x", "bad"),
        Finding("a", "Job/x", ""),
    ]
    assert manifest_checks.judge(findings, [Exemption("a", "Pod/*", REASON)]) == [
        "Job/x: a: ",
        "Pod/x: b: bad",
    ]


@pytest.mark.parametrize(
    ("entries", "expected"),
    [
        ([{"check": "a", "object": "*"}], "must have check, object and reason"),
        ([{"check": "a", "object": "*", "reason": " "}], "has no reason"),
        ([{"check": "a", "object": "*", "reason": "x", "until": "then"}], "must have check"),
        ([{"check": "a", "object": "*", "reason": "x"}] * 2, "is listed twice"),
        (["a"], "must have check"),
        ({"a": 1}, "must be a list"),
    ],
)
def test_the_list_of_exemptions_is_checked(tmp_path: Path, entries: Any, expected: str) -> None:
    path = tmp_path / "exemptions.yaml"
    path.write_text(yaml.safe_dump(entries))
    with pytest.raises(ToolchainError, match=expected):
        manifest_checks.read_exemptions(path)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "- check: a\n  object: b\n  check: c\n  reason: d\n",
            "'check' is listed twice in one entry",
        ),
        ("- check: [\n", "exemptions.yaml: "),
    ],
)
def test_a_list_that_cannot_be_meant_is_refused(tmp_path: Path, text: str, expected: str) -> None:
    path = tmp_path / "exemptions.yaml"
    path.write_text(text)
    with pytest.raises(ToolchainError, match=expected):
        manifest_checks.read_exemptions(path)


def test_the_projects_own_exemptions_are_well_formed() -> None:
    assert manifest_checks.read_exemptions(lint.EXEMPTIONS)


def test_every_variant_is_one_of_a_composition() -> None:
    names = [rendering.name for rendering in lint.renderings()]
    assert {"ambassadors", "ambassadors-store", "ambassadors-seed"} <= set(names)
    assert len(names) == len(set(names))


def test_a_variant_of_an_unknown_composition_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "variants.yaml"
    path.write_text("ambasadors: {}\n")
    monkeypatch.setattr(lint, "VARIANTS", path)
    with pytest.raises(ToolchainError, match="has unknown compositions: ambasadors"):
        lint.renderings()


def test_a_folder_with_something_else_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "x.yaml").write_text("just: text\n")
    with pytest.raises(ToolchainError, match="without apiVersion and kind"):
        manifests.read(tmp_path)


def test_every_step_runs_and_one_failure_fails_the_whole(
    capsys: pytest.CaptureFixture[str],
) -> None:
    def broken() -> list[str]:
        raise ToolchainError("cannot start")

    steps = [Step("one", lambda: ["line 3: bad"]), Step("two", broken), Step("three", list)]
    assert lint.run(steps) == 1
    out = capsys.readouterr().out
    assert "    line 3: bad\n" in out
    assert "    cannot start\n" in out
    assert out.endswith("lint: 2 of 3 steps failed: one, two\n")
    assert lint.run(steps[2:]) == 0


def test_a_checker_that_fails_silently_still_fails() -> None:
    assert lint.command([sys.executable, "-c", "raise SystemExit(3)"])
    assert lint.command([sys.executable, "-c", "print('noise')"]) == []


def test_a_workflow_with_a_mistake_is_found(tmp_path: Path) -> None:
    workflow = tmp_path / "x.yml"
    workflow.write_text("on: push\njobs:\n  a:\n    runs-on: ubuntu-latest\n    step: []\n")
    program = builds.ensure("lint") / "actionlint"
    done = subprocess.run([program, workflow], capture_output=True, text=True, check=False)
    assert done.returncode
    assert 'unexpected key "step"' in done.stdout


STUB_SOURCE = '''
import pulumi
__all__ = ['ThingArgsDict', 'ThingArgs', 'ThingPatchArgs', 'Thing', 'ThingPatch']
class ThingArgsDict(TypedDict):
    size: NotRequired[pulumi.Input[int]]
    """Long text."""
@pulumi.input_type
class ThingArgs:
    def __init__(__self__, *, size=None): ...
class ThingPatchArgsDict(TypedDict):
    size: NotRequired[pulumi.Input[int]]
class Thing(pulumi.CustomResource):
    @overload
    def __init__(__self__, resource_name: str, opts=None,
                 spec: pulumi.Input[Union['ThingArgs', 'ThingArgsDict']] = None): ...
    @overload
    def __init__(__self__, resource_name: str, args: ThingInitArgs, opts=None): ...
    def __init__(__self__, resource_name: str, *args, **kwargs): ...
    @pulumi.getter
    def size(self): ...
    @property
    @pulumi.getter
    def spec(self) -> pulumi.Output['ThingArgsDict']:
        return pulumi.get(self, "spec")
'''


def test_stubs_keep_dictionaries_and_resources_and_drop_the_rest(tmp_path: Path) -> None:
    source = tmp_path / "thing.py"
    source.write_text(STUB_SOURCE)
    stub = kubernetes_stubs._stub(source)
    assert "size: NotRequired[_Input[int]]" in stub
    assert "spec: _Input['ThingArgsDict']=..." in stub
    assert stub.count("def __init__") == 1
    assert "def spec(self) -> pulumi.Output['ThingArgsDict']" in stub
    for gone in ("Patch", "Long text", "class ThingArgs:", "'ThingArgs'", "return"):
        assert gone not in stub, gone
