"""The platform: clusters, images, certificates, Prometheus."""

from tests.unit.support.examples.example import Example

EXAMPLES: dict[str, Example] = {}
