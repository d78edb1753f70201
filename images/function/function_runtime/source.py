"""Loads the function's file as a module."""

import importlib.util
import pathlib
import sys
from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any


def load(file: str, given: Mapping[str, Any] | None = None) -> ModuleType:
    """Import the file.

    :param given: predefined names
    """
    path = pathlib.Path(file)
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{file} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    # For its imports from the same folder.
    if str(path.parent) not in sys.path:
        sys.path.append(str(path.parent))
    sys.modules[path.stem] = module
    vars(module).update(given or {})
    spec.loader.exec_module(module)
    return module


def function(module: ModuleType, name: str) -> Callable[..., Any]:
    """One of its functions; otherwise the error lists the existing ones."""
    found = getattr(module, name, None)
    if callable(found):
        return found
    there = [k for k, v in vars(module).items() if callable(v) and not k.startswith("_")]
    has = ", ".join(sorted(there)) or "none"
    raise LookupError(f"{module.__file__} has no function {name}; it has {has}")
