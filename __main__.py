"""The Pulumi program: deploys the composition that the configuration names."""

from stacks import deploy
from stacks.settings import Settings

deploy(Settings.load())
