"""Programs of the images, by their files."""

import importlib.util
import sys
from pathlib import Path
from typing import Any

IMAGES = Path(__file__).parents[3] / "images"


def program(path: str) -> Any:
    """The module of a file below ``images``."""
    name = "image_" + path.removesuffix(".py").replace("/", "_").replace("-", "_")
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, IMAGES / path)
        assert spec
        assert spec.loader
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        # For the modules that it shares with the programs beside it.
        sys.path.insert(0, str((IMAGES / path).parent))
        try:
            spec.loader.exec_module(module)
        finally:
            sys.path.pop(0)
    return sys.modules[name]
