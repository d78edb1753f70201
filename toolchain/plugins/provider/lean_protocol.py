"""Loads the engine's protocol without the rest of the SDK, for a quick start.

The generated modules lie inside the `pulumi` package, whose import takes longer than all else that
a plugin does before it answers. Import this module first in a plugin's ``__main__``, and only
there: in such a process nothing else imports `pulumi`.
"""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

_NEEDED = (
    "engine_pb2",
    "engine_pb2_grpc",
    "plugin_pb2",
    "provider_pb2",
    "provider_pb2_grpc",
    "status_pb2",
)


def _stand_in(name: str, folder: Path) -> ModuleType:
    module = ModuleType(name)
    module.__path__ = [str(folder)]
    return module


def _load() -> None:
    spec = importlib.util.find_spec("pulumi")
    if spec is None or spec.origin is None or "pulumi" in sys.modules:
        return
    package = Path(spec.origin).parent
    sys.modules["pulumi"] = _stand_in("pulumi", package)
    sys.modules["pulumi.runtime"] = _stand_in("pulumi.runtime", package / "runtime")
    try:
        for name in _NEEDED:
            importlib.import_module(f"pulumi.runtime.proto.{name}")
    finally:
        del sys.modules["pulumi.runtime"], sys.modules["pulumi"]


_load()
