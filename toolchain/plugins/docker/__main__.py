"""`python -m toolchain.plugins.docker <engine's address>`: the plugin's process."""

import sys

# Before other imports of the protocol.
import toolchain.plugins.provider.lean_protocol  # noqa: F401 - for its side effect
from toolchain.plugins.docker import VERSION
from toolchain.plugins.docker.provider import DockerProvider
from toolchain.plugins.provider.serve import serve

if __name__ == "__main__":
    serve(DockerProvider, VERSION, sys.argv[1:])
