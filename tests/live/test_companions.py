"""Four companions of different patterns on one pod; the deployment's own check has passed before."""

import json
import time

import pytest

from tests.live.support.split import Split
from tests.live.support.stacks import UpdateError
from tests.live.support.waiting import eventually

COMPANIONS = ("twemproxy", "twemproxy-metrics", "tls", "topz")


def test_they_work_together(split: Split) -> None:
    """The smoke test counted over HTTPS, through the ambassador, as its metrics and topz say."""
    jobs = [
        job
        for job in split.kube.objects("batch/v1", "Job", split.namespace)
        if job["metadata"]["name"].startswith("companions-check")
    ]
    assert [job["status"].get("succeeded") for job in jobs] == [1]
    pods = split.kube.pods(split.namespace, {"app.kubernetes.io/instance": "counter"})
    assert len(pods) == 2
    for pod in pods:
        assert pod.ready
        assert set(pod.containers) == {"counter", *COMPANIONS}


def test_each_restarts_by_itself_and_the_others_go_on(split: Split) -> None:
    pod = split.kube.pods(split.namespace, {"app.kubernetes.io/instance": "counter"})[0]
    restarts = pod.restarts
    killed = ("twemproxy-metrics", "topz", "tls")
    for companion in killed:
        split.nodes.kill(pod, companion)
    now = split.kube.restarted(pod, *killed)
    for name in ("counter", "twemproxy"):
        assert now.restarts[name] == restarts[name], name
    topz = split.ask("visitor", "get", host=pod.address, port=8079, path="/topz.json")
    commands = " ".join(p["command"] for p in json.loads(topz["body"])["processes"])
    for program in ("counter.py", "nutcracker", "nginx", "companions.statistics"):
        assert program in commands, commands


def test_told_to_end_all_of_them_end(split: Split) -> None:
    """One that does not hear its signal would hold up each rollout until it is killed."""
    pod = split.kube.pods(split.namespace, {"app.kubernetes.io/instance": "counter"})[0]
    spec = split.kube.core.read_namespaced_pod(pod.name, split.namespace).spec
    allowed = spec.termination_grace_period_seconds or 30
    began = time.monotonic()
    split.kube.core.delete_namespaced_pod(pod.name, split.namespace)
    eventually(
        lambda: split.kube.pod(split.namespace, pod.name) is None, 2 * allowed, "the pod is gone"
    )
    assert time.monotonic() - began < 0.8 * allowed


def test_a_fifth_on_a_taken_port_is_refused_at_preview(split: Split) -> None:
    split.stack.set(fifth="true")
    try:
        with pytest.raises(UpdateError, match="must be free") as caught:
            split.stack.preview()
    finally:
        split.stack.set(fifth="false")
    assert "8443" in caught.value.output
