"""ConfigSync: changes reach the application, what is bad does not, and a dead source shows."""

import json
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from stacks.sidecars import SETTINGS, SETTINGS_LABEL, SYNC_PORT, SYNC_SECONDS
from tests.live.support.kube import Pod, now
from tests.live.support.sidecars import INTERVAL, Sidecars
from tests.live.support.waiting import eventually

LEGACY = "legacy"
# The sidecar has its interval, the application is told at once; the rest is a loaded machine.
SECONDS = INTERVAL + 20
# The composition's: a watch that misses something is made good by then.
WATCHED_SECONDS = 30


def put(sidecars: Sidecars, name: str, data: Mapping[str, str | None]) -> float:
    """Change keys of a ConfigMap; None removes one. When that was, in Unix seconds."""
    sidecars.kube.core.patch_namespaced_config_map(name, sidecars.namespace, {"data": data})
    return now()


def reads(
    sidecars: Sidecars, pod: Pod, container: str, files: Callable[[dict[str, str]], bool]
) -> Callable[[], Any]:
    """Whether the application has read such files; then what it knows of it."""

    def condition() -> Any:
        state = sidecars.settings(pod, container)
        return state if files(state["files"]) else None

    return condition


def restarts(pods: list[Pod]) -> list[Any]:
    return [(pod.uid, pod.restarts) for pod in pods]


def health(sidecars: Sidecars, pod: Pod) -> Any:
    """What the sidecar says of itself to another pod."""
    answer = sidecars.ask({"host": pod.address, "port": SYNC_PORT}, path="/health")
    assert answer["status"], answer
    return {"status": answer["status"], **json.loads(answer["body"])}


# ConfigMaps, watched


def changed(sidecars: Sidecars, pods: list[Pod], greeting: str) -> float:
    """Change a key and wait until the applications of all pods have read it; the seconds it took."""
    settings = {"settings.json": json.dumps({"greeting": greeting}), "more.txt": greeting}
    changed_at = put(sidecars, SETTINGS, settings)
    delays = []
    for pod in pods:
        state = eventually(
            reads(sidecars, pod, LEGACY, lambda files: files.get("more.txt") == greeting),
            WATCHED_SECONDS,
            "the application has read the change",
        )
        assert json.loads(state["files"]["settings.json"]) == {"greeting": greeting}
        delays.append(float(state["read_at"]) - changed_at)
    return max(delays)


def test_a_changed_key_is_read_by_the_application_with_no_restart(sidecars: Sidecars) -> None:
    before = sidecars.pods(LEGACY, 2)
    changed(sidecars, before, "changed")
    # These come soon after the source was read, so that without a watch each takes all the interval.
    # A busy machine may keep one of them waiting, but not all.
    delays = [changed(sidecars, before, f"changed {number}") for number in range(3)]
    assert min(delays) < SYNC_SECONDS / 2, delays
    assert restarts(sidecars.pods(LEGACY, 2)) == restarts(before)


def test_a_removed_key_and_a_second_config_map(sidecars: Sidecars) -> None:
    pod = sidecars.pods(LEGACY, 2)[0]
    put(sidecars, SETTINGS, {"gone.txt": "x"})
    second = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {
            "name": "second", "namespace": sidecars.namespace, "labels": SETTINGS_LABEL,
        },
        "data": {"second.txt": "y"},
    }  # fmt: skip
    sidecars.kube.apply(second)
    wait = WATCHED_SECONDS
    eventually(
        reads(sidecars, pod, LEGACY, lambda files: {"gone.txt", "second.txt"} <= set(files)),
        wait,
        "both files are there",
    )
    put(sidecars, SETTINGS, {"gone.txt": None})
    eventually(
        reads(sidecars, pod, LEGACY, lambda files: "gone.txt" not in files), wait, "it is gone"
    )
    sidecars.kube.delete("v1", "ConfigMap", sidecars.namespace, "second")
    eventually(
        reads(sidecars, pod, LEGACY, lambda files: "second.txt" not in files), wait, "it is gone"
    )
    listed = sidecars.kube.run(pod, LEGACY, ["ls", "/etc/legacy"]).split()
    assert "gone.txt" not in listed
    assert "second.txt" not in listed


def test_what_the_check_refuses_never_replaces_what_is_good(sidecars: Sidecars) -> None:
    pod = sidecars.pods(LEGACY, 2)[0]
    good = sidecars.settings(pod, LEGACY)["files"]
    put(sidecars, SETTINGS, {"settings.json": "{no json", "beside.txt": "x"})
    try:
        eventually(
            lambda: "rejected" in sidecars.kube.logs(pod, "sync"), WATCHED_SECONDS, "it is rejected"
        )
        assert sidecars.settings(pod, LEGACY)["files"] == good
        shown = sidecars.kube.run(pod, LEGACY, ["cat", "/etc/legacy/settings.json"])
        assert shown == good["settings.json"]
        script = (
            "import urllib.request as r; "
            f"print(r.urlopen('http://127.0.0.1:{SYNC_PORT}/metrics').read().decode())"
        )
        metrics = sidecars.kube.run(pod, "sync", ["python3", "-c", script])
        failures = 'config_sync_failures_total{what="check"} '
        (line,) = [line for line in metrics.splitlines() if line.startswith(failures)]
        assert int(line.removeprefix(failures)) >= 1
    finally:
        put(sidecars, SETTINGS, {"settings.json": '{"greeting": "good"}', "beside.txt": None})
    eventually(
        reads(
            sidecars, pod, LEGACY, lambda f: json.loads(f["settings.json"]) == {"greeting": "good"}
        ),
        WATCHED_SECONDS,
        "what is good again is taken over",
    )


def test_only_the_sidecar_may_read_config_maps(sidecars: Sidecars) -> None:
    pod = sidecars.pods(LEGACY, 2)[0]
    token = "/var/run/secrets/kubernetes.io/serviceaccount/token"
    there = ["sh", "-c", f"test -e {token} && echo there || echo none"]
    assert sidecars.kube.run(pod, "sync", there).strip() == "there"
    assert sidecars.kube.run(pod, LEGACY, there).strip() == "none"
    assert sidecars.kube.run(pod, "tls", there).strip() == "none"


# HTTP and git, by interval


def test_a_changed_document_is_read_within_the_interval(sidecars: Sidecars) -> None:
    (pod,) = sidecars.pods("from-http")
    changed_at = sidecars.document(json.dumps({"settings.json": "{}", "new.txt": "n"}))
    state = eventually(
        reads(sidecars, pod, "from-http", lambda files: "new.txt" in files), SECONDS, "it is read"
    )
    # The pods share this machine's clock; a machine that is loaded has its share of the time.
    assert 0 < state["read_at"] - changed_at < SECONDS
    sidecars.document(json.dumps({"settings.json": '{"a": 1}'}))
    eventually(
        reads(sidecars, pod, "from-http", lambda f: f == {"settings.json": '{"a": 1}'}),
        SECONDS,
        "what is removed there is removed here",
    )
    assert restarts(sidecars.pods("from-http")) == restarts([pod])


def test_a_commit_is_read_and_a_bad_one_is_not(sidecars: Sidecars) -> None:
    (pod,) = sidecars.pods("from-git")
    # What is no file here, or has an unusual name, keeps nothing away.
    files: dict[str, Any] = {
        "settings.json": '{"value": "second"}', "more.txt": "m", "größe b.txt": "",
        "module": {"submodule": "1" * 40},
    }  # fmt: skip
    sidecars.commit(**files)
    eventually(
        reads(sidecars, pod, "from-git", lambda files: files.get("more.txt") == "m"),
        SECONDS,
        "the commit is read",
    )
    sidecars.commit(**{"settings.json": "{bad", "more.txt": None})
    eventually(lambda: "rejected" in sidecars.kube.logs(pod, "by-git"), SECONDS, "it is rejected")
    files = sidecars.settings(pod, "from-git")["files"]
    assert files == {"settings.json": '{"value": "second"}', "more.txt": "m", "größe b.txt": ""}
    sidecars.commit(**{"settings.json": '{"value": "third"}', "größe b.txt": None})
    eventually(
        reads(sidecars, pod, "from-git", lambda f: f == {"settings.json": '{"value": "third"}'}),
        SECONDS,
        "the next good one is read",
    )
    assert restarts(sidecars.pods("from-git")) == restarts([pod])


# faults


def test_a_source_that_is_away_turns_health_bad_and_the_application_goes_on(
    sidecars: Sidecars,
) -> None:
    (pod,) = sidecars.pods("from-http")
    before = sidecars.settings(pod, "from-http")
    assert health(sidecars, pod)["status"] == 200
    sidecars.document(None)
    try:
        stale = eventually(
            lambda: h if (h := health(sidecars, pod))["status"] == 503 else None,
            4 * INTERVAL + 20,
            "health is bad",
        )
        assert stale is not None
        assert "503" in stale["problem"]
        # This one was told to be unready then.
        eventually(
            lambda: not sidecars.kube.pod(sidecars.namespace, pod.name).ready, 60, "it is unready"
        )
        assert sidecars.settings(pod, "from-http")["files"] == before["files"]
    finally:
        sidecars.document(json.dumps(before["files"]))
    assert restarts(sidecars.pods("from-http")) == restarts([pod])
    assert health(sidecars, pod)["status"] == 200


def test_a_watch_that_may_no_longer_read_turns_health_bad_and_does_not_make_the_pod_unready(
    sidecars: Sidecars,
) -> None:
    pods = sidecars.pods(LEGACY, 2)
    bindings = sidecars.kube.objects(
        "rbac.authorization.k8s.io/v1",
        "RoleBinding",
        sidecars.namespace,
        f"app.kubernetes.io/instance={LEGACY}",
    )
    (binding,) = bindings
    subjects = binding["subjects"]
    name = binding["metadata"]["name"]
    wanted = {
        "apiVersion": binding["apiVersion"],
        "kind": "RoleBinding",
        "metadata": {"name": name, "namespace": sidecars.namespace},
        "roleRef": binding["roleRef"],
    }

    def healths() -> list[int]:
        # From inside: the composition lets only those in that scrape.
        script = (
            "import urllib.request as r, urllib.error as e\n"
            f"try: print(r.urlopen('http://127.0.0.1:{SYNC_PORT}/health').status)\n"
            "except e.HTTPError as error: print(error.code)"
        )
        return [int(sidecars.kube.run(pod, LEGACY, ["python3", "-c", script])) for pod in pods]

    assert healths() == [200, 200]
    sidecars.kube.apply({**wanted, "subjects": []})
    try:
        eventually(lambda: healths() == [503, 503], 75, "health is bad", interval=1)
        assert all(pod.ready for pod in sidecars.pods(LEGACY, 2))
    finally:
        sidecars.kube.apply({**wanted, "subjects": subjects})
    eventually(lambda: healths() == [200, 200], 60, "health is good again", interval=1)
    put(sidecars, SETTINGS, {"after.txt": "x"})
    for pod in pods:
        eventually(
            reads(sidecars, pod, LEGACY, lambda files: "after.txt" in files),
            WATCHED_SECONDS,
            "changes are seen again",
        )
    assert restarts(sidecars.pods(LEGACY, 2)) == restarts(pods)


@pytest.mark.parametrize("fault", ["killed", "paused"])
def test_sidecar_killed_or_paused_beside_a_serving_application(
    sidecars: Sidecars, fault: str
) -> None:
    (pod,) = sidecars.pods("from-git")
    before = sidecars.settings(pod, "from-git")
    value = f'{{"value": "{fault}"}}'
    if fault == "killed":
        sidecars.nodes.kill(pod, "by-git")
        sidecars.commit(**{"settings.json": value})
    else:
        with sidecars.nodes.paused(pod, "by-git"):
            sidecars.commit(**{"settings.json": value})

            def unready() -> bool:
                found = sidecars.kube.pod(sidecars.namespace, pod.name)
                return found is not None and not found.ready

            eventually(unready, 40, "the pod says that it is not ready")
            assert sidecars.settings(pod, "from-git")["files"] == before["files"]
    eventually(
        reads(sidecars, pod, "from-git", lambda files: files["settings.json"] == value),
        60,
        "the sidecar goes on where it was",
    )
    (after,) = sidecars.pods("from-git")
    assert (after.uid, after.restarts["from-git"]) == (pod.uid, pod.restarts["from-git"])
