"""The gRPC service of a provider."""

from __future__ import annotations

import functools
import threading
import traceback
from collections.abc import Callable
from typing import Any, NamedTuple, NoReturn, TypeVar

import grpc
from google.protobuf import empty_pb2
from pulumi.runtime.proto import plugin_pb2, provider_pb2, provider_pb2_grpc, status_pb2

from toolchain.plugins.provider.errors import IncompleteError, ProviderError
from toolchain.plugins.provider.provider import (
    Autonaming,
    CheckFailure,
    CheckRequest,
    CheckResult,
    CreateRequest,
    DeleteRequest,
    Diff,
    DiffRequest,
    Provider,
    ReadRequest,
    UpdateRequest,
)
from toolchain.plugins.provider.values import decode, encode
from toolchain.plugins.refusal import refuse_unsupported

_Response = TypeVar("_Response")
_Method = Callable[["Servicer", Any, grpc.ServicerContext], _Response]


class _Status(NamedTuple):
    code: grpc.StatusCode
    details: str
    trailing_metadata: tuple[tuple[str, str | bytes], ...]


def _incomplete(error: IncompleteError) -> _Status:
    detail = provider_pb2.ErrorResourceInitFailed(
        id=error.identity,
        properties=encode(error.properties),
        reasons=[str(error)],
        inputs=encode(error.inputs),
    )
    status = status_pb2.Status(code=grpc.StatusCode.UNKNOWN.value[0], message=str(error))
    status.details.add().Pack(detail)
    return _Status(
        grpc.StatusCode.UNKNOWN,
        str(error),
        (("grpc-status-details-bin", status.SerializeToString()),),
    )


def _handles_errors(method: _Method[_Response]) -> _Method[_Response]:
    """Converts exceptions into gRPC statuses, so that no traceback is printed."""

    @functools.wraps(method)
    def wrapper(self: Servicer, request: Any, context: grpc.ServicerContext) -> _Response:
        self.calls.begin()
        try:
            return method(self, request, context)
        except IncompleteError as error:
            context.abort_with_status(_incomplete(error))
        except ProviderError as error:
            context.abort(grpc.StatusCode.UNKNOWN, str(error))
        except NotImplementedError:
            context.abort(
                grpc.StatusCode.UNIMPLEMENTED,
                f"{method.__name__} is not supported by this {self.provider.name} plugin",
            )
        except Exception as error:  # noqa: BLE001 - any other error
            self.fail(context, method.__name__, getattr(request, "urn", ""), error)
        finally:
            self.calls.end()
        raise AssertionError("unreachable: abort raises")

    return wrapper


class Calls:
    """Counts running operations, so that an interrupted plugin exits after the last."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._count = 0
        self._when_idle: Callable[[], None] | None = None

    def begin(self) -> None:
        """Counts the start of an operation."""
        with self._lock:
            self._count += 1

    def end(self) -> None:
        """Counts the end of an operation."""
        with self._lock:
            self._count -= 1
            callback = self._when_idle if self._count == 0 else None
        if callback is not None:
            callback()

    def when_idle(self, callback: Callable[[], None]) -> None:
        """Calls ``callback`` once no operation runs, now or later."""
        with self._lock:
            self._when_idle = callback
            idle = self._count == 0
        if idle:
            callback()


@refuse_unsupported(provider_pb2_grpc.ResourceProviderServicer, "the project's provider plugin")
class Servicer(provider_pb2_grpc.ResourceProviderServicer):
    """Serves one `Provider` to the engine."""

    def __init__(self, provider: Provider, version: str) -> None:
        super().__init__()
        self.provider = provider
        self.calls = Calls()
        self._version = version

    def fail(
        self, context: grpc.ServicerContext, method: str, urn: str, error: Exception
    ) -> NoReturn:
        """Aborts a call after a bug of the plugin; the traceback is printed with ``--debug``."""
        self.provider.engine.debug(urn, "".join(traceback.format_exception(error)))
        context.abort(
            grpc.StatusCode.INTERNAL,
            f"internal error of the {self.provider.name} plugin in {method}: "
            f"{type(error).__name__}: {error} (run with --debug for its traceback)",
        )
        raise AssertionError("unreachable: abort raises")

    def GetPluginInfo(  # noqa: N802 - the protocol's names
        self,
        request: empty_pb2.Empty,  # noqa: ARG002
        context: grpc.ServicerContext,  # noqa: ARG002
    ) -> plugin_pb2.PluginInfo:
        """Returns the version that the state records."""
        return plugin_pb2.PluginInfo(version=self._version)

    def Cancel(  # noqa: N802
        self,
        request: empty_pb2.Empty,  # noqa: ARG002
        context: grpc.ServicerContext,  # noqa: ARG002
    ) -> empty_pb2.Empty:
        """Cancels all waits."""
        self.provider.cancellation.request()
        return empty_pb2.Empty()

    @_handles_errors
    def CheckConfig(  # noqa: N802
        self,
        request: provider_pb2.CheckRequest,
        context: grpc.ServicerContext,  # noqa: ARG002
    ) -> provider_pb2.CheckResponse:
        """Checks the provider's own arguments."""
        return _check_response(
            self.provider.check_config(decode(request.olds), decode(request.news))
        )

    @_handles_errors
    def DiffConfig(  # noqa: N802
        self,
        request: provider_pb2.DiffRequest,
        context: grpc.ServicerContext,  # noqa: ARG002
    ) -> provider_pb2.DiffResponse:
        """Compares the provider's own arguments."""
        return _diff_response(self.provider.diff_config(decode(request.olds), decode(request.news)))

    @_handles_errors
    def Configure(  # noqa: N802
        self,
        request: provider_pb2.ConfigureRequest,
        context: grpc.ServicerContext,  # noqa: ARG002
    ) -> provider_pb2.ConfigureResponse:
        """Sets the provider's arguments."""
        self.provider.configure(decode(request.args))
        return provider_pb2.ConfigureResponse(
            acceptSecrets=True,
            supportsPreview=True,
            acceptResources=False,
            acceptOutputs=False,
            supports_autonaming_configuration=self.provider.supports_autonaming,
        )

    @_handles_errors
    def Invoke(  # noqa: N802
        self,
        request: provider_pb2.InvokeRequest,
        context: grpc.ServicerContext,  # noqa: ARG002
    ) -> provider_pb2.InvokeResponse:
        """Calls a function of the provider."""
        result = self.provider.invoke(request.tok, decode(request.args))
        response = provider_pb2.InvokeResponse()
        getattr(response, "return").CopyFrom(encode(result))  # a keyword of Python
        return response

    @_handles_errors
    def Check(  # noqa: N802
        self,
        request: provider_pb2.CheckRequest,
        context: grpc.ServicerContext,  # noqa: ARG002
    ) -> provider_pb2.CheckResponse:
        """Fills in and validates inputs."""
        autonaming = None
        if request.HasField("autonaming"):
            disabled = (
                request.autonaming.mode == provider_pb2.CheckRequest.AutonamingOptions.DISABLE
            )
            autonaming = Autonaming(None if disabled else request.autonaming.proposed_name)
        return _check_response(
            self.provider.check(
                CheckRequest(
                    *_address(request),
                    old_inputs=decode(request.olds),
                    inputs=decode(request.news),
                    random_seed=request.randomSeed,
                    autonaming=autonaming,
                )
            )
        )

    @_handles_errors
    def Diff(  # noqa: N802
        self,
        request: provider_pb2.DiffRequest,
        context: grpc.ServicerContext,  # noqa: ARG002
    ) -> provider_pb2.DiffResponse:
        """Returns the changes of an update."""
        return _diff_response(
            self.provider.diff(
                DiffRequest(
                    *_address(request),
                    identity=request.id,
                    old_inputs=decode(request.old_inputs),
                    state=decode(request.olds),
                    inputs=decode(request.news),
                    ignore_changes=tuple(request.ignoreChanges),
                )
            )
        )

    @_handles_errors
    def Create(  # noqa: N802
        self,
        request: provider_pb2.CreateRequest,
        context: grpc.ServicerContext,  # noqa: ARG002
    ) -> provider_pb2.CreateResponse:
        """Creates the object."""
        identity, properties = self.provider.create(
            CreateRequest(
                *_address(request),
                inputs=decode(request.properties),
                timeout=request.timeout,
                preview=request.preview,
            )
        )
        return provider_pb2.CreateResponse(id=identity, properties=encode(properties))

    @_handles_errors
    def Update(  # noqa: N802
        self,
        request: provider_pb2.UpdateRequest,
        context: grpc.ServicerContext,  # noqa: ARG002
    ) -> provider_pb2.UpdateResponse:
        """Updates the object."""
        properties = self.provider.update(
            UpdateRequest(
                *_address(request),
                identity=request.id,
                old_inputs=decode(request.old_inputs),
                state=decode(request.olds),
                inputs=decode(request.news),
                timeout=request.timeout,
                preview=request.preview,
            )
        )
        return provider_pb2.UpdateResponse(properties=encode(properties))

    @_handles_errors
    def Delete(  # noqa: N802
        self,
        request: provider_pb2.DeleteRequest,
        context: grpc.ServicerContext,  # noqa: ARG002
    ) -> empty_pb2.Empty:
        """Deletes the object."""
        self.provider.delete(
            DeleteRequest(
                *_address(request),
                identity=request.id,
                old_inputs=decode(request.old_inputs),
                state=decode(request.properties),
                timeout=request.timeout,
            )
        )
        return empty_pb2.Empty()

    @_handles_errors
    def Read(  # noqa: N802
        self,
        request: provider_pb2.ReadRequest,
        context: grpc.ServicerContext,  # noqa: ARG002
    ) -> provider_pb2.ReadResponse:
        """Returns the object's current state."""
        result = self.provider.read(
            ReadRequest(
                *_address(request),
                identity=request.id,
                state=decode(request.properties),
                inputs=decode(request.inputs),
            )
        )
        if not result.identity:
            # Only unset properties mean that the object does not exist, not empty ones.
            return provider_pb2.ReadResponse()
        return provider_pb2.ReadResponse(
            id=result.identity,
            properties=encode(result.properties),
            inputs=encode(result.inputs),
        )


def _address(request: Any) -> tuple[str, str, str]:
    urn = str(request.urn)
    parts = urn.split("::", 3)
    token = request.type or (parts[2].rsplit("$", 1)[-1] if len(parts) > 3 else "")  # noqa: PLR2004
    return urn, token, request.name or parts[-1]


def _check_response(result: CheckResult) -> provider_pb2.CheckResponse:
    return provider_pb2.CheckResponse(
        inputs=encode(result.inputs), failures=[_failure(item) for item in result.failures]
    )


def _failure(failure: CheckFailure) -> provider_pb2.CheckFailure:
    return provider_pb2.CheckFailure(property=failure.property, reason=failure.reason)


def _diff_response(diff: Diff) -> provider_pb2.DiffResponse:
    replaces = [path for path, kind in diff.details.items() if kind.name.endswith("_REPLACE")]
    return provider_pb2.DiffResponse(
        changes=provider_pb2.DiffResponse.DIFF_SOME
        if diff.details
        else provider_pb2.DiffResponse.DIFF_NONE,
        replaces=replaces,
        diffs=sorted({_first(path) for path in diff.details}),
        deleteBeforeReplace=bool(replaces) and diff.delete_before_replace,
        detailedDiff={
            path: provider_pb2.PropertyDiff(
                kind=provider_pb2.PropertyDiff.Kind.ValueType(kind.value), inputDiff=True
            )
            for path, kind in diff.details.items()
        },
        hasDetailedDiff=True,
    )


def _first(path: str) -> str:
    return path.replace("[", ".").split(".", 1)[0]
