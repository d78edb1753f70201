"""Images of the programs that components run, by name.

An ``image`` that is left out is that of ``hosting.images``, or else the upstream one of PROGRAMS.
"""

import difflib
from collections.abc import Mapping
from typing import Annotated, Any

from dds_patterns.arguments import DefaultsTo, Later, nearest
from dds_patterns.arguments.constraints import Constraint
from dds_patterns.arguments.errors import MissingArgumentError
from dds_patterns.arguments.images import Image, ImageName
from dds_patterns.arguments.place import Place

PROGRAMS: Mapping[str, str | None] = {
    "companions": None,
    "elector": None,
    # Upstream's image has the server, but not the project's program that prepares a member.
    "etcd": None,
    "events": None,
    "function": None,
    # Debian has 2.6.12; upstream's images have the public authorities from 2.6.14 on.
    "haproxy": "docker.io/library/haproxy:2.6.31",
    "nats": "docker.io/library/nats:2.15.2",
    "nginx": "docker.io/library/nginx:1.22.1",
    "prometheus": "docker.io/prom/prometheus:v2.42.0",
    "redis": "docker.io/library/redis:7.0.15",
    "redis-exporter": "docker.io/oliver006/redis_exporter:v1.45.0",
    # Its makers publish no image.
    "twemproxy": None,
}
"""Programs that components run, and their upstream images: the versions of the project's own images,
with which the components are tested. None: only the project's image has what a component runs."""

# As alike as a misspelling; other images of a program may have any other name.
_ALIKE = 0.8


def _is_plausible(name: str) -> bool:
    return name in PROGRAMS or not difflib.get_close_matches(name, PROGRAMS, n=1, cutoff=_ALIKE)


_KnownName = Annotated[
    ImageName,
    Constraint(
        "a program that components run, or a name that is not mistaken for one",
        _is_plausible,
        ("reddis", "elektor", "redis_exporter"),
        lambda name: f"must be one that components run: {nearest(name, PROGRAMS)}",
    ),
]

Images = Mapping[_KnownName, Later[Image]]
"""Images by name, such as ``{"redis": "valkey/valkey:8.1.4"}``: ``hosting.images``, and what
``ImageCatalog.images`` gives."""


def image_of(name: str) -> DefaultsTo:
    """The default of an ``image``: that of a program in ``hosting.images``, or else the upstream one."""
    upstream, entry = PROGRAMS[name], f'hosting.images["{name}"]'

    def image(place: Place, args: Mapping[str, Any]) -> Any:
        found = args["hosting"]["images"].get(name, upstream)
        if found is None:
            raise MissingArgumentError(
                place.where,
                place.argument,
                None,
                f"it must be given, or {entry}; ImageCatalog builds the project's image {name}",
            )
        return found

    return DefaultsTo(f"``{entry}``" + (f", or else ``{upstream}``" if upstream else ""), image)
