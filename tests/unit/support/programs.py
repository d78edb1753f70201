"""Programs of the images, each a module that stands alone."""

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
        spec.loader.exec_module(module)
    return sys.modules[name]
