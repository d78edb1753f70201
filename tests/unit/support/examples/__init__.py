"""Each component with its required arguments only, and with everything."""

from tests.unit.support.examples import adapters, functions, platform, serving, single_node
from tests.unit.support.examples.example import IMAGE, Example, bus, companion
from tests.unit.support.examples.workloads import EXAMPLES, HANDLER

WORKLOADS = {name: example for name, example in EXAMPLES.items() if name != "Password"}
EVERY = {
    **EXAMPLES,
    **adapters.EXAMPLES,
    **functions.EXAMPLES,
    **platform.EXAMPLES,
    **serving.EXAMPLES,
    **single_node.EXAMPLES,
}
"""All public components. Of one whose arguments exclude each other there are several."""

__all__ = ["EVERY", "EXAMPLES", "HANDLER", "IMAGE", "WORKLOADS", "Example", "bus", "companion"]
