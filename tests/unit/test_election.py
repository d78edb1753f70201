"""Election: what it refuses, and what its companion adds to a pod."""

from typing import Any

import pytest

from dds_patterns import Application, Election, StatefulApplication, Task
from dds_patterns.arguments.errors import InputError
from dds_patterns.pods.companion import Companion, Rule
from dds_patterns.values.reach import Credentials, Reach
from tests.unit.support.examples import companion
from tests.unit.support.hardening import violations
from tests.unit.support.manifests import assert_valid, objects, templates, the
from toolchain.graph import Graph, build

IMAGE = "registry.example/elector:1.0"
PASSWORD = "swordfish-long-enough"
MODES = [pytest.param(True, id="preview"), pytest.param(False, id="update")]
TOKEN_FOLDER = "/var/run/secrets/kubernetes.io/serviceaccount"


def store(**changes: Any) -> Reach:
    """A user's way to etcd in the namespace ``data``."""
    values: dict[str, Any] = {
        "name": "etcd",
        "endpoints": tuple(f"etcd-{i}.data.svc:2379" for i in range(3)),
        "pods": {"app.kubernetes.io/instance": "etcd"},
        "namespace": "data",
        "app_protocol": "etcd",
        "path": "/elections/",
        "authority": "-----BEGIN CERTIFICATE-----\nx\n-----END CERTIFICATE-----\n",
        "credentials": Credentials(PASSWORD, "elections"),
        "isolated": True,
    }
    return Reach(**{**values, **changes})


def made(
    backend: str = "etcd", preview: bool = False, **args: Any
) -> tuple[Election, Graph, dict[str, Any]]:
    """An election in a pod, and the elector's container."""
    found: list[Election] = []

    def program() -> None:
        given: Any = {"image": IMAGE, "backend": backend, **args}
        if backend == "etcd":
            given = {"store": store(), **given}
        found.append(Election("duty", given))
        Application(
            "web",
            {
                "image": "registry.example/web:1.0",
                "replicas": 3,
                "companions": [found[0].companion],
            },
        )

    graph = build(program, preview=preview)
    (container,) = (c for c in templates(graph)[0]["spec"]["initContainers"] if c["name"] == "duty")
    return found[0], graph, container


def flags(container: dict[str, Any]) -> dict[str, Any]:
    words = container["command"]
    assert words[:3] == ["python3", "-m", "elector"]
    pairs: dict[str, Any] = {}
    for name, value in zip(words[3::2], words[4::2], strict=True):
        pairs[name] = [*pairs[name], value] if name in pairs else [value]
    return {k: v[0] if len(v) == 1 else v for k, v in pairs.items()}


@pytest.mark.parametrize("preview", MODES)
@pytest.mark.parametrize("backend", ["etcd", "lease"])
def test_objects_are_valid_and_pods_hardened(backend: str, preview: bool) -> None:
    _, graph, _ = made(backend, preview)
    assert_valid(objects(graph))
    for template in templates(graph):
        assert violations(template) == []
    component = graph.one("dds:index:Election", "duty")
    assert component.parent == ""
    assert component.urn in graph.outputs
    kinds = {child.type.rpartition(":")[2] for child in graph.children(component)}
    assert kinds == {"Secret" if backend == "etcd" else "Lease", "Service"}
    assert graph.outputs[component.urn]["endpoint"] == "127.0.0.1:4040"


def test_etcd_is_told_with_every_member_and_files_for_what_is_secret() -> None:
    _, graph, container = made()
    assert flags(container) == {
        "--backend": "etcd",
        "--election": "duty",
        "--key": "/elections/duty",
        "--ttl": "15",
        "--renew": "5",
        "--margin": "1.5",
        "--port": "4040",
        "--metrics-port": "4041",
        "--endpoint": [f"https://etcd-{i}.data.svc:2379" for i in range(3)],
        "--ca-file": "/etc/elector/ca.crt",
        "--username": "elections",
        "--password-file": "/etc/elector/password",
    }
    secret = the(graph, "Secret")
    assert secret["stringData"]["password"] == PASSWORD
    assert graph.one("kubernetes:core/v1:Secret").secrets
    for node in graph:
        if not node.type.endswith(":Secret"):
            assert PASSWORD not in str(node.inputs)
    own, there = (graph.one("NetworkPolicy", name).inputs for name in ("web", "web-to-etcd"))
    ports = [{"port": 2379, "protocol": "TCP"}]
    etcd = {"matchLabels": {"app.kubernetes.io/instance": "etcd"}}
    namespace = {"matchLabels": {"kubernetes.io/metadata.name": "data"}}
    assert {
        "ports": ports,
        "to": [{"podSelector": etcd, "namespaceSelector": namespace}],
    } in own["spec"]["egress"]
    assert there["metadata"]["namespace"] == "data"
    assert there["spec"]["podSelector"] == etcd
    (rule,) = there["spec"]["ingress"]
    assert rule["ports"] == ports
    assert rule["from"][0]["podSelector"] == own["spec"]["podSelector"]


def test_pods_start_when_the_user_is_there() -> None:
    def program() -> None:
        user = Task("user", {"image": IMAGE})
        election = Election("duty", {"image": IMAGE, "store": store(depends_on=(user.job,))})
        Application("web", {"image": IMAGE, "companions": [election.companion]})

    graph = build(program)
    job = graph.one("Job", "user").urn
    assert job in graph.one("Deployment", "web").dependencies
    assert job not in graph.one("Secret", "duty").dependencies


def test_etcd_gives_nobody_a_token() -> None:
    _, graph, _ = made()
    assert not objects(graph, "Role")
    assert "serviceAccountToken" not in str(templates(graph))


def test_a_lease_comes_with_a_role_for_it_alone() -> None:
    election, graph, container = made("lease")
    lease, role, binding = (the(graph, kind) for kind in ("Lease", "Role", "RoleBinding"))
    assert "spec" not in lease, "the electors own it"
    assert role["rules"] == [
        {
            "apiGroups": ["coordination.k8s.io"],
            "resources": ["leases"],
            "verbs": ["get", "watch", "update"],
            "resourceNames": [lease["metadata"]["name"]],
        }
    ]
    assert flags(container)["--key"] == lease["metadata"]["name"]
    account = the(graph, "ServiceAccount")
    assert binding["roleRef"]["name"] == role["metadata"]["name"]
    assert binding["subjects"] == [
        {
            "kind": "ServiceAccount",
            "name": account["metadata"]["name"],
            "namespace": account["metadata"]["namespace"],
        }
    ]
    assert graph.one("RoleBinding").urn in graph.one("Deployment").dependencies
    assert election.companion.rules


def test_the_token_is_in_the_electors_container_only() -> None:
    def program() -> None:
        election = Election("duty", {"image": IMAGE, "backend": "lease"})
        Application(
            "web",
            {
                "image": "registry.example/web:1.0",
                "companions": [companion(), election.companion],
            },
        )

    template = templates(build(program))[0]
    spec = template["spec"]
    with_token = {
        c["name"]
        for c in [*spec["containers"], *spec["initContainers"]]
        if any(m["mountPath"] == TOKEN_FOLDER for m in c.get("volumeMounts", []))
    }
    assert with_token == {"duty"}
    assert spec["automountServiceAccountToken"] is False
    (volume,) = (v for v in spec["volumes"] if "projected" in v)
    token = volume["projected"]["sources"][0]["serviceAccountToken"]
    assert token == {"path": "token", "expirationSeconds": 3600}


@pytest.mark.parametrize("workload", [Application, StatefulApplication, Task])
def test_every_workload_grants_what_companions_ask_for(workload: Any) -> None:
    rule = Rule(resources=("configmaps",), verbs=("get",), names=("colours",))

    def program() -> None:
        asking = Companion("asks", ({"name": "asks", "image": IMAGE},), rules=(rule,))
        args: dict[str, Any] = {"image": IMAGE, "companions": [asking]}
        if workload is StatefulApplication:
            args["ports"] = [{"name": "http", "port": 8080}]
        workload("web", args)

    graph = build(program)
    assert_valid(objects(graph))
    assert the(graph, "Role")["rules"] == [
        {
            "apiGroups": [""],
            "resources": ["configmaps"],
            "verbs": ["get"],
            "resourceNames": ["colours"],
        }
    ]
    ports = [rule["ports"] for rule in the(graph, "NetworkPolicy")["spec"]["egress"]]
    assert [{"port": 443, "protocol": "TCP"}, {"port": 6443, "protocol": "TCP"}] in ports


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ({"resources": (), "verbs": ("get",)}, "resources is .*; must not be empty"),
        ({"resources": ("leases",), "verbs": ("*",)}, "must be one of get, list"),
        ({"resources": ("leases",), "verbs": ("create",), "names": ("a",)}, "empty for create"),
    ],
)
def test_a_rule_is_narrow(rule: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        Rule(**rule)


def test_the_three_probes_differ_and_ask_the_elector_not_the_store() -> None:
    _, _, container = made(metrics_port=9000)
    asked = {kind: container[f"{kind}Probe"] for kind in ("startup", "readiness", "liveness")}
    assert {kind: probe["httpGet"] for kind, probe in asked.items()} == {
        "startup": {"path": "/healthz", "port": 9000},
        "readiness": {"path": "/readyz", "port": 9000},
        "liveness": {"path": "/healthz", "port": 9000},
    }
    patience = {k: p["periodSeconds"] * p["failureThreshold"] for k, p in asked.items()}
    assert patience["readiness"] < patience["liveness"] < patience["startup"]


def test_the_metrics_are_reached_only_by_who_is_named() -> None:
    _, graph, _ = made()
    assert "ingress" not in graph.one("NetworkPolicy", "web").inputs["spec"]
    clients = [{"pods": {"app": "prometheus"}, "namespaces": {"name": "monitoring"}}]
    _, graph, _ = made("lease", metrics_clients=clients)
    (rule,) = the(graph, "NetworkPolicy")["spec"]["ingress"]
    assert rule == {
        "ports": [{"port": 4041, "protocol": "TCP"}],
        "from": [
            {
                "podSelector": {"matchLabels": {"app": "prometheus"}},
                "namespaceSelector": {"matchLabels": {"name": "monitoring"}},
            }
        ],
    }


def test_a_signal_needs_to_see_the_processes_and_a_url_does_not() -> None:
    _, graph, container = made(on_change={"signal": "HUP", "process": "web"})
    assert templates(graph)[0]["spec"]["shareProcessNamespace"] is True
    assert flags(container)["--on-change-signal"] == "HUP"
    assert flags(container)["--on-change-process"] == "web"
    _, graph, container = made(on_change={"url": "http://localhost:8080/leadership"})
    assert "shareProcessNamespace" not in templates(graph)[0]["spec"]
    assert flags(container)["--on-change-url"] == "http://localhost:8080/leadership"


@pytest.mark.parametrize(
    ("ttl", "renew", "margin"), [(2, "0.667", "0.2"), (5, "1.667", "0.5"), (60, "20", "6")]
)
def test_the_times_follow_the_ttl(ttl: int, renew: str, margin: str) -> None:
    _, _, container = made(ttl_seconds=ttl)
    given = flags(container)
    assert (given["--ttl"], given["--renew"], given["--margin"]) == (str(ttl), renew, margin)


def test_times_keep_all_their_digits() -> None:
    _, _, container = made(ttl_seconds=3600, renew_seconds=1234.5678, margin_seconds=123.4567)
    given = flags(container)
    assert (given["--renew"], given["--margin"]) == ("1234.5678", "123.4567")


@pytest.mark.parametrize(("seconds", "flag"), [(10, "10"), (10.0, "10"), (1234.5678, "1234.5678")])
def test_the_elector_is_told_how_long_the_application_may_be_silent(
    seconds: float, flag: str
) -> None:
    _, _, container = made("lease", worker_seconds=seconds)
    assert flags(container)["--worker-seconds"] == flag


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"ttl_seconds": 10, "renew_seconds": 5.1}, "renew_seconds is 5.1; must be at most 5, half"),
    ({"margin_seconds": 0.2}, "margin_seconds is 0.2; must be from 0.3 to 3.75"),
    ({"ttl_seconds": 10, "margin_seconds": 2.6}, "must be from 0.2 to 2.5"),
    ({"ttl_seconds": 2, "margin_seconds": 0.05}, "must be from 0.1 to 900"),
    ({"ttl_seconds": 2, "margin_seconds": 0.51}, "must be from 0.1 to 0.5"),
    ({"store": "https://etcd:2379"}, "must be a Reach"),
    ({"store": store(app_protocol="redis")}, "must be a reach of a server that speaks etcd"),
    ({"store": store(credentials=None)}, "store.credentials is None; must be given"),
    ({"store": store(credentials=Credentials(PASSWORD))}, "store.credentials"),
    ({"store": store(authority=None)}, "store.authority is None; must be given"),
    ({"store": store(path="")}, "store.path is ''; must be from 1 to 256"),
    ({"store": store(path="/$(HOME)/")}, "store.path"),
    ({"store": store(path="--key")}, "not beginning with a dash"),
    ({"port": 4041}, "must differ from port"),
    ({"on_change": {}}, "signal or url"),
    ({"on_change": {"signal": "HUP", "url": "http://localhost/"}}, "one of them"),
    ({"on_change": {"signal": "HUP"}}, "must have process with signal"),
    ({"on_change": {"url": "http://localhost/", "process": "x"}}, "and not without"),
    ({"on_change": {"signal": "KILL", "process": "x"}}, "must be one of HUP"),
    ({"on_change": {"signal": "HUP", "process": "/bin/web"}}, "without its folder"),
    ({"on_change": {"url": "http://example.org/x"}}, "in the same pod"),
    ({"on_change": {"url": "https://localhost/x"}}, "in the same pod"),
    ({"on_change": {"sginal": "HUP"}}, "did you mean signal"),
]


@pytest.mark.parametrize("preview", MODES)
@pytest.mark.parametrize(("change", "message"), REFUSED)
def test_bad_input_is_refused_before_anything_is_registered(
    change: dict[str, Any], message: str, preview: bool
) -> None:
    assert message in refusal({"store": store(), **change}, preview=preview)


def test_a_lease_has_no_store() -> None:
    assert "store is 'etcd'; must be left out" in refusal({"backend": "lease", "store": store()})


def test_etcd_needs_a_store() -> None:
    assert "store is None; must be given" in refusal({})


@pytest.mark.parametrize(
    ("name", "message"),
    [("Duty", "must be a DNS label"), ("d" * 51, "at most 50 characters, it has 51")],
)
def test_a_bad_name_is_refused(name: str, message: str) -> None:
    assert message in refusal({"backend": "lease"}, name=name)


def test_the_longest_name_fits() -> None:
    def program() -> None:
        args: Any = {"image": IMAGE, "store": store()}
        election = Election("d" * 50, args)
        Application("web", {"image": IMAGE, "companions": [election.companion]})

    assert_valid(objects(build(program)))


def refusal(args: dict[str, Any], name: str = "duty", preview: bool = False) -> str:
    """The message of the error; fails if there is none, or if anything was registered."""
    messages = []

    def program() -> None:
        given: Any = {"image": IMAGE, **args}
        with pytest.raises(InputError) as caught:
            Election(name, given)
        messages.append(str(caught.value))

    assert not build(program, preview=preview).nodes
    (message,) = messages
    return message
