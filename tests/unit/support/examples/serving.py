"""Stores, buses, elections and what is made for them."""

from tests.unit.support.examples.example import Example

EXAMPLES: dict[str, Example] = {}
