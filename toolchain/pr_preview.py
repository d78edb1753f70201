"""`make pr-preview BASE=<ref>`: the changes of the manifests of each composition.

Both revisions are rendered, each with its own code, and compared object by object. It needs neither
a cluster nor a state, so it compares renderings and not what is deployed. Prints Markdown.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any

from toolchain import manifests, paths, schema
from toolchain.errors import ToolchainError
from toolchain.manifests import Manifest

MOST_LINES = 40
"""Maximum differences of one object in the report."""
LONGEST = 100
"""Maximum characters of one value in the report."""
_DIGEST = re.compile(r"sha256:([0-9a-f]{12})[0-9a-f]{52}")
_ABSENT = object()
_LIST_COMPOSITIONS = "import json, stacks; print(json.dumps(sorted(stacks.COMPOSITIONS)))"

# Fields whose change replaces the object, in Kubernetes or in Pulumi.
_REPLACED = {
    "ConfigMap": ("data", "binaryData"),
    "Secret": ("data", "stringData", "type"),
    "Job": ("spec.template", "spec.selector", "spec.completions"),
    "Deployment": ("spec.selector",),
    "StatefulSet": (
        "spec.selector", "spec.serviceName", "spec.podManagementPolicy", "spec.volumeClaimTemplates",
    ),
    "PersistentVolumeClaim": ("spec.storageClassName", "spec.accessModes", "spec.volumeName"),
    "Service": ("spec.clusterIP",),
}  # fmt: skip
# References of a pod to objects: field, and the key in it with the name.
_MOUNTED = {
    "ConfigMap": (("configMap", "name"), ("configMapRef", "name"), ("configMapKeyRef", "name")),
    "Secret": (("secret", "secretName"), ("secret", "name"), ("secretRef", "name"),
               ("secretKeyRef", "name")),
}  # fmt: skip
_WORKLOADS = ("Deployment", "StatefulSet", "DaemonSet")


class Effect(Enum):
    """The effect of an update on one object."""

    ADDED = "added"
    REMOVED = "removed"
    REPLACED = "replaced"
    ROLLED = "updated, its pods are replaced"
    UPDATED = "updated in place"


@dataclass(frozen=True)
class Change:
    """One object that differs, with the fields."""

    label: str
    effect: Effect
    fields: tuple[str, ...] = ()


@dataclass
class Comparison:
    """The comparison of one composition."""

    name: str
    changes: list[Change] = field(default_factory=list)
    same: int = 0
    note: str = ""

    @property
    def total(self) -> str:
        counts = [
            f"{number} {effect.value}"
            for effect in Effect
            if (number := sum(change.effect is effect for change in self.changes))
        ]
        if self.same or not counts:
            counts.append(f"{self.same} unchanged" if self.same else "no objects")
        return f"{self.name}: {'; '.join(counts)}"


def main(arguments: Sequence[str]) -> int:
    """Compare with a base; the command line of ``python -m toolchain pr-preview``."""
    parser = argparse.ArgumentParser(prog="pr-preview", description=__doc__.partition("\n")[0])
    parser.add_argument("--base", required=True, help="branch, tag or commit to compare with")
    given = parser.parse_args(arguments)
    if not given.base:
        raise ToolchainError("pr-preview: BASE is missing: make pr-preview BASE=main")
    with tempfile.TemporaryDirectory(prefix="dds-pr-preview-") as temporary:
        folder = Path(temporary)
        with worktree(paths.ROOT, given.base, folder / "tree") as tree:
            before, notes = render_base(tree, folder / "before")
            schemas = [schema.written(root) for root in (tree, paths.ROOT)]
        after = render_tree(paths.ROOT, folder / "after")
        compared = [
            compare(name, before.get(name, []), after.get(name, []))
            for name in sorted({*before, *after, *notes} - {""})
        ]
    for comparison in compared:
        comparison.note = notes.get(comparison.name, notes.get("", ""))
    print(markdown(given.base, compared, schema.lines(schema.changes(*schemas))))
    return 0


@contextmanager
def worktree(root: Path, ref: str, folder: Path) -> Iterator[Path]:
    """Check out `ref` of the repository at `root` into `folder` while the body runs.

    :raises ToolchainError: no such ref
    """
    commit = _git(root, "rev-parse", "--verify", "--quiet", f"{ref}^{{commit}}")
    if commit.returncode:
        raise ToolchainError(
            f"pr-preview: BASE is {ref!r}; it must be a branch, tag or commit of this repository "
            "(in a shallow clone, fetch the base first)"
        )
    added = _git(root, "worktree", "add", "--detach", "--force", str(folder), commit.stdout.strip())
    if added.returncode:
        raise ToolchainError(f"pr-preview: git worktree add failed: {added.stderr.strip()}")
    try:
        yield folder
    finally:
        _git(root, "worktree", "remove", "--force", str(folder))


def _git(root: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["git", "-C", str(root), *words],
        capture_output=True,
        text=True,
        check=False,
        stdin=subprocess.DEVNULL,
    )


def render_base(tree: Path, out: Path) -> tuple[dict[str, list[Manifest]], dict[str, str]]:
    """Render the base: a base without a renderer is empty, one that fails is empty with a note.

    :returns: objects by composition, and notes by composition (the empty name: for all)
    """
    if not (tree / "toolchain" / "render.py").exists():
        return {}, {"": "The base has no renderer yet; everything counts as added."}
    try:
        names = compositions(tree)
    except ToolchainError as error:
        return {}, {"": f"The base could not be read, so everything counts as added: {error}"}
    rendered: dict[str, list[Manifest]] = {}
    notes: dict[str, str] = {}
    for name in names:
        try:
            rendered[name] = render_one(tree, name, out / name)
        except ToolchainError as error:
            notes[name] = f"The base could not be rendered and counts as empty: {error}"
    return rendered, notes


def render_tree(tree: Path, out: Path) -> dict[str, list[Manifest]]:
    """Render every composition of a checkout with that checkout's own code."""
    return {name: render_one(tree, name, out / name) for name in compositions(tree)}


def compositions(tree: Path) -> list[str]:
    """The names of a checkout's compositions."""
    names = json.loads(_python(tree, "-c", _LIST_COMPOSITIONS))
    return [str(name) for name in names]


def render_one(tree: Path, name: str, out: Path) -> list[Manifest]:
    """Render one composition with the code of its own checkout."""
    _python(tree, "-m", "toolchain", "render", "--stack", name, "--out", str(out))
    return manifests.read(out)


def _python(tree: Path, *words: str) -> str:
    # The tree's package precedes the installed one, which is this checkout's.
    package = tree / "components"
    # Before it was one, a folder there had the name of a standard module.
    paths = [tree, package] if (package / "dds_patterns").exists() else [tree]
    # -B: write no bytecode into the tree.
    done = subprocess.run(
        [sys.executable, "-B", *words],
        cwd=tree,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(map(str, paths))},
        capture_output=True,
        text=True,
        check=False,
        stdin=subprocess.DEVNULL,
    )
    if done.returncode:
        last = (done.stderr.strip() or done.stdout.strip()).splitlines()[-1:]
        raise ToolchainError(" ".join(last) or f"python exited with {done.returncode}")
    return done.stdout


def compare(name: str, before: Sequence[Manifest], after: Sequence[Manifest]) -> Comparison:
    """Compare two renderings of a composition, object by object."""
    names = {**_given_names(before), **_given_names(after)}
    claims = {_key(item) for item in after if item.kind == "PersistentVolumeClaim"}
    old = {_key(item): _without_sizes(_normal(item.body, names), claims) for item in before}
    new = {_key(item): _without_sizes(_normal(item.body, names), claims) for item in after}
    comparison = Comparison(name)
    replaced = {
        (kind, logical)
        for item in after
        if (kind := item.kind) in _MOUNTED
        and (logical := names.get(item.name))
        and (key := _key(item)) in old
        and _effect(kind, list(_differences(old[key], new[key]))) is Effect.REPLACED
    }
    for key in sorted({*old, *new}):
        label = _label(key)
        if key not in new:
            comparison.changes.append(Change(label, Effect.REMOVED))
        elif key not in old:
            comparison.changes.append(Change(label, Effect.ADDED))
        else:
            change = _changed(key, old[key], new[key], replaced)
            if change is None:
                comparison.same += 1
            else:
                comparison.changes.append(change)
    return comparison


def _changed(
    key: tuple[str, str, str],
    old: Mapping[str, Any],
    new: Mapping[str, Any],
    replaced: set[tuple[str, str]],
) -> Change | None:
    kind = key[1]
    differences = list(_differences(old, new))
    effect = _effect(kind, differences)
    fields = [_line(kind, *difference) for difference in differences]
    mounted = sorted(replaced & set(_mounted(new))) if kind in (*_WORKLOADS, "Job") else []
    if mounted and effect in (None, Effect.UPDATED):
        effect = Effect.REPLACED if kind == "Job" else Effect.ROLLED
    fields += [f"mounts {kind} {name}, which is replaced" for kind, name in mounted]
    return None if effect is None else Change(_label(key), effect, tuple(fields))


def _effect(kind: str, differences: Sequence[tuple[str, Any, Any]]) -> Effect | None:
    changed = [path for path, _, _ in differences]
    if not changed:
        return None
    if any(_within(path, fixed) for path in changed for fixed in _REPLACED.get(kind, ())):
        return Effect.REPLACED
    if kind in _WORKLOADS and any(_within(path, "spec.template") for path in changed):
        return Effect.ROLLED
    return Effect.UPDATED


def _within(path: str, field_path: str) -> bool:
    return path == field_path or path.startswith((f"{field_path}.", f"{field_path}["))


def _given_names(items: Sequence[Manifest]) -> dict[str, str]:
    """Each auto-name with its name without the random digits."""
    return {item.name: item.logical_name for item in items if item.name != item.logical_name}


def _key(item: Manifest) -> tuple[str, str, str]:
    return (item.namespace, item.kind, item.logical_name)


def _label(key: tuple[str, str, str]) -> str:
    namespace, kind, name = key
    return f"{kind} {namespace}/{name}" if namespace else f"{kind} {name}"


def _normal(value: Any, names: Mapping[str, str]) -> Any:
    """The object with auto-names without their random digits."""
    if isinstance(value, Mapping):
        return {key: _normal(item, names) for key, item in value.items()}
    if isinstance(value, list):
        return [_normal(item, names) for item in value]
    return names.get(value, value) if isinstance(value, str) else value


def _without_sizes(body: Mapping[str, Any], claims: set[tuple[str, str, str]]) -> Mapping[str, Any]:
    """A StatefulSet without the sizes in its claim templates, if the claims are declared: these sizes
    do not change with an update.
    """
    if body["kind"] != "StatefulSet":
        return body
    metadata = body["metadata"]

    def declared(template: Mapping[str, Any]) -> bool:
        first = f"{template['metadata']['name']}-{metadata['name']}-0"
        return (metadata.get("namespace", ""), "PersistentVolumeClaim", first) in claims

    spec = dict(body["spec"])
    spec["volumeClaimTemplates"] = [
        {**template, "spec": {k: v for k, v in template["spec"].items() if k != "resources"}}
        if declared(template)
        else template
        for template in spec.get("volumeClaimTemplates", [])
    ]
    return {**body, "spec": spec}


def _mounted(value: Any) -> Iterator[tuple[str, str]]:
    """Kind and name of every ConfigMap and Secret that a pod refers to."""
    if isinstance(value, list):
        for item in value:
            yield from _mounted(item)
    elif isinstance(value, Mapping):
        for kind, references in _MOUNTED.items():
            for reference, name in references:
                referred = value.get(reference)
                if isinstance(referred, Mapping) and isinstance(referred.get(name), str):
                    yield kind, referred[name]
        for item in value.values():
            yield from _mounted(item)


def _differences(old: Any, new: Any, path: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Each field that differs: its path, the old and the new value."""
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        for key in sorted({*old, *new}):
            below = f"{path}.{key}" if path else str(key)
            yield from _differences(old.get(key, _ABSENT), new.get(key, _ABSENT), below)
    elif isinstance(old, list) and isinstance(new, list):
        yield from _list_differences(old, new, path)
    elif old is _ABSENT or new is _ABSENT or old != new or type(old) is not type(new):
        yield path, old, new


def _list_differences(old: list[Any], new: list[Any], path: str) -> Iterator[tuple[str, Any, Any]]:
    old_by, new_by = _by_name(old), _by_name(new)
    if old_by is None or new_by is None:
        # Items without names are compared by position.
        old_by = {str(position): item for position, item in enumerate(old)}
        new_by = {str(position): item for position, item in enumerate(new)}
    elif list(old_by) != list(new_by) and sorted(old_by) == sorted(new_by):
        yield f"{path} (order)", list(old_by), list(new_by)
    for key in [*old_by, *(key for key in new_by if key not in old_by)]:
        yield from _differences(
            old_by.get(key, _ABSENT), new_by.get(key, _ABSENT), f"{path}[{key}]"
        )


def _by_name(items: list[Any]) -> dict[str, Any] | None:
    """Items by name, if each has a unique one."""
    if not all(isinstance(item, Mapping) and isinstance(item.get("name"), str) for item in items):
        return None
    named = {item["name"]: item for item in items}
    return named if len(named) == len(items) else None


def _line(kind: str, path: str, old: Any, new: Any) -> str:
    if kind == "Secret" and path.startswith(("data", "stringData")):
        return f"`{path}`: changed (secret)"
    if isinstance(old, str) and isinstance(new, str) and "\n" in old + new:
        return f"`{path}`: {_text_difference(old, new)}"
    return f"`{path}`: {_shown(old)} → {_shown(new)}"


def _text_difference(old: str, new: str) -> str:
    before, after = old.splitlines(), new.splitlines()
    gone = [line for line in before if line not in after]
    come = [line for line in after if line not in before]
    if len(gone) == len(come) == 1:
        return f"{_shown(gone[0].strip())} → {_shown(come[0].strip())}"
    return f"text changed, {len(gone)} lines removed and {len(come)} added"


def _shown(value: Any) -> str:
    if value is _ABSENT:
        return "(none)"
    text = value if isinstance(value, str) else json.dumps(value, sort_keys=True)
    text = _DIGEST.sub(r"sha256:\1…", text).replace("`", "'").replace("\n", "⏎")
    return f"`{text if len(text) <= LONGEST else text[: LONGEST - 1] + '…'}`"


def markdown(base: str, compared: Sequence[Comparison], schema_changes: Sequence[str] = ()) -> str:
    """The complete report.

    :param schema_changes: what programs in other languages see, a line each
    """
    lines = [f"## Manifests compared with `{base}`", ""]
    for comparison in compared:
        lines += [f"### {comparison.name}", ""]
        if comparison.note:
            lines += [f"> {comparison.note}", ""]
        if not comparison.changes:
            lines += ["No change.", ""]
        for effect in Effect:
            chosen = [change for change in comparison.changes if change.effect is effect]
            if not chosen:
                continue
            lines += [f"**{effect.value.capitalize()}**", ""]
            for change in chosen:
                lines.append(f"- {change.label}")
                lines += [f"  - {text}" for text in change.fields[:MOST_LINES]]
                if len(change.fields) > MOST_LINES:
                    lines.append(f"  - and {len(change.fields) - MOST_LINES} more fields")
            lines.append("")
    if schema_changes:
        lines += ["### Schema", "", *(f"- {change}" for change in schema_changes[:MOST_LINES])]
        if len(schema_changes) > MOST_LINES:
            lines.append(f"- and {len(schema_changes) - MOST_LINES} more")
        lines.append("")
    lines += ["### Total", ""]
    lines += [f"- {comparison.total}" for comparison in compared] or ["- no composition"]
    return "\n".join(lines)
