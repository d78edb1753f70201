"""SmokeTest: a check from inside the cluster that a deployment must pass."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any, NotRequired, TypedDict

import pulumi

from components.arguments.errors import InputError
from components.pods.companion import Companion
from components.values import checks
from components.values.edges import Edge
from components.workloads.task import Task, TaskArgs

COVERS_ANNOTATION = "dds/covers"
"""Annotation of the pod with the digest of what the check covers."""

_SCRIPT = "/opt/check/script"


class SmokeTestArgs(TypedDict):
    """Arguments of SmokeTest."""

    image: pulumi.Input[str]
    """Image that has the script's interpreter and tools, with a tag or digest."""
    script: pulumi.Input[str]
    """The check, for ``sh -eu``, or for ``python3`` if its first line is ``#!`` and names it. It
    passes by ending with 0. What it printed last is in the error when it does not."""
    covers: NotRequired[Sequence[pulumi.Input[Any]]]
    """Values whose change makes the check run again, most often outputs of what it checks. Only
    their digest is kept, so secrets may be among them if they are long."""
    ingress: NotRequired[Sequence[Edge]]
    """Connections let in. By default there are none."""
    egress: NotRequired[Sequence[Edge]]
    """Connections that the script opens, beside name resolution and those of companions."""
    companions: NotRequired[Sequence[Companion]]
    """Companions of the script, for example the ambassador that it tests."""
    env: NotRequired[Mapping[str, pulumi.Input[str]]]
    """Environment variables. A secret is refused."""
    files: NotRequired[Mapping[str, pulumi.Input[str]]]
    """Files that the script reads, absolute path to content; not in /opt/check."""
    secret_files: NotRequired[Mapping[str, pulumi.Input[str]]]
    """Secrets that the script reads, absolute path to content."""
    labels: NotRequired[Mapping[str, pulumi.Input[str]]]
    """More labels for the pod, for example a store's client label."""
    timeout_seconds: NotRequired[int]
    """Seconds for all tries together, at least 1. Defaults to 120."""
    backoff_limit: NotRequired[int]
    """Tries after the first one has failed, at least 0. Defaults to 1."""
    namespace: NotRequired[pulumi.Input[str]]
    """Namespace. Defaults to the provider's."""


class SmokeTest(pulumi.ComponentResource):
    """A Job that must succeed, or the deployment fails and names the check.

    It runs on the first deployment, again when the script or anything in ``covers`` changes, and
    again when it had failed. A preview does not run it.
    """

    task: Task
    """The task that runs the script."""
    covered: pulumi.Output[str]
    """Digest of what is covered."""

    def __init__(
        self, name: str, args: SmokeTestArgs, opts: pulumi.ResourceOptions | None = None
    ) -> None:
        """Register the check. Give what it checks as ``depends_on``, unless ``covers`` does.

        :param name: name of the check, a DNS label of at most 48 characters
        :raises InputError: an argument that cannot be right, before anything is registered
        """
        where = f'SmokeTest "{name}"'
        checks.known_arguments(where, SmokeTestArgs, args)
        script = args["script"]
        if not checks.is_deferred(script) and not str(script).strip():
            raise InputError(where, "script", script, "must not be empty")
        covers = args.get("covers", ())
        for position, value in enumerate(covers):
            if isinstance(value, pulumi.Resource):
                raise InputError(
                    where,
                    f"covers[{position}]",
                    value,
                    "must be a value such as one of its outputs; a resource goes into depends_on",
                )
        task_args = _task_args(name, args)
        Task.validate(where, name, task_args)
        super().__init__("dds:index:SmokeTest", name, {"image": args["image"]}, opts)
        self.covered = digest_of(covers)
        task_args["annotations"] = {"dds/check": name, COVERS_ANNOTATION: self.covered}
        self.task = Task(name, task_args, pulumi.ResourceOptions(parent=self))
        self.register_outputs({"covered": self.covered})


def digest_of(values: Sequence[pulumi.Input[Any]]) -> pulumi.Output[str]:
    """A digest of the values that is no secret even if they are."""
    digest = pulumi.Output.all(*values).apply(
        lambda known: hashlib.sha256(
            json.dumps(known, sort_keys=True, default=str).encode()
        ).hexdigest()
    )
    return pulumi.Output.unsecret(digest)


def _task_args(name: str, args: SmokeTestArgs) -> TaskArgs:
    script = args["script"]
    task: TaskArgs = {
        "image": args["image"],
        "application": name,
        "component": "smoke-test",
        "command": [_interpreter(script, 0), _interpreter(script, 1), _SCRIPT],
        "files": {**args.get("files", {}), _SCRIPT: args["script"]},
        "writable": ["/tmp"],  # noqa: S108
        "retries": args.get("backoff_limit", 1),
        "timeout_seconds": args.get("timeout_seconds", 120),
    }
    for key in (
        "ingress", "egress", "companions", "env", "secret_files", "labels", "namespace",
    ):  # fmt: skip
        if key in args:
            task[key] = args[key]
    return task


def _interpreter(script: pulumi.Input[str], word: int) -> pulumi.Input[str]:
    def choose(text: str) -> str:
        first = text.lstrip("\n").partition("\n")[0]
        python = first.startswith("#!") and "python" in first
        return (("python3", "-u") if python else ("/bin/sh", "-eu"))[word]

    if checks.is_deferred(script):
        return pulumi.Output.from_input(script).apply(choose)
    return choose(str(script))
