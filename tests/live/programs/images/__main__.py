"""Builds images and exports their references."""

import pulumi

from dds_patterns import ImageCatalog

config = pulumi.Config()
names = config.require_object("names")
catalog = ImageCatalog(
    "images",
    {
        "registry": config.require("registry"),
        "folder": config.require("folder"),
        "names": names,
    },
)
for name in names:
    pulumi.export(name, catalog.reference(name))
