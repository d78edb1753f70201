"""Declared types of what is on the machine that runs the program."""

from typing import Annotated

from dds_patterns.arguments.constraints import matching

LocalPath = Annotated[
    str,
    matching(
        r"[^\x00-\x1f\x7f]*[^\x00-\x20\x7f]",
        "the path of a file or folder, seen from the program",
        most=1024,
        odd=(" ", "a\nb", "a\0b"),
    ),
]
"""A path on the machine that runs the program, seen from the program's folder."""
