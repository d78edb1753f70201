"""The Pulumi packages and the Python distributions in a program's environment."""

from __future__ import annotations

import importlib.metadata
import json
import sys
from collections.abc import Iterator
from pathlib import Path


def required() -> Iterator[tuple[str, str, str]]:
    """Yield name, version and download server of the provider of each installed SDK."""
    seen: set[str] = set()
    for entry in sys.path:
        for file in sorted(Path(entry or ".").glob("*/pulumi-plugin.json")):
            document = json.loads(file.read_text())
            name = str(document.get("name") or file.parent.name.removeprefix("pulumi_"))
            if not document.get("resource") or name in seen:
                continue
            seen.add(name)
            yield (
                name,
                f"v{document.get('version', '').removeprefix('v')}",
                document.get("server", ""),
            )


def distributions(transitive: bool) -> list[tuple[str, str]]:
    """Names and versions of distributions; without `transitive`, only those that no other requires."""
    found = {
        dist.metadata["Name"].lower().replace("_", "-"): dist
        for dist in importlib.metadata.distributions()
    }
    needed: set[str] = set()
    if not transitive:
        for dist in found.values():
            for requirement in dist.requires or []:
                if "extra ==" not in requirement:
                    head = requirement.split(";")[0]
                    name = "".join(c if c.isalnum() or c in "-_." else " " for c in head).split()[0]
                    needed.add(name.lower().replace("_", "-"))
    return sorted((name, dist.version) for name, dist in found.items() if name not in needed)
