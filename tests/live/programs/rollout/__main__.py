"""Two applications, each with an image and a configuration file of its own.

With ``kept`` the second has a volume that outlives its pods, and there is a Singleton that nobody
connects to.
"""

import pulumi
from pulumi_kubernetes.core.v1 import PersistentVolumeClaim

from dds_patterns import Application, ApplicationArgs, ImageCatalog, Singleton
from tests.live.programs.common import in_namespace

config = pulumi.Config()
namespaced = in_namespace(config.require("namespace"))
catalog = ImageCatalog(
    "images",
    {
        "registry": config.require("registry"),
        "folder": config.require("folder"),
        "names": ["one", "two"],
    },
)
kept = config.get_bool("kept")
if kept:
    PersistentVolumeClaim(
        "kept",
        metadata={
            "name": "kept",
            # A volume of a node is bound when the first pod uses it.
            "annotations": {"pulumi.com/skipAwait": "true"},
        },
        spec={
            "access_modes": ["ReadWriteOnce"],
            "resources": {"requests": {"storage": "32Mi"}},
        },
        opts=namespaced,
    )
    Singleton(
        "worker",
        {
            "image": catalog.reference("one"),
            "command": ["sleep", "infinity"],
            "hosting": {"resources": {"limits": {"cpu": "none"}}},
            "termination_grace_period_seconds": 1,
        },
        namespaced,
    )
for name in ("one", "two"):
    args: ApplicationArgs = {
        "image": catalog.reference(name),
        "command": ["sleep", "infinity"],
        "files": {"/etc/live/message": config.get(f"message-{name}") or "unchanged"},
        "termination_grace_period_seconds": 1,
    }
    if kept and name == "two":
        args["volumes"] = [{"name": "kept", "persistent_volume_claim": {"claim_name": "kept"}}]
        args["volume_mounts"] = [{"name": "kept", "mount_path": "/data"}]
    Application(name, args, namespaced)
    pulumi.export(name, catalog.reference(name))
