"""What the compositions rely on of Pulumi's Kubernetes provider, by the real CLI on a real cluster.

What only the provider promises is its own project's to test. Here stand the messages that a reader of
a failed `up` gets, what is left after one that was killed, and what is in the state.
"""

import json
import re
import signal
import subprocess
import time
from typing import Any

import pytest
from kubernetes.client.exceptions import ApiException

from tests.live.plugins.program import Object, Program, config_map, moved, thing
from tests.live.plugins.relay import Relay
from tests.live.support.cluster import Cluster
from tests.live.support.kube import Kube
from tests.live.support.stacks import UpdateError, kill_group, words
from tests.live.support.waiting import eventually
from toolchain import recovery, unready
from toolchain.pulumi_cli import PROJECT

NOWHERE = "localhost:1/nowhere:1"
QUICK = {"pulumi.com/timeoutSeconds": "20"}


def restricted(image: str, **container: Any) -> dict[str, Any]:
    return {
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": 10001,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "terminationGracePeriodSeconds": 1,
        "containers": [
            {
                "name": "app",
                "image": image,
                "imagePullPolicy": "IfNotPresent",
                # As in the compositions' pods: the last words of a container that ends.
                "terminationMessagePolicy": "FallbackToLogsOnError",
                "securityContext": {
                    "allowPrivilegeEscalation": False,
                    "capabilities": {"drop": ["ALL"]},
                },
                **container,
            }
        ],
    }


def on(image: tuple[str, str], *args: str) -> dict[str, Any]:
    """A pod of CoreDNS' program, whose image is on a node already."""
    name, node = image
    return {
        **restricted(name, args=list(args)),
        "nodeSelector": {"kubernetes.io/hostname": node},
    }


def deployment(
    name: str, pod: dict[str, Any], annotations: dict[str, str] | None = None, **spec: Any
) -> Object:
    labels = {"app": name}
    return thing(
        "apps/v1:Deployment",
        name,
        {
            "metadata": {"annotations": annotations or {}},
            "spec": {
                "selector": {"matchLabels": labels},
                "template": {"metadata": {"labels": labels}, "spec": pod},
                **spec,
            },
        },
    )


def job(
    name: str, pod: dict[str, Any], annotations: dict[str, str] | None = None, **spec: Any
) -> Object:
    template = {"spec": {"restartPolicy": "Never", **pod}}
    metadata = {"annotations": annotations or {}}
    return thing(
        "batch/v1:Job", name, {"metadata": metadata, "spec": {"template": template, **spec}}
    )


# secrets

SECRET = "correct-horse-battery"
ENCODED = "Y29ycmVjdC1ob3JzZS1iYXR0ZXJ5"


def test_secrets_are_nowhere_in_plain_text(objects: Program) -> None:
    # The program marks nothing in a Secret's data; the provider does.
    plain = thing("core/v1:Secret", "bare", {"stringData": {"password": SECRET}})
    config = thing("core/v1:ConfigMap", "marked", {"data": {"x": {"$secret": SECRET}, "y": "open"}})
    objects.declare(plain, config)
    shown = objects.stack.up().output
    config["properties"] = {"data": {"x": {"$secret": SECRET + "2"}, "y": "open"}}
    objects.declare(plain, config)
    shown += objects.stack.run("preview", "--diff", "--stack", objects.stack.name)
    for text in (shown, str(objects.resources())):
        assert SECRET not in text
        assert ENCODED not in text
    state = objects.revealed()
    assert state["marked"]["outputs"]["data"]["y"] == "open"
    assert ENCODED in str(state["bare"]["outputs"]["data"])
    assert SECRET in str(state["marked"]["outputs"]["data"])
    for file in objects.stack.state.rglob("*.json*"):
        assert SECRET not in file.read_text()
        assert ENCODED not in file.read_text()


@pytest.mark.parametrize("removed", [False, True])
def test_an_imported_secret_is_hidden_once_kubectls_annotation_is_gone(
    objects: Program, kube: Kube, removed: bool
) -> None:
    """With the annotation of `kubectl apply` the value stands in the state, as docs/toolchain.md says."""
    applied = json.dumps({"kind": "Secret", "stringData": {"password": SECRET}})
    marks = {"kubectl.kubernetes.io/last-applied-configuration": applied}
    body: Any = {
        "metadata": {"name": "theirs", "annotations": {} if removed else marks},
        "stringData": {"password": SECRET},
    }
    kube.core.create_namespaced_secret(objects.namespace, body)
    ours = thing(
        "core/v1:Secret",
        "ours",
        {"metadata": {"name": "theirs"}, "type": "Opaque", "data": {"password": ENCODED}},
    )
    objects.up({**ours, "import": f"{objects.namespace}/theirs"})
    assert (SECRET in str(objects.resources())) is not removed
    assert ENCODED not in str(objects.resources())
    objects.up(ours)


# what is refused


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        pytest.param(
            config_map("x", {"name": "Not_A_Name"}), "a lowercase RFC 1123 subdomain", id="name"
        ),
        pytest.param(
            thing("core/v1:Service", "x", {"spec": {"ports": [{"port": 70000}]}}),
            "spec.ports[0].port",
            id="value",
        ),
    ],
)
def test_what_the_server_refuses_shows_in_the_preview(
    objects: Program, broken: Object, message: str
) -> None:
    assert message in words(objects.failing("preview", broken))


def test_a_quota_shows_in_the_preview(objects: Program, kube: Kube) -> None:
    quota: Any = {"metadata": {"name": "few"}, "spec": {"hard": {"services": "0"}}}
    kube.core.create_namespaced_resource_quota(objects.namespace, quota)
    eventually(
        lambda: kube.core.read_namespaced_resource_quota("few", objects.namespace).status.hard,
        20,
        "the quota is in force",
    )
    service = thing("core/v1:Service", "x", {"spec": {"ports": [{"port": 80}]}})
    objects.declare(service)
    # Said beside the resource only: what is forbidden may be so to the one who previews alone.
    assert "exceeded quota: few" in words(objects.stack.preview().output)
    assert "exceeded quota: few" in words(objects.failing("up", service))


def test_an_object_of_others_is_not_overwritten(objects: Program, kube: Kube) -> None:
    body: Any = {"metadata": {"name": "theirs"}, "data": {"a": "theirs"}}
    kube.core.create_namespaced_config_map(objects.namespace, body, field_manager="somebody-else")
    said = words(objects.failing("up", config_map("ours", {"name": "theirs"}, a="ours")))
    assert 'conflict with "somebody-else"' in said
    assert ".data.a" in said
    found = kube.core.read_namespaced_config_map("theirs", objects.namespace)
    assert found.data == {"a": "theirs"}


def test_a_renamed_resource_keeps_its_object_with_an_alias(objects: Program, kube: Kube) -> None:
    """Without one the object is gone, as docs/escape-hatches.md says."""
    objects.up(config_map("first", {"name": "same"}, a="1"))
    before = kube.core.read_namespaced_config_map("same", objects.namespace).metadata.uid
    second = config_map("second", {"name": "same"}, a="1")
    objects.up({**second, "aliases": ["first"]})
    after = kube.core.read_namespaced_config_map("same", objects.namespace).metadata.uid
    assert after == before
    third = config_map("third", {"name": "same"}, a="1")
    assert objects.up(third) == {"third": "create", "second": "delete"}
    assert not _exists(kube, objects.namespace, "same")


def test_an_import_leaves_nothing_to_do(objects: Program, kube: Kube) -> None:
    body: Any = {"metadata": {"name": "theirs", "labels": {"x": "y"}}, "data": {"a": "1"}}
    kube.core.create_namespaced_config_map(objects.namespace, body, field_manager="kubectl-create")
    identity = f"{objects.namespace}/theirs"
    ours = config_map("ours", {"name": "theirs", "labels": {"x": "y"}}, a="1")
    assert objects.up({**ours, "import": identity})["ours"] == "import"
    assert objects.up(ours) == {}
    # A label that the program no longer names goes, although another made it.
    assert objects.up(config_map("ours", {"name": "theirs"}, a="1")) == {"ours": "update"}
    left = kube.core.read_namespaced_config_map("theirs", objects.namespace).metadata.labels
    assert "x" not in (left or {})


# what does not get ready


def test_a_rollout_that_failed_says_why_and_the_next_one_repairs_it(
    objects: Program, image: tuple[str, str]
) -> None:
    # Time enough for a first attempt to pull.
    marks = {"pulumi.com/timeoutSeconds": "45"}
    output = words(objects.failing("up", deployment("stuck", restricted(NOWHERE), marks)))
    name = objects.name_of("stuck")
    assert f"'{name}' timed out waiting to be Ready" in output
    pod_of = rf"Pod {objects.namespace}/{name}-[^ ]+"
    assert re.search(rf"{pod_of} containers with unready status: \[app\]", output), output
    assert "failed to pull and unpack image" in output, output
    assert objects.resources()["stuck"]["initErrors"]
    # It is not forgotten: the next update goes on with the same object, and succeeds.
    file = {"name": "corefile", "configMap": {"name": "corefile"}}
    pod = on(image, "-conf", "/etc/coredns/Corefile")
    pod["volumes"] = [file]
    pod["containers"][0]["volumeMounts"] = [{"name": "corefile", "mountPath": "/etc/coredns"}]
    corefile = config_map("corefile", {"name": "corefile"}, Corefile=".:1053 {\n  errors\n}\n")
    repaired = {**deployment("stuck", pod), "after": ["corefile"]}
    assert objects.up(corefile, repaired) == {"corefile": "create", "stuck": "update"}
    assert objects.name_of("stuck") == name
    assert not objects.resources()["stuck"].get("initErrors")


@pytest.mark.parametrize(
    ("pod", "warning"),
    [
        pytest.param(
            {**restricted(NOWHERE), "nodeSelector": {"no": "such"}},
            r"FailedScheduling: 0/\d+ nodes are available",
            id="unschedulable",
        ),
        pytest.param(
            {"containers": [{"name": "app", "image": NOWHERE}]},
            "FailedCreate: .*violates PodSecurity",
            id="refused",
        ),
    ],
)
def test_the_driver_says_why_no_pod_got_ready(
    objects: Program, pod: dict[str, Any], warning: str
) -> None:
    """The provider says of both that there are too few pods."""
    began = time.time()
    objects.failing("up", deployment("few", pod, QUICK))
    reasons = "\n".join(unready.reasons(objects.stack.cli, objects.stack.name, began))
    name = f"Deployment {objects.namespace}/{objects.name_of('few')}"
    assert re.search(rf"{name}: {warning}", reasons), reasons


def test_a_failed_job_fails_at_once_with_its_last_words(
    objects: Program, image: tuple[str, str]
) -> None:
    broken = job("broken", on(image, "-no-such-flag"), backoffLimit=0)
    began = time.monotonic()
    output = words(objects.failing("up", broken))
    # Not the ten minutes after which the provider gives up a wait.
    assert time.monotonic() - began < 300
    assert "BackoffLimitExceeded" in output
    assert "flag provided but not defined: -no-such-flag" in output


def test_a_job_that_succeeds_is_waited_for(objects: Program, image: tuple[str, str]) -> None:
    objects.up(job("done", on(image, "-version"), backoffLimit=0))
    conditions = objects.resources()["done"]["outputs"]["status"]["conditions"]
    assert {"Complete"} <= {item["type"] for item in conditions if item["status"] == "True"}


def test_an_unready_object_is_replaced_if_the_program_asks(
    objects: Program, image: tuple[str, str]
) -> None:
    marks = {"pulumi.com/replaceUnready": "true"}
    broken = job("smoke", on(image, "-no-such-flag"), marks, backoffLimit=0)
    objects.failing("up", broken)
    assert objects.preview(broken) == {"smoke": "replace"}


@pytest.mark.parametrize("kind", ["Deployment", "StatefulSet"])
def test_an_update_is_complete_only_once_its_controller_has_observed_it(
    objects: Program, kind: str
) -> None:
    """The status of before says of an update that has only just arrived that all is rolled out."""

    def chain(version: str) -> list[Object]:
        """One after the other: the provider already watches when the later ones are updated."""
        made: list[Object] = []
        for number in range(12):
            pod = restricted(NOWHERE, env=[{"name": "VERSION", "value": version}])
            one = {**deployment(f"app-{number}", pod, replicas=0), "type": f"apps/v1:{kind}"}
            made.append({**one, "after": [each["name"] for each in made[-1:]]})
        return made

    objects.up(*chain("1"))
    assert len(objects.up(*chain("2"))) == 12
    early = {}
    for name, resource in objects.resources().items():
        generation = resource["outputs"]["metadata"]["generation"]
        observed = resource["outputs"]["status"]["observedGeneration"]
        if observed != generation:
            early[name] = f"generation {generation}, observed {observed}"
    assert early == {}


def test_a_service_that_can_have_no_pods_is_not_waited_for(objects: Program) -> None:
    ports = [{"port": 80}]
    headless = {"clusterIP": "None", "selector": {"app": "nobody"}, "ports": ports}
    external = {"type": "ExternalName", "externalName": "example.org"}
    began = time.monotonic()
    objects.up(
        thing("core/v1:Service", "plain", {"spec": {"ports": ports}}),
        thing("core/v1:Service", "external", {"spec": external}),
        thing("core/v1:Service", "headless", {"spec": headless}),
    )
    assert time.monotonic() - began < 300


# drift


def test_drift_is_shown_by_refresh_and_repaired_by_the_next_update(
    objects: Program, kube: Kube, monkeypatch: pytest.MonkeyPatch
) -> None:
    item = deployment("drifting", restricted(NOWHERE), replicas=0, revisionHistoryLimit=5)
    gone = config_map("gone", a="1")
    version = config_map("version", {"name": "version"}, version="1.10")
    objects.up(item, gone, version)
    name = objects.name_of("drifting")
    kube.apps.patch_namespaced_deployment(
        name,
        objects.namespace,
        {"spec": {"revisionHistoryLimit": 7}},
        field_manager="somebody-else",
    )
    kube.core.delete_namespaced_config_map(objects.name_of("gone"), objects.namespace)
    # Another text, though the same number.
    kube.core.patch_namespaced_config_map(
        "version", objects.namespace, {"data": {"version": "1.1"}}
    )
    assert objects.up(item, gone, version) == {}, "an update alone does not look at the cluster"
    objects.refresh()
    state = objects.resources()
    assert state["drifting"]["inputs"]["spec"]["revisionHistoryLimit"] == 7
    assert "gone" not in state
    # Who changed it is named, and keeps it unless the user says otherwise.
    said = words(objects.failing("up", item, gone, version))
    assert 'conflict with "somebody-else"' in said
    assert ".spec.revisionHistoryLimit" in said
    environment = objects.stack.cluster.environment
    monkeypatch.setitem(environment, "PULUMI_K8S_ENABLE_PATCH_FORCE", "true")
    assert "drifting" in objects.up(item, gone, version)
    live = kube.apps.read_namespaced_deployment(name, objects.namespace)
    assert live.spec.revision_history_limit == 5
    again = kube.core.read_namespaced_config_map("version", objects.namespace)
    assert again.data == {"version": "1.10"}
    objects.refresh()
    assert objects.up(item, gone, version) == {}


def test_a_refresh_of_an_untouched_object_changes_nothing(objects: Program) -> None:
    pod = restricted(
        NOWHERE,
        env=[{"name": "EMPTY", "value": ""}, {"name": "B", "value": "b"}],
        resources={"requests": {"cpu": "0.5", "memory": "1024Mi"}, "limits": {"memory": "1Gi"}},
        ports=[{"containerPort": 80}],
        args=[],
    )
    things = [
        deployment("untouched", pod, replicas=0),
        thing("core/v1:Secret", "hidden", {"stringData": {"a": "1"}}),
        thing("core/v1:Service", "service", {"spec": {"ports": [{"port": 80, "targetPort": 80}]}}),
        thing(
            "networking.k8s.io/v1:NetworkPolicy",
            "policy",
            {
                "spec": {
                    "podSelector": {},
                    "policyTypes": ["Ingress", "Egress"],
                    "ingress": [],
                    "egress": [{"ports": [{"port": 53, "protocol": "UDP"}]}],
                }
            },
        ),
    ]
    objects.up(*things)
    objects.refresh()
    assert objects.up(*things) == {}


def test_ignored_changes_stay_with_the_other_manager(objects: Program, kube: Kube) -> None:
    """What a HorizontalPodAutoscaler sets is its own."""
    item = {**deployment("scaled", restricted(NOWHERE), replicas=0), "ignore": ["spec.replicas"]}
    objects.up(item)
    name = objects.name_of("scaled")
    scale: Any = {"spec": {"replicas": 1}}
    kube.apps.patch_namespaced_deployment_scale(
        name, objects.namespace, scale, field_manager="autoscaler"
    )
    objects.refresh()
    changed = deployment("scaled", restricted(NOWHERE), replicas=2, revisionHistoryLimit=3)
    assert objects.preview({**changed, "ignore": ["spec.replicas"]}) == {"scaled": "update"}
    # What the pods of the one replica wait for does not come; only the object counts here.
    skipped = {"pulumi.com/skipAwait": "true"}
    changed = deployment("scaled", restricted(NOWHERE), skipped, replicas=2, revisionHistoryLimit=3)
    assert objects.up({**changed, "ignore": ["spec.replicas"]}) == {"scaled": "update"}
    live = kube.apps.read_namespaced_deployment(name, objects.namespace)
    assert (live.spec.replicas, live.spec.revision_history_limit) == (1, 3)


def test_unknown_values_and_new_namespaces_are_left_to_the_update(objects: Program) -> None:
    inside = f"{objects.namespace}-inner"
    things = [
        thing("core/v1:Namespace", "inner", {"metadata": {"name": inside}}),
        thing(
            "core/v1:ConfigMap",
            "within",
            {"metadata": {"namespace": inside}, "data": {"a": "1"}},
            after=["inner"],
        ),
        thing("core/v1:ConfigMap", "about", {"data": {"id": {"$id": "inner"}}}),
    ]
    expected = {"inner": "create", "within": "create", "about": "create", "cluster": "create"}
    assert objects.preview(*things) == expected
    assert objects.up(*things) == expected
    state = objects.resources()
    assert state["about"]["outputs"]["data"]["id"] == inside


# what goes away in the middle


def _exists(kube: Kube, namespace: str, name: str) -> bool:
    try:
        kube.core.read_namespaced_config_map(name, namespace)
    except ApiException as error:
        if error.status == 404:
            return False
        raise
    return True


SIGNAL = {"pulumi.com/waitFor": "jsonpath={.data.go}=yes"}


def signal_map() -> Object:
    """Nothing happens to it that would end the wait by chance."""
    return config_map("signal", {"name": "signal", "annotations": SIGNAL}, other="1")


def test_an_api_server_that_goes_away_during_a_wait_is_waited_for(
    cluster: Cluster, kube: Kube, relay: Relay, objects: Program
) -> None:
    objects.reach(moved(cluster, relay.port))
    process = objects.start(signal_map())
    eventually(lambda: _exists(kube, objects.namespace, "signal"), 120, "the object is there")
    relay.cut()
    time.sleep(3)
    kube.core.patch_namespaced_config_map("signal", objects.namespace, {"data": {"go": "yes"}})
    time.sleep(2)
    assert process.poll() is None, process.communicate()[0]
    relay.restore()
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 0, output


def test_an_api_server_that_is_not_there_is_said_clearly(
    cluster: Cluster, relay: Relay, objects: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    objects.reach(moved(cluster, relay.port))
    objects.up(config_map("here", a="1"))
    relay.cut()
    said = words(objects.failing("up", config_map("here", a="2")))
    assert "configured Kubernetes cluster is unreachable" in said
    assert f"127.0.0.1:{relay.port}" in said
    with pytest.raises(UpdateError) as refused:
        objects.stack.destroy()
    # As `make destroy` does where the cluster is gone.
    assert "PULUMI_K8S_DELETE_UNREACHABLE" in refused.value.output
    environment = objects.stack.cluster.environment
    monkeypatch.setitem(environment, "PULUMI_K8S_DELETE_UNREACHABLE", "true")
    assert "here" in objects.stack.destroy().output
    assert objects.resources() == {}


def test_a_killed_update_is_taken_up_again(objects: Program, kube: Kube) -> None:
    # The driver's recovery is for the stacks of its own project.
    project = objects.stack.work / "Pulumi.yaml"
    objects.stack.run("stack", "rm", "--yes", objects.stack.name)
    project.write_text(project.read_text().replace("name: plugin-objects", f"name: {PROJECT}"))
    objects.stack.run("stack", "init", objects.stack.name)
    body: Any = {"metadata": {"name": "theirs"}, "data": {"a": "1"}}
    kube.core.create_namespaced_config_map(
        objects.namespace, body, field_manager="pulumi-kubernetes-of-another-stack"
    )
    time.sleep(1.1)  # The server counts whole seconds.

    def things(**spec: Any) -> list[Object]:
        stuck = deployment("stuck", restricted(NOWHERE), **spec)
        stuck["properties"]["metadata"] = {"name": "stuck"}
        # Only then is the first one in the state when the others are on the cluster.
        stuck["after"] = ["before"]
        # Waits for what does not come, as the Deployment does.
        theirs = config_map("theirs", {"name": "theirs", "annotations": SIGNAL}, a="1")
        return [config_map("before", a="1"), stuck, *([] if spec else [theirs])]

    process = objects.start(*things())
    found = eventually(
        lambda: kube.apps.list_namespaced_deployment(objects.namespace).items, 120, "it is there"
    )
    eventually(
        lambda: kube.core.read_namespaced_config_map("theirs", objects.namespace)
        .metadata.annotations, 120, "the other one is taken over",
    )  # fmt: skip
    kill_group(process)
    eventually(lambda: not _orphans(objects), 60, "the provider has ended with its engine")
    # As `make up` does before anything else.
    recovery.recover(objects.stack.cli, [objects.stack.name])
    assert kube.apps.list_namespaced_deployment(objects.namespace).items == []
    assert _exists(kube, objects.namespace, "theirs"), "what was there before is not ours to delete"
    assert set(objects.resources()) == {"before"}
    fixed = things(replicas=0)
    assert objects.up(*fixed) == {"stuck": "create"}
    items = kube.apps.list_namespaced_deployment(objects.namespace).items
    assert [item.metadata.uid for item in items] != [found[0].metadata.uid]
    assert objects.up(*fixed) == {}


def _orphans(objects: Program) -> list[str]:
    """This checkout's providers whose engine is gone."""
    # Without -ww the lines may be cut before the program's name.
    listed = subprocess.run(
        ["ps", "-ewwo", "ppid,args"], capture_output=True, text=True, check=True
    ).stdout
    plugins = str(objects.stack.cluster.checkout.pulumi_home / "plugins")
    return [
        line
        for line in listed.splitlines()
        if f"{plugins}/resource-kubernetes" in line and line.split()[0] == "1"
    ]


def test_a_cancelled_update_ends_at_once_and_keeps_the_object(objects: Program, kube: Kube) -> None:
    process = objects.start(signal_map())
    eventually(lambda: _exists(kube, objects.namespace, "signal"), 120, "the object is there")
    time.sleep(2)
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=300)
    assert process.returncode != 0
    assert "panic" not in output
    assert objects.name_of("signal") == "signal"
