"""Declared types of images and registries."""

import re
from typing import Annotated

from dds_patterns.arguments.constraints import Address, matching

_COMPONENT = r"[a-z0-9]+(?:(?:\.|_{1,2}|-+)[a-z0-9]+)*"
_REGISTRY = r"(?:[A-Za-z0-9](?:[-A-Za-z0-9.]*[A-Za-z0-9])?|\[[0-9a-fA-F:]+\])(?::[0-9]{1,5})?"
_IMAGE = re.compile(
    rf"(?:(?=[^/]*[.:]|localhost/){_REGISTRY}/)?{_COMPONENT}(?:/{_COMPONENT})*"
    r"(?::(?P<tag>[A-Za-z0-9_][A-Za-z0-9._-]{0,127}))?(?:@(?P<digest>sha256:[0-9a-f]{64}))?"
)
_SAYS = "an image reference, name:tag"


class _Image(Address):
    def has_credentials(self, value: str) -> bool:
        """Whether there is an @ other than that of a digest."""
        return "@" in value and not value.partition("@")[2].startswith("sha256:")


def _wanted(reference: str) -> str:
    if _IMAGE.fullmatch(reference):
        return "must have a tag other than latest or a digest, for example redis:7.0.15"
    return f"must be {_SAYS}"


def _is_pinned(reference: str) -> bool:
    parsed = _IMAGE.fullmatch(reference)
    return parsed is not None and bool(parsed["digest"] or parsed["tag"] not in (None, "latest"))


_ODD_IMAGES = (
    "", "redis", "redis:latest", "localhost:5000/redis", "https://r/app:1", "a//b:1", "/app:1",
    "app:1/", "App:1", "a b:1", "app:", "app@sha256:12", "app:1@", "user:p@r/a:1", "redis:7\n",
    "-app:1",
)  # fmt: skip
Image = Annotated[str, _Image(_SAYS, _is_pinned, _ODD_IMAGES, _wanted)]
"""An image with a tag other than ``latest``, or better a digest."""

ImageName = Annotated[
    str,
    matching(
        _COMPONENT,
        "the name of an image and its folder, such as redis-exporter",
        most=128,
        odd=("Redis", "a/b", "..", "a b", "-a", "a-", "a:1", "a\n"),
    ),
]
"""Name of an image, and of the folder that it is built from."""

Registry = Annotated[
    str,
    Address(
        "a registry such as localhost:5000, without scheme and password",
        lambda text: re.fullmatch(rf"{_REGISTRY}(?:/{_COMPONENT})*", text) is not None,
        ("", "https://r", "user:pass@r", "r:5000/", "r/A", "r//a", "r:port", "r s", "r\n"),
    ),
]
"""A registry, with a path in it if any."""
