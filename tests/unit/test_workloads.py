"""Application, StatefulApplication and Task: what is particular to them."""

import dataclasses
import functools
import re
from typing import Any

import pulumi
import pytest

from dds_patterns import Application, ScheduledTask, StatefulApplication, Task
from dds_patterns.arguments.errors import InputError
from dds_patterns.pods.companion import ANYWHERE
from dds_patterns.workloads.environment import in_order
from tests.unit.support.examples import IMAGE, companion
from tests.unit.support.manifests import assert_valid, objects, policy, the
from toolchain.graph import Graph, build

HTTP = {"name": "http", "port": 8080}


def application(**args: Any) -> Graph:
    return build(lambda: Application("web", {"image": IMAGE, **args}))  # type: ignore[typeddict-item]


def stateful(**args: Any) -> Graph:
    given: Any = {"image": IMAGE, "ports": [{"name": "db", "port": 5432}], **args}
    return build(lambda: StatefulApplication("db", given))


def task(**args: Any) -> Graph:
    return build(lambda: Task("job", {"image": IMAGE, **args}))  # type: ignore[typeddict-item]


def kinds(graph: Graph) -> set[str]:
    return {body["kind"] for body in objects(graph)}


def pod(graph: Graph) -> dict[str, Any]:
    spec: dict[str, Any] = the(graph, "Deployment")["spec"]["template"]["spec"]
    return spec


# What belongs to a workload


def test_without_ports_there_is_no_service() -> None:
    assert kinds(application()) == {"Deployment", "ServiceAccount", "NetworkPolicy"}


def test_with_ports_there_is_a_service_that_selects_the_pods() -> None:
    graph = application(ports=[{**HTTP, "service_port": 80}])
    service = the(graph, "Service")
    deployment = the(graph, "Deployment")
    assert service["spec"]["ports"] == [
        {"name": "http", "port": 80, "targetPort": 8080, "protocol": "TCP"}
    ]
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    assert service["spec"]["selector"].items() <= labels.items()
    assert deployment["spec"]["selector"]["matchLabels"] == service["spec"]["selector"]


def test_a_budget_and_spread_come_with_the_second_replica() -> None:
    one, two = application(replicas=1), application(replicas=2)
    assert "PodDisruptionBudget" not in kinds(one)
    assert "topologySpreadConstraints" not in pod(one)
    assert the(two, "PodDisruptionBudget")["spec"]["maxUnavailable"] == 1
    (constraint,) = pod(two)["topologySpreadConstraints"]
    assert constraint["whenUnsatisfiable"] == "ScheduleAnyway"
    assert constraint["topologyKey"] == "kubernetes.io/hostname"


def test_a_number_of_replicas_known_later_gets_a_budget() -> None:
    graph = build(
        lambda: Application("web", {"image": IMAGE, "replicas": pulumi.Output.from_input(1)})
    )
    assert "PodDisruptionBudget" in kinds(graph)


@pytest.mark.parametrize(("spread", "rule"), [("strict", "DoNotSchedule"), ("none", None)])
def test_spread_can_be_chosen(spread: str, rule: str | None) -> None:
    constraints = pod(application(replicas=2, hosting={"spread": {"nodes": spread}})).get(
        "topologySpreadConstraints", []
    )
    assert [c["whenUnsatisfiable"] for c in constraints] == ([rule] if rule else [])


def test_replicas_are_left_to_the_autoscaler() -> None:
    graph = application(autoscaled=True)
    assert "replicas" not in the(graph, "Deployment")["spec"]
    assert "PodDisruptionBudget" in kinds(graph)


def test_replicas_known_later_are_checked_later() -> None:
    with pytest.raises(InputError, match="replicas is 0; must be from 1 to 10000"):
        build(lambda: Application("web", {"image": IMAGE, "replicas": pulumi.Output.from_input(0)}))


def test_a_rollout_never_goes_below_the_number_of_replicas() -> None:
    strategy = the(application(), "Deployment")["spec"]["strategy"]
    assert strategy["rollingUpdate"] == {"maxUnavailable": 0, "maxSurge": 1}


CLAIM = {"name": "data", "persistent_volume_claim": {"claim_name": "data"}}
WITH_A_CLAIM = dataclasses.replace(companion(), volumes=(CLAIM,))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("change", "kind"),
    [
        ({"volumes": [CLAIM]}, "Recreate"),
        ({"companions": [WITH_A_CLAIM]}, "Recreate"),
        ({"volumes": [CLAIM], "hosting": {"rollout": {"strategy": "rolling"}}}, "RollingUpdate"),
        ({"hosting": {"rollout": {"strategy": "recreate"}}, "replicas": 2}, "Recreate"),
        ({"volumes": [{"name": "data", "empty_dir": {"size_limit": "1Mi"}}]}, "RollingUpdate"),
    ],
    ids=str,
)
def test_a_new_pod_does_not_wait_for_the_volume_of_an_old_one(change: Any, kind: str) -> None:
    """A claim that one node mounts is free only when the old pod has ended."""
    graph = application(**change)
    strategy = the(graph, "Deployment")["spec"]["strategy"]
    assert strategy["type"] == kind
    # The API refuses the settings of one kind beside the other.
    assert ("rollingUpdate" in strategy) == (kind == "RollingUpdate")
    assert_valid(objects(graph))


@pytest.mark.parametrize("kind", ["Deployment", "StatefulSet"])
@pytest.mark.parametrize(
    ("change", "seconds"),
    [
        ({}, 600),
        # Each: two minutes to start, 30 s to end and 5 s before that, 30 s for all else.
        ({"replicas": 3}, 600),
        ({"replicas": 4}, 4 * 185),
        ({"replicas": 64}, 64 * 185),
        ({"replicas": 64, "termination_grace_period_seconds": 20, "drain_seconds": 0}, 64 * 170),
        ({"startup": {"period_seconds": 2, "failure_threshold": 300}}, 665),
        ({"replicas": pulumi.Output.from_input(64)}, 3600),
        ({"replicas": pulumi.Output.from_input(1), "termination_grace_period_seconds": 7200}, 7355),
    ],
    # An Output's text has its address in it, which differs between processes.
    ids=lambda given: re.sub(" at 0x[0-9a-f]+", "", str(given)),
)
def test_the_engine_waits_as_long_as_one_pod_after_the_other_may_take(
    kind: str, change: Any, seconds: int
) -> None:
    given = {"ports": [HTTP], **change}
    graph = application(**given) if kind == "Deployment" else stateful(**given)
    wanted = f"{seconds}s"
    assert graph.one(kind).timeouts == {"create": wanted, "update": wanted}


def test_pods_without_a_probe_have_no_time_to_start() -> None:
    assert application(replicas=64).one("Deployment").timeouts["update"] == f"{64 * 60}s"


def test_pods_of_an_autoscaler_are_waited_for() -> None:
    graph = application(replicas=64, autoscaled=True)
    assert "replicas" not in the(graph, "Deployment")["spec"]
    assert graph.one("Deployment").timeouts["update"] == f"{64 * 60}s"


def test_endpoint_is_host_and_port_of_the_service() -> None:
    endpoints: list[Any] = []

    def program() -> None:
        web = Application("web", {"image": IMAGE, "ports": [{"name": "http", "port": 8080}]})
        pulumi.export("endpoint", web.endpoint)
        endpoints.append(web)

    graph = build(program)
    name = the(graph, "Service")["metadata"]["name"]
    assert graph.outputs[""]["endpoint"] == f"{name}.default.svc:8080"


def test_standard_labels_are_on_every_object() -> None:
    graph = application(ports=[HTTP], replicas=2, files={"/a/b": "c"}, version="1.2")
    for body in objects(graph):
        labels = body["metadata"]["labels"]
        assert labels["app.kubernetes.io/part-of"] == "designing-distributed-systems"
        assert labels["app.kubernetes.io/managed-by"] == "pulumi"
        assert labels["app.kubernetes.io/instance"] == "web"
        assert labels["app.kubernetes.io/version"] == "1.2"
    assert "app.kubernetes.io/version" not in the(graph, "Deployment")["spec"]["selector"]


# Configuration


def test_files_are_mounted_from_an_auto_named_object_that_is_replaced() -> None:
    graph = application(files={"/etc/app/a.conf": "x"}, secret_files={"/etc/secret/p": "y"})
    for kind in ("ConfigMap", "Secret"):
        node = graph.one(f"kubernetes:core/v1:{kind}")
        assert "name" not in node.inputs["metadata"], "a fixed name would not roll the pods"
        assert node.inputs["immutable"] is True
    volumes = {volume["name"]: volume for volume in pod(graph)["volumes"]}
    config = the(graph, "ConfigMap")
    assert volumes["files-0"]["configMap"]["name"] == config["metadata"]["name"]
    (item,) = volumes["files-0"]["configMap"]["items"]
    assert item["path"] == "a.conf"
    assert config["data"][item["key"]] == "x"
    secret = volumes["secret-files-0"]["secret"]
    assert secret["secretName"] == the(graph, "Secret")["metadata"]["name"]
    assert secret["defaultMode"] == 0o440
    mounts = {m["mountPath"]: m for m in pod(graph)["containers"][0]["volumeMounts"]}
    assert set(mounts) == {"/etc/app", "/etc/secret"}
    assert not any("subPath" in mount for mount in mounts.values())


def test_files_of_one_folder_share_a_volume() -> None:
    graph = application(files={"/etc/app/a": "1", "/etc/app/b": "2", "/etc/more/c": "3"})
    assert [len(v["configMap"]["items"]) for v in pod(graph)["volumes"]] == [2, 1]


@pytest.mark.parametrize("preview", [False, True])
@pytest.mark.parametrize("argument", ["env", "files", "args", "command"])
def test_a_secret_is_refused_where_others_can_read_it(argument: str, preview: bool) -> None:
    def program() -> None:
        secret = pulumi.Output.secret("swordfish")
        value: Any = {
            "env": {"PASSWORD": secret},
            "files": {"/etc/app/password": secret},
            "args": [secret],
            "command": [secret],
        }[argument]
        Application("web", {"image": IMAGE, argument: value})  # type: ignore[misc]

    with pytest.raises(InputError, match="must not be a secret") as caught:
        build(program, preview=preview)
    assert "swordfish" not in str(caught.value)


def test_writable_folders_are_sized_and_counted() -> None:
    graph = application(writable=["/tmp", "/data"], writable_size="100Mi")
    assert [v["emptyDir"] for v in pod(graph)["volumes"]] == [{"sizeLimit": "100Mi"}] * 2
    limits = pod(graph)["containers"][0]["resources"]["limits"]
    assert limits["ephemeral-storage"] == "264Mi"


@pytest.mark.parametrize(
    ("given", "cpu", "limit"),
    [
        ({"requests": {"cpu": "100m"}}, "100m", "1"),
        # Only one was given: the default of the other follows it.
        ({"requests": {"cpu": "2"}}, "2", "2"),
        ({"limits": {"cpu": "10m"}}, "10m", "10m"),
    ],
)
def test_resources_are_merged_with_the_defaults(given: Any, cpu: str, limit: str) -> None:
    resources = pod(application(hosting={"resources": given}))["containers"][0]["resources"]
    assert resources["requests"]["cpu"] == cpu
    assert resources["limits"]["cpu"] == limit
    assert resources["limits"]["memory"] == "128Mi"


def test_the_limit_of_cpu_can_be_taken_away() -> None:
    graph = application(
        hosting={
            "resources": {"requests": {"cpu": "4"}, "limits": {"cpu": "none", "memory": "1Gi"}}
        },
        init_containers=[
            {"name": "first", "command": ["x"], "resources": {"limits": {"cpu": "none"}}}
        ],
    )
    assert_valid(objects(graph))
    (container,), (first,) = pod(graph)["containers"], pod(graph)["initContainers"]
    assert container["resources"] == {
        "requests": {"cpu": "4", "memory": "32Mi", "ephemeral-storage": "32Mi"},
        "limits": {"memory": "1Gi", "ephemeral-storage": "64Mi"},
    }
    assert first["resources"]["requests"]["cpu"] == "25m"
    assert "cpu" not in first["resources"]["limits"]


# Shutdown


def test_pods_behind_a_service_drain_before_they_are_told_to_stop() -> None:
    spec = pod(application(ports=[HTTP], termination_grace_period_seconds=20, drain_seconds=4))
    assert spec["containers"][0]["lifecycle"] == {"preStop": {"sleep": {"seconds": 4}}}
    assert spec["terminationGracePeriodSeconds"] == 24


def test_pods_without_a_service_stop_at_once() -> None:
    spec = pod(application())
    assert "lifecycle" not in spec["containers"][0]
    assert spec["terminationGracePeriodSeconds"] == 30


# Companions


def test_companions_are_native_sidecars_in_order() -> None:
    graph = application(companions=[companion("first", 7001), companion("second", 7002)])
    sidecars = pod(graph)["initContainers"]
    assert [c["name"] for c in sidecars] == ["first", "second"]
    assert all(c["restartPolicy"] == "Always" for c in sidecars)
    labels = the(graph, "Deployment")["spec"]["template"]["metadata"]["labels"]
    assert labels["dds/metrics-of-first"] == labels["dds/metrics-of-second"] == "true"
    assert "dds/metrics-of-first" not in the(graph, "Deployment")["metadata"]["labels"]


def test_a_service_can_offer_a_companions_port() -> None:
    graph = application(
        ports=[{**HTTP, "address": "127.0.0.1"}],
        companions=[companion("https", 8443, ANYWHERE)],
        expose=["https"],
        readiness={"command": ["true"]},
        clients=[{}],
    )
    assert [p["targetPort"] for p in the(graph, "Service")["spec"]["ports"]] == [8443]
    (rule,) = policy(graph, "web")["spec"]["ingress"]
    assert rule["ports"] == [{"port": 8443, "protocol": "TCP"}]
    assert rule["from"] == [{"podSelector": {"matchLabels": {}}}]


def test_a_companions_port_is_not_taken_for_one_of_the_same_name_on_loopback() -> None:
    graph = application(
        ports=[
            {"name": "http", "port": 8080},
            {"name": "https", "port": 9443, "service_port": 443, "address": "127.0.0.1"},
        ],
        companions=[companion("https", 8443, ANYWHERE)],
        expose=["http", "https"],
    )
    ports = {port["name"]: port for port in the(graph, "Service")["spec"]["ports"]}
    assert (ports["https"]["port"], ports["https"]["targetPort"]) == (8443, 8443)


def test_what_a_companion_needs_is_there_first() -> None:
    def program() -> None:
        needed = Task("needed", {"image": IMAGE})
        proxy = dataclasses.replace(companion(), depends_on=(needed.job,))
        Application("web", {"image": IMAGE, "companions": [proxy]})

    graph = build(program)
    assert graph.one("Job").urn in graph.one("Deployment").dependencies


# Preparations


def test_preparations_come_before_the_companions_and_mount_what_the_application_mounts() -> None:
    graph = application(
        init_containers=[
            {"name": "join", "command": ["/bin/join"], "image": "registry.example/tools:1"},
            {"name": "check", "command": ["/bin/check"], "resources": {"limits": {"cpu": "2"}}},
        ],
        companions=[companion()],
        files={"/etc/app/app.conf": "a"},
        writable=["/run/app"],
    )
    join, check, proxy = pod(graph)["initContainers"]
    assert [c["name"] for c in (join, check, proxy)] == ["join", "check", "proxy"]
    assert "restartPolicy" not in join
    assert (join["image"], check["image"]) == ("registry.example/tools:1", IMAGE)
    assert check["resources"]["limits"]["cpu"] == "2"
    assert join["volumeMounts"] == pod(graph)["containers"][0]["volumeMounts"]
    assert join["securityContext"]["readOnlyRootFilesystem"] is True


@pytest.mark.parametrize(
    ("preparation", "expected"),
    [
        ({"name": "join"}, "command is missing"),
        ({"name": "join", "command": ["x"], "ports": []}, "ports is not an argument"),
        ({"name": "Join", "command": ["x"]}, "must be a DNS label"),
        ({"name": "web", "command": ["x"]}, "must be unique in the pod"),
        ({"name": "join", "command": ["x"], "image": "x:latest"}, "must have a tag"),
    ],
)
def test_a_bad_preparation_is_refused(preparation: Any, expected: str) -> None:
    with pytest.raises(InputError, match=expected):
        application(init_containers=[preparation])


# ScheduledTask


def test_a_scheduled_task_never_runs_twice_at_once_and_is_bounded() -> None:
    args: Any = {
        "image": IMAGE,
        "schedule": "17 3 * * *",
        "timeout_seconds": 60,
        "backoff_limit": 0,
    }
    graph = build(lambda: ScheduledTask("night", args))
    spec = the(graph, "CronJob")["spec"]
    assert (spec["schedule"], spec["timeZone"]) == ("17 3 * * *", "Etc/UTC")
    assert spec["concurrencyPolicy"] == "Forbid"
    job = spec["jobTemplate"]["spec"]
    assert (job["activeDeadlineSeconds"], job["backoffLimit"]) == (60, 0)
    assert job["template"]["spec"]["restartPolicy"] == "Never"
    selector = the(graph, "NetworkPolicy")["spec"]["podSelector"]["matchLabels"]
    assert selector.items() <= job["template"]["metadata"]["labels"].items()


# StatefulApplication


def test_pods_have_names_that_stay() -> None:
    graph = stateful(replicas=2)
    service = the(graph, "Service")["spec"]
    assert service["clusterIP"] == "None"
    assert service["publishNotReadyAddresses"] is True
    stateful_set = the(graph, "StatefulSet")
    assert stateful_set["metadata"]["name"] == "db"
    assert stateful_set["spec"]["serviceName"] == "db" == the(graph, "Service")["metadata"]["name"]
    assert stateful_set["spec"]["podManagementPolicy"] == "Parallel"
    assert (
        the(stateful(ordered=True), "StatefulSet")["spec"]["podManagementPolicy"] == "OrderedReady"
    )


@pytest.mark.parametrize("known", [True, False], ids=["plain", "an Output"])
def test_each_replica_has_a_host_name(known: bool) -> None:
    def program() -> None:
        replicas: Any = 2 if known else pulumi.Output.from_input(2.0)
        pulumi.export(
            "hosts", StatefulApplication("db", {"image": IMAGE, "replicas": replicas}).hosts
        )

    assert build(program).outputs[""]["hosts"] == ["db-0.db", "db-1.db"]


def test_storage_is_a_claim_for_each_replica_that_outlives_it() -> None:
    spec = the(stateful(storage_path="/data", hosting={"storage": {"size": "3Gi"}}), "StatefulSet")[
        "spec"
    ]
    (claim,) = spec["volumeClaimTemplates"]
    assert claim["spec"]["resources"]["requests"]["storage"] == "3Gi"
    assert spec["persistentVolumeClaimRetentionPolicy"] == {
        "whenDeleted": "Retain",
        "whenScaled": "Retain",
    }
    pod_spec = spec["template"]["spec"]
    assert pod_spec["containers"][0]["volumeMounts"] == [
        {"name": claim["metadata"]["name"], "mountPath": "/data"}
    ]
    assert "volumes" not in pod_spec
    bound = stateful(storage_path="/data", hosting={"storage": {"delete_with_workload": True}})
    policy = the(bound, "StatefulSet")["spec"]["persistentVolumeClaimRetentionPolicy"]
    assert policy["whenDeleted"] == "Delete"


def test_without_storage_there_is_no_claim() -> None:
    assert "volumeClaimTemplates" not in the(stateful(), "StatefulSet")["spec"]


# Task


def test_a_task_ends_and_is_waited_for_a_little_longer_than_it_may_take() -> None:
    graph = task(timeout_seconds=90, backoff_limit=1)
    job = the(graph, "Job")
    assert job["spec"]["activeDeadlineSeconds"] == 90
    assert job["spec"]["backoffLimit"] == 1
    assert job["spec"]["template"]["spec"]["restartPolicy"] == "Never"
    assert job["metadata"]["annotations"]["pulumi.com/replaceUnready"] == "true"
    # A Job that deletes itself looks like drift.
    assert "ttlSecondsAfterFinished" not in job["spec"]
    assert graph.one("Job").timeouts["create"] == "150s"


# Bad input


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"ports": [HTTP, {"name": "http", "port": 81}]}, "is listed twice"),
        (
            {"ports": [HTTP, {"name": "b", "port": 8081, "service_port": 8080}]},
            "must differ: http and b would be one port of the Service",
        ),
        (
            {"hosting": {"pod_labels": {"app.kubernetes.io/name": "x"}}},
            "hosting.pod_labels is .*; must leave out app.kubernetes.io/",
        ),
        ({"ports": [HTTP, {"name": "b", "port": 8080, "service_port": 81}]}, "must be free"),
        ({"ports": [HTTP], "expose": ["htp"]}, "expose is 'htp'; did you mean http"),
        ({"clients": [{}]}, "needs ports"),
        ({"writable": ["/data", "/data"]}, "is listed twice"),
        ({"writable": ["/a"], "files": {"/a/b": "x"}}, "another folder"),
        ({"files": {"/a/b": "x"}, "secret_files": {"/a/c": "x"}}, "another folder"),
        (
            {"hosting": {"resources": {"requests": {"cpu": "2"}, "limits": {"cpu": "1"}}}},
            "must not be above the limit 1",
        ),
        (
            {"hosting": {"resources": {"limits": {"memory": "none"}}}},
            "hosting.resources.limits.memory is 'none'; must be a size .*Only the limit of cpu can be removed",
        ),
        (
            {"hosting": {"resources": {"limits": {"ephemeral-storage": "none"}}}},
            "hosting.resources.limits.ephemeral-storage is 'none'; must be a size such as 64Mi: without",
        ),
        (
            {"hosting": {"resources": {"requests": {"cpu": "none"}}}},
            "requests.cpu is 'none'; must be a number",
        ),
        ({"companions": [companion(), companion()]}, "is listed twice"),
        (
            {
                "hosting": {"pod_labels": {"x": "y"}},
                "companions": [dataclasses.replace(companion(), pod_labels={"x": "z"})],
            },
            "must not change a label",
        ),
        ({"volumes": [{"name": "v", "host_path": {"path": "/"}}]}, "must have one source"),
        (
            {"volumes": [{"name": "proxy-data", "empty_dir": {}}], "companions": [companion()]},
            'the application and companion "proxy" have it',
        ),
        ({"volume_mounts": [{"name": "v", "mount_path": "/v"}]}, "must name a volume"),
        (
            {
                "volumes": [{"name": "v", "config_map": {"name": "c"}}],
                "volume_mounts": [{"name": "v", "mount_path": "/v/x", "sub_path": "x"}],
            },
            "never sees an update",
        ),
        ({"application": "Web"}, "must be a DNS label"),
        (
            {"hosting": {"rollout": {"strategy": "Recreate"}}},
            "hosting.rollout.strategy is 'Recreate'; must be one of rolling, recreate",
        ),
    ],
)
def test_bad_input_is_refused_before_anything_is_registered(change: Any, message: str) -> None:
    def program() -> None:
        args: Any = {"image": IMAGE, **change}
        with pytest.raises(InputError, match=message):
            Application("web", args)

    assert not build(program).nodes


@pytest.mark.parametrize(
    ("component", "longest"), [(Application, 54), (StatefulApplication, 52), (Task, 48)]
)
def test_a_name_leaves_room_for_what_is_derived_from_it(component: Any, longest: int) -> None:
    args: dict[str, Any] = {"image": IMAGE}
    if component is StatefulApplication:
        args["ports"] = [{"name": "db", "port": 1}]
    build(lambda: component("a" * longest, args))
    for name in ("a" * (longest + 1), "Web", "-web", "web_1", ""):
        with pytest.raises(InputError, match=r"name is"):
            build(functools.partial(component, name, args))


def test_a_stateful_application_without_ports_has_names_and_nothing_to_reach() -> None:
    def program() -> None:
        db = StatefulApplication("db", {"image": IMAGE, "replicas": 2})
        assert db.endpoint is None
        with pytest.raises(InputError, match='"db": ports is .*must have one to be reached at'):
            db.reach  # noqa: B018 (it raises)
        with pytest.raises(InputError, match="ports is 'db'; known are none"):
            db.port("db")

    graph = build(program)
    assert_valid(objects(graph))
    # The API server takes a Service without ports if it is headless.
    service = the(graph, "Service")["spec"]
    assert service["clusterIP"] == "None"
    assert "ports" not in service
    stateful_set = the(graph, "StatefulSet")["spec"]
    assert stateful_set["serviceName"] == the(graph, "Service")["metadata"]["name"]
    (container,) = stateful_set["template"]["spec"]["containers"]
    assert not {"ports", "startupProbe", "readinessProbe", "livenessProbe", "lifecycle"} & set(
        container
    )
    assert "ingress" not in the(graph, "NetworkPolicy")["spec"]


def test_a_stateful_application_without_ports_has_a_name_that_a_service_may_have() -> None:
    with pytest.raises(InputError, match="must begin with a letter"):
        build(lambda: StatefulApplication("1db", {"image": IMAGE}))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"clients": [{}]}, "needs ports that clients can reach"),
        ({"expose": ["db"]}, "expose is 'db'; known are none"),
        ({"readiness": {"path": "/"}}, "needs a port that is not on loopback, or a command"),
        (
            {"ports": [{"name": "db", "port": 80, "address": "127.0.0.1"}], "clients": [{}]},
            "needs ports that clients can reach",
        ),
    ],
    ids=str,
)
def test_what_needs_a_port_is_refused_without_one(change: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        stateful(**{"ports": [], **change})


LATER: pulumi.Output[str] = pulumi.Output.__new__(pulumi.Output)


@pytest.mark.parametrize(
    ("env", "expected"),
    [
        ({}, []),
        ({"B": "1", "A": "2"}, ["A", "B"]),
        # Kubernetes expands what is defined before.
        ({"A": "$(B) and $(C)", "B": "$(C)", "C": "1"}, ["C", "B", "A"]),
        ({"A": "$(B)", "B": "$(A)", "C": "$(elsewhere)"}, ["B", "A", "C"]),
        ({"A": "$(A)", "B": "1"}, ["A", "B"]),
        ({"A": "$(C)", "B": "1", "C": LATER}, ["C", "A", "B"]),
    ],
)
def test_variables_come_after_those_that_they_refer_to(
    env: dict[str, Any], expected: list[str]
) -> None:
    assert in_order(env) == expected
