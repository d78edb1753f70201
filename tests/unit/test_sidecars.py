"""The composition ``sidecars``."""

import json
from typing import Any

import pytest

from dds_patterns.arguments.errors import InputError
from stacks import deploy
from stacks.settings import Settings
from tests.unit.support.hardening import violations
from tests.unit.support.manifests import assert_valid, objects, templates
from toolchain.graph import Graph, Secret, build

CLUSTER = {"kubeconfig": Secret("kubeconfig-of-the-cluster"), "registry": "localhost:5000"}
MODES = [pytest.param(True, id="preview"), pytest.param(False, id="update")]


def made(config: dict[str, str] | None = None, *, preview: bool = False) -> Graph:
    return build(
        lambda: deploy(Settings.load()),
        preview=preview,
        stack="sidecars",
        config=config,
        references={"organization/dds/cluster": CLUSTER},
    )


def of_kind(graph: Graph, kind: str) -> dict[str, Any]:
    (body,) = objects(graph, kind)
    return body


@pytest.mark.parametrize("preview", MODES)
def test_everything_is_valid_hardened_and_in_the_namespace(preview: bool) -> None:
    graph = made(preview=preview)
    bodies = objects(graph)
    assert len(bodies) > 10
    if preview:
        return
    assert_valid(bodies)
    assert {body["metadata"]["namespace"] for body in bodies if body["kind"] != "Namespace"} == {
        "sidecars"
    }
    for template in templates(graph):
        assert violations(template, restarts=template["spec"]["restartPolicy"] != "Never") == []


def test_https_the_redirect_and_topz_are_offered_and_nothing_else() -> None:
    graph = made()
    (service,) = [
        body for body in objects(graph, "Service") if body["spec"].get("clusterIP") != "None"
    ]
    assert [port["name"] for port in service["spec"]["ports"]] == ["https", "http-redirect", "topz"]
    (server,) = of_kind(graph, "Deployment")["spec"]["template"]["spec"]["containers"]
    assert server["command"] == ["python3", "/opt/examples/legacy.py"]
    for kind in ("startupProbe", "readinessProbe", "livenessProbe"):
        assert "exec" in server[kind], "the kubelet does not get to loopback"


def test_the_server_reads_what_config_sync_writes() -> None:
    graph = made()
    spec = of_kind(graph, "Deployment")["spec"]["template"]["spec"]
    (server,) = spec["containers"]
    (mount,) = [m for m in server["volumeMounts"] if m["mountPath"] == "/etc/legacy"]
    assert mount["readOnly"] is True
    assert {"name": "CONFIG_FOLDER", "value": "/etc/legacy"} in server["env"]
    (settings,) = [
        body
        for body in objects(graph, "ConfigMap")
        if body["metadata"]["name"] == "legacy-settings"
    ]
    assert settings["metadata"]["labels"] == {"dds/settings-of": "legacy"}
    assert json.loads(settings["data"]["settings.json"]) == {"greeting": "hello"}


def test_a_rotation_leaves_the_pods_as_they_are() -> None:
    first, second = made(), made({"dds:certificate_generation": "2"})
    assert (
        of_kind(first, "Deployment")["spec"]["template"]
        == of_kind(second, "Deployment")["spec"]["template"]
    )
    assert second.one("Certificate", "legacy").inputs["generation"] == 2


@pytest.mark.parametrize("generation", ["0", "x"])
def test_a_generation_that_cannot_be_is_refused(generation: str) -> None:
    with pytest.raises(InputError, match="certificate_generation"):
        made({"dds:certificate_generation": generation})


def test_the_outputs_say_what_to_try() -> None:
    outputs = made().outputs[""]
    assert outputs["endpoint"].endswith(".sidecars.svc:8443")
    assert set(outputs["try"]) >= {"send a request over HTTPS", "change its configuration"}
    patch = outputs["try"]["change its configuration"]
    assert json.loads(json.loads(patch.rpartition("-p ")[2].strip("'"))["data"]["settings.json"])
    assert "PRIVATE KEY" not in str(outputs)
