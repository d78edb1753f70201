"""The composition ``ambassadors``, unchanged, in another namespace."""

from pathlib import Path

import pulumi

from stacks import ambassadors
from stacks.settings import Settings
from tests.live.support.cluster import ROOT

# The composition builds the images of the folder `images` beside the program.
if not Path("images").exists():
    Path("images").symlink_to(ROOT / "images")

config = pulumi.Config()
ambassadors.deploy(
    Settings(
        composition=config.require("namespace"),
        kubecontext=config.require("context"),
        registry=config.require("registry"),
    )
)
