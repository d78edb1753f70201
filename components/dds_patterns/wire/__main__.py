"""The provider plugin: `python -m dds_patterns.wire ADDRESS`."""

from dds_patterns.wire.host import serve

serve()
