"""The provider: serves the components to programs in other languages.

``pulumi-resource-dds``, which the package installs, is started by the engine. It hands each
component's inputs to the class that Python programs use.
"""

import argparse
import asyncio
import contextlib
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
from dds_patterns.arguments.errors import InputError
from dds_patterns.arguments.place import Place
from dds_patterns.wire.components import components, declaration, outputs, token
from dds_patterns.wire.leaf import decoded
from dds_patterns.wire.messages import in_camel_case
from dds_patterns.wire.names import camel
from dds_patterns.wire.reading import Reading
from dds_patterns.wire.schema import schema, version
from dds_patterns.wire.writing import whole, written

# Past the SDK, whose decoding spreads a secret to all objects around it.
_INPUTS: ContextVar[Mapping[str, Any]] = ContextVar("inputs")


class ComponentProvider(Provider):
    """Makes components from what a program in any language gives."""

    def __init__(self) -> None:
        super().__init__(version())

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
    return ConstructResult(component.urn, state(made))


def state(made: pulumi.Resource) -> dict[str, Any]:
    """What a component gives, on the wire."""
    found: dict[str, Any] = {}
    for key, output in outputs(made.__class__).items():
        # Without a port, an application has no reach.
        with contextlib.suppress(InputError):
            if (value := getattr(made, key)) is not None:
                given = written(output.declared, value)
                found[camel(key)] = whole(given) if output.declared.innermost.has_keys else given
    return found


class _Component(pulumi.ComponentResource):
    """A component around a resource that is none: providers construct only components."""

    def __init__(self, kind: str, name: str, opts: pulumi.ResourceOptions) -> None:
        super().__init__(token(kind), name, None, opts)


class _Servicer(ProviderServicer):
    async def GetSchema(  # noqa: N802
        self, request: provider_pb2.GetSchemaRequest, context: Any
    ) -> provider_pb2.GetSchemaResponse:
        """The schema, made only when it is wanted: the engine keeps the one of a version."""
        if not self.provider.schema:
            self.provider.schema = json.dumps(schema())
        return await super().GetSchema(request, context)

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
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, in_camel_case(error))
            raise


def serve() -> None:
    """Serve on a free port of 127.0.0.1, whose number is the first line of the output."""
    parser = argparse.ArgumentParser(description="The provider plugin dds; the engine starts it.")
    parser.add_argument("engine", help="address of the engine")
    parser.add_argument("--logtostderr", action="store_true", help="has no effect")
    parser.add_argument("--tracing", help="has no effect")
    engine = parser.parse_known_args()[0].engine

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
