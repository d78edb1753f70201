"""Runs kubeconform and kube-score on rendered manifests, and applies the exemptions.

Nothing is downloaded: the schemas come from the package kubernetes-validate.
"""

import fnmatch
import json
import re
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import yaml

from toolchain import manifests
from toolchain.errors import ToolchainError

GRADE_ALL_OK = 10


@dataclass(frozen=True, order=True)
class Finding:
    """A finding of a checker about one object."""

    check: str
    object: str
    """Kind/name, without the suffix of an auto-name."""
    text: str


@dataclass(frozen=True)
class Exemption:
    """A check that is ignored for some objects, with the reason."""

    check: str
    object: str
    """Kind/name; `*` matches any characters."""
    reason: str

    def covers(self, finding: Finding) -> bool:
        return finding.check == self.check and fnmatch.fnmatchcase(finding.object, self.object)


class _UniqueKeys(yaml.SafeLoader):
    """Refuses duplicate keys, of which YAML's loader would silently use the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        for key, (place, _) in zip(keys, node.value, strict=True):
            if keys.count(key) > 1:
                raise yaml.constructor.ConstructorError(
                    None, None, f"{key!r} is listed twice in one entry", place.start_mark
                )
        return super().construct_mapping(node, deep)


def read_exemptions(path: Path) -> list[Exemption]:
    """Read the list of exemptions; each has exactly `check`, `object` and `reason`.

    :raises ToolchainError: an invalid entry, one without a reason, a duplicate entry or key
    """
    try:
        entries = yaml.load(path.read_text(encoding="utf-8"), _UniqueKeys) or []  # noqa: S506
    except yaml.YAMLError as error:
        raise ToolchainError(f"{path.name}: {error}") from None
    if not isinstance(entries, list):
        raise ToolchainError(f"{path.name}: must be a list of {{check, object, reason}}")
    found: list[Exemption] = []
    for number, entry in enumerate(entries, start=1):
        if not isinstance(entry, dict) or set(entry) != {"check", "object", "reason"}:
            raise ToolchainError(
                f"{path.name}: entry {number} is {entry!r}; it must have check, object and reason"
            )
        exemption = Exemption(**{key: str(value or "").strip() for key, value in entry.items()})
        if not exemption.reason:
            raise ToolchainError(f"{path.name}: entry {number} ({exemption.check}) has no reason")
        if any((exemption.check, exemption.object) == (e.check, e.object) for e in found):
            raise ToolchainError(
                f"{path.name}: {exemption.check} for {exemption.object} is listed twice"
            )
        found.append(exemption)
    return found


def judge(findings: Iterable[Finding], exemptions: Sequence[Exemption]) -> list[str]:
    """Lines for every finding without an exemption and every exemption without a finding."""
    unused = set(exemptions)
    lines: list[str] = []
    for finding in sorted(set(findings)):
        covering = {exemption for exemption in exemptions if exemption.covers(finding)}
        unused -= covering
        if not covering:
            lines.append(f"{finding.object}: {finding.check}: {finding.text}")
    return lines + [
        f"exemption {exemption.check} for {exemption.object} matches no finding; remove it"
        for exemption in exemptions
        if exemption in unused
    ]


def kube_score(program: Path, folder: Path) -> list[Finding]:
    """The findings of all checks of kube-score, including optional ones, for a folder.

    :param program: the kube-score binary
    :param folder: manifests that are deployed together, in which a check such as "has a
        NetworkPolicy" searches for it
    :raises ToolchainError: kube-score itself failed
    """
    files = sorted(str(path) for path in folder.rglob("*.yaml"))
    if not files:
        return []
    command = [
        str(program), "score", "--all-default-optional", "--output-format", "json",
        "--kubernetes-version", "v" + ".".join(kubernetes_version().split(".")[:2]),
        # Exemptions are only in lint/exemptions.yaml.
        "--disable-ignore-checks-annotations", "--disable-optional-checks-annotations", *files,
    ]  # fmt: skip
    done = _run(command)
    try:
        scored = json.loads(done.stdout)
    except json.JSONDecodeError:
        raise ToolchainError(f"kube-score failed: {(done.stderr or done.stdout)[:1000]}") from None
    return [finding for item in scored or [] for finding in _score_findings(item)]


def _score_findings(item: Mapping[str, Any]) -> Iterable[Finding]:
    label = manifests.Manifest(
        {"kind": item["type_meta"]["kind"], "metadata": item["object_meta"]}, Path()
    ).label
    for score in item["checks"]:
        if score["skipped"] or score["grade"] >= GRADE_ALL_OK:
            continue
        comments = {
            f"{comment['path']}: {comment['summary']}" if comment["path"] else comment["summary"]
            for comment in score["comments"] or []
        }
        yield Finding(score["check"]["id"], label, "; ".join(sorted(comments)) or "not ok")


def kubeconform(program: Path, folder: Path, schemas: Path) -> list[Finding]:
    """Validate every object of a folder in strict mode: an unknown field is an error.

    :param program: the kubeconform binary
    :param schemas: folder for the schemas
    :raises ToolchainError: kubeconform itself failed, or did not check all objects
    """
    objects = manifests.read(folder)
    if not objects:
        return []
    write_schemas(((str(o.body["apiVersion"]), o.kind) for o in objects), schemas)
    command = [
        str(program), "-strict", "-verbose", "-output", "json", "-summary",
        "-schema-location", f"{schemas}/{{{{.ResourceKind}}}}{{{{.KindSuffix}}}}.json",
        *sorted({str(item.path) for item in objects}),
    ]  # fmt: skip
    done = _run(command)
    try:
        report = json.loads(done.stdout)
    except json.JSONDecodeError:
        raise ToolchainError(f"kubeconform failed: {(done.stderr or done.stdout)[:1000]}") from None
    checked = sum(report["summary"].values())
    if checked < len(objects):
        raise ToolchainError(f"kubeconform checked {checked} of {len(objects)} objects in {folder}")
    return [
        _schema_finding(resource)
        for resource in report["resources"]
        if resource["status"] != "statusValid"
    ]


def _schema_finding(resource: Mapping[str, Any]) -> Finding:
    label = manifests.Manifest(
        {"kind": resource["kind"], "metadata": {"name": resource["name"]}}, Path()
    ).label
    # The message is one line for all levels of the schema; only the innermost are specific.
    _, *errors = re.split(r" +- at ", resource["msg"])
    telling = [text for text in errors if not text.endswith("validation failed")]
    return Finding("schema", label, "; ".join(telling) or resource["msg"])


def write_schemas(kinds: Iterable[tuple[str, str]], folder: Path) -> None:
    """Write one self-contained schema per kind, with the file name that kubeconform expects.

    The package's schemas refer to a big file of definitions by a URL that does not exist. A kind
    without a schema is skipped; kubeconform reports it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    source = resources.files("kubernetes_validate").joinpath(
        "kubernetes-json-schema", f"v{kubernetes_version()}-local-strict"
    )
    definitions: dict[str, Any] | None = None
    for api_version, kind in sorted(set(kinds)):
        group, _, version = api_version.rpartition("/")
        suffix = f"{group.split('.')[0]}-{version}" if group else version
        name = f"{kind.lower()}-{suffix}.json"
        file = source.joinpath(name)
        if not file.is_file():
            continue
        if definitions is None:
            text = source.joinpath("_definitions.json").read_text(encoding="utf-8")
            definitions = json.loads(text)["$defs"]
        schema = json.loads(file.read_text(encoding="utf-8"))
        folder.joinpath(name).write_text(json.dumps(standalone(schema, definitions)))


def standalone(schema: Mapping[str, Any], definitions: Mapping[str, Any]) -> dict[str, Any]:
    """The schema with its definitions included."""
    needed: dict[str, Any] = {}

    def walk(value: Any) -> Any:
        if isinstance(value, list):
            return [walk(item) for item in value]
        if not isinstance(value, dict):
            return value
        made = {key: walk(item) for key, item in value.items() if key != "$id"}
        reference = value.get("$ref")
        if isinstance(reference, str):
            name = reference.rpartition("/")[2]
            made["$ref"] = f"#/$defs/{name}"
            if name not in needed:
                needed[name] = {}
                needed[name] = walk(definitions[name])
        return made

    whole: dict[str, Any] = walk(schema)
    return {**whole, "$defs": needed}


def kubernetes_version() -> str:
    """The Kubernetes minor version that the project builds, in the schemas' format: 1.34.0.

    :raises ToolchainError: the pin was not found
    """
    pin = Path(__file__).parent.joinpath("go", "kubernetes", "go.mod")
    found = re.search(r"^\s*k8s\.io/kubernetes v(\d+\.\d+)\.\d+", pin.read_text(), re.MULTILINE)
    if found is None:
        raise ToolchainError(f"{pin.name} of toolchain/go/kubernetes has no k8s.io/kubernetes line")
    return f"{found[1]}.0"


def _run(command: Sequence[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL
    )
