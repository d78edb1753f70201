"""The etcd cluster: its configuration, its objects, who may connect, what it refuses."""

import json
import re
from typing import Any

import pulumi
import pytest
import yaml

from dds_patterns import Application, Authority, EtcdCluster
from dds_patterns.arguments.errors import InputError
from tests.unit.support.hardening import violations
from tests.unit.support.manifests import assert_valid, objects, policy, templates, the
from toolchain import paths
from toolchain.graph import Graph, build
from toolchain.upstream_images import ETCD

IMAGE = "registry.example/etcd:3.6"
UPSTREAM = "registry.example/upstream/etcd:v3.6.8"
MODES = [pytest.param(True, id="preview"), pytest.param(False, id="update")]
ROOT_PASSWORD = "swordfish-of-the-root"
FORMER_ROOT_PASSWORD = "swordfish-of-the-former-root"
SHOP: Any = {"shop": {"prefix": "/shop/"}}


def made(preview: bool = False, **args: Any) -> Graph:
    """A cluster, with its users' credentials as outputs. An argument that needs a resource is given
    as a function that makes it.
    """

    def program() -> None:
        given: Any = {k: v() if callable(v) else v for k, v in args.items()}
        given = {"image": IMAGE, **given}
        cluster = EtcdCluster("etcd", given)
        for name in given.get("users", ()):
            credentials = cluster.user(name).credentials
            assert credentials is not None
            pulumi.export(name, {"as": credentials.username, "with": credentials.password})

    return build(program, preview=preview)


EVERYTHING: dict[str, Any] = {
    "tools_image": "registry.example/tools:1",
    "members": 5,
    "quota_mib": 64,
    "heartbeat_ms": 200,
    "election_ms": 3000,
    "compaction_minutes": 5,
    "defragmentation": {"schedule": "1 2 * * *", "free_percent": 20, "min_size_mib": 1},
    "snapshots": {"claim": "snapshots", "schedule": "3 * * * *", "keep": 3},
    "restore": {"claim": "snapshots", "file": "etcd-20260101T000000Z.db"},
    "users": {"shop": {"prefix": "/shop/"}},
    "root_password": lambda: pulumi.Output.secret(ROOT_PASSWORD),
    "former_root_password": lambda: pulumi.Output.secret(FORMER_ROOT_PASSWORD),
    "hosting": {
        "namespace": "here",
        "spread": {"nodes": "strict"},
        "storage": {"size": "2Gi", "storage_class": "fast"},
    },
}


def file(graph: Graph, workload: str, ending: str) -> str:
    """A file of a workload, from its ConfigMap or Secret."""
    for body in objects(graph):
        if body["metadata"]["name"].startswith(workload):
            for key, text in {**body.get("data", {}), **body.get("stringData", {})}.items():
                if key.endswith(ending):
                    return str(text)
    raise AssertionError(f"no file {ending} of {workload}")


def config(graph: Graph) -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load(file(graph, "etcd-files", "etcd.yaml"))
    return loaded


@pytest.mark.parametrize("preview", MODES)
@pytest.mark.parametrize("full", [False, True], ids=["required", "full"])
def test_objects_are_valid_and_hardened(preview: bool, full: bool) -> None:
    graph = made(preview, **(EVERYTHING if full else {}))
    if not preview:
        assert_valid(objects(graph))
    for template in templates(graph):
        jobs = template["metadata"]["labels"]["app.kubernetes.io/name"] == "etcd-tools"
        found = violations(template, restarts=not jobs, init_containers=["prepare"])
        # Clients try the other members, so waiting before a member's end helps nobody.
        assert found in ([], ["etcd: no drain"])
    assert the(graph, "PodDisruptionBudget")["spec"]["maxUnavailable"] == 1


def test_every_child_is_below_the_cluster() -> None:
    graph = made(**EVERYTHING)
    cluster = graph.one("EtcdCluster")
    for node in graph:
        parent = node
        while parent.parent:
            parent = graph.nodes[parent.parent]
        assert parent is cluster or node.type.startswith("pulumi:"), node.urn
    assert graph.outputs[cluster.urn]["endpoints"][0] == "etcd-0.here.svc:2379"


def test_one_member_has_no_budget() -> None:
    graph = made(members=1)
    assert not objects(graph, "PodDisruptionBudget")
    assert the(graph, "StatefulSet")["spec"]["replicas"] == 1


# Configuration


def test_the_configuration_is_what_the_arguments_say() -> None:
    conf = config(made(**EVERYTHING))
    assert conf["heartbeat-interval"] == 200
    assert conf["election-timeout"] == 3000
    assert conf["quota-backend-bytes"] == 64 * 2**20
    assert (conf["auto-compaction-mode"], conf["auto-compaction-retention"]) == ("periodic", "5m")
    assert conf["strict-reconfig-check"] is True


def test_connections_are_encrypted_and_peers_show_a_certificate() -> None:
    conf = config(made())
    assert conf["listen-client-urls"].startswith("https://")
    assert conf["listen-peer-urls"].startswith("https://")
    assert conf["peer-transport-security"]["client-cert-auth"] is True
    assert conf["tls-min-version"] == "TLS1.3"
    mounted = {
        mount["mountPath"]
        for mount in templates(made())[0]["spec"]["containers"][0]["volumeMounts"]
    }
    named = re.findall(r"(/etc/etcd/[a-z]+)/", json.dumps(conf))
    assert set(named) <= mounted
    assert conf["data-dir"].rpartition("/")[0] in mounted


def test_certificates_are_for_the_names_that_members_are_reached_by() -> None:
    graph = made(hosting={"namespace": "here"})
    # The provider's, which the members' Services tell.
    (implied,) = {str(body["metadata"]["namespace"]) for body in objects(made(), "StatefulSet")}
    assert f"etcd-0.{implied}.svc" in made().one("Certificate", "etcd-server").inputs["dns_names"]
    for name in ("etcd-peer", "etcd-server"):
        names = graph.one("Certificate", name).inputs["dns_names"]
        assert {"etcd-0", "etcd-2.here.svc", "etcd-1.here.svc.cluster.local"} <= set(names)
    # Whoever is trusted by clients must not thereby be a member.
    peers, clients = (graph.one("Certificate", name).inputs["authority"] for name in
                      ("etcd-peer", "etcd-server"))  # fmt: skip
    assert peers != clients


def test_another_authority_serves_clients_and_never_peers() -> None:
    graph = made(authority=lambda: Authority("shared").issuer)
    shared = graph.one("Authority", "shared").outputs["certificate"]
    assert graph.one("Certificate", "etcd-server").inputs["authority"] == shared
    assert graph.one("Certificate", "etcd-peer").inputs["authority"] != shared
    assert [node.name for node in graph.all("Authority")] == ["shared", "etcd-peers"]


def test_certificates_live_for_a_year() -> None:
    """Members that refuse each other are not mended by an update, which rolls one after the other."""
    graph = made()
    for name in ("etcd-peer", "etcd-server", "etcd-tokens"):
        assert graph.one("Certificate", name).inputs["validity_days"] == 365


def test_members_learn_when_the_cluster_began() -> None:
    graph = made()
    document = json.loads(file(graph, "etcd-files", "cluster.json"))
    assert document["members"] == ["etcd-0", "etcd-1", "etcd-2"]
    assert document["created"] == graph.one("Authority", "etcd-peers").outputs["created"]
    assert document["restore"] is None


def test_the_upstream_image_runs_etcd_without_a_shell() -> None:
    graph = made(image=UPSTREAM, tools_image=IMAGE, users=SHOP)
    spec = the(graph, "StatefulSet")["spec"]["template"]["spec"]
    (container,) = spec["containers"]
    assert container["image"] == UPSTREAM
    assert container["command"] == ["etcd", "--config-file=/run/etcd/etcd.yaml"]
    for kind in ("startup", "readiness", "liveness"):
        assert "httpGet" in container[f"{kind}Probe"]
    others = [
        c["image"]
        for template in templates(graph)
        for c in [*template["spec"]["containers"], *template["spec"].get("initContainers", [])]
        if c is not container and c["name"] != "etcd"
    ]
    assert set(others) == {IMAGE}


def test_volumes_stay_unless_told_otherwise() -> None:
    policy = "persistentVolumeClaimRetentionPolicy"
    assert the(made(), "StatefulSet")["spec"][policy]["whenDeleted"] == "Retain"
    gone = the(made(hosting={"storage": {"delete_with_workload": True}}), "StatefulSet")["spec"]
    assert gone[policy]["whenDeleted"] == "Delete"


@pytest.mark.parametrize("name", ["null", "yes", "n"])
def test_a_name_is_a_text_in_the_configuration(name: str) -> None:
    graph = build(lambda: EtcdCluster(name, {"image": IMAGE}))
    conf = yaml.safe_load(file(graph, f"{name}-files", "etcd.yaml"))
    assert conf["initial-cluster-token"] == name


# Who may connect


def test_members_let_in_each_other_and_what_works_for_them() -> None:
    graph = made()
    assert "ingress" not in policy(graph, "etcd")["spec"]
    members = policy(graph, "etcd")["spec"]["podSelector"]
    ports = {}
    for name in ("etcd", "etcd-access", "etcd-defragment"):
        there = policy(graph, f"{name}-to-etcd")["spec"]
        assert there["podSelector"] == members
        (rule,) = there["ingress"]
        (peer,) = rule["from"]
        assert peer["podSelector"] == policy(graph, name)["spec"]["podSelector"]
        ports[name] = [port["port"] for port in rule["ports"]]
    assert ports == {"etcd": [2379, 2380], "etcd-access": [2379], "etcd-defragment": [2379]}


def test_others_are_let_in_by_name() -> None:
    graph = made(clients=[{"pods": {"role": "tool"}}], metrics_clients=[{"namespace": "watch"}])
    rules = {
        tuple(port["port"] for port in rule["ports"]): rule["from"][0]
        for rule in policy(graph, "etcd")["spec"]["ingress"]
    }
    assert set(rules) == {(2379,), (2381,)}
    assert rules[(2379,)]["podSelector"] == {"matchLabels": {"role": "tool"}}
    assert "namespaceSelector" in rules[(2381,)]


def test_prometheus_finds_the_metrics_of_members_that_are_not_ready() -> None:
    def program() -> None:
        job = EtcdCluster("etcd", {"image": IMAGE, "hosting": {"namespace": "here"}}).job
        assert (job.name, job.reach.ports, job.reach.app_protocol) == ("etcd", (2381,), "http")
        assert (job.reach.isolated, job.reach.depends_on) == (True, ())
        pulumi.export("at", job.reach.endpoint)

    graph = build(program)
    assert graph.outputs[""]["at"] == "etcd.here.svc:2381"
    assert graph.one("Service", "etcd").inputs["spec"]["publishNotReadyAddresses"] is True


def test_a_client_is_let_in_where_the_members_are_and_starts_when_its_user_is_there() -> None:
    def program() -> None:
        hosting: Any = {"namespace": "data"}
        cluster = EtcdCluster("etcd", {"image": IMAGE, "users": SHOP, "hosting": hosting})
        user = cluster.user("shop")
        assert (user.path, user.app_protocol) == ("/shop/", "etcd")
        web: Any = {"image": IMAGE, "hosting": {"namespace": "shop"}, "reaches": [user]}
        Application("web", web)
        pulumi.export("at", user.endpoints)

    graph = build(program)
    assert graph.outputs[""]["at"][2] == "etcd-2.data.svc:2379"
    assert policy(graph, "web-to-etcd")["metadata"]["namespace"] == "data"
    dependencies = graph.one("Deployment", "web").dependencies
    assert {graph.one(kind).urn for kind in ("StatefulSet", "Job")} <= set(dependencies)


def test_each_member_has_an_address_before_it_is_ready() -> None:
    graph = made()
    services = {s["metadata"]["name"]: s for s in objects(graph, "Service")}
    assert {"etcd", "etcd-0", "etcd-1", "etcd-2"} == set(services)
    for ordinal in range(3):
        service = services[f"etcd-{ordinal}"]
        assert service["spec"]["publishNotReadyAddresses"] is True
        selector = the(graph, "StatefulSet")["spec"]["selector"]["matchLabels"]
        index = {"apps.kubernetes.io/pod-index": str(ordinal)}
        assert service["spec"]["selector"] == selector | index
        # Nothing stands behind it yet when the members are made.
        assert service["metadata"]["annotations"]["pulumi.com/skipAwait"] == "true"
    members = graph.one("StatefulApplication", "etcd")
    assert graph.one("Service", "etcd-0").urn in members.dependencies


# Users


def users_told(graph: Graph) -> list[dict[str, Any]]:
    """What the Job is told, each with the passwords in the order of its logins."""
    told: list[dict[str, Any]] = json.loads(file(graph, "etcd-access-files", "access.json"))[
        "users"
    ]
    for user in told:
        ending = user.pop("passwords_file").rpartition("/")[2]
        user["passwords"] = file(graph, "etcd-access", ending).split("\n")
    return told


def root_known(graph: Graph, workload: str) -> list[str]:
    return file(graph, workload, "passwords").split("\n")


def test_one_job_is_told_of_every_user() -> None:
    def users() -> Any:
        password = pulumi.Output.secret("swordfish-of-the-till")
        return {**SHOP, "till": {"prefix": "/till/", "password": password}}

    graph = made(users=users)
    assert [node.name for node in graph.all("Job")] == ["etcd-access"]
    generated = graph.one("Password", "etcd-user-shop").outputs["value"]
    assert users_told(graph) == [
        {"name": "shop", "prefix": "/shop/", "logins": ["shop"], "passwords": [generated]},
        {
            "name": "till",
            "prefix": "/till/",
            "logins": ["till"],
            "passwords": ["swordfish-of-the-till"],
        },
    ]
    assert graph.outputs[""] == {
        "shop": {"as": "shop", "with": generated},
        "till": {"as": "till", "with": "swordfish-of-the-till"},
    }
    assert graph.output_secrets[""] == {"shop", "till"}
    for node in graph:
        if not node.type.endswith(":Secret"):
            assert "swordfish-of-the-till" not in str(node.inputs)
            assert generated not in str(node.inputs)


def test_a_former_generation_stays_good_beside_the_present_one() -> None:
    graph = made(users=SHOP, rotation={"generation": 3})
    password = graph.one("Password", "etcd-user-shop").outputs
    (user,) = users_told(graph)
    assert user["logins"] == ["shop-3", "shop-2"]
    assert user["passwords"] == [password["value"], password["former"]]
    assert graph.outputs[""]["shop"] == {"as": "shop-3", "with": password["value"]}
    # The first one has the declared name alone.
    assert users_told(made(users=SHOP, rotation={"generation": 2}))[0]["logins"] == [
        "shop-2",
        "shop",
    ]


def test_a_former_generation_is_not_good_where_it_is_not_kept() -> None:
    graph = made(users=SHOP, rotation={"generation": 2, "keep_former": False})
    (user,) = users_told(graph)
    assert user["logins"] == ["shop-2"]
    assert user["passwords"] == [graph.one("Password", "etcd-user-shop").outputs["value"]]


@pytest.mark.parametrize("keep", [True, False])
def test_whatever_logs_in_as_root_knows_the_former_password_too(keep: bool) -> None:
    """Also where users' former ones are not kept: root's is set by what logs in with it."""
    graph = made(
        rotation={"generation": 2, "keep_former": keep},
        snapshots={"claim": "snapshots"},
    )
    password = graph.one("Password", "etcd-root").outputs
    for workload in ("etcd-secret", "etcd-access", "etcd-defragment", "etcd-snapshot"):
        assert root_known(graph, workload) == [password["value"], password["former"]]


def test_a_given_root_password_and_what_it_was_before() -> None:
    graph = made(**EVERYTHING)
    assert not graph.all("Password", "etcd-root")
    for workload in ("etcd-secret", "etcd-access", "etcd-defragment", "etcd-snapshot"):
        assert root_known(graph, workload) == [ROOT_PASSWORD, FORMER_ROOT_PASSWORD]
    args = {key: given for key, given in EVERYTHING.items() if key != "root_password"}
    graph = made(**args)
    assert root_known(graph, "etcd-access") == [
        graph.one("Password", "etcd-root").outputs["value"],
        FORMER_ROOT_PASSWORD,
    ]


def test_root_gets_its_password_when_the_members_and_the_cron_jobs_know_both() -> None:
    graph = made(users=SHOP, snapshots={"claim": "snapshots"})
    dependencies = set(graph.one("Job", "etcd-access").dependencies)
    crons = {node.urn for node in graph.all("CronJob")}
    assert len(crons) == 2
    assert {graph.one("StatefulSet").urn, *crons} <= dependencies


def test_credentials_do_not_change_with_the_job_that_sets_them() -> None:
    def program() -> None:
        user = EtcdCluster("etcd", {"image": IMAGE, "users": SHOP}).user("shop")
        assert user.credentials is not None
        # A plain text, which no preview may find unknown.
        assert user.credentials.username == "shop"
        from pulumi_kubernetes.core.v1 import Secret  # noqa: PLC0415

        Secret("mine", string_data={"password": user.credentials.password})

    graph = build(program)
    assert graph.one("Job", "etcd-access").urn not in graph.one("Secret", "mine").dependencies


@pytest.mark.parametrize(
    ("name", "user", "expected"),
    [
        ("root", {"prefix": "/a/"}, "not root"),
        ("Shop", {"prefix": "/a/"}, "lower-case"),
        ("a" * 33, {"prefix": "/a/"}, "from 1 to 32"),
        # Another generation of "shop".
        ("shop-2", {"prefix": "/a/"}, "no dash and digits at the end"),
        ("shop", {}, "users[shop].prefix is missing"),
        ("shop", {"prefix": ""}, "from 1 to 256"),
        ("shop", {"prefix": "/a b/"}, "without blanks"),
        ("shop", {"prefix": "/ä/"}, "printable"),
        ("shop", {"prefix": "/$(HOME)/"}, "without blanks and $"),
        ("shop", {"prefix": "--key"}, "not beginning with a dash"),
        ("shop", {"prefix": "/a/", "password": "short"}, "users[shop].password is <secret>"),
        ("shop", {"prefixes": "/a/"}, "users[shop].prefixes is not an argument"),
    ],
)
def test_a_bad_user_is_refused(name: str, user: dict[str, str], expected: str) -> None:
    def program() -> None:
        given: Any = {name: user}
        with pytest.raises(InputError, match=re.escape(expected)):
            EtcdCluster("etcd", {"image": IMAGE, "users": given})

    assert not build(program).nodes


def test_a_reach_is_that_of_a_declared_user_only() -> None:
    def program() -> None:
        cluster = EtcdCluster("etcd", {"image": IMAGE, "users": SHOP})
        with pytest.raises(InputError) as caught:
            cluster.user("shopp")
        assert str(caught.value) == (
            "EtcdCluster \"etcd\": name is 'shopp'; must be one of users: did you mean shop? "
            "known are shop"
        )

    build(program)


def test_secrets_are_in_secrets_only() -> None:
    graph = made(**EVERYTHING)
    holders = [node for node in graph if ROOT_PASSWORD in str(node.inputs)]
    assert len(holders) == 4
    assert holders == [node for node in graph if FORMER_ROOT_PASSWORD in str(node.inputs)]
    assert {node.type.rsplit(":", 1)[-1] for node in holders} == {"Secret"}


# Upkeep


def test_upkeep_is_scheduled_and_never_twice_at_once() -> None:
    graph = made(**EVERYTHING)
    crons = {
        body["metadata"]["labels"]["app.kubernetes.io/component"]: body["spec"]
        for body in objects(graph, "CronJob")
    }
    assert {name: spec["schedule"] for name, spec in crons.items()} == {
        "defragment": "1 2 * * *",
        "snapshot": "3 * * * *",
    }
    assert {spec["concurrencyPolicy"] for spec in crons.values()} == {"Forbid"}
    plan = json.loads(file(graph, "etcd-defragment-files", "maintenance.json"))
    assert (plan["free_fraction"], plan["least_bytes"]) == (0.2, 2**20)
    plan = json.loads(file(graph, "etcd-snapshot-files", "maintenance.json"))
    assert (plan["name"], plan["keep"]) == ("etcd", 3)


def test_without_snapshots_there_are_none() -> None:
    assert len(objects(made(), "CronJob")) == 1


def test_a_restore_serves_the_snapshot_to_members_only_and_first() -> None:
    graph = made(**EVERYTHING)
    document = json.loads(file(graph, "etcd-files", "cluster.json"))
    assert document["restore"]["file"] == "etcd-20260101T000000Z.db"
    service = graph.one("Service", "etcd-restore").outputs["metadata"]["name"]
    assert document["restore"]["host"] == f"{service}.here.svc"
    assert graph.one("Deployment").urn in graph.one("StatefulSet").dependencies
    (rule,) = policy(graph, "etcd-to-etcd-restore")["spec"]["ingress"]
    assert rule["ports"] == [{"port": 2382, "protocol": "TCP"}]
    (peer,) = rule["from"]
    assert peer["podSelector"] == policy(graph, "etcd")["spec"]["podSelector"]
    deployment = the(graph, "Deployment")["spec"]["template"]["spec"]
    (claim,) = [v for v in deployment["volumes"] if "persistentVolumeClaim" in v]
    assert claim["persistentVolumeClaim"]["readOnly"] is True
    for task in objects(graph, "Job"):
        annotations = task["spec"]["template"]["metadata"]["annotations"]
        assert annotations["dds/restored"] == "etcd-20260101T000000Z.db"


# Refusals


@pytest.mark.parametrize(
    ("args", "expected"),
    [
        ({"members": 2}, "members is 2; must be 1, 3 or 5"),
        ({"hosting": {"storage": {"size": "1Gi"}}}, "must be at least 1536Mi"),
        ({"heartbeat_ms": 500, "election_ms": 2000}, "must be at least 2500, five heartbeats"),
        ({"heartbeat_ms": 2500, "election_ms": 12_499}, "must be at least 12500, five heartbeats"),
        ({"restore": {"claim": "c", "file": "../a.db"}}, "must be a file's name"),
        ({"root_password": "short"}, "must be from 16 to 128 characters"),
        ({"former_root_password": "short"}, "former_root_password is <secret>; must be from 16"),
        ({"rotation": {"generation": 0}}, "rotation.generation is 0; must be from 1"),
        (
            {"root_password": "x" * 16, "rotation": {"generation": 2}},
            "must be left out: no password is generated here",
        ),
        # It would delete the data.
        ({"hosting": {"storage": {"delete_with_workload": "false"}}}, "must be true or false"),
    ],
)
@pytest.mark.parametrize("preview", MODES)
def test_bad_input_is_refused_before_anything_is_registered(
    preview: bool, args: dict[str, Any], expected: str
) -> None:
    def program() -> None:
        given: Any = {"image": IMAGE, **args}
        with pytest.raises(InputError, match=re.escape(expected)) as caught:
            EtcdCluster("etcd", given)
        assert 'EtcdCluster "etcd"' in str(caught.value)
        assert "short" not in str(caught.value)

    assert not build(program, preview=preview).nodes


def test_a_name_that_leaves_no_room_is_refused() -> None:
    with pytest.raises(InputError, match="must have at most 52 characters"):
        build(lambda: EtcdCluster("e" * 53, {"image": IMAGE}))
    users: Any = {"u" * 32: {"prefix": "/u/"}}
    graph = build(lambda: EtcdCluster("e" * 52, {"image": IMAGE, "users": users}))
    assert_valid(objects(graph))


# One version of etcd


def test_one_version_of_etcd_everywhere() -> None:
    assert ETCD.version("etcd") == ETCD.version("etcdutl")
    dockerfile = (paths.ROOT / "images" / "etcd" / "Dockerfile").read_text()
    assert f"ARG ETCD={ETCD.reference}\n" in dockerfile
    assert set(ETCD.programs) == {"etcd", "etcdctl", "etcdutl"}
