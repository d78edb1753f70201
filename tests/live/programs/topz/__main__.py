"""The composition ``topz`` as it is, with images that are there already."""

import pulumi

from stacks.settings import Settings
from stacks.topz import deploy

config = pulumi.Config()
deploy(
    Settings(
        composition="topz",
        registry=config.require("registry"),
        instance=config.require("instance"),
        topz_port=config.require_int("port"),
        images=config.require_object("images"),
    )
)
