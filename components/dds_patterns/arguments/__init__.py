"""How arguments are declared and checked: once, for every component, and for components of your own.

The annotation of a TypedDict's key or a dataclass's field declares its type and constraints::

    class QueueArgs(TypedDict):
        image: Later[Image]
        \"\"\"The queue's program.\"\"\"
        workers: NotRequired[Annotated[int, between(1, 64), Default(3)]]
        \"\"\"Pods.\"\"\"

    args = resolved('Queue "orders"', QueueArgs, args)

``resolved`` checks a user's values before anything is registered, and fills in the defaults;
``resolved_value`` does so with a single value.
"""

from dds_patterns.arguments.addresses import (
    Endpoint,
    Host,
    HttpPath,
    Port,
    ServerName,
    is_ip_host,
    namespace_of,
)
from dds_patterns.arguments.constraints import (
    DISTINCT,
    NOT_EMPTY,
    Constraint,
    between,
    matching,
    nearest,
    one_of,
)
from dds_patterns.arguments.containers import Command, Env
from dds_patterns.arguments.declared import (
    Declared,
    Default,
    DefaultsTo,
    Later,
    Secret,
    arguments_of,
)
from dds_patterns.arguments.deferred import checked, is_deferred
from dds_patterns.arguments.engine import check_fields, resolved, resolved_value
from dds_patterns.arguments.errors import InputError
from dds_patterns.arguments.files import Files, SecretFiles
from dds_patterns.arguments.images import Image, Registry
from dds_patterns.arguments.names import DnsLabel, Labels, check_name, dns_label
from dds_patterns.arguments.pem import Certificates, PrivateKey
from dds_patterns.arguments.place import Place
from dds_patterns.arguments.quantities import Memory, Percent, Resources, Size

__all__ = [
    "DISTINCT",
    "NOT_EMPTY",
    "Certificates",
    "Command",
    "Constraint",
    "Declared",
    "Default",
    "DefaultsTo",
    "DnsLabel",
    "Endpoint",
    "Env",
    "Files",
    "Host",
    "HttpPath",
    "Image",
    "InputError",
    "Labels",
    "Later",
    "Memory",
    "Percent",
    "Place",
    "Port",
    "PrivateKey",
    "Registry",
    "Resources",
    "Secret",
    "SecretFiles",
    "ServerName",
    "Size",
    "arguments_of",
    "between",
    "check_fields",
    "check_name",
    "checked",
    "dns_label",
    "is_deferred",
    "is_ip_host",
    "matching",
    "namespace_of",
    "nearest",
    "one_of",
    "resolved",
    "resolved_value",
]
