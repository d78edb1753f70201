"""Resource plugin ``docker``: networks, volumes, containers and images of a Docker Engine.

A replacement of pulumi-resource-docker 5.2 where the official plugin cannot be downloaded: with the
same types, properties and state. It refuses unknown properties by name.
"""

VERSION = "5.2.0"
