import subprocess
from pathlib import Path
from typing import Any

import pytest

from toolchain import paths, pr_preview
from toolchain.errors import ToolchainError
from toolchain.manifests import Manifest
from toolchain.pr_preview import Comparison, Effect

DIGEST = "sha256:" + "a1" * 32
OTHER_DIGEST = "sha256:" + "b2" * 32


def made(kind: str, name: str, **fields: Any) -> Manifest:
    body = {"apiVersion": "v1", "kind": kind, "metadata": {"name": name, "namespace": "n"}}
    return Manifest({**body, **fields}, Path("x.yaml"))


def deployment(config: str = "web-files-0a1b2c3d", image: str = "r/web:1") -> Manifest:
    volume = {"name": "files", "configMap": {"name": config}}
    pod = {"containers": [{"name": "web", "image": image}], "volumes": [volume]}
    return made("Deployment", "web-11111111", spec={"replicas": 2, "template": {"spec": pod}})


def config_map(text: str = "a", name: str = "web-files-0a1b2c3d") -> Manifest:
    return made("ConfigMap", name, data={"app.conf": text})


def effects(comparison: Comparison) -> dict[str, Effect]:
    return {change.label: change.effect for change in comparison.changes}


def report(before: list[Manifest], after: list[Manifest]) -> str:
    return pr_preview.markdown("main", [pr_preview.compare("demo", before, after)])


def test_objects_added_removed_and_unchanged() -> None:
    compared = pr_preview.compare(
        "demo", [made("Service", "old"), made("Service", "same")],
        [made("Service", "new"), made("Service", "same")],
    )  # fmt: skip
    assert effects(compared) == {"Service n/old": Effect.REMOVED, "Service n/new": Effect.ADDED}
    assert compared.total == "demo: 1 added; 1 removed; 1 unchanged"


def claim(size: str, storage_class: str = "fast") -> Manifest:
    return made("PersistentVolumeClaim", "data-db-0", spec=claim_spec(size, storage_class))


def claim_spec(size: str, storage_class: str = "fast") -> dict[str, Any]:
    return {"resources": {"requests": {"storage": size}}, "storageClassName": storage_class}


def stateful_set(size: str, storage_class: str = "fast") -> Manifest:
    template = {"metadata": {"name": "data"}, "spec": claim_spec(size, storage_class)}
    return made("StatefulSet", "db", spec={"volumeClaimTemplates": [template]})


def test_another_size_resizes_claims_that_are_declared() -> None:
    after = [claim("2Gi"), stateful_set("2Gi")]
    for before in ([claim("1Gi"), stateful_set("1Gi")], [stateful_set("1Gi")]):
        found = effects(pr_preview.compare("demo", before, after))
        assert "StatefulSet n/db" not in found
        assert found["PersistentVolumeClaim n/data-db-0"] in (Effect.UPDATED, Effect.ADDED)
    # Of those that are not, the StatefulSet alone has the size.
    compared = pr_preview.compare("demo", [stateful_set("1Gi")], [stateful_set("2Gi")])
    assert effects(compared) == {"StatefulSet n/db": Effect.REPLACED}


def test_another_class_replaces_claims_and_their_stateful_set() -> None:
    before, after = ([claim("1Gi", name), stateful_set("1Gi", name)] for name in ("fast", "slow"))
    assert set(effects(pr_preview.compare("demo", before, after)).values()) == {Effect.REPLACED}


def test_digits_of_auto_names_are_no_difference() -> None:
    before = [deployment("web-files-00000000"), config_map(name="web-files-00000000")]
    after = [deployment("web-files-ffffffff"), config_map(name="web-files-ffffffff")]
    compared = pr_preview.compare("demo", before, after)
    assert not compared.changes
    assert compared.same == 2


def test_changed_data_replaces_the_config_map_and_rolls_what_mounts_it() -> None:
    other = made("Deployment", "other", spec={"template": {"spec": {"x": "web-files"}}})
    compared = pr_preview.compare(
        "demo", [deployment(), config_map("a: 1"), other], [deployment(), config_map("a: 2"), other]
    )
    assert effects(compared) == {
        "ConfigMap n/web-files": Effect.REPLACED,
        "Deployment n/web": Effect.ROLLED,
    }
    assert "mounts ConfigMap web-files, which is replaced" in report(
        [deployment(), config_map("a: 1")], [deployment(), config_map("a: 2")]
    )


def test_a_config_map_of_stable_name_rolls_nothing() -> None:
    before = [deployment("web-files"), config_map("a: 1", "web-files")]
    after = [deployment("web-files"), config_map("a: 2", "web-files")]
    assert effects(pr_preview.compare("demo", before, after)) == {
        "ConfigMap n/web-files": Effect.REPLACED
    }


def test_a_changed_pod_rolls_and_a_changed_count_does_not() -> None:
    more = deployment()
    more.body["spec"]["replicas"] = 3
    rolled = pr_preview.compare("demo", [deployment()], [deployment(image="r/web:2")])
    updated = pr_preview.compare("demo", [deployment()], [more])
    assert effects(rolled) == {"Deployment n/web": Effect.ROLLED}
    assert effects(updated) == {"Deployment n/web": Effect.UPDATED}
    assert updated.changes[0].fields == ("`spec.replicas`: `2` → `3`",)


@pytest.mark.parametrize(
    ("kind", "before", "after"),
    [
        ("Job", {"template": {"a": 1}}, {"template": {"a": 2}}),
        ("StatefulSet", {"serviceName": "a"}, {"serviceName": "b"}),
        ("Deployment", {"selector": {"a": "b"}}, {"selector": {"a": "c"}}),
    ],
)
def test_immutable_fields_replace(kind: str, before: Any, after: Any) -> None:
    compared = pr_preview.compare(
        "demo", [made(kind, "x", spec=before)], [made(kind, "x", spec=after)]
    )
    assert effects(compared) == {f"{kind} n/x": Effect.REPLACED}


def test_image_digests_are_shortened() -> None:
    text = report(
        [deployment(image=f"r/web@{DIGEST}")], [deployment(image=f"r/web@{OTHER_DIGEST}")]
    )
    assert (
        "`spec.template.spec.containers[web].image`: "
        "`r/web@sha256:a1a1a1a1a1a1…` → `r/web@sha256:b2b2b2b2b2b2…`"
    ) in text
    assert DIGEST not in text


def test_secrets_are_never_shown() -> None:
    before = made("Secret", "s", data={"password": "b2xk"}, stringData={"p": "old-word"})
    after = made("Secret", "s", data={"password": "bmV3"}, stringData={"p": "new-word", "q": "3rd"})
    text = report([before], [after])
    assert "`data.password`: changed (secret)" in text
    for word in ("b2xk", "bmV3", "old-word", "new-word", "3rd"):
        assert word not in text


def test_a_list_of_named_items_is_compared_by_name() -> None:
    def service(*ports: tuple[str, int]) -> Manifest:
        listed = [{"name": name, "port": port} for name, port in ports]
        return made("Service", "s", spec={"ports": listed})

    [change] = pr_preview.compare(
        "demo", [service(("a", 1), ("b", 2))], [service(("new", 9), ("a", 1), ("b", 3))]
    ).changes
    assert change.fields == (
        "`spec.ports[b].port`: `2` → `3`",
        '`spec.ports[new]`: (none) → `{"name": "new", "port": 9}`',
    )


def test_a_changed_line_of_a_file_is_shown_as_the_line() -> None:
    [change] = pr_preview.compare(
        "demo", [config_map("a: 1\nb: 2\n")], [config_map("a: 1\nb: 3\n")]
    ).changes
    assert change.fields == ("`data.app.conf`: `b: 2` → `b: 3`",)


def test_the_report_ends_with_one_line_a_composition() -> None:
    text = pr_preview.markdown(
        "main", [pr_preview.compare("a", [], [config_map()]), pr_preview.compare("b", [], [])]
    )
    assert text.splitlines()[-2:] == ["- a: 1 added", "- b: no objects"]


RENDERER = """
import argparse, pathlib
parser = argparse.ArgumentParser()
parser.add_argument("command")
parser.add_argument("--stack")
parser.add_argument("--out", type=pathlib.Path)
given = parser.parse_args()
given.out.mkdir(parents=True)
(given.out / "s.yaml").write_text(
    "apiVersion: v1\\nkind: Service\\nmetadata: {name: s}\\nspec: {type: TYPE}\\n")
"""


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A repository with an empty first commit, tag `empty`, and a renderer in the second."""
    root = tmp_path / "repository"
    root.mkdir()
    git(root, "init", "-q")
    git(root, "commit", "-q", "--allow-empty", "-m", "first")
    git(root, "tag", "empty")
    (root / "stacks.py").write_text('COMPOSITIONS = {"demo": None}\n')
    (root / "toolchain").mkdir()
    (root / "toolchain" / "render.py").touch()
    (root / "toolchain" / "__main__.py").write_text(RENDERER.replace("TYPE", "ClusterIP"))
    git(root, "add", ".")
    git(root, "commit", "-q", "-m", "second")
    git(root, "tag", "rendered")
    return root


def git(root: Path, *words: str) -> str:
    identity = ["-c", "user.name=t", "-c", "user.email=t@example.com", "-c", "commit.gpgsign=false"]
    return subprocess.run(
        ["git", *identity, *words], cwd=root, check=True, capture_output=True, text=True
    ).stdout


def test_each_side_is_rendered_by_its_own_code(
    repository: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(paths, "ROOT", repository)
    (repository / "toolchain" / "__main__.py").write_text(RENDERER.replace("TYPE", "NodePort"))
    assert pr_preview.main(["--base", "rendered"]) == 0
    assert "`spec.type`: `ClusterIP` → `NodePort`" in capsys.readouterr().out
    assert len(git(repository, "worktree", "list").splitlines()) == 1


def test_the_package_of_a_checkout_comes_before_the_installed_one(
    repository: Path, tmp_path: Path
) -> None:
    package = repository / "components" / "dds_patterns"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text('KIND = "LoadBalancer"\n')
    renderer = "import dds_patterns\n" + RENDERER.replace(
        'TYPE}\\n")', '" + dds_patterns.KIND + "}")'
    )
    (repository / "toolchain" / "__main__.py").write_text(renderer)
    (service,) = pr_preview.render_one(repository, "demo", tmp_path / "out")
    assert service.body["spec"]["type"] == "LoadBalancer"


def test_a_checkout_from_before_the_package_is_rendered(repository: Path, tmp_path: Path) -> None:
    former = repository / "components" / "platform"
    former.mkdir(parents=True)
    (former / "__init__.py").touch()
    renderer = "import platform\nplatform.system()\n" + RENDERER.replace("TYPE", "ClusterIP")
    (repository / "toolchain" / "__main__.py").write_text(renderer)
    assert pr_preview.render_one(repository, "demo", tmp_path / "out")


def test_a_base_without_a_renderer_is_empty(
    repository: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(paths, "ROOT", repository)
    assert pr_preview.main(["--base", "empty"]) == 0
    out = capsys.readouterr().out
    assert "The base has no renderer yet" in out
    assert out.splitlines()[-1] == "- demo: 1 added"


def test_a_composition_that_is_removed_and_could_not_be_rendered_is_named(
    repository: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(paths, "ROOT", repository)
    monkeypatch.setattr(pr_preview, "render_base", lambda *_: ({}, {"gone": "no such colour"}))
    assert pr_preview.main(["--base", "rendered"]) == 0
    assert "### gone\n\n> no such colour" in capsys.readouterr().out


def test_a_base_that_fails_says_so(repository: Path, tmp_path: Path) -> None:
    (repository / "toolchain" / "__main__.py").write_text("raise SystemExit('no such colour')")
    rendered, notes = pr_preview.render_base(repository, tmp_path / "out")
    assert not rendered
    assert notes == {"demo": "The base could not be rendered and counts as empty: no such colour"}


def test_a_working_tree_that_fails_is_an_error(repository: Path, tmp_path: Path) -> None:
    (repository / "toolchain" / "__main__.py").write_text("raise SystemExit('no such colour')")
    with pytest.raises(ToolchainError, match="no such colour"):
        pr_preview.render_tree(repository, tmp_path / "out")


def test_an_unknown_base_is_an_error(repository: Path, tmp_path: Path) -> None:
    with (
        pytest.raises(ToolchainError, match="BASE is 'nowhere'"),
        pr_preview.worktree(repository, "nowhere", tmp_path / "tree"),
    ):
        pass
