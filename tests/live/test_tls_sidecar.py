"""The TLS sidecar: HTTPS for a server on loopback, certificates that change, and faults."""

import json
import time
from typing import Any

import pytest

from dds_patterns import TlsSidecar
from dds_patterns.single_node.tls_settings import CIPHERS, CURVES
from tests.live.support.sidecars import Sidecars, at
from tests.live.support.waiting import eventually
from toolchain.graph import build

# Readiness is asked every 2 s and believed after two failures of up to 3 s each; twice that on a
# loaded machine.
UNREADY_SECONDS = 30
LOOPBACK_8080 = "0100007F:1F90"
PORT_8080 = ":1F90"
LISTENING = "0A"


@pytest.fixture(scope="module")
def https(sidecars: Sidecars) -> dict[str, Any]:
    return at(sidecars.stack.outputs()["endpoint"])


@pytest.fixture(scope="module")
def guarded(sidecars: Sidecars) -> dict[str, Any]:
    return at(sidecars.stack.outputs()["guarded"])


# the proof


def test_the_server_listens_on_loopback_only(sidecars: Sidecars) -> None:
    pod = sidecars.pods("legacy", 2)[0]
    table = sidecars.kube.run(pod, "legacy", ["cat", "/proc/net/tcp", "/proc/net/tcp6"])
    listening = [
        words[1] for line in table.splitlines() if (words := line.split())[3:4] == [LISTENING]
    ]
    assert [address for address in listening if address.endswith(PORT_8080)] == [LOOPBACK_8080]


def test_https_with_the_authority_works_and_plain_http_does_not(
    sidecars: Sidecars, https: dict[str, Any]
) -> None:
    answer = sidecars.ask(https)
    assert answer["status"] == 200, answer
    assert answer["serial"] == sidecars.stack.outputs()["serial"]
    plain = {"host": https["host"], "port": https["port"]}
    assert sidecars.ask(plain)["status"] == 400
    pod = sidecars.pods("legacy", 2)[0]
    direct = sidecars.ask({"host": pod.address, "port": 8080}, timeout=2)
    assert "error" in direct, direct
    unknown = sidecars.ask({**https, "name": "another.example"})
    assert "CERTIFICATE_VERIFY_FAILED" in unknown["error"]


def test_plain_http_is_sent_to_https(sidecars: Sidecars, https: dict[str, Any]) -> None:
    pod = sidecars.pods("legacy", 2)[0]
    # The Service's own name, on the redirect's port.
    answer = sidecars.ask(
        {"host": https["host"], "port": 8081}, method="POST", path="/a?b=c", body="x"
    )
    assert answer["status"] == 308, answer
    assert answer["headers"]["location"] == f"https://{https['host']}:8443/a?b=c"
    assert pod.ready


def test_the_application_is_told_the_truth(sidecars: Sidecars, https: dict[str, Any]) -> None:
    claimed = {
        "X-Forwarded-For": "203.0.113.99",
        "X-Real-IP": "203.0.113.99",
        "X-Forwarded-Proto": "http",
        "X-Client-Verify": "SUCCESS",
        "Forwarded": "for=203.0.113.99",
        # To what follows CGI these are the same.
        "X_Forwarded_For": "203.0.113.99",
        "X-Real_IP": "203.0.113.99",
        "X_Client_Verify": "SUCCESS",
        # And these are the application's business.
        "under_score": "1",
        "with.dot": "2",
        "Cookie": "c" * 9000,
    }
    answer = sidecars.ask(https, headers=claimed, method="POST", body="x" * 3_000_000)
    seen = json.loads(answer["body"])
    headers = seen["headers"]
    client = sidecars.pods("client")[0].address
    assert headers["x-forwarded-for"] == headers["x-real-ip"] == client
    assert headers["x-forwarded-proto"] == "https"
    assert headers["x-forwarded-port"] == "8443"
    assert headers["host"] == headers["x-forwarded-host"] == f"{https['host']}:{https['port']}"
    assert "203.0.113.99" not in str(headers)
    assert not [name for name in headers if "verify" in name]
    assert (headers["under_score"], headers["with.dot"]) == ("1", "2")
    assert headers["cookie"] == "c" * 9000
    assert seen["bytes"] == 3_000_000, "a body of any size gets through"
    assert seen["from"] == "127.0.0.1"


def test_versions_below_the_minimum_are_refused(
    sidecars: Sidecars, https: dict[str, Any], guarded: dict[str, Any]
) -> None:
    known = {"cert": "/etc/live-known/tls.crt", "key": "/etc/live-known/tls.key"}
    asked = [
        {"at": {**https, "newest": "1.1"}},
        {"at": {**https, "newest": "1.2"}},
        {"at": https},
        {"at": {**guarded, **known, "newest": "1.2"}},
        {"at": {**guarded, **known}},
    ]
    old, middle, new, too_old, guarded_new = sidecars.client().ask(
        "gets", module="tests.live.in_pod.https", requests=asked
    )
    assert old["error"].startswith("tls: "), old
    assert (middle["version"], middle["cipher"] in CIPHERS) == ("TLSv1.2", True), middle
    assert new["version"] == "TLSv1.3", new
    assert too_old["error"].startswith("tls: "), too_old
    assert (guarded_new["status"], guarded_new["version"]) == (200, "TLSv1.3"), guarded_new


def test_only_the_curves_of_the_profile_exchange_keys(
    sidecars: Sidecars, https: dict[str, Any]
) -> None:
    # In TLS 1.3: in 1.2 a client must know the curve of the certificate's key as well.
    curves = (*CURVES, "X448", "secp521r1")
    answers = sidecars.client().ask(
        "gets",
        module="tests.live.in_pod.https",
        requests=[{"at": {**https, "oldest": "1.3", "curve": curve}} for curve in curves],
    )
    found = {curve: answer["status"] for curve, answer in zip(curves, answers, strict=True)}
    assert found == {**dict.fromkeys(CURVES, 200), "X448": 0, "secp521r1": 0}, answers


def test_clients_without_a_certificate_of_the_authority_are_refused(
    sidecars: Sidecars, guarded: dict[str, Any]
) -> None:
    without = sidecars.ask(guarded)
    stranger = sidecars.ask(
        {**guarded, "cert": "/etc/live-stranger/tls.crt", "key": "/etc/live-stranger/tls.key"}
    )
    known = sidecars.ask(
        {**guarded, "cert": "/etc/live-known/tls.crt", "key": "/etc/live-known/tls.key"}
    )
    assert without.get("status") == 400, without
    assert stranger.get("status") == 400, stranger
    headers = json.loads(known["body"])["headers"]
    assert headers["x-client-verify"] == "SUCCESS"
    assert headers["x-client-subject"] == "CN=known-client"


def test_no_session_is_taken_up_again_where_certificates_decide(
    sidecars: Sidecars, https: dict[str, Any], guarded: dict[str, Any]
) -> None:
    # A session shows no certificate, so an authority that is trusted no more would go on being so.
    known = {"cert": "/etc/live-known/tls.crt", "key": "/etc/live-known/tls.key"}
    found = [
        sidecars.client().ask("resumed", module="tests.live.in_pod.https", at=at)
        for at in (https, {**guarded, **known})
    ]
    assert found == [True, False]


# configuration


def test_nginx_accepts_every_variant(sidecars: Sidecars) -> None:
    """The image's own checker, on what is generated; it refuses the same with a word misspelt."""
    base: Any = {
        "image": "registry.example/nginx:1",
        "application_port": 8080,
        "secret_name": "some",
    }
    variants: list[dict[str, Any]] = [
        {},
        {"minimum_version": "1.3", "client_certificates": "required"},
        {"client_certificates": "optional", "redirect_port": 8081, "public_port": 443},
        {"ciphers": list(CIPHERS[:2]), "workers": 4, "hsts_seconds": 60, "timeout_seconds": 1},
        {"trusted_proxies": ["10.0.0.0/8", "fd00::/8"], "readiness_path": "/r?a=b&c=%20d"},
    ]
    texts = []
    for variant in variants:
        args: Any = {**base, **variant}
        graph = build(lambda a=args: TlsSidecar("tls", a))  # type: ignore[misc]
        texts.append(graph.one("ConfigMap").inputs["data"]["nginx.conf"])
    texts.append(texts[0].replace("ssl_protocols", "ssl_protocol"))
    pod = sidecars.pods("guarded")[0]
    script = (
        'for text in "$@"; do printf %s "$text" > /tmp/variant.conf; '
        "nginx -e stderr -t -q -c /tmp/variant.conf && echo good || echo bad; done"
    )
    said = sidecars.kube.run(pod, "guard", ["sh", "-c", script, "sh", *texts])
    assert said.split() == ["good"] * len(variants) + ["bad"]


# a certificate that changes, a rollout, faults: in this order on the same pods


def test_a_rotated_certificate_is_served_with_no_restart_and_no_closed_connection(
    sidecars: Sidecars, https: dict[str, Any]
) -> None:
    before = sidecars.pods("legacy", 2)
    serial = sidecars.stack.outputs()["serial"]
    clients = 4

    def served() -> bool:
        # Again each time: a kubelet that saw the pod change before the Secret brings the old one.
        sidecars.sync("legacy")
        for pod in before:
            answer = sidecars.ask({**https, "host": pod.address, "name": https["host"]})
            assert answer["status"] == 200, answer
            if answer["serial"] != new:
                return False
        return True

    # Clients that keep their connections from before the change until after it.
    with sidecars.load(https, clients=clients, pause=0.05) as seen:
        changed = sidecars.stack.up(generation=2).changed
        new = sidecars.stack.outputs()["serial"]
        assert new != serial
        assert not [name for name in changed if "Deployment" in name], changed
        eventually(served, 120, "every pod serves the new certificate", 2)
    after = sidecars.pods("legacy", 2)
    assert [(p.uid, p.restarts) for p in after] == [(p.uid, p.restarts) for p in before]
    assert set(seen["outcomes"]) == {"ok"}, seen
    assert seen["connections"] == [1] * clients, "a connection was closed"
    assert seen["serials"] == [serial]


def test_a_certificate_that_does_not_fit_its_key_never_replaces_a_good_one(
    sidecars: Sidecars, guarded: dict[str, Any]
) -> None:
    known = {"cert": "/etc/live-known/tls.crt", "key": "/etc/live-known/tls.key"}
    before = sidecars.ask({**guarded, **known})

    def key_of(secret: str) -> str:
        found = sidecars.kube.core.read_namespaced_secret(secret, sidecars.namespace)
        return str((found.data or {})["tls.key"])

    good, other = key_of("brought-along"), key_of("tls-tls")
    pod = sidecars.pods("guarded")[0]

    def put(key: str) -> None:
        sidecars.kube.core.patch_namespaced_secret(
            "brought-along", sidecars.namespace, {"data": {"tls.key": key}}
        )

    def said(times: int, what: str) -> bool:
        # Again each time, as above.
        sidecars.sync("guarded")
        return sidecars.kube.logs(pod, "guard").count(what) == times

    put(other)
    try:
        eventually(lambda: said(1, "is refused"), 120, "the sidecar refuses the key", 2)
        after = sidecars.ask({**guarded, **known})
        assert (after["status"], after["serial"]) == (200, before["serial"])
        assert sidecars.pods("guarded")[0].restarts == pod.restarts
    finally:
        put(good)
    eventually(lambda: said(2, "is in use"), 120, "the sidecar takes the good one", 2)


def test_a_rolling_update_under_load_fails_no_request(
    sidecars: Sidecars, https: dict[str, Any]
) -> None:
    """Of pods that have the TLS sidecar, ConfigSync and topz."""
    pods = sidecars.pods("legacy", 2)
    assert all({"tls", "sync", "topz"} < set(pod.containers) for pod in pods), pods
    before = {pod.name for pod in pods}

    def replaced() -> bool:
        found = sidecars.kube.pods(sidecars.namespace, {"app.kubernetes.io/instance": "legacy"})
        return len(found) == 2 and all(p.ready and p.name not in before for p in found)

    with (
        # Busy ones, some that ask so seldom that their connections idle, and slow requests.
        sidecars.load(https, clients=4, pause=0.02) as busy,
        sidecars.load(https, clients=2, pause=1.2) as idle,
        sidecars.load(https, clients=2, pause=0.02, path="/slow/300") as slow,
    ):
        sidecars.kube.roll(sidecars.namespace, "legacy")
        eventually(replaced, 180, "both pods are new")
        # Long enough for every client to have come to a new one.
        time.sleep(2)
    for seen in (busy, idle, slow):
        assert set(seen["outcomes"]) == {"ok"}, (busy, idle, slow)
        assert set(seen["pods"]) & before, "the load began too late"
        assert set(seen["pods"]) - before, "the load ended too early"


def test_sidecar_killed_beside_a_serving_application(
    sidecars: Sidecars, guarded: dict[str, Any]
) -> None:
    pod = sidecars.pods("guarded")[0]
    started = json.loads(sidecars.inside(pod, "guarded"))["started"]
    sidecars.nodes.kill(pod, "guard")
    now = sidecars.kube.restarted(pod, "guard")
    assert now.restarts["guarded"] == pod.restarts["guarded"]
    assert json.loads(sidecars.inside(now, "guarded"))["started"] == started, (
        "the application went on"
    )
    # The Service has it again a moment after the pod is ready.
    eventually(lambda: sidecars.ask(guarded)["status"] == 400, 30, "it is asked again")


def test_sidecar_paused_beside_a_serving_application(sidecars: Sidecars) -> None:
    pod = sidecars.pods("guarded")[0]
    with sidecars.nodes.paused(pod, "guard"):

        def unready() -> bool:
            now = sidecars.kube.pod(sidecars.namespace, pod.name)
            return now is not None and not now.ready

        eventually(unready, UNREADY_SECONDS, "the pod says that it is not ready")
        assert json.loads(sidecars.inside(pod, "guarded"))["pod"], (
            "the application answers its own pod"
        )
    now = sidecars.pods("guarded")[0]
    assert (now.uid, now.restarts["guarded"]) == (pod.uid, pod.restarts["guarded"])


def test_application_paused_makes_the_pod_unready_through_the_sidecar(
    sidecars: Sidecars, https: dict[str, Any]
) -> None:
    """What the kubelet cannot ask itself: the server is on loopback."""
    paused, other = sidecars.pods("legacy", 2)
    with sidecars.nodes.paused(paused, "legacy"):

        def unready() -> bool:
            now = sidecars.kube.pod(sidecars.namespace, paused.name)
            return now is not None and not now.ready

        eventually(unready, UNREADY_SECONDS, "the pod says that it is not ready")

        # Endpoints follow a moment later; then every request goes to the other pod.
        def only_the_other() -> bool:
            for _ in range(4):
                answer = sidecars.ask(https)
                assert answer["status"] == 200, answer
                if json.loads(answer["body"])["pod"] != other.name:
                    return False
            return True

        eventually(only_the_other, 60, "only the other pod is asked")
    sidecars.pods("legacy", 2)
