"""Reads rendered manifests, and gives objects their names in messages."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from toolchain.errors import ToolchainError

_MADE_UP = re.compile(r"-[0-9a-f]{8}$")


@dataclass(frozen=True)
class Manifest:
    """One object as for `kubectl apply`."""

    body: dict[str, Any]
    path: Path

    @property
    def kind(self) -> str:
        return str(self.body.get("kind", ""))

    @property
    def name(self) -> str:
        return str((self.body.get("metadata") or {}).get("name", ""))

    @property
    def namespace(self) -> str:
        return str((self.body.get("metadata") or {}).get("namespace", ""))

    @property
    def logical_name(self) -> str:
        """The name without the eight hex digits of an auto-name, which is stable over replacements."""
        return _MADE_UP.sub("", self.name)

    @property
    def label(self) -> str:
        return f"{self.kind}/{self.logical_name}"


def read(folder: Path) -> list[Manifest]:
    """Every object in the folder's YAML files, in the order of their paths.

    :raises ToolchainError: a file that is not YAML, or a document that is not a Kubernetes object
    """
    return list(_objects(sorted(folder.rglob("*.y*ml"))))


def _objects(paths: Iterable[Path]) -> Iterator[Manifest]:
    for path in paths:
        try:
            documents = list(yaml.safe_load_all(path.read_text(encoding="utf-8")))
        except yaml.YAMLError as error:
            raise ToolchainError(f"{path} is not YAML: {error}") from error
        for document in documents:
            if document is None:
                continue
            if not isinstance(document, dict) or not {"apiVersion", "kind"} <= document.keys():
                raise ToolchainError(f"{path} has a document without apiVersion and kind")
            if document["kind"] == "List":
                for item in document.get("items") or []:
                    yield Manifest(item, path)
            else:
                yield Manifest(document, path)
