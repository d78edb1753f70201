"""The compositions: one module each, and the table from name to ``deploy(settings)``."""

import importlib
from collections.abc import Callable, Mapping
from types import MappingProxyType

from components.values.checks import nearest
from components.arguments.errors import InputError
from stacks.settings import Settings


def _deferred(module: str) -> Callable[[Settings], None]:
    # Imported only when deployed: a program pays for the one composition that it runs.
    def deploy(settings: Settings) -> None:
        importlib.import_module(module).deploy(settings)

    return deploy


COMPOSITIONS: Mapping[str, Callable[[Settings], None]] = MappingProxyType(
    {
        "adapters": _deferred("stacks.adapters"),
        "ambassadors": _deferred("stacks.ambassadors"),
        "cluster": _deferred("stacks.cluster"),
        "companions": _deferred("stacks.companions"),
        "election": _deferred("stacks.election"),
        "experiments": _deferred("stacks.experiments"),
        "functions": _deferred("stacks.functions"),
        "sidecars": _deferred("stacks.sidecars"),
        "topz": _deferred("stacks.topz"),
    }
)
"""Name of each composition, and what deploys it."""


def deploy(settings: Settings) -> None:
    """Deploy the composition that the settings name."""
    composition = COMPOSITIONS.get(settings.composition)
    if composition is None:
        raise InputError(
            "Composition", "dds:composition", settings.composition,
            nearest(settings.composition, COMPOSITIONS),
        )  # fmt: skip
    composition(settings)
