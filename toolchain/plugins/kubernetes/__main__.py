"""``python -m toolchain.plugins.kubernetes <engine's address>``."""

import sys

# Before what imports the protocol the usual way.
import toolchain.plugins.provider.lean_protocol  # noqa: F401 - for what it does
from toolchain.plugins.kubernetes.plugin import KubernetesProvider
from toolchain.plugins.provider.serve import serve

VERSION = "4.34.2"

if __name__ == "__main__":
    serve(KubernetesProvider, VERSION, sys.argv[1:])
