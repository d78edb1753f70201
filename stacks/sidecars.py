"""Composition ``sidecars``: an unchanged legacy server, and what its sidecars add to it.

The server speaks plain HTTP on loopback only; one sidecar adds HTTPS (TLS termination), another syncs
its files with labelled ConfigMaps, a third lists the pod's processes. ``make`` registers the resources
on any cluster: the live tests deploy the same.
"""

import dataclasses
import json
import pathlib
from collections.abc import Mapping, Sequence
from functools import partial

import pulumi
from pulumi_kubernetes.core.v1 import ConfigMap

from dds_patterns import (
    Application,
    ApplicationArgs,
    Authority,
    Certificate,
    Companion,
    ConfigSync,
    Hosting,
    Reach,
    SmokeTest,
    TlsSidecar,
    Topz,
)
from stacks import tries
from stacks.settings import Settings
from stacks.target import target

IMAGES = ("companions", "nginx", "toolbox")
"""The images that ``make`` needs."""

APPLICATION_PORT = 8080
HTTPS_PORT = 8443
REDIRECT_PORT = 8081
SYNC_PORT = 9180
SYNC_SECONDS = 10
TOPZ_PORT = 8079
SETTINGS = "legacy-settings"
"""Name of the ConfigMap that the server is configured with."""
SETTINGS_LABEL = {"dds/settings-of": "legacy"}
"""Label of every such ConfigMap."""
FOLDER = "/etc/legacy"
"""Folder of the server's files."""

_CHECK = pathlib.Path(__file__).parent / "scripts" / "sidecars_check.py"
_CA_FILE = "/etc/check-ca/ca.crt"
_SERVER = "/opt/examples/legacy.py"
_ASK = (
    f"exec 3<>/dev/tcp/127.0.0.1/{APPLICATION_PORT} && "
    r"printf 'GET /readyz HTTP/1.0\r\n\r\n' >&3 && read -r -t 2 line <&3 && [[ $line == *' 200 '* ]]"
)
# Files that are not valid JSON never reach the server.
_READ_ALL = """\
import json, pathlib, sys
for file in pathlib.Path(sys.argv[1]).glob("*.json"):
    json.loads(file.read_text())
"""
ONLY_JSON = ("python3", "-c", _READ_ALL, "{folder}")
"""A check for ConfigSync."""
_CONNECT = f"exec 3<>/dev/tcp/127.0.0.1/{APPLICATION_PORT}"


@dataclasses.dataclass(frozen=True)
class Sidecars:
    """What was deployed."""

    authority: Authority
    certificate: Certificate
    tls: TlsSidecar
    sync: ConfigSync
    legacy: Application


def make(
    images: Mapping[str, pulumi.Input[str]],
    hosting: Hosting,
    opts: pulumi.ResourceOptions,
    *,
    certificate_generation: int = 1,
    greeting: str = "hello",
    sync_interval: int = SYNC_SECONDS,
    replicas: int = 2,
    drain_seconds: int = 5,
    env: Mapping[str, str] | None = None,
) -> Sidecars:
    """Deploy the server with its sidecars.

    :param images: references by the names in IMAGES
    :param certificate_generation: any other number rotates the certificate
    :param greeting: what the ConfigMap says at first; it is changed with kubectl
    :param sync_interval: seconds between two resyncs of the ConfigMaps, in addition to the watch
    :param env: more of the server's environment
    """
    authority = Authority("sidecars-ca", {}, opts)
    certificate = Certificate(
        "legacy",
        {
            "authority": authority.issuer,
            # Every Service of the namespace: auto-naming makes their names unknown here.
            "dns_names": [pulumi.Output.concat("*.", hosting["namespace"], ".svc"), "localhost"],
            "generation": certificate_generation,
        },
        opts,
    )
    tls = TlsSidecar(
        "tls",
        {
            "image": images["nginx"],
            "application_port": APPLICATION_PORT,
            "port": HTTPS_PORT,
            "redirect_port": REDIRECT_PORT,
            "readiness_path": "/readyz",
            "certificate": certificate.certificate,
            "key": certificate.key,
            "hosting": hosting,
        },
        opts,
    )
    settings = ConfigMap(
        SETTINGS,
        metadata={"name": SETTINGS, "namespace": hosting["namespace"], "labels": SETTINGS_LABEL},
        data={"settings.json": json.dumps({"greeting": greeting}) + "\n"},
        opts=opts,
    )
    sync = ConfigSync(
        "sync",
        {
            "image": images["companions"],
            "config_maps": SETTINGS_LABEL,
            "interval_seconds": sync_interval,
            "check": ONLY_JSON,
            "on_change": {"signal": "HUP", "process": "legacy.py"},
            "hosting": hosting,
        },
        opts,
    )
    topz = Topz("topz", {"image": images["companions"], "port": TOPZ_PORT}, opts)
    legacy = Application(
        "legacy",
        {
            **server(images, [sync.companion, tls.companion, topz.companion]),
            "volume_mounts": [sync.mount(FOLDER)],
            "expose": ["https", "http-redirect", "topz"],
            # Every pod of the namespace may connect.
            "clients": [{}],
            "replicas": replicas,
            "drain_seconds": drain_seconds,
            "env": {"CONFIG_FOLDER": FOLDER, **(env or {})},
            "hosting": hosting,
        },
        pulumi.ResourceOptions.merge(opts, pulumi.ResourceOptions(depends_on=[settings])),
    )
    return Sidecars(authority, certificate, tls, sync, legacy)


def server(
    images: Mapping[str, pulumi.Input[str]], companions: Sequence[Companion]
) -> ApplicationArgs:
    """The legacy server: arguments of a workload."""
    return {
        "image": images["toolbox"],
        "command": ["python3", _SERVER],
        "ports": [{"name": "http", "port": APPLICATION_PORT, "address": "127.0.0.1"}],
        # The kubelet cannot connect to loopback, so the probes are commands in the container; a command
        # costs more than a request, so the period is long.
        "readiness": {"command": ["bash", "-c", _ASK], "period_seconds": 15},
        "liveness": {"command": ["bash", "-c", _CONNECT], "period_seconds": 30},
        "companions": list(companions),
    }


def deploy(settings: Settings) -> None:
    """Deploy the server, its sidecars and the check; export outputs for the user."""
    here = target(settings, IMAGES)
    catalog = here.images
    images = {name: catalog.reference(name) for name in IMAGES}
    made = make(
        images,
        here.hosting,
        here.opts,
        certificate_generation=settings.certificate_generation,
    )
    endpoint = made.legacy.reach.endpoint
    host = endpoint.apply(lambda found: found.rpartition(":")[0])
    # The check's egress to it is allowed, so that it tests the server's side, which refuses.
    plain = Reach(
        "plain",
        (pulumi.Output.concat(host, f":{APPLICATION_PORT}"),),
        pods=made.legacy.labels,
        ports=(APPLICATION_PORT,),
    )
    SmokeTest(
        "sidecars-check",
        {
            "image": images["toolbox"],
            "script": _CHECK.read_text(),
            "env": {
                "PLAN": pulumi.Output.json_dumps(
                    {
                        "endpoint": endpoint,
                        "redirect_port": REDIRECT_PORT,
                        "topz_port": TOPZ_PORT,
                        "application_port": APPLICATION_PORT,
                        "serial": made.certificate.serial,
                        "ca": _CA_FILE,
                    }
                )
            },
            "files": {_CA_FILE: made.authority.certificate},
            "reaches": [
                *(made.legacy.port(name) for name in ("https", "http-redirect", "topz")),
                plain,
            ],
            # A rotated certificate arrives with the kubelet's next sync of the pod.
            "timeout_seconds": 240,
            "covers": [made.legacy.deployment.spec, made.certificate.serial],
            "hosting": here.hosting,
        },
        here.opts,
    )
    _export(settings, made)


def _export(settings: Settings, made: Sidecars) -> None:
    namespace = settings.composition
    name = made.legacy.deployment.metadata["name"]
    inside = name.apply(f"kubectl -n {namespace} exec deploy/{{}} -c legacy --".format)

    forwarded = partial(tries.forwarded, namespace, pulumi.Output.concat("deploy/", name))

    pulumi.export("endpoint", made.legacy.endpoint)
    pulumi.export("authority", made.authority.certificate)
    pulumi.export("serial", made.certificate.serial)
    pulumi.export(
        "try",
        {
            "send a request over HTTPS": pulumi.Output.concat(
                tries.output(settings.composition, "authority", "ca.crt"),
                " && ",
                forwarded(
                    HTTPS_PORT, f"{tries.CURL} --cacert ca.crt https://localhost:{HTTPS_PORT}/"
                ),
            ),
            "see its processes": forwarded(
                TOPZ_PORT, f"{tries.CURL} localhost:{TOPZ_PORT}/topz.json"
            ),
            "see where it listens": pulumi.Output.concat(inside, " cat /proc/net/tcp"),
            "change its configuration": (
                f"kubectl -n {namespace} patch configmap {SETTINGS} --type merge "
                """-p '{"data": {"settings.json": "{\\"greeting\\": \\"good day\\"}"}}'"""
            ),
            "see what it has read": pulumi.Output.concat(inside, f" ls -l {FOLDER}"),
            "rotate the certificate": tries.reconfigured(
                settings.composition, "certificate_generation", 2
            ),
        },
    )
