"""Two applications, each with an image and a configuration file of its own."""

import pulumi

from components.platform.images import ImageCatalog
from components.workloads.application import Application
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
for name in ("one", "two"):
    application = Application(
        name,
        {
            "image": catalog.reference(name),
            "command": ["sleep", "infinity"],
            "files": {"/etc/live/message": config.get(f"message-{name}") or "unchanged"},
            "grace_seconds": 1,
        },
        namespaced,
    )
    pulumi.export(name, catalog.reference(name))
