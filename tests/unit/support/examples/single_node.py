"""Sidecars, ambassadors and adapters."""

from components import Topz
from tests.unit.support.examples.example import IMAGE, Example

EXAMPLES: dict[str, Example] = {
    "Topz": Example(
        Topz,
        "dds:index:Topz",
        {"image": IMAGE},
        lambda: {
            "image": IMAGE,
            "address": "0.0.0.0",
            "port": 8080,
            "clients": [{"role": "client"}],
            "resources": {"requests": {"cpu": "50m"}, "limits": {"memory": "64Mi"}},
        },
    ),
}
