"""Entry point of the language plugin: `python -m toolchain.plugins.language_python ADDRESS`."""

import sys

from toolchain.plugins.language_python.server import serve

serve(sys.argv[-1])
