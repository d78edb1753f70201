"""The programs of the image ``companions``, to be imported by unit tests."""

import importlib
import sys
from pathlib import Path
from types import ModuleType

FOLDER = Path(__file__).parents[3] / "images" / "companions"


def program(name: str) -> ModuleType:
    """One of the image's modules, ``statistics`` or ``logs.redis``."""
    if str(FOLDER) not in sys.path:
        sys.path.insert(0, str(FOLDER))
    return importlib.import_module(f"companions.{name}")
