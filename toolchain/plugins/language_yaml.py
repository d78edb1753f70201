"""Pulumi's own language host for YAML, built from its Go module when the first program needs it.

Not with the other plugins: no composition is in YAML, and each cold `make up` would wait for it.
"""

import os
import sys

from toolchain import builds
from toolchain.errors import ToolchainError

NAME = "language-yaml"
PROGRAM = "pulumi-language-yaml"


def main() -> None:
    """Become the host."""
    try:
        program = builds.ensure(NAME) / PROGRAM
    except ToolchainError as error:
        sys.exit(str(error))
    os.execv(program, [PROGRAM, *sys.argv[1:]])  # noqa: S606


if __name__ == "__main__":
    main()
