"""The provider plugin `dds`: the components for programs in any of Pulumi's languages."""

from dds_patterns.wire.host import serve

serve()
