"""The project's Kubernetes plugin, driven by the real CLI on the project's own cluster."""

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
from tests.live.support.stacks import UpdateError, kill_group
from tests.live.support.waiting import eventually

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
                "securityContext": {
                    "allowPrivilegeEscalation": False,
                    "capabilities": {"drop": ["ALL"]},
                },
                **container,
            }
        ],
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


def job(name: str, pod: dict[str, Any], **spec: Any) -> Object:
    template = {"spec": {"restartPolicy": "Never", **pod}}
    return thing("batch/v1:Job", name, {"metadata": {}, "spec": {"template": template, **spec}})


def _first() -> list[Object]:
    pod = restricted(NOWHERE)
    labels = {"app": "x"}
    rules = [{"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]}]
    return [
        config_map("kept", a="1"),
        config_map("labelled", {"labels": {"one": "1", "two": "2"}}, a="1"),
        config_map("new-data", a="1"),
        config_map("named", {"name": "named"}, a="1"),
        config_map("to-be-named", a="1"),
        thing("core/v1:Secret", "typed", {"type": "Opaque", "stringData": {"a": "1"}}),
        thing("core/v1:Secret", "hidden", {"stringData": {"a": {"$secret": "old"}}}),
        thing(
            "core/v1:Service", "ported", {"spec": {"clusterIP": "None", "ports": [{"port": 80}]}}
        ),
        thing("core/v1:Service", "headless", {"spec": {"ports": [{"port": 80}]}}),
        deployment("scaled", pod, replicas=0),
        deployment("selected", pod, replicas=0),
        thing("apps/v1:StatefulSet", "set", _stateful(labels, "one", pod)),
        thing("apps/v1:StatefulSet", "governed", _stateful(labels, "one", pod)),
        job("suspended", pod, suspend=True, parallelism=1),
        job("retemplated", pod, suspend=True),
        thing("rbac.authorization.k8s.io/v1:Role", "role", {"rules": rules}),
        thing("rbac.authorization.k8s.io/v1:RoleBinding", "binding", _binding("one")),
        thing(
            "policy/v1:PodDisruptionBudget",
            "budget",
            {"spec": {"minAvailable": 1, "selector": {"matchLabels": labels}}},
        ),
        thing(
            "networking.k8s.io/v1:NetworkPolicy",
            "policy",
            {"spec": {"podSelector": {}, "policyTypes": ["Ingress"]}},
        ),
        thing("core/v1:PersistentVolumeClaim", "claim", _claim("1Gi", "ReadWriteOnce")),
        thing("core/v1:ServiceAccount", "account", {"automountServiceAccountToken": False}),
    ]


def _second() -> list[Object]:
    pod = restricted(NOWHERE)
    labels = {"app": "x"}
    rules = [{"apiGroups": [""], "resources": ["pods"], "verbs": ["get", "list"]}]
    selected = deployment("selected", pod, replicas=0)
    selected["properties"]["spec"]["selector"]["matchLabels"] = {"app": "other"}
    selected["properties"]["spec"]["template"]["metadata"]["labels"] = {"app": "other"}
    return [
        config_map("kept", a="1"),
        config_map("labelled", {"labels": {"one": "changed"}}, a="1"),
        config_map("new-data", a="2"),
        config_map("named", {"name": "named"}, a="2"),
        config_map("to-be-named", {"name": "now-named"}, a="1"),
        thing("core/v1:Secret", "typed", {"type": "example.org/x", "stringData": {"a": "1"}}),
        thing("core/v1:Secret", "hidden", {"stringData": {"a": {"$secret": "new"}}}),
        thing(
            "core/v1:Service", "ported", {"spec": {"clusterIP": "None", "ports": [{"port": 81}]}}
        ),
        thing(
            "core/v1:Service", "headless", {"spec": {"clusterIP": "None", "ports": [{"port": 80}]}}
        ),
        deployment("scaled", pod, replicas=0, revisionHistoryLimit=3),
        selected,
        thing("apps/v1:StatefulSet", "set", _stateful(labels, "one", restricted(NOWHERE + "1"))),
        thing("apps/v1:StatefulSet", "governed", _stateful(labels, "two", pod)),
        job("suspended", pod, suspend=True, parallelism=2),
        job("retemplated", restricted(NOWHERE + "1"), suspend=True),
        thing("rbac.authorization.k8s.io/v1:Role", "role", {"rules": rules}),
        thing("rbac.authorization.k8s.io/v1:RoleBinding", "binding", _binding("two")),
        thing(
            "policy/v1:PodDisruptionBudget",
            "budget",
            {"spec": {"minAvailable": 2, "selector": {"matchLabels": labels}}},
        ),
        thing(
            "networking.k8s.io/v1:NetworkPolicy",
            "policy",
            {"spec": {"podSelector": {}, "policyTypes": ["Egress"]}},
        ),
        thing("core/v1:PersistentVolumeClaim", "claim", _claim("1Gi", "ReadWriteOncePod")),
    ]


def _stateful(labels: dict[str, str], service: str, pod: dict[str, Any]) -> dict[str, Any]:
    return {
        "spec": {
            "replicas": 0,
            "serviceName": service,
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": pod},
        }
    }


def _binding(role: str) -> dict[str, Any]:
    return {
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": role},
        "subjects": [{"kind": "ServiceAccount", "name": "default", "namespace": "default"}],
    }


def _claim(size: str, mode: str) -> dict[str, Any]:
    return {"spec": {"accessModes": [mode], "resources": {"requests": {"storage": size}}}}


STEPS = {
    "labelled": "update",
    "new-data": "replace",
    "named": "replace",
    "to-be-named": "replace",
    "typed": "replace",
    "hidden": "replace",
    "ported": "update",
    "headless": "replace",
    "scaled": "update",
    "selected": "replace",
    "set": "update",
    "governed": "replace",
    "suspended": "update",
    "retemplated": "replace",
    "role": "update",
    "binding": "replace",
    "budget": "update",
    "policy": "update",
    "claim": "replace",
    "account": "delete",
}


def test_every_change_takes_the_step_it_needs(objects: Program, kube: Kube) -> None:
    first, second = _first(), _second()
    created = objects.up(*first)
    assert {name for name, operation in created.items() if operation == "create"} >= {
        item["name"] for item in first
    }
    assert objects.up(*first) == {}
    old = {name: objects.resources()[name]["id"] for name in STEPS}

    assert objects.preview(*second) == STEPS
    assert objects.up(*second) == STEPS
    steps = objects.events()
    order = [operation for operation, name in steps if name == "named"]
    assert order.index("delete-replaced") < order.index("create-replacement")
    order = [operation for operation, name in steps if name == "new-data"]
    assert order.index("create-replacement") < order.index("delete-replaced")

    new = {name: item["id"] for name, item in objects.resources().items()}
    assert new["named"] == old["named"]
    assert new["new-data"] != old["new-data"]
    assert re.fullmatch(rf"{objects.namespace}/new-data-[0-9a-f]{{8}}", new["new-data"])
    labelled = kube.core.read_namespaced_config_map(objects.name_of("labelled"), objects.namespace)
    assert labelled.metadata.labels == {"one": "changed"}
    # Nothing is left of what was replaced.
    names = {
        item.metadata.name for item in kube.core.list_namespaced_config_map(objects.namespace).items
    }
    assert names - {"kube-root-ca.crt"} == {
        new[name].split("/")[1] for name in ("kept", "labelled", "new-data", "named", "to-be-named")
    }
    assert objects.up(*second) == {}


def test_mutable_data_is_updated_in_place(objects: Program, kube: Kube) -> None:
    objects.provider |= {"enableConfigMapMutable": True, "enableSecretMutable": "true"}
    hidden = {"stringData": {"a": {"$secret": "1"}}}
    objects.up(config_map("plain", a="1", b="1"), thing("core/v1:Secret", "hidden", hidden))
    hidden = {"stringData": {"a": {"$secret": "2"}}}
    assert objects.up(config_map("plain", a="2"), thing("core/v1:Secret", "hidden", hidden)) == {
        "plain": "update",
        "hidden": "update",
    }
    found = kube.core.read_namespaced_config_map(objects.name_of("plain"), objects.namespace)
    assert found.data == {"a": "2"}


def test_secrets_are_nowhere_in_plain_text(objects: Program) -> None:
    secret = "correct-horse-battery"
    encoded = "Y29ycmVjdC1ob3JzZS1iYXR0ZXJ5"
    # The program marks nothing in a Secret's data; the plugin does.
    plain = thing("core/v1:Secret", "bare", {"stringData": {"password": secret}})
    config = thing("core/v1:ConfigMap", "marked", {"data": {"x": {"$secret": secret}, "y": "open"}})
    objects.declare(plain, config)
    shown = objects.stack.up().output
    config["properties"] = {"data": {"x": {"$secret": secret + "2"}, "y": "open"}}
    objects.declare(plain, config)
    shown += objects.stack.run("preview", "--diff", "--stack", objects.stack.name)
    for text in (shown, str(objects.resources())):
        assert secret not in text
        assert encoded not in text
    state = objects.revealed()
    assert state["marked"]["outputs"]["data"]["y"] == "open"
    assert encoded in str(state["bare"]["outputs"]["__inputs"])
    assert secret in str(state["marked"]["outputs"]["data"])
    for file in (objects.stack.folder / "state").rglob("*.json*"):
        assert secret not in file.read_text()
        assert encoded not in file.read_text()


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        pytest.param(
            config_map("x", {"name": "Not_A_Name"}),
            "a lowercase RFC 1123 subdomain",
            id="name",
        ),
        pytest.param(
            thing("core/v1:ConfigMap", "x", {"data": {"a": "1"}, "dta": {}}),
            'unknown field "dta"',
            id="unknown-field",
        ),
        pytest.param(
            deployment("x", {**restricted(NOWHERE), "contaners": []}, replicas=0),
            'unknown field "spec.template.spec.contaners"',
            id="unknown-nested-field",
        ),
        pytest.param(
            thing("core/v1:Service", "x", {"spec": {"ports": [{"port": 70000}]}}),
            "spec.ports[0].port",
            id="value",
        ),
        pytest.param(
            thing("core/v1:ConfigMapList", "x", {"items": []}),
            "core/v1:ConfigMapList is not supported by this kubernetes plugin",
            id="list",
        ),
        pytest.param(
            thing("helm.sh/v3:Release", "x", {"chart": "nginx"}),
            "helm.sh/v3:Release is not supported by this kubernetes plugin",
            id="helm",
        ),
        pytest.param(
            thing("apps/v1:Deploymnt", "x", {}),
            "apps/v1 has ControllerRevision, DaemonSet, Deployment",
            id="unknown-kind",
        ),
        pytest.param(
            config_map("x", {"annotations": {"pulumi.com/waitFor": "ready"}}),
            "condition=Type",
            id="wait-for",
        ),
    ],
)
def test_what_the_server_or_the_plugin_refuses_shows_in_the_preview(
    objects: Program, broken: Object, message: str
) -> None:
    assert message in objects.failing("preview", broken)


def test_quota_and_pod_security_show_in_the_preview(objects: Program, kube: Kube) -> None:
    quota: Any = {"metadata": {"name": "few"}, "spec": {"hard": {"services": "0"}}}
    kube.core.create_namespaced_resource_quota(objects.namespace, quota)
    eventually(
        lambda: kube.core.read_namespaced_resource_quota("few", objects.namespace).status.hard,
        20,
        "the quota is in force",
    )
    service = thing("core/v1:Service", "x", {"spec": {"ports": [{"port": 80}]}})
    assert "exceeded quota: few" in objects.failing("preview", service)
    kube.core.patch_namespace(
        objects.namespace,
        {"metadata": {"labels": {"pod-security.kubernetes.io/warn": "restricted"}}},
    )
    lax = {"containers": [{"name": "app", "image": NOWHERE}]}
    objects.declare(deployment("lax", lax, replicas=0))
    assert "would violate PodSecurity" in objects.stack.preview().output


def test_provider_arguments_are_checked(objects: Program) -> None:
    objects.provider["namespaces"] = "x"
    assert "is not an argument of the provider; is namespace meant?" in objects.failing(
        "preview", config_map("x")
    )
    del objects.provider["namespaces"]
    objects.provider["enableServerSideApply"] = False
    assert "only applies on the server's side" in objects.failing("preview", config_map("x"))
    del objects.provider["enableServerSideApply"]
    objects.provider["context"] = "elsewhere"
    assert "the kubeconfig has no context 'elsewhere'" in objects.failing(
        "preview", config_map("x")
    )
    del objects.provider["context"]


def test_a_deployment_that_never_gets_ready_says_why_and_is_kept(objects: Program) -> None:
    # Time enough for a first attempt to pull.
    marks = {"pulumi.com/timeoutSeconds": "45"}
    output = objects.failing("up", deployment("stuck", restricted(NOWHERE), marks))
    name = objects.name_of("stuck")
    assert f"Deployment {objects.namespace}/{name}: not ready after 45 s" in output
    assert re.search(rf"pod {name}-\w+-\w+: container app: (ErrImagePull|ImagePullBackOff)", output)
    assert "event Failed:" in output
    assert objects.resources()["stuck"]["initErrors"]
    # It is not forgotten: the next update goes on with the same object.
    assert objects.up(deployment("stuck", restricted(NOWHERE), marks, replicas=0)) == {
        "stuck": "update"
    }
    assert objects.name_of("stuck") == name


def test_a_pod_that_fits_no_node_is_named(objects: Program) -> None:
    pod = {**restricted(NOWHERE), "nodeSelector": {"no": "such"}}
    output = objects.failing("up", deployment("homeless", pod, QUICK))
    assert "Unschedulable: 0/" in output
    assert "event FailedScheduling" in output


def test_pods_that_admission_refuses_are_explained(objects: Program) -> None:
    lax = {"containers": [{"name": "app", "image": NOWHERE}]}
    output = objects.failing("up", deployment("lax", lax, QUICK))
    assert "no pod could be made" in output
    assert "violates PodSecurity" in output


def test_a_failed_job_fails_at_once_with_its_last_words(
    objects: Program, image: tuple[str, str]
) -> None:
    name, node = image
    pod = {
        **restricted(name, args=["-no-such-flag"]),
        "nodeSelector": {"kubernetes.io/hostname": node},
    }
    began = time.monotonic()
    output = objects.failing("up", job("broken", pod, backoffLimit=0))
    assert time.monotonic() - began < 60
    assert "the job failed: BackoffLimitExceeded" in output
    assert re.search(r"container app: exit code \d+", output)
    assert "flag provided but not defined: -no-such-flag" in output


def test_a_job_that_succeeds_is_waited_for(objects: Program, image: tuple[str, str]) -> None:
    name, node = image
    pod = {
        **restricted(name, args=["-version"]),
        "nodeSelector": {"kubernetes.io/hostname": node},
    }
    objects.up(job("done", pod, backoffLimit=0))
    conditions = objects.resources()["done"]["outputs"]["status"]["conditions"]
    assert {"Complete"} <= {item["type"] for item in conditions if item["status"] == "True"}


def test_an_unready_object_is_replaced_if_the_program_asks(
    objects: Program, image: tuple[str, str]
) -> None:
    name, node = image
    broken = job(
        "smoke",
        {
            **restricted(name, args=["-no-such-flag"]),
            "nodeSelector": {"kubernetes.io/hostname": node},
        },
        backoffLimit=0,
    )
    broken["properties"]["metadata"] = {"annotations": {"pulumi.com/replaceUnready": "true"}}
    objects.failing("up", broken)
    assert objects.preview(broken) == {"smoke": "replace"}


def test_a_service_is_waited_for_unless_it_has_no_pods_to_have(objects: Program) -> None:
    selector = {"app": "nobody"}
    ports = [{"port": 80}]
    external = {"type": "ExternalName", "externalName": "example.org"}
    objects.up(
        thing("core/v1:Service", "plain", {"spec": {"ports": ports}}),
        thing("core/v1:Service", "external", {"spec": external}),
        thing(
            "core/v1:Service",
            "headless",
            {"spec": {"clusterIP": "None", "selector": selector, "ports": ports}},
        ),
        thing(
            "core/v1:Service",
            "skipped",
            {
                "metadata": {"annotations": {"pulumi.com/skipAwait": "true"}},
                "spec": {"selector": selector, "ports": ports},
            },
        ),
    )
    waited = thing(
        "core/v1:Service",
        "waited",
        {"spec": {"selector": selector, "ports": ports}},
        timeouts={"create": "3s"},
    )
    output = objects.failing("up", waited)
    assert "not ready after 3 s: no pod with app=nobody is ready" in output


def test_wait_for_waits_for_what_the_program_names(objects: Program, kube: Kube) -> None:
    marks = {"pulumi.com/waitFor": "jsonpath={.data.go}=yes", "pulumi.com/timeoutSeconds": "60"}
    item = config_map("signal", {"name": "signal", "annotations": marks}, other="1")
    process = objects.start(item)
    eventually(lambda: _exists(kube, objects.namespace, "signal"), 120, "the object is there")
    time.sleep(1)
    assert process.poll() is None
    kube.core.patch_namespaced_config_map("signal", objects.namespace, {"data": {"go": "yes"}})
    changed = time.monotonic()
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 0, output
    assert time.monotonic() - changed < 40


def _exists(kube: Kube, namespace: str, name: str) -> bool:
    try:
        kube.core.read_namespaced_config_map(name, namespace)
    except ApiException as error:
        if error.status == 404:
            return False
        raise
    return True


def test_an_object_that_exists_already_is_not_taken(objects: Program, kube: Kube) -> None:
    body: Any = {"metadata": {"name": "theirs"}, "data": {"a": "theirs", "b": "theirs"}}
    kube.core.create_namespaced_config_map(objects.namespace, body)
    ours = config_map("ours", {"name": "theirs"}, a="theirs", b="theirs")
    for verb in ("preview", "up"):
        output = objects.failing(verb, ours)
        assert "exists already and does not belong to this stack" in output
        command = f"pulumi import kubernetes:core/v1:ConfigMap ours {objects.namespace}/theirs"
        assert command in " ".join(output.split())
        assert "give its former name in the option aliases" in " ".join(output.split())
    objects.provider["upsertExistingObjects"] = True
    assert objects.up(ours)["ours"] == "create"


def test_an_import_leaves_nothing_to_do(objects: Program, kube: Kube) -> None:
    body: Any = {"metadata": {"name": "theirs", "labels": {"x": "y"}}, "data": {"a": "1"}}
    kube.core.create_namespaced_config_map(objects.namespace, body)
    identity = f"{objects.namespace}/theirs"
    ours = config_map("ours", {"name": "theirs", "labels": {"x": "y"}}, a="1")
    assert objects.up({**ours, "import": identity})["ours"] == "import"
    assert objects.up(ours) == {}
    missing = config_map("nobody", {"name": "nobody"}, a="1")
    output = objects.failing("up", ours, {**missing, "import": f"{objects.namespace}/nobody"})
    assert "does not exist" in output


def test_drift_is_shown_by_refresh_and_repaired_by_the_next_update(
    objects: Program, kube: Kube
) -> None:
    item = deployment("drifting", restricted(NOWHERE), replicas=0, revisionHistoryLimit=5)
    marked = config_map("gone", a="1")
    objects.up(item, marked)
    name = objects.name_of("drifting")
    kube.apps.patch_namespaced_deployment(
        name, objects.namespace, {"spec": {"revisionHistoryLimit": 7}}
    )
    kube.core.delete_namespaced_config_map(objects.name_of("gone"), objects.namespace)
    assert objects.up(item, marked) == {}, "an update alone does not look at the cluster"
    objects.refresh()
    state = objects.resources()
    assert state["drifting"]["inputs"]["spec"]["revisionHistoryLimit"] == 7
    assert "gone" not in state
    assert objects.up(item, marked) == {"drifting": "update", "gone": "create"}
    live = kube.apps.read_namespaced_deployment(name, objects.namespace)
    assert live.spec.revision_history_limit == 5
    objects.refresh()
    assert objects.up(item, marked) == {}


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
    before = {name: item["inputs"] for name, item in objects.revealed().items()}
    objects.refresh()
    after = {name: item["inputs"] for name, item in objects.revealed().items()}
    assert after == before
    assert objects.up(*things) == {}


def test_a_conflict_names_the_other_manager(objects: Program, kube: Kube) -> None:
    item = deployment("shared", restricted(NOWHERE), replicas=0, revisionHistoryLimit=5)
    objects.up(item)
    kube.apps.patch_namespaced_deployment(
        objects.name_of("shared"),
        objects.namespace,
        {"spec": {"revisionHistoryLimit": 7}},
        field_manager="somebody-else",
    )
    changed = deployment("shared", restricted(NOWHERE), replicas=0, revisionHistoryLimit=6)
    for verb in ("preview", "up"):
        output = " ".join(objects.failing(verb, changed).split())
        assert "spec.revisionHistoryLimit is managed by somebody-else" in output
    force = {"pulumi.com/patchForce": "true"}
    forced = deployment("shared", restricted(NOWHERE), force, replicas=0, revisionHistoryLimit=6)
    assert objects.up(forced) == {"shared": "update"}


def test_an_api_server_that_goes_away_during_a_wait_is_waited_for(
    cluster: Cluster, kube: Kube, relay: Relay, objects: Program
) -> None:
    objects.reach(moved(cluster, relay.port))
    marks = {"pulumi.com/waitFor": "jsonpath={.data.go}=yes", "pulumi.com/timeoutSeconds": "90"}
    item = config_map("signal", {"name": "signal", "annotations": marks}, other="1")
    process = objects.start(item)
    eventually(lambda: _exists(kube, objects.namespace, "signal"), 120, "the object is there")
    relay.cut()
    time.sleep(3)
    kube.core.patch_namespaced_config_map("signal", objects.namespace, {"data": {"go": "yes"}})
    time.sleep(2)
    assert process.poll() is None, process.communicate()[0]
    relay.restore()
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 0, output


def test_an_api_server_that_is_not_there_is_said_clearly(
    cluster: Cluster, relay: Relay, objects: Program
) -> None:
    objects.provider["clusterIdentifier"] = "the-same"
    objects.reach(moved(cluster, relay.port))
    objects.up(config_map("here", a="1"))
    relay.cut()
    output = " ".join(
        objects.failing("preview", config_map("here", a="1"), config_map("new")).split()
    )
    assert (
        f"the Kubernetes API server at https://127.0.0.1:{relay.port} cannot be reached" in output
    )
    with pytest.raises(UpdateError) as refused:
        objects.stack.destroy()
    assert "PULUMI_K8S_DELETE_UNREACHABLE=true" in refused.value.output
    objects.provider["deleteUnreachable"] = True
    relay.restore()
    objects.up(config_map("here", a="1"))
    relay.cut()
    assert "here" in objects.stack.destroy().output
    assert objects.resources() == {}


def test_a_killed_update_is_taken_up_again(objects: Program, kube: Kube) -> None:
    stuck = deployment("stuck", restricted(NOWHERE))
    stuck["properties"]["metadata"] = {"name": "stuck"}
    process = objects.start(config_map("before", a="1"), stuck)
    found = eventually(
        lambda: kube.apps.list_namespaced_deployment(objects.namespace).items, 120, "it is there"
    )
    time.sleep(1)
    kill_group(process)
    eventually(lambda: not _orphans(), 60, "the killed engine's plugins have ended")
    name = objects.stack.name
    objects.stack.run("cancel", "--yes", "--stack", name)
    objects.stack.run(
        "refresh", "--yes", "--skip-preview", "--stack", name, "--clear-pending-creates"
    )
    fixed = deployment("stuck", restricted(NOWHERE), replicas=0)
    fixed["properties"]["metadata"] = {"name": "stuck"}
    assert "exists already" in objects.failing("up", config_map("before", a="1"), fixed)
    objects.provider["upsertExistingObjects"] = True
    assert objects.up(config_map("before", a="1"), fixed)["stuck"] == "create"
    items = kube.apps.list_namespaced_deployment(objects.namespace).items
    assert [item.metadata.uid for item in items] == [found[0].metadata.uid]
    assert items[0].spec.replicas == 0
    assert objects.up(config_map("before", a="1"), fixed) == {}


def _orphans() -> list[str]:
    listed = subprocess.run(
        ["ps", "-eo", "pid,ppid,args"], capture_output=True, text=True, check=True
    ).stdout
    return [
        line
        for line in listed.splitlines()
        if "toolchain.plugins.kubernetes" in line and line.split()[1] == "1"
    ]


def test_a_cancelled_update_ends_at_once_and_keeps_the_object(objects: Program, kube: Kube) -> None:
    # Nothing happens to this object that would wake the wait by chance.
    marks = {"pulumi.com/waitFor": "jsonpath={.data.go}=yes"}
    process = objects.start(config_map("stuck", {"name": "stuck", "annotations": marks}, a="1"))
    eventually(lambda: _exists(kube, objects.namespace, "stuck"), 120, "the object is there")
    time.sleep(2)
    process.send_signal(signal.SIGINT)
    began = time.monotonic()
    output, _ = process.communicate(timeout=60)
    assert time.monotonic() - began < 40
    assert "cancelled before it was ready" in output
    assert "Traceback" not in output
    assert objects.name_of("stuck") == "stuck"


def test_deletion_is_waited_for_and_says_what_holds_it(objects: Program, kube: Kube) -> None:
    held = config_map("held", {"finalizers": ["example.org/held"]}, a="1")
    objects.up({**held, "timeouts": {"delete": "3s"}})
    name = objects.name_of("held")
    with pytest.raises(UpdateError) as refused:
        objects.stack.destroy()
    assert "not gone after 3 s: finalizers example.org/held" in refused.value.output
    kube.core.patch_namespaced_config_map(
        name, objects.namespace, {"metadata": {"finalizers": None}}
    )
    eventually(lambda: not _exists(kube, objects.namespace, name), 10, "it is gone")
    objects.stack.destroy()


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


def test_custom_resources_come_with_their_definition(objects: Program) -> None:
    group = f"{objects.namespace}.example.org"
    definition = {
        "metadata": {"name": f"widgets.{group}"},
        "spec": {
            "group": group,
            "scope": "Namespaced",
            "names": {"plural": "widgets", "kind": "Widget", "singular": "widget"},
            "versions": [
                {
                    "name": "v1",
                    "served": True,
                    "storage": True,
                    "schema": {
                        "openAPIV3Schema": {
                            "type": "object",
                            "properties": {
                                "spec": {
                                    "type": "object",
                                    "properties": {"size": {"type": "integer"}},
                                }
                            },
                        }
                    },
                }
            ],
        },
    }

    def things(size: Any) -> list[Object]:
        return [
            thing("apiextensions.k8s.io/v1:CustomResourceDefinition", "widgets", definition),
            thing(f"{group}/v1:Widget", "one", {"spec": {"size": size}}, after=["widgets"]),
        ]

    objects.up(*things(1))
    assert objects.resources()["one"]["id"].startswith(f"{objects.namespace}/one-")
    assert objects.up(*things(2)) == {"one": "update"}
    assert "spec.size" in objects.failing("preview", *things("two"))


def test_ignored_changes_stay_with_the_other_manager(objects: Program, kube: Kube) -> None:
    item = deployment("scaled", restricted(NOWHERE), replicas=0)
    item["ignore"] = ["spec.replicas"]
    objects.up(item)
    changed = deployment("scaled", restricted(NOWHERE), replicas=2)
    changed["ignore"] = ["spec.replicas"]
    assert objects.up(changed) == {}
    live = kube.apps.read_namespaced_deployment(objects.name_of("scaled"), objects.namespace)
    assert live.spec.replicas == 0
