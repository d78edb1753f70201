"""`pulumi up` of a composition, beside `kubectl apply` and `kubectl wait` of the same objects."""

import json
import subprocess
import time
from pathlib import Path
from typing import Any

from bench.figures import Figure, Ratio
from bench.ground import PROGRAMS, Ground, ground

GOAL = 2.0
WAIT_SECONDS = 180


def measure(quick: bool) -> Figure:
    """New namespaces, both ways in turn."""
    rounds = 1 if quick else 6
    seconds: dict[str, list[float]] = {"pulumi": [], "kubectl": []}
    with ground() as here:
        objects: list[dict[str, Any]] = []
        # The first of each warms the caches, the registry and the nodes' images.
        for number in range(rounds + 1):
            ours, theirs = f"bench-pulumi-{number}", f"bench-kubectl-{number}"
            with here.stack(PROGRAMS / "composition", f"round-{number}") as stack:
                stack.set(
                    namespace=ours,
                    context=here.cluster.context,
                    registry=here.cluster.registry,
                )
                try:
                    seconds["pulumi"].append(stack.up().seconds)
                    exported = stack.run("stack", "export", "--show-secrets", "--stack", stack.name)
                finally:
                    here.kube.forget_namespace(ours)
            objects = _objects(json.loads(exported.replace(ours, theirs)))
            try:
                seconds["kubectl"].append(_apply(here, theirs, objects))
            finally:
                here.kube.forget_namespace(theirs)
    pairs = list(zip(seconds["pulumi"][1:], seconds["kubectl"][1:], strict=True))
    kinds = sorted(item["kind"] for item in objects)
    return Figure(
        name="deploy",
        question="pulumi up of the composition / kubectl apply of its objects and waiting for them",
        command="python -m bench --only deploy",
        method=(
            f"{rounds} rounds after one to warm up, each into two new namespaces of a running "
            "cluster that has the images. kubectl applies the objects that pulumi made, on the "
            "server side, and waits for what pulumi waits for: Deployments, StatefulSets and Jobs."
        ),
        ratios=[Ratio.of("pulumi up / kubectl apply and wait", pairs, GOAL)],
        measurements={"seconds": seconds, "objects": kinds},
    )


def _objects(deployment: dict[str, Any]) -> list[dict[str, Any]]:
    """The Kubernetes objects of an exported stack, without Pulumi's own annotations."""
    found = []
    for resource in deployment["deployment"]["resources"]:
        if not resource["type"].startswith("kubernetes:"):
            continue
        inputs: dict[str, Any] = _plain(resource["inputs"])
        metadata = inputs["metadata"]
        annotations = metadata.get("annotations", {})
        for key in [key for key in annotations if key.startswith("pulumi.com/")]:
            del annotations[key]
        found.append(inputs)
    return found


def _plain(value: Any) -> Any:
    """The value without the envelopes that an export puts around secrets."""
    if isinstance(value, dict):
        if "plaintext" in value:
            return json.loads(value["plaintext"])
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    # Every number is a float in Pulumi's state; the API server requires integers.
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value


def _apply(here: Ground, namespace: str, objects: list[dict[str, Any]]) -> float:
    file = here.folder / f"{namespace}.json"
    file.write_text(json.dumps({"apiVersion": "v1", "kind": "List", "items": objects}))
    began = time.monotonic()
    _kubectl(here, namespace, "apply", "--server-side", "-f", str(file))
    for item in objects:
        name = f"{item['kind'].lower()}/{item['metadata']['name']}"
        if item["kind"] in ("Deployment", "StatefulSet"):
            _kubectl(here, namespace, "rollout", "status", name, f"--timeout={WAIT_SECONDS}s")
        elif item["kind"] == "Job":
            _kubectl(
                here, namespace, "wait", "--for=condition=complete", name,
                f"--timeout={WAIT_SECONDS}s",
            )  # fmt: skip
    return time.monotonic() - began


def _kubectl(here: Ground, namespace: str, *arguments: str) -> None:
    done = subprocess.run(
        ["kubectl", "--namespace", namespace, *arguments],
        env=here.cluster.environment,
        cwd=Path("/"),
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"kubectl {' '.join(arguments)}:\n{done.stdout}{done.stderr}")
