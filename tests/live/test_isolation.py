"""Who may do what: admission, network policies, and where passwords do not appear."""

import base64
import json
import os
from collections.abc import Mapping
from pathlib import Path

import pytest
from kubernetes.client.exceptions import ApiException

from tests.live.support import pods
from tests.live.support.kube import Kube, Pod
from tests.live.support.sharded import CLIENT, PROXY, REDIS, Sharded
from tests.live.support.waiting import eventually

CONNECT = """
import socket, sys
try:
    socket.create_connection((sys.argv[1], int(sys.argv[2])), 3).close()
    print("connected")
except OSError as error:
    print(type(error).__name__)
"""


@pytest.mark.parametrize("name", ["store", "cache", "seed"])
def test_all_pods_are_admitted_at_the_restricted_level(
    name: str, request: pytest.FixtureRequest
) -> None:
    variant: Sharded = request.getfixturevalue(name)
    labels = variant.kube.core.read_namespace(variant.namespace).metadata.labels or {}
    assert labels["pod-security.kubernetes.io/enforce"] == "restricted"
    running = variant.kube.pods(variant.namespace)
    assert len(running) == len(variant.shards) + 1
    eventually(
        lambda: all(pod.ready for pod in variant.kube.pods(variant.namespace)), 60, "all are ready"
    )


def test_control_a_pod_that_is_not_hardened_is_refused(
    kube: Kube, namespace: str, images: Mapping[str, str]
) -> None:
    manifest = pods.pod(
        namespace, "bare", [{"name": "bare", "image": images["toolbox"], "command": ["true"]}]
    )
    with pytest.raises(ApiException, match="violates PodSecurity"):
        kube.apply(manifest)


def connection(kube: Kube, pod: Pod, container: str, address: str, port: int) -> str:
    return kube.run(pod, container, ["python3", "-c", CONNECT, address, str(port)]).strip()


def test_only_pods_that_have_its_reach_get_to_a_shard(
    store: Sharded, images: Mapping[str, str]
) -> None:
    manifest = pods.pod(
        store.namespace,
        "stranger-probe",
        [pods.container("probe", images["toolbox"], ["sleep", "infinity"])],
        labels={"role": "stranger"},
    )
    client = store.client_pod()
    with pods.running(store.kube, manifest) as stranger:
        for index, shard in enumerate(store.shards):
            place = store.shard_pod(index).address, shard["port"]
            assert connection(store.kube, client, CLIENT, *place) == "connected", index
            # Refused or unanswered is up to the cluster; k3s and the project's node answer.
            assert connection(store.kube, stranger, "probe", *place) != "connected", index


def test_a_shard_reaches_nobody_but_the_name_service(store: Sharded) -> None:
    """Its policy lets it answer, not ask: redis-cli in a shard does not get to another shard."""
    other = store.shard_pod(1).address
    script = f"timeout 3 redis-cli -h {other} -p {store.shards[1]['port']} ping; echo status $?"
    told = store.kube.run(store.shard_pod(0), REDIS, ["sh", "-c", script])
    assert "PONG" not in told, told
    assert "status 0" not in told, told


# passwords


def password(variant: Sharded) -> str:
    """The client's password, as the Secrets of the namespace hold it."""
    found: str = variant.stack.outputs()["password"]
    assert len(found) >= 16
    return found


def test_the_password_is_in_use(store: Sharded) -> None:
    """Without it a shard answers nothing; otherwise the next tests would look for nothing."""
    refused = store.client().ask(
        "steps", at={**store.direct[0], "password_file": None},
        commands=[["GET", "anything"]],
    )["answers"][0]["answer"]  # fmt: skip
    assert refused["error"].startswith("error: NOAUTH"), refused


def test_the_password_is_in_no_command_line_and_no_environment(store: Sharded) -> None:
    secret = password(store)
    script = "cat /proc/[0-9]*/cmdline /proc/[0-9]*/environ 2>/dev/null | tr '\\0' '\\n'; true"
    for index in range(len(store.shards)):
        shown = store.kube.run(store.shard_pod(index), REDIS, ["sh", "-c", script])
        assert "redis-server" in shown
        assert secret not in shown
    client = store.client_pod()
    for container, program in ((PROXY, "nutcracker"), ("client", "sleep")):
        shown = store.kube.run(client, container, ["sh", "-c", script])
        assert program in shown
        assert secret not in shown


def test_the_password_is_in_no_object_but_secrets_and_in_no_log(store: Sharded) -> None:
    secret = password(store)
    encoded = base64.b64encode(secret.encode()).decode().rstrip("=")
    kube, namespace = store.kube, store.namespace
    for api_version, kind in (
        ("v1", "ConfigMap"), ("v1", "Pod"), ("v1", "Event"), ("v1", "Service"),
        ("apps/v1", "StatefulSet"), ("apps/v1", "Deployment"), ("apps/v1", "ControllerRevision"),
    ):  # fmt: skip
        text = json.dumps(kube.objects(api_version, kind, namespace), default=str)
        assert secret not in text, kind
        assert encoded not in text, kind
    for pod in kube.pods(namespace):
        for container in pod.containers:
            assert secret not in kube.logs(pod, container), (pod.name, container)
    # The search finds what is there: the Secrets do have it.
    held = json.dumps(kube.objects("v1", "Secret", namespace), default=str)
    decoded = [
        base64.b64decode(value).decode(errors="replace")
        for secret_object in kube.objects("v1", "Secret", namespace)
        for value in (secret_object.get("data") or {}).values()
    ]
    assert encoded in held or any(secret in text for text in decoded)


def test_the_password_is_not_in_the_state_in_plain_text(store: Sharded) -> None:
    secret = password(store).encode()
    encoded = base64.b64encode(secret).rstrip(b"=")
    searched = 0
    for folder, _, files in os.walk(store.stack.folder):
        for file in files:
            content = (Path(folder) / file).read_bytes()
            searched += 1
            assert secret not in content, f"{folder}/{file}"
            assert encoded not in content, f"{folder}/{file}"
    assert searched > 3
    exported = store.stack.run("stack", "export", "--stack", store.stack.name)
    assert secret.decode() not in exported
    shown = store.stack.run("stack", "export", "--show-secrets", "--stack", store.stack.name)
    assert secret.decode() in shown, "the search finds what is there"
