"""The pod template: hardening and its exceptions, probes, ports."""

import copy
import json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dds_patterns import Application
from dds_patterns.arguments.errors import InputError
from dds_patterns.pods.companion import ANYWHERE, Companion, Listener
from tests.unit.support.examples import IMAGE, companion
from tests.unit.support.hardening import violations
from tests.unit.support.manifests import the
from toolchain.graph import build

PORTS = [{"name": "http", "port": 8080}]


def template(**args: Any) -> dict[str, Any]:
    given: Any = {"image": IMAGE, **args}
    graph = build(lambda: Application("web", given))
    result: dict[str, Any] = the(graph, "Deployment")["spec"]["template"]
    return result


def _hardened() -> dict[str, Any]:
    return template(
        ports=PORTS,
        readiness={"path": "/ready"},
        companions=[companion()],
        writable=["/tmp"],
        secret_files={"/etc/secret/p": "x"},
    )


# Every field that hardens, and what takes it away.

POD = ["spec"]
MAIN = ["spec", "containers", 0]
SIDECAR = ["spec", "initContainers", 0]
REMOVED = [
    [*POD, "automountServiceAccountToken"],
    [*POD, "enableServiceLinks"],
    [*POD, "serviceAccountName"],
    [*POD, "terminationGracePeriodSeconds"],
    *[
        [*POD, "securityContext", field]
        for field in (
            "runAsNonRoot", "runAsUser", "runAsGroup", "fsGroup", "fsGroupChangePolicy",
            "seccompProfile",
        )
    ],
    *[
        [*container, *path]
        for container in (MAIN, SIDECAR)
        for path in (
            ["securityContext", "allowPrivilegeEscalation"],
            ["securityContext", "readOnlyRootFilesystem"],
            ["securityContext", "capabilities"],
            ["securityContext", "capabilities", "drop"],
            ["imagePullPolicy"],
            ["terminationMessagePolicy"],
            *[
                ["resources", part, resource]
                for part in ("requests", "limits")
                for resource in ("cpu", "memory", "ephemeral-storage")
            ],
        )
    ],
    [*SIDECAR, "restartPolicy"],
    [*MAIN, "startupProbe"],
    [*MAIN, "readinessProbe"],
    [*MAIN, "lifecycle"],
]  # fmt: skip
CHANGED: list[tuple[list[Any], Any]] = [
    ([*POD, "automountServiceAccountToken"], True),
    ([*POD, "hostNetwork"], True),
    ([*POD, "hostPID"], True),
    ([*POD, "hostIPC"], True),
    ([*POD, "terminationGracePeriodSeconds"], 5),
    ([*POD, "securityContext", "runAsNonRoot"], False),
    ([*POD, "securityContext", "runAsUser"], 0),
    ([*POD, "securityContext", "seccompProfile"], {"type": "Unconfined"}),
    ([*POD, "securityContext", "sysctls"], [{"name": "a", "value": "b"}]),
    ([*MAIN, "securityContext", "privileged"], True),
    ([*MAIN, "securityContext", "capabilities", "add"], ["NET_ADMIN"]),
    ([*MAIN, "securityContext", "procMount"], "Unmasked"),
    ([*MAIN, "securityContext", "runAsNonRoot"], False),
    ([*MAIN, "ports", 0, "hostPort"], 80),
    ([*MAIN, "image"], "registry.example:5000/app"),
    ([*MAIN, "imagePullPolicy"], "Always"),
    ([*MAIN, "livenessProbe", "failureThreshold"], 1),
]


def test_the_hardened_pod_passes() -> None:
    assert violations(_hardened()) == []


@pytest.fixture(scope="module")
def hardened() -> dict[str, Any]:
    return _hardened()


@pytest.mark.parametrize("path", REMOVED, ids=lambda path: ".".join(map(str, path)))
def test_each_hardening_field_is_missed_when_it_is_gone(
    hardened: dict[str, Any], path: list[Any]
) -> None:
    mutant = copy.deepcopy(hardened)
    *above, field = path
    del _at(mutant, above)[field]
    assert violations(mutant)


@pytest.mark.parametrize(("path", "value"), CHANGED, ids=lambda x: str(x) if x else "")
def test_each_weakening_is_noticed(hardened: dict[str, Any], path: list[Any], value: Any) -> None:
    mutant = copy.deepcopy(hardened)
    *above, field = path
    _at(mutant, above)[field] = value
    assert violations(mutant)


def test_volumes_are_checked(hardened: dict[str, Any]) -> None:
    for volume, change in (
        ("secret-files-0", {"secret": {"secretName": "s"}}),
        ("writable-0", {"emptyDir": {}}),
        ("writable-0", {"hostPath": {"path": "/"}}),
    ):
        mutant = copy.deepcopy(hardened)
        mutant["spec"]["volumes"] = [
            {"name": volume, **change} if v["name"] == volume else v
            for v in mutant["spec"]["volumes"]
        ]
        assert violations(mutant)


def _at(value: Any, path: list[Any]) -> Any:
    for step in path:
        value = value[step]
    return value


# Exceptions


@pytest.mark.parametrize(
    ("exception", "expected"),
    [
        ({"field": "read_only_root_filesystem"}, ["web: writable root filesystem"]),
        ({"field": "run_as_non_root"}, ["web: may run as root", "web: user of the node"]),
        ({"field": "allow_privilege_escalation"}, ["web: privilege escalation"]),
        ({"field": "seccomp_profile"}, ["web: no seccomp profile"]),
        ({"field": "service_account_token"}, ["service account token"]),
        ({"field": "capabilities", "values": ["NET_RAW"]}, ["web: capabilities added"]),
        ({"field": "capabilities", "values": ["NET_BIND_SERVICE"]}, []),
        (
            {"field": "read_only_root_filesystem", "container": "proxy"},
            ["proxy: writable root filesystem"],
        ),
    ],
)
def test_an_exception_relaxes_one_rule_of_one_container(
    exception: dict[str, Any], expected: list[str]
) -> None:
    result = template(exceptions=[{**exception, "reason": "because"}], companions=[companion()])
    assert violations(result) == expected
    (kept,) = json.loads(result["metadata"]["annotations"]["dds/exceptions"])
    assert kept["reason"] == "because"


@pytest.mark.parametrize(
    ("exception", "message"),
    [
        ({"field": "privileged", "reason": "x"}, "must be one of"),
        ({"field": "run_as_non_root", "reason": " "}, "must be a reason"),
        ({"field": "run_as_non_root"}, "reason is missing"),
        ({"field": "run_as_non_root", "reason": "x", "container": "nobody"}, "must be one of"),
        ({"field": "capabilities", "reason": "x"}, "must list capabilities"),
        ({"field": "run_as_non_root", "reason": "x", "values": ["A"]}, "must list capabilities"),
    ],
)
def test_a_bad_exception_is_refused(exception: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        template(exceptions=[exception])


@pytest.mark.parametrize(
    "context",
    [
        {"read_only_root_filesystem": False},
        {"privileged": True},
        {"allow_privilege_escalation": True},
        {"capabilities": {"add": ["NET_ADMIN"]}},
        {"run_as_user": 0},
        {"run_as_non_root": False},
        {"seccomp_profile": {"type": "Unconfined"}},
    ],
)
def test_a_container_cannot_weaken_itself(context: dict[str, Any]) -> None:
    weak = Companion("weak", ({"name": "weak", "image": IMAGE, "security_context": context},))
    with pytest.raises(InputError, match="must be"):
        template(companions=[weak])


def test_a_companion_may_have_a_user_of_its_own() -> None:
    own = Companion(
        "own", ({"name": "own", "image": IMAGE, "security_context": {"run_as_user": 20005}},)
    )
    (sidecar,) = template(companions=[own])["spec"]["initContainers"]
    assert sidecar["securityContext"]["runAsUser"] == 20005


@pytest.mark.parametrize(
    ("container", "message"),
    [
        ({"name": "x", "imag": IMAGE}, "did you mean image"),
        ({"name": "x"}, "must name an image"),
        ({"name": "X", "image": IMAGE}, "must be a DNS label"),
        ({"name": "web", "image": IMAGE}, "must be unique in the pod"),
        (
            {"name": "x", "image": IMAGE, "ports": [{"container_port": 1, "host_port": 1}]},
            "binds to the node",
        ),
        (
            {"name": "x", "image": IMAGE, "volume_mounts": [{"name": "v", "mount_path": "/v"}]},
            "must name a volume",
        ),
    ],
)
def test_a_bad_container_is_refused(container: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        template(companions=[Companion("c", (container,))])


def test_a_companion_has_a_container() -> None:
    with pytest.raises(InputError, match="must not be empty"):
        Companion("c", ())


# Ports


@pytest.mark.parametrize(
    ("first", "second", "collide"),
    [
        (ANYWHERE, ANYWHERE, True),
        ("127.0.0.1", ANYWHERE, True),
        (ANYWHERE, "127.0.0.1", True),
        ("127.0.0.1", "127.0.0.1", True),
        ("127.0.0.1", "127.0.0.2", False),
        ("::", "127.0.0.1", True),
        ("::1", "127.0.0.1", False),
        ("::1", "::1", True),
    ],
)
def test_listeners_collide_on_the_same_or_every_address(
    first: str, second: str, collide: bool
) -> None:
    one, other = Listener(80, "one", first), Listener(80, "other", second)
    assert one.collides(other) is other.collides(one) is collide
    assert not one.collides(Listener(81, "other", second))
    assert not one.collides(Listener(80, "other", second, "UDP"))


def test_a_collision_names_both_sides() -> None:
    with pytest.raises(InputError) as caught:
        template(ports=[{"name": "redis", "port": 6379}], companions=[companion()])
    message = str(caught.value)
    assert 'Application "web"' in message
    assert "the application listens on 0.0.0.0:6379 (redis)" in message
    assert 'companion "proxy"' in message


def test_two_companions_collide() -> None:
    with pytest.raises(InputError, match=r'companion "a" listens .* and companion "b"'):
        template(companions=[companion("a", 7000), companion("b", 7000)])


def test_ports_that_a_container_declares_count() -> None:
    silent = Companion("c", ({"name": "c", "image": IMAGE, "ports": [{"container_port": 8080}]},))
    with pytest.raises(InputError, match=r"must be free"):
        template(ports=PORTS, companions=[silent])


def test_a_companions_own_declaration_is_no_collision() -> None:
    honest = Companion(
        "c",
        ({"name": "c", "image": IMAGE, "ports": [{"container_port": 7000}]},),
        (Listener(7000, "seven"),),
    )
    template(ports=PORTS, companions=[honest])


@given(
    ports=st.lists(st.integers(1, 65535), min_size=2, max_size=4),
    addresses=st.lists(
        st.sampled_from([ANYWHERE, "127.0.0.1", "127.0.0.2"]), min_size=4, max_size=4
    ),
)
def test_collision_is_symmetric(ports: list[int], addresses: list[str]) -> None:
    listeners = [Listener(p, "x", a) for p, a in zip(ports, addresses, strict=False)]
    for one, other in _pairs(listeners):
        assert one.collides(other) == other.collides(one)
        assert one.collides(one)


def _pairs(items: list[Listener]) -> Iterator[tuple[Listener, Listener]]:
    return ((a, b) for a in items for b in items)


@pytest.mark.parametrize("port", [0, 65536, -1, True, "80", 1.5])
def test_a_port_is_a_number(port: Any) -> None:
    with pytest.raises(InputError):
        Listener(port, "x")


def test_an_address_is_an_address() -> None:
    with pytest.raises(InputError, match="must be an IP address"):
        Listener(80, "x", "localhost")


# Probes


def probes_of(**args: Any) -> dict[str, Any]:
    (container,) = template(**args)["spec"]["containers"]
    return {
        kind: {k: v for k, v in container[f"{kind}Probe"].items() if k in {"httpGet", "tcpSocket", "exec"}}
        for kind in ("startup", "readiness", "liveness")
        if f"{kind}Probe" in container
    }  # fmt: skip


def test_a_worker_has_no_probes() -> None:
    assert probes_of() == {}


def test_ports_are_probed_by_connecting() -> None:
    # Liveness would be the same question, so there is none.
    connect = {"tcpSocket": {"port": 8080}}
    assert probes_of(ports=PORTS) == {"startup": connect, "readiness": connect}


def test_http_readiness_goes_with_tcp_liveness() -> None:
    assert probes_of(ports=PORTS, readiness={"path": "/r"}) == {
        "startup": {"httpGet": {"path": "/r", "port": 8080}},
        "readiness": {"httpGet": {"path": "/r", "port": 8080}},
        "liveness": {"tcpSocket": {"port": 8080}},
    }


def test_a_command_asks_inside() -> None:
    assert probes_of(readiness={"command": ["redis-cli", "ping"]}) == {
        "startup": {"exec": {"command": ["redis-cli", "ping"]}},
        "readiness": {"exec": {"command": ["redis-cli", "ping"]}},
    }


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (
            {"ports": PORTS, "readiness": {"path": "/x"}, "liveness": {"path": "/x"}},
            "must not be the probe of readiness",
        ),
        ({"ports": PORTS, "liveness": {}}, "must not be the probe of readiness"),
        (
            {"ports": PORTS, "readiness": {"path": "/x", "period_seconds": 60}},
            "tolerate failures for longer",
        ),
        ({"ports": PORTS, "readiness": {"path": "x"}}, "must be a path that begins with a slash"),
        ({"ports": PORTS, "readiness": {"path": "/x", "command": ["x"]}}, "not both"),
        ({"ports": PORTS, "readiness": {"command": []}}, "must be a program"),
        ({"ports": PORTS, "readiness": {"port": "https"}}, "must be one of http"),
        ({"ports": PORTS, "readiness": {"perod_seconds": 1}}, "did you mean period_seconds"),
        ({"ports": PORTS, "readiness": {"timeout_seconds": 0}}, "must be from 1 to 3600"),
        ({"readiness": {"path": "/x"}}, "needs a port that is not on loopback"),
        (
            {"ports": [{"name": "a", "port": 1, "address": "127.0.0.1"}], "readiness": {}},
            "not on loopback",
        ),
    ],
)
def test_a_bad_probe_is_refused(args: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        template(**args)
