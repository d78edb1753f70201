"""`make render`: a composition's manifests as plain YAML, one object per file.

It needs no cluster. Values that providers generate (names, digests, passwords) are generated here
deterministically, so that two renderings can be compared.
"""

import argparse
import base64
import contextlib
import json
import os
import re
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pulumi
import yaml

import stacks
from stacks.settings import Settings
from stacks.target import CLUSTER_STACK
from toolchain.errors import ToolchainError
from toolchain.graph import Graph, GraphError, Node, Secret, build

INDEX = "index"
"""File with the names of the others, in an order in which they can be applied."""
REDACTED = "redacted"

_ROOT = Path(__file__).resolve().parent.parent
# The order of kinds; others are in between, by name.
_FIRST = (
    "CustomResourceDefinition", "Namespace", "StorageClass", "PriorityClass", "ServiceAccount",
    "ClusterRole", "ClusterRoleBinding", "Role", "RoleBinding", "NetworkPolicy", "ConfigMap",
    "Secret", "PersistentVolumeClaim", "Service",
)  # fmt: skip
_LAST = ("PodDisruptionBudget", "StatefulSet", "Deployment", "HorizontalPodAutoscaler", "CronJob",
         "Job")  # fmt: skip
# Variables of this machine's cluster or images, on which a rendering must not depend.
_ENVIRONMENT = ("KUBECONFIG", "KUBECONTEXT", "DDS_NODE_IMAGE", "DDS_REGISTRY_IMAGE")
_CLUSTER = {
    "kubeconfig": Secret("{}"),
    "registry": "localhost:5000",
    "nodes": [],
    "instance": "dds-000000",
}


def main(arguments: Sequence[str]) -> int:
    """Render one composition; the command line of ``python -m toolchain render``."""
    parser = argparse.ArgumentParser(prog="render", description=__doc__.partition("\n")[0])
    parser.add_argument("--stack", default=os.environ.get("STACK") or "ambassadors")
    parser.add_argument("--out", type=Path, default=None, help="default: build/manifests/<stack>")
    parser.add_argument("--show-secrets", action="store_true", help="do not redact secrets")
    given = parser.parse_args(arguments)
    out: Path = given.out or _ROOT / "build" / "manifests" / given.stack
    files = render(given.stack, out, show_secrets=given.show_secrets)
    sys.stdout.write(f"{len(files)} objects in {os.path.relpath(out)}\n")
    return 0


def render(
    stack: str,
    out: Path,
    *,
    show_secrets: bool = False,
    config: Mapping[str, str] | None = None,
) -> list[Path]:
    """Write the manifests of a stack; replaces the contents of ``out``.

    :param stack: name of the stack; its configuration is read from ``Pulumi.<stack>.yaml``
    :param show_secrets: whether secrets are written in plain text
    :param config: configuration by full key, which overrides that of the file
    :returns: the files in the order of ``index``
    :raises ToolchainError: the composition failed
    """
    nodes = kubernetes_nodes(graph(stack, config))
    objects = [manifest(node, show_secrets=show_secrets) for node in nodes]
    objects.sort(key=_order)
    written: dict[str, str] = {}
    for body in objects:
        name = f"{body['kind'].lower()}-{body['metadata']['name']}.yaml"
        if name in written:
            raise ToolchainError(f"{stack}: two objects would have the file {name}")
        written[name] = yaml.dump(body, Dumper=_Dumper, width=100, allow_unicode=True)
    if out.exists() and not _is_rendering(out):
        raise ToolchainError(f"{out} has other files than manifests; choose another folder")
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    for name, text in written.items():
        (out / name).write_text(text, encoding="utf-8")
    (out / INDEX).write_text("".join(f"{name}\n" for name in written), encoding="utf-8")
    return [out / name for name in written]


def graph(stack: str, config: Mapping[str, str] | None = None) -> Graph:
    """The resource graph of a stack."""
    with _same_everywhere():
        try:
            return build(
                lambda: stacks.deploy(Settings.load()),
                stack=stack,
                config={**configuration(_ROOT, stack), **(config or {})},
                references={CLUSTER_STACK: _CLUSTER},
            )
        except (pulumi.RunError, GraphError) as error:
            raise ToolchainError(f"{stack}: {error}") from error


def configuration(root: Path, stack: str) -> dict[str, str]:
    """The stack's configuration as the engine would pass it to the program."""
    path = root / f"Pulumi.{stack}.yaml"
    if not path.exists():
        return {}
    document = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    values: dict[str, str] = {}
    for key, value in (document.get("config") or {}).items():
        if isinstance(value, Mapping) and "secure" in value:
            values[key] = REDACTED
        elif isinstance(value, bool):
            values[key] = str(value).lower()
        elif isinstance(value, str | int | float):
            values[key] = str(value)
        else:
            values[key] = json.dumps(value)
    return values


def kubernetes_nodes(rendered: Graph) -> list[Node]:
    """The resources that are Kubernetes objects."""
    return [node for node in rendered if node.type.startswith("kubernetes:") and node.custom]


def manifest(node: Node, *, show_secrets: bool = False) -> dict[str, Any]:
    """The complete object with its name and namespace; secrets are redacted by default."""
    body: dict[str, Any] = {**node.inputs, "metadata": dict(node.inputs.get("metadata") or {})}
    for key in ("name", "namespace"):
        if key in node.outputs["metadata"]:
            body["metadata"][key] = node.outputs["metadata"][key]
    if show_secrets:
        return body
    for path in node.secrets:
        body = _redact(body, path.replace("[", ".[").split("."))
    if body.get("kind") == "Secret":
        encoded = base64.b64encode(REDACTED.encode()).decode()
        for field, replacement in (("data", encoded), ("stringData", REDACTED)):
            if field in body:
                body[field] = dict.fromkeys(body[field], replacement)
    return body


def _redact(value: Any, path: Sequence[str]) -> Any:
    if not path:
        return _redact_all(value)
    step, rest = path[0], path[1:]
    if isinstance(value, Mapping) and step in value:
        return {k: _redact(v, rest) if k == step else v for k, v in value.items()}
    if isinstance(value, list) and step.startswith("["):
        chosen = int(step.strip("[]"))
        return [_redact(v, rest) if i == chosen else v for i, v in enumerate(value)]
    # A key with a dot does not match its path: redact too much rather than too little.
    return _redact_all(value)


def _redact_all(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {k: _redact_all(v) for k, v in value.items()}
    if isinstance(value, list):
        return [_redact_all(v) for v in value]
    return REDACTED


def _order(body: Mapping[str, Any]) -> tuple[int, str, str]:
    kind = body["kind"]
    if kind in _FIRST:
        rank = _FIRST.index(kind)
    elif kind in _LAST:
        rank = len(_FIRST) + 1 + _LAST.index(kind)
    else:
        rank = len(_FIRST)
    return rank, kind, body["metadata"]["name"]


def _is_rendering(folder: Path) -> bool:
    return folder.is_dir() and all(
        path.is_file() and (path.suffix == ".yaml" or path.name == INDEX)
        for path in folder.iterdir()
    )


@contextlib.contextmanager
def _same_everywhere() -> Iterator[None]:
    before = {name: os.environ.pop(name) for name in _ENVIRONMENT if name in os.environ}
    folder = Path.cwd()
    # As with the engine, the program's paths are relative to the checkout.
    os.chdir(_ROOT)
    try:
        yield
    finally:
        os.chdir(folder)
        os.environ.update(before)


# PyYAML does not quote these, and Kubernetes' YAML parser reads them as booleans and numbers.
_MISREAD = re.compile(r"[yYnN]|[-+]?\.?[0-9][0-9_.]*([eE][-+]?[0-9]+)?|[-+]?0[oObBxX][0-9a-fA-F_]+")


class _Dumper(yaml.SafeDumper):
    """Writes multi-line texts as literals, and quotes texts that look like another type."""


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    style = "|" if "\n" in text else "'" if _MISREAD.fullmatch(text) else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _text)
