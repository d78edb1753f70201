"""A throw-away stack whose objects a test gives as data."""

import json
import re
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.live.support.cluster import Cluster
from tests.live.support.stacks import Stack, UpdateError

PROGRAM = Path(__file__).parent / "objects"
Object = dict[str, Any]


def thing(token: str, name: str, properties: Mapping[str, Any], **options: Any) -> Object:
    """One object; ``token`` is without the package, such as ``core/v1:ConfigMap``."""
    return {"type": token, "name": name, "properties": properties, **options}


def config_map(name: str, metadata: Mapping[str, Any] | None = None, **data: str) -> Object:
    return thing("core/v1:ConfigMap", name, {"metadata": metadata or {}, "data": data})


class Program:
    """The stack, and short ways to ask what became of it."""

    def __init__(self, stack: Stack, kubeconfig: str, namespace: str) -> None:
        self.stack = stack
        self.namespace = namespace
        self.provider: dict[str, Any] = {"namespace": namespace}
        self.reach(kubeconfig)

    def reach(self, kubeconfig: str) -> None:
        """Give the provider another kubeconfig: as a secret, for it holds a key."""
        self.provider["kubeconfig"] = {"$secret": kubeconfig}

    def declare(self, *objects: Object) -> None:
        """Say what the next run of the program declares."""
        document = {"provider": self.provider, "objects": list(objects)}
        (self.stack.work / "objects.json").write_text(json.dumps(document))

    def up(self, *objects: Object) -> dict[str, str]:
        """``pulumi up``; the operation on each object that was not left as it was."""
        self.declare(*objects)
        return _by_name(self.stack.up().changed)

    def preview(self, *objects: Object) -> dict[str, str]:
        self.declare(*objects)
        return _by_name(self.stack.preview().changed)

    def failing(self, verb: str, *objects: Object) -> str:
        """What the CLI says of a program that it must not carry out."""
        self.declare(*objects)
        run = self.stack.preview if verb == "preview" else self.stack.up
        with pytest.raises(UpdateError) as failure:
            run()
        assert "Traceback" not in failure.value.output
        return failure.value.output

    def refresh(self) -> str:
        return self.stack.run("refresh", "--yes", "--skip-preview", "--stack", self.stack.name)

    def start(self, *objects: Object) -> "subprocess.Popen[str]":
        self.declare(*objects)
        return self.stack.start_up()

    def resources(self) -> dict[str, dict[str, Any]]:
        """The state's resources by name, secrets encrypted."""
        return self._exported()

    def revealed(self) -> dict[str, dict[str, Any]]:
        """The state's resources by name, secrets in plain text."""
        return self._exported("--show-secrets")

    def _exported(self, *arguments: str) -> dict[str, dict[str, Any]]:
        text = self.stack.run("stack", "export", "--stack", self.stack.name, *arguments)
        deployment = json.loads(text)["deployment"]
        return {
            resource["urn"].split("::")[-1]: resource
            for resource in deployment.get("resources") or ()
            if resource["type"].startswith("kubernetes:")
        }

    def name_of(self, resource: str) -> str:
        """The object's name in the cluster."""
        return str(self.resources()[resource]["outputs"]["metadata"]["name"])

    def events(self, verb: str = "up") -> Sequence[tuple[str, str]]:
        """Each step of the last run in order: operation and resource."""
        log = self.stack.folder / f"{verb}-events.json"
        steps = []
        for line in log.read_text().splitlines():
            metadata = (json.loads(line).get("resourcePreEvent") or {}).get("metadata")
            if metadata and metadata["type"].startswith("kubernetes:"):
                steps.append((metadata["op"], metadata["urn"].split("::")[-1]))
        return steps


def _by_name(changed: Mapping[str, str]) -> dict[str, str]:
    return {key.split("::")[-1]: operation for key, operation in changed.items()}


def moved(cluster: Cluster, port: int) -> str:
    """The cluster's kubeconfig, leading to its server through another port of this machine."""
    kubeconfig = cluster.kubeconfig.read_text()
    return re.sub(r"(server: https://127\.0\.0\.1:)\d+", rf"\g<1>{port}", kubeconfig)


@contextmanager
def program(cluster: Cluster, folder: Path, namespace: str) -> Iterator[Program]:
    """A program in a stack of its own, destroyed afterwards."""
    stack = Stack(cluster, PROGRAM, folder)
    stack.prepare()
    made = Program(stack, cluster.kubeconfig.read_text(), namespace)
    try:
        yield made
    finally:
        made.reach(cluster.kubeconfig.read_text())
        stack.run("cancel", "--yes", "--stack", stack.name)
        stack.run("destroy", "--yes", "--skip-preview", "--stack", stack.name)
