"""The composition ``sidecars``, servers with other sidecars of the same kinds, and a client."""

import pulumi
from pulumi_kubernetes.core.v1 import Secret

from dds_patterns import Application, Authority, Certificate, ConfigSync, Reach, TlsSidecar
from stacks import sidecars
from tests.live.programs.common import DRAIN_SECONDS, in_namespace
from tests.live.support.cluster import ROOT
from tests.live.support.kube import InPod
from tests.live.support.sidecars import INTERVAL, SOURCE_FOLDER, SOURCE_PORT

CA = "/etc/live-ca/ca.crt"
STRANGER = "/etc/live-stranger"
KNOWN = "/etc/live-known"

config = pulumi.Config()
images = config.require_object("images")
namespace = config.require("namespace")
options = in_namespace(namespace)

made = sidecars.make(
    images,
    {"namespace": namespace},
    options,
    certificate_generation=config.get_int("generation") or 1,
    drain_seconds=DRAIN_SECONDS,
    env={"RELEASE": config.get("release") or "1"},
)

# Somebody else's Secret, for TLS 1.3 only, and clients that must have a certificate.
mutual = Certificate(
    "mutual", {"authority": made.authority.issuer, "dns_names": [f"*.{namespace}.svc"]}, options
)
secret = Secret(
    "mutual",
    metadata={"name": "brought-along"},
    type="kubernetes.io/tls",
    string_data={
        "tls.crt": mutual.certificate,
        "tls.key": mutual.key,
        "ca.crt": made.authority.certificate,
    },
    opts=options,
)
guard = TlsSidecar(
    "guard",
    {
        "image": images["nginx"],
        "application_port": sidecars.APPLICATION_PORT,
        "secret_name": "brought-along",
        "client_certificates": "required",
        "minimum_version": "1.3",
    },
    options,
)
guarded = Application(
    "guarded",
    {
        **sidecars.server(images, [guard.companion]),
        "expose": ["https"],
        "clients": [{}],
        "drain_seconds": 0,
        "termination_grace_period_seconds": 2,
    },
    pulumi.ResourceOptions.merge(options, pulumi.ResourceOptions(depends_on=[secret])),
)

# A document and a repository, and a server configured by each.
SOURCE = "/opt/live/git_server.py"
source = Application(
    "source",
    {
        "image": images["companions"],
        "command": ["python3", SOURCE, "serve", SOURCE_FOLDER, str(SOURCE_PORT)],
        "files": {SOURCE: (ROOT / "tests/live/in_pod/git_server.py").read_text()},
        "writable": ["/tmp"],
        "ports": [{"name": "http", "port": SOURCE_PORT, "app_protocol": "http"}],
        "drain_seconds": 0,
        "termination_grace_period_seconds": 1,
    },
    options,
)
interval = config.get_int("interval") or INTERVAL
by_http = ConfigSync(
    "by-http",
    {
        "image": images["companions"],
        "http": {"server": source.reach.at("/document")},
        "interval_seconds": interval,
        "stale_after_seconds": 4 * interval,
        "unready_when_stale": True,
        "check": sidecars.ONLY_JSON,
        "on_change": {"url": f"http://localhost:{sidecars.APPLICATION_PORT}/reload"},
        "metrics_clients": [{}],
    },
    options,
)
by_git = ConfigSync(
    "by-git",
    {
        "image": images["companions"],
        "git": {"server": source.reach, "folder": "etc/app"},
        "interval_seconds": interval,
        "check": sidecars.ONLY_JSON,
        "on_change": {"signal": "HUP", "process": "legacy.py"},
    },
    options,
)
for name, sync in (("from-http", by_http), ("from-git", by_git)):
    Application(
        name,
        {
            **sidecars.server(images, [sync.companion]),
            "env": {"CONFIG_FOLDER": sidecars.FOLDER},
            "volume_mounts": [sync.mount(sidecars.FOLDER)],
            "termination_grace_period_seconds": 2,
        },
        options,
    )

known = Certificate(
    "known",
    {"authority": made.authority.issuer, "usages": ["client"], "common_name": "known-client"},
    options,
)
stranger = Certificate(
    "stranger",
    {"authority": Authority("elsewhere", {}, options).issuer, "usages": ["client"]},
    options,
)
Application(
    "client",
    {
        "image": images["toolbox"],
        "command": ["sleep", "infinity"],
        "files": {**InPod.files(), CA: made.authority.certificate},
        "secret_files": {
            f"{KNOWN}/tls.crt": known.certificate,
            f"{KNOWN}/tls.key": known.key,
            f"{STRANGER}/tls.crt": stranger.certificate,
            f"{STRANGER}/tls.key": stranger.key,
        },
        # Out to every pod of the namespace: whether it gets in is for the other side to say.
        "reaches": [
            Reach(
                "every-pod",
                ("every-pod:8443",),
                pods={},
                ports=(
                    sidecars.APPLICATION_PORT,
                    sidecars.REDIRECT_PORT,
                    sidecars.HTTPS_PORT,
                    sidecars.SYNC_PORT,
                ),
            )
        ],
        "termination_grace_period_seconds": 1,
    },
    options,
)
pulumi.export("endpoint", made.legacy.endpoint)
pulumi.export("guarded", guarded.endpoint)
pulumi.export("serial", made.certificate.serial)
