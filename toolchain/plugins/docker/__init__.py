"""Resource plugin ``docker``: networks, volumes, containers and images of a Docker Engine.

A drop-in for pulumi-resource-docker 5.2 where the official plugin cannot be had: the same types,
properties and state. What it does not know it refuses by name.
"""

VERSION = "5.2.0"
