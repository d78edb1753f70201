"""The provider: serves the components to programs in other languages.

``pulumi-resource-dds``, which the package installs, is started by the engine. It hands each
component's inputs to the class that Python programs use.
"""

import asyncio
import functools
import json
import sys
from collections.abc import Mapping
from contextvars import ContextVar
from typing import Any

import grpc
import pulumi
from pulumi.provider import ConstructResult, Provider
from pulumi.provider.server import ProviderServicer
from pulumi.runtime._grpc_settings import _GRPC_CHANNEL_OPTIONS
from pulumi.runtime.proto import provider_pb2, provider_pb2_grpc

from dds_patterns.arguments.constraints import nearest
from dds_patterns.arguments.declared import arguments_of
from dds_patterns.arguments.errors import InputError
from dds_patterns.arguments.place import Place
from dds_patterns.wire.components import components, declaration, outputs
from dds_patterns.wire.leaf import decoded
from dds_patterns.wire.names import camel, spelled
from dds_patterns.wire.reading import Reading
from dds_patterns.wire.schema import schema, version
from dds_patterns.wire.writing import written

# The SDK's own decoding makes every object that has a secret a secret as a whole.
_INPUTS: ContextVar[Mapping[str, Any]] = ContextVar("inputs")


class ComponentProvider(Provider):
    """Makes components from what a program in any language gives."""

    def __init__(self) -> None:
        super().__init__(version(), json.dumps(schema()))

    def construct(
        self,
        name: str,
        resource_type: str,
        inputs: Any,
        options: pulumi.ResourceOptions | None = None,
    ) -> ConstructResult:
        """Register a component.

        :raises InputError: an invalid argument
        """
        del inputs
        kind = components().get(resource_type)
        if kind is None:
            Place(self.__class__.__name__, "type").refuse(
                resource_type, nearest(resource_type, components())
            )
        return constructed(kind, name, _INPUTS.get(), options)


def constructed(
    kind: type[pulumi.Resource],
    name: str,
    inputs: Mapping[str, Any],
    options: pulumi.ResourceOptions | None = None,
) -> ConstructResult:
    """Register a component with inputs from the wire.

    :raises InputError: an invalid argument
    """
    reading = Reading()
    where = Place(f'{kind.__name__} "{name}"')
    args = reading.arguments(where, declaration(kind), inputs)
    options = pulumi.ResourceOptions.merge(
        options,
        pulumi.ResourceOptions(
            depends_on=[
                pulumi.resource.DependencyResource(urn) for urn in sorted(reading.dependencies)
            ]
        ),
    )
    constructor: Any = kind
    if issubclass(kind, pulumi.ComponentResource):
        component = made = constructor(name, args, options)
    else:
        component = _Component(kind.__name__, name, options)
        made = constructor(name, args, pulumi.ResourceOptions(parent=component))
        component.register_outputs({"id": made.id})
    state = {
        camel(key): written(each.declared, value)
        for key, each in outputs(kind).items()
        if (value := getattr(made, key)) is not None
    }
    return ConstructResult(component.urn, state)


class _Component(pulumi.ComponentResource):
    """A component around a resource that is none: providers construct only components."""

    def __init__(self, kind: str, name: str, opts: pulumi.ResourceOptions) -> None:
        super().__init__(f"dds:index:{kind}", name, None, opts)


@functools.cache
def _argument_names() -> frozenset[str]:
    kinds = [declaration(kind) for kind in components().values()]
    found: set[str] = set()
    seen: set[Any] = set()
    while kinds:
        kind = kinds.pop()
        if kind in seen:
            continue
        seen.add(kind)
        for key, declared in arguments_of(kind).items():
            found.add(key)
            if declared.innermost.has_keys:
                kinds.append(declared.innermost.type)
    return frozenset(found)


class _Servicer(ProviderServicer):
    async def Construct(  # noqa: N802
        self, request: provider_pb2.ConstructRequest, context: Any
    ) -> provider_pb2.ConstructResponse:
        """Make a component; a user's mistake is told without a traceback."""
        dependencies = {
            key: frozenset(value.urns) for key, value in request.inputDependencies.items()
        }
        _INPUTS.set(decoded(request.inputs, dependencies))
        request.ClearField("inputs")
        try:
            return await super().Construct(request, context)
        except pulumi.RunError as error:
            message = spelled(str(error), _argument_names().__contains__)
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, message)
            raise


def serve() -> None:
    """Serve on a free port of 127.0.0.1, whose number is the first line of the output."""
    engine = sys.argv[1]

    async def run() -> None:
        server = grpc.aio.server(options=_GRPC_CHANNEL_OPTIONS)
        provider_pb2_grpc.add_ResourceProviderServicer_to_server(
            _Servicer(ComponentProvider(), sys.argv[1:], engine), server
        )
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        print(port, flush=True)
        await server.wait_for_termination()

    asyncio.run(run())
