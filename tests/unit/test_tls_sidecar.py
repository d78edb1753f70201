"""The TLS sidecar: its configuration, where keys are, what it refuses, what it adds to a pod."""

import base64
import pathlib
from typing import Any

import pulumi
import pytest

from dds_patterns import Application, Authority, Certificate, TlsSidecar
from dds_patterns.arguments.errors import InputError
from dds_patterns.single_node.tls_settings import CIPHERS
from tests.unit.support.hardening import violations
from tests.unit.support.manifests import assert_valid, objects, templates, the
from toolchain.graph import Graph, build

IMAGE = "registry.example/nginx:1.0"
CERTIFICATE = "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n"
KEY = "-----BEGIN PRIVATE KEY-----\nswordfish\n-----END PRIVATE KEY-----\n"
GOLDEN = pathlib.Path(__file__).parent / "golden"
MODES = [pytest.param(True, id="preview"), pytest.param(False, id="update")]
PEM = {"certificate": CERTIFICATE, "key": KEY}
FULL = {
    "port": 9443,
    "redirect_port": 9080,
    "public_port": 443,
    "status_port": 9444,
    "readiness_path": "/readyz",
    "minimum_version": "1.2",
    "ciphers": [CIPHERS[0], CIPHERS[1]],
    "client_certificates": "required",
    "client_authority": CERTIFICATE,
    "trusted_proxies": ["10.0.0.0/8"],
    "hsts_seconds": 3600,
    "timeout_seconds": 5,
    "workers": 2,
    "hosting": {"resources": {"limits": {"memory": "64Mi"}}},
}


def made(preview: bool = False, source: Any = None, **args: Any) -> tuple[TlsSidecar, Graph]:
    """A sidecar in a pod. ``source`` is where its certificate comes from."""
    found: list[TlsSidecar] = []

    def program() -> None:
        where: Any = {
            "certificate": CERTIFICATE,
            "key": pulumi.Output.secret(KEY),
        } if source is None else source  # fmt: skip
        given: Any = {"image": IMAGE, "application_port": 8080, **where, **args}
        sidecar = TlsSidecar("tls", given)
        found.append(sidecar)
        Application(
            "web",
            {
                "image": "registry.example/web:1.0",
                "companions": [sidecar.companion],
                "expose": ["https"],
                "clients": [{"pods": {"role": "client"}}],
                "replicas": 2,
            },
        )

    graph = build(program, preview=preview)
    return found[0], graph


def configuration(graph: Graph) -> dict[str, str]:
    for body in objects(graph, "ConfigMap"):
        if "run.sh" in body["data"]:
            return dict(body["data"])
    raise AssertionError("no run.sh")


@pytest.mark.parametrize("preview", MODES)
@pytest.mark.parametrize(("name", "args"), [("default", {}), ("full", FULL)])
def test_the_configuration_is_the_recorded_one(
    name: str, args: dict[str, Any], preview: bool
) -> None:
    files = configuration(made(preview, **args)[1])
    for file, content in files.items():
        assert content == (GOLDEN / f"tls-{name}-{file}").read_text()


@pytest.mark.parametrize("args", [{}, FULL], ids=["default", "full"])
def test_objects_are_valid_and_the_pod_is_hardened(args: dict[str, Any]) -> None:
    graph = made(**args)[1]
    assert_valid(objects(graph))
    for template in templates(graph):
        assert violations(template) == []


def test_the_service_offers_https_and_the_policy_lets_clients_to_it() -> None:
    graph = made(redirect_port=8081)[1]
    assert [p["port"] for p in the(graph, "Service")["spec"]["ports"]] == [8443]
    policy = the(graph, "NetworkPolicy")["spec"]
    (rule,) = policy["ingress"]
    assert [p["port"] for p in rule["ports"]] == [8443]
    assert rule["from"][0]["podSelector"] == {"matchLabels": {"role": "client"}}


@pytest.mark.parametrize("preview", MODES)
def test_the_key_is_in_a_secret_and_nowhere_else(preview: bool) -> None:
    graph = made(preview)[1]
    for node in graph:
        if node.type.endswith(":Secret"):
            assert node.secrets, "the key is readable in the state"
            assert "swordfish" in str(node.inputs)
        else:
            assert "swordfish" not in str(node.inputs)


def test_the_secret_has_a_stable_name_and_nothing_else_follows_from_it() -> None:
    """It is replaced when the certificate changes; the pods must not roll then."""
    graph = made()[1]
    secret = graph.one("Secret")
    assert the(graph, "Secret")["metadata"]["name"] == "tls-tls"
    assert the(graph, "Secret")["type"] == "kubernetes.io/tls"
    assert "immutable" not in secret.inputs
    first = the(graph, "Deployment")["spec"]["template"]
    other = {"certificate": CERTIFICATE + CERTIFICATE, "key": KEY}
    changed = made(source=other)[1]
    assert the(changed, "Deployment")["spec"]["template"] == first


def test_a_secret_of_somebody_else_is_only_referred_to() -> None:
    sidecar, graph = made(source={"secret_name": "from-cert-manager"})
    assert graph.all("Secret") == []
    (volume,) = [
        v for v in the(graph, "Deployment")["spec"]["template"]["spec"]["volumes"] if "secret" in v
    ]
    assert volume["secret"]["secretName"] == "from-cert-manager"
    assert [item["key"] for item in volume["secret"]["items"]] == ["tls.crt", "tls.key"]
    assert sidecar.companion.depends_on


def test_keys_are_copied_to_memory_only() -> None:
    graph = made()[1]
    spec = the(graph, "Deployment")["spec"]["template"]["spec"]
    (state,) = [v for v in spec["volumes"] if "emptyDir" in v]
    assert state["emptyDir"] == {"medium": "Memory", "sizeLimit": "8Mi"}


@pytest.mark.parametrize("preview", MODES)
def test_a_certificate_made_in_the_program(preview: bool) -> None:
    def program() -> None:
        authority = Authority("authority")
        certificate = Certificate(
            "web", {"authority": authority.issuer, "dns_names": ["web.shop.svc"]}
        )
        TlsSidecar(
            "tls",
            {
                "image": IMAGE,
                "application_port": 8080,
                "certificate": certificate.certificate,
                "key": certificate.key,
                "client_certificates": "optional",
                "client_authority": authority.certificate,
            },
        )

    graph = build(program, preview=preview)
    secret = graph.one("kubernetes:core/v1:Secret")
    if preview:
        # There is no certificate yet.
        assert "tls.key" not in str(secret.inputs)
        return
    assert sorted(secret.inputs["stringData"]) == ["ca.crt", "tls.crt", "tls.key"]


def test_a_readiness_path_asks_the_application_and_liveness_never_does() -> None:
    sidecar, graph = made(readiness_path="/ready?deep=1")
    (container,) = sidecar.companion.containers
    paths = {
        kind: container[f"{kind}_probe"]["http_get"]["path"]  # type: ignore[literal-required]
        for kind in ("startup", "readiness", "liveness")
    }
    assert paths == {"startup": "/healthz", "readiness": "/readyz", "liveness": "/healthz"}
    text = configuration(graph)["nginx.conf"]
    assert "proxy_pass http://application/ready?deep=1;" in text


def test_what_clients_claim_of_themselves_is_not_passed_on() -> None:
    plain = configuration(made()[1])["nginx.conf"]
    assert "proxy_set_header X-Forwarded-For $remote_addr;" in plain
    assert 'proxy_set_header X-Client-Verify "";' in plain
    trusting = configuration(made(trusted_proxies=["10.0.0.0/8"])[1])["nginx.conf"]
    assert "proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;" in trusting


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"image": "nginx"}, "must have a tag"),
        ({"certificat": "x"}, "did you mean certificate?"),
        ({"certificate": None}, "certificate is None; must be given"),
        ({"key": None}, "key is None; must be given"),
        ({"certificate": "MIIB"}, "must be PEM"),
        ({"key": CERTIFICATE}, "must be PEM, with PRIVATE KEY"),
        ({"secret_name": "tls"}, "must be left out with secret_name"),
        (
            {"secret_name": "No_Label", "certificate": None, "key": None},
            "must be a name of lower-case letters",
        ),
        ({"application_port": 0}, "must be from 1 to 65535"),
        ({"port": 443}, "must be from 1024 to 65535"),
        ({"port": 8080}, "port is 8080; must differ from application_port"),
        ({"redirect_port": 8443}, "must differ from port"),
        ({"readiness_path": "readyz"}, "must be a path"),
        ({"readiness_path": "/a b"}, "must be a path"),
        ({"readiness_path": "/$x"}, "must be a path"),
        ({"readiness_path": "/x;y}"}, "must be a path"),
        ({"minimum_version": "1.1"}, "must be one of 1.2, 1.3"),
        ({"certificate": CERTIFICATE + KEY}, "without a key"),
        ({"key": KEY.replace("PRIVATE", "ENCRYPTED PRIVATE")}, "without a password"),
        ({"ciphers": ["RC4-SHA"]}, "ciphers[0] is 'RC4-SHA'; must be one of"),
        ({"ciphers": []}, "must not be empty"),
        ({"ciphers": [CIPHERS[0]] * 2}, "must be unique"),
        ({"ciphers": [CIPHERS[0]], "minimum_version": "1.3"}, "it is for TLS 1.2"),
        ({"client_certificates": "yes"}, "must be one of"),
        ({"client_certificates": "required"}, "must be given: client_certificates"),
        ({"client_authority": CERTIFICATE}, "must be left out"),
        ({"trusted_proxies": ["10.0.0.1"]}, "must be a network"),
        ({"hsts_seconds": -1}, "must be from 0"),
        ({"timeout_seconds": 0}, "must be from 1"),
        ({"workers": 0}, "must be from 1 to 16"),
    ],
)
def test_bad_input_is_refused(change: dict[str, Any], expected: str) -> None:
    messages: list[str] = []

    def program() -> None:
        given: Any = {"image": IMAGE, "application_port": 8080, **PEM, **change}
        with pytest.raises(InputError) as caught:
            TlsSidecar("tls", given)
        messages.append(str(caught.value))

    graph = build(program)
    assert not graph.nodes
    assert messages[0].startswith('TlsSidecar "tls"')
    assert expected in messages[0]
    assert "swordfish" not in messages[0], "a key was shown"


def test_a_key_that_is_known_later_is_checked_later() -> None:
    with pytest.raises(InputError, match="must be PEM"):
        build(
            lambda: TlsSidecar(
                "tls",
                {
                    "image": IMAGE,
                    "application_port": 8080,
                    "certificate": CERTIFICATE,
                    "key": pulumi.Output.secret(base64.b64encode(b"x").decode()),
                },
            )
        )


def test_an_application_that_does_not_keep_to_loopback_collides() -> None:
    def program() -> None:
        given: Any = {"image": IMAGE, "application_port": 8080, **PEM}
        sidecar = TlsSidecar("tls", given)
        Application(
            "web",
            {
                "image": "registry.example/web:1.0",
                "ports": [{"name": "web", "port": 8443}],
                "companions": [sidecar.companion],
            },
        )

    with pytest.raises(InputError, match="must be free"):
        build(program)
