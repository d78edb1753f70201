"""SmokeTest: a check from inside the cluster that a deployment must pass."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, NotRequired, TypedDict

import pulumi

from dds_patterns.arguments import Default, InputError, Later, Secret, between, checked, resolved
from dds_patterns.arguments.constraints import Constraint
from dds_patterns.arguments.containers import Env
from dds_patterns.arguments.deferred import is_deferred
from dds_patterns.arguments.files import Files, SecretFiles
from dds_patterns.arguments.images import Image
from dds_patterns.arguments.names import check_name
from dds_patterns.arguments.place import Place
from dds_patterns.pods.companion import Companion
from dds_patterns.pods.hosting import PodHosting, with_pod_annotations
from dds_patterns.values.reach import Reach
from dds_patterns.workloads.job import JOB_RESERVE
from dds_patterns.workloads.task import Task, TaskArgs

COVERS_ANNOTATION = "dds/covers"
"""Annotation of the pod with the digest of what the check covers."""

_FOLDER = "/opt/check"
_SCRIPT = f"{_FOLDER}/script"
_TEXT = Constraint("a script: it must not be empty", lambda text: bool(text.strip()), ("", " \n"))


class _Stable(Constraint):
    """A value with one form in JSON, the same in every run."""

    def check(self, place: Place, value: Any) -> Any:
        """The value, or InputError. An Output in it is checked when it resolves."""
        if isinstance(value, pulumi.Resource):
            place.refuse(
                value, "must be a value such as one of its outputs; a resource goes into depends_on"
            )
        if isinstance(value, Mapping):
            for key, item in value.items():
                if not isinstance(key, str):
                    place.a_key().refuse(key, f"must be a text: {_unstable(key)}")
                self.check(place.entry(key), item)
        elif isinstance(value, list | tuple):
            for position, item in enumerate(value):
                self.check(place.entry(position), item)
        elif not (is_deferred(value) or isinstance(value, _SCALARS)):
            place.refuse(value, f"must be {self.says}: {_unstable(value)}")
        return value


def _unstable(value: object) -> str:
    return f"{type(value).__name__} has no form that stays the same"


_SCALARS = (str, int, float, type(None))
_STABLE = _Stable(
    "made of texts, numbers, true and false, lists, and mappings from texts",
    lambda _: True,
    ({"a"}, [{"a"}], {"a": {"b"}}, {1: "a"}, b"a"),
)


class SmokeTestArgs(TypedDict):
    """Arguments of SmokeTest."""

    image: Later[Image]
    """Image that has the script's interpreter and tools."""
    script: Later[Annotated[str, _TEXT]]
    """The check, for ``sh -eu``, or for ``python3`` if its first line is ``#!`` and names it. It
    passes with exit code 0; otherwise the error has its last output."""
    covers: NotRequired[Annotated[Sequence[Secret[Annotated[Any, _STABLE]]], Default(())]]
    """Values whose change reruns the check, most often outputs of what it checks. Only their digest
    is stored, so long secrets may be among them."""
    reaches: NotRequired[Annotated[Sequence[Reach], Default(())]]
    """What the script connects to, such as ``application.reach``, beside what its companions do. It
    starts once these dependencies are ready."""
    companions: NotRequired[Annotated[Sequence[Companion], Default(())]]
    """Companions of the script, for example the ambassador that it tests."""
    env: NotRequired[Annotated[Env, Default({})]]
    """Environment variables."""
    files: NotRequired[Annotated[Files, Default({})]]
    """Files that the script reads, by their absolute paths; not in /opt/check."""
    secret_files: NotRequired[Annotated[SecretFiles, Default({})]]
    """Secrets that the script reads, by their absolute paths."""
    timeout_seconds: NotRequired[Annotated[int, between(1, 86400), Default(120)]]
    """Timeout of all attempts together, in seconds."""
    backoff_limit: NotRequired[Annotated[int, between(0, 100), Default(1)]]
    """Retries after the first attempt has failed."""
    hosting: NotRequired[Annotated[PodHosting, Default({})]]
    """Namespace, labels, nodes and resources."""


class SmokeTest(pulumi.ComponentResource):
    """A Job that must succeed; otherwise the deployment fails and the error names the check.

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
        :raises InputError: an invalid argument, before anything is registered
        """
        where = f'SmokeTest "{name}"'
        check_name(where, name, reserve=JOB_RESERVE)
        args = resolved(where, SmokeTestArgs, args)
        for argument in ("files", "secret_files"):
            for path in args[argument]:
                if path.startswith(f"{_FOLDER}/"):
                    raise InputError(
                        where, argument, path, f"must not lie in {_FOLDER}, where the script is"
                    )
        task_args = _task_args(name, args)
        Task.validate(where, name, task_args)
        super().__init__("dds:index:SmokeTest", name, {"image": args["image"]}, opts)
        self.covered = _digest(where, args["covers"])
        task_args["hosting"] = with_pod_annotations(
            args["hosting"], {"dds/check": name, COVERS_ANNOTATION: self.covered}
        )
        self.task = Task(name, task_args, pulumi.ResourceOptions(parent=self))
        self.register_outputs({"covered": self.covered})


def _digest(where: str, values: Sequence[pulumi.Input[Any]]) -> pulumi.Output[str]:
    """A digest of the values that is no secret even if they are."""

    def digest(known: Sequence[Any]) -> str:
        # Again, for the Outputs within them.
        _STABLE.check(Place(where, "covers").hidden(), known)
        return hashlib.sha256(json.dumps(known, sort_keys=True).encode()).hexdigest()

    return pulumi.Output.unsecret(pulumi.Output.all(*values).apply(digest))


def _task_args(name: str, args: SmokeTestArgs) -> TaskArgs:
    script = args["script"]
    task: TaskArgs = {
        "image": args["image"],
        "application": name,
        "component": "smoke-test",
        "command": [_interpreter(script, 0), _interpreter(script, 1), _SCRIPT],
        "files": {**args["files"], _SCRIPT: script},
        "writable": ["/tmp"],  # noqa: S108
        "backoff_limit": args["backoff_limit"],
        "timeout_seconds": args["timeout_seconds"],
        "reaches": args["reaches"],
        "companions": args["companions"],
        "env": args["env"],
        "secret_files": args["secret_files"],
        "hosting": args["hosting"],
    }
    return task


def _interpreter(script: pulumi.Input[str], word: int) -> pulumi.Input[str]:
    def choose(text: str) -> str:
        first = text.lstrip("\n").partition("\n")[0]
        python = first.startswith("#!") and "python" in first
        return (("python3", "-u") if python else ("/bin/sh", "-eu"))[word]

    return checked(script, choose)
