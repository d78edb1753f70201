"""The language runtime service, based on the SDK's one for its Automation API."""

from __future__ import annotations

# The names of the methods are those of the protocol.
# ruff: noqa: N802, ARG002
import os
import runpy
import signal
import subprocess
import sys
import traceback
from collections.abc import Callable, Iterator
from concurrent import futures
from pathlib import Path
from typing import Any

import grpc
import pulumi
from google.protobuf import empty_pb2
from pulumi.automation._server import LanguageServer
from pulumi.runtime._grpc_settings import _GRPC_CHANNEL_OPTIONS
from pulumi.runtime.proto import language_pb2, language_pb2_grpc, plugin_pb2

from toolchain import builds
from toolchain.errors import ToolchainError
from toolchain.plugins.language_python import interpreter, packages, plugin
from toolchain.plugins.refusal import refuse_unsupported

GENERATOR = "generate-program"
WORKERS = 16


@refuse_unsupported(language_pb2_grpc.LanguageRuntimeServicer, "the project's language host")
class PythonLanguage(LanguageServer):
    """Runs a program's `__main__.py` in this process, once for each Run."""

    def __init__(self, engine: str) -> None:
        super().__init__(lambda: None)
        self._engine = engine
        self._runs = 0
        self._hosts: dict[Path, Any] = {}

    def _other_host(self, info: Any, context: Any) -> Any:
        """This host in the program's own virtual environment; None if it has none."""
        try:
            folder = interpreter.environment(info)
            if folder is None:
                return None
            if folder not in self._hosts:
                self._hosts[folder] = interpreter.host(interpreter.python(folder), self._engine)
            return self._hosts[folder]
        except interpreter.OptionError as error:
            context.abort(grpc.StatusCode.FAILED_PRECONDITION, str(error))

    def About(self, request: Any, context: Any) -> Any:
        """Return the interpreter, for `pulumi about`."""
        other = self._other_host(request.info, context)
        return other.About(request) if other else super().About(request, context)  # type: ignore[no-untyped-call]

    def end(self, *_: object) -> None:
        """The handler of SIGINT.

        The engine sends SIGINT to a plugin that it does not need any more, and waits for its exit;
        a Ctrl-C reaches the whole process group. In the second case the engine ends the update:
        the exit of a running program would only add errors to the diagnostics.
        """
        if not self._runs:
            os._exit(0)

    def Handshake(self, request: Any, context: Any) -> Any:
        """Set the engine's address."""
        self._engine = request.engine_address
        return language_pb2.LanguageHandshakeResponse()

    def GetPluginInfo(self, request: Any, context: Any) -> Any:
        """Return the engine's version, as the official plugin does."""
        return plugin_pb2.PluginInfo(version=builds.PULUMI_VERSION)

    def GetRequiredPackages(self, request: Any, context: Any) -> Any:
        """Return the providers of the installed SDKs, so that the engine finds their plugins."""
        if other := self._other_host(request.info, context):
            return other.GetRequiredPackages(request)
        return language_pb2.GetRequiredPackagesResponse(
            packages=[
                plugin_pb2.PackageDependency(
                    name=name, kind="resource", version=version, server=server
                )
                for name, version, server in packages.required()
            ]
        )

    def GetProgramDependencies(self, request: Any, context: Any) -> Any:
        """Return the installed distributions, for `pulumi about`."""
        if other := self._other_host(request.info, context):
            return other.GetProgramDependencies(request)
        return language_pb2.GetProgramDependenciesResponse(
            dependencies=[
                language_pb2.DependencyInfo(name=name, version=version)
                for name, version in packages.distributions(request.transitiveDependencies)
            ]
        )

    def InstallDependencies(self, request: Any, context: Any) -> Iterator[Any]:
        """Create the program's own virtual environment.

        The project's own one is created from its pins before the engine runs.
        """
        try:
            folder = interpreter.environment(request.info)
            if folder is not None:
                requirements = Path(request.info.program_directory, "requirements.txt")
                for line in interpreter.install(folder, requirements):
                    yield language_pb2.InstallDependenciesResponse(stdout=line.encode())
        except interpreter.OptionError as error:
            context.abort(grpc.StatusCode.FAILED_PRECONDITION, str(error))

    def GenerateProgram(self, request: Any, context: Any) -> Any:
        """Generate a Python program for the resources of `pulumi import`."""
        try:
            program = builds.ensure(GENERATOR) / GENERATOR
            done = subprocess.run(
                [program],
                input=request.SerializeToString(),
                capture_output=True,
                check=False,
            )
        except ToolchainError as error:
            context.abort(grpc.StatusCode.UNKNOWN, str(error))
        if done.returncode:
            context.abort(grpc.StatusCode.UNKNOWN, done.stderr.decode(errors="replace").strip())
        return language_pb2.GenerateProgramResponse.FromString(done.stdout)

    def RunPlugin(self, request: Any, context: Any) -> Iterator[Any]:
        """Run a plugin that is a Python program."""
        try:
            yield from plugin.run(request, context)
        except interpreter.OptionError as error:
            context.abort(grpc.StatusCode.FAILED_PRECONDITION, str(error))

    def RuntimeOptionsPrompts(self, request: Any, context: Any) -> Any:
        """Return no prompts."""
        return language_pb2.RuntimeOptionsResponse()

    def Cancel(self, request: Any, context: Any) -> Any:
        """Do nothing: the engine closes the resource monitor, which ends the program."""
        return empty_pb2.Empty()

    def Run(self, request: Any, context: Any) -> Any:
        """Run the program; its errors are logged, not returned."""
        other = self._other_host(request.info, context)
        self._runs += 1
        try:
            return other.Run(request) if other else self._run(request, context)
        finally:
            self._runs -= 1

    def _run(self, request: Any, context: Any) -> Any:
        folder = Path(request.info.program_directory or request.pwd)
        os.chdir(request.pwd or folder)
        self.program = _program(folder, request.info.entry_point, list(request.args))
        # The base class reads the engine's address, for its log, from the arguments.
        request.args.insert(0, self._engine)
        response = super().Run(request, context)  # type: ignore[no-untyped-call]
        # The error is logged already; returning it would print it twice.
        return language_pb2.RunResponse(bail=True) if response.error else response


def _program(folder: Path, entry_point: str, arguments: list[str]) -> Callable[[], None]:
    entry = folder / (entry_point or ".")
    main = entry / "__main__.py" if entry.is_dir() else entry

    def run() -> None:
        _forget_modules_of(folder)
        sys.path[:] = [str(folder), *(path for path in sys.path if path != str(folder))]
        sys.argv[:] = [str(main), *arguments]
        try:
            runpy.run_path(str(main), run_name="__main__")
        except pulumi.RunError:
            raise
        except SystemExit as end:
            if end.code:
                raise pulumi.RunError(f"the program exited with code {end.code}") from None
        except BaseException as error:
            shown = "".join(traceback.format_exception(_without_own_frames(error)))
            raise pulumi.RunError(f"the program failed:\n{shown}") from error

    return run


def _without_own_frames(error: BaseException) -> BaseException:
    """Remove this plugin's frames from the traceback."""
    frame = error.__traceback__
    while frame is not None and frame.tb_frame.f_code.co_filename in (
        __file__,
        "<frozen runpy>",
        runpy.__file__,
    ):
        frame = frame.tb_next
    return error.with_traceback(frame) if frame is not None else error


def _forget_modules_of(folder: Path) -> None:
    """Remove the program's modules, because `up` runs it for the preview and for the update."""
    own = Path(__file__).resolve().parents[3] / "toolchain"
    for name, module in list(sys.modules.items()):
        file = getattr(module, "__file__", None)
        if name == "__main__" or not file:
            continue
        path = Path(file)
        if (
            path.is_relative_to(folder)
            and not path.is_relative_to(own)
            and "site-packages" not in path.parts
        ):
            del sys.modules[name]


def serve(engine: str) -> None:
    """Serve on a free port of 127.0.0.1 and print the port, until SIGINT."""
    language = PythonLanguage(engine)
    signal.signal(signal.SIGINT, language.end)
    server = grpc.server(
        futures.ThreadPoolExecutor(max_workers=WORKERS), options=_GRPC_CHANNEL_OPTIONS
    )
    language_pb2_grpc.add_LanguageRuntimeServicer_to_server(language, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    print(port, flush=True)
    server.wait_for_termination()
