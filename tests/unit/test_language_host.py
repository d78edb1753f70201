"""The language host: which Python runs a program, and what is written of one that was imported."""

import signal
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from pulumi.runtime.proto import language_pb2

from toolchain import builds
from toolchain.errors import ToolchainError
from toolchain.plugins.language_python import interpreter, server


def info(root: Path, **options: Any) -> Any:
    made = language_pb2.ProgramInfo(root_directory=str(root), program_directory=str(root))
    made.options.update(options)
    return made


def test_a_program_without_an_environment_runs_in_this_one(tmp_path: Path) -> None:
    assert interpreter.environment(info(tmp_path)) is None
    (tmp_path / ".venv").symlink_to(sys.prefix)
    assert interpreter.environment(info(tmp_path, toolchain="pip", virtualenv=".venv")) is None


def test_another_environment_is_the_programs(tmp_path: Path) -> None:
    folder = interpreter.environment(info(tmp_path, virtualenv="venv"))
    assert folder == tmp_path / "venv"
    with pytest.raises(
        interpreter.OptionError, match="does not exist; `pulumi install` creates it"
    ):
        interpreter.python(folder)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"toolchain": "uv"}, "toolchain is 'uv'; the project's language host supports only pip"),
        ({"typechecker": "mypy"}, "typechecker is not supported by the project's language host"),
    ],
)
def test_an_option_that_it_does_not_have_is_refused(
    tmp_path: Path, options: dict[str, str], message: str
) -> None:
    with pytest.raises(interpreter.OptionError, match=message):
        interpreter.environment(info(tmp_path, **options))


def test_an_interpreter_without_the_sdk_is_named(tmp_path: Path) -> None:
    bare = tmp_path / "python"
    bare.write_text("#!/bin/sh\nexit 1\n")
    bare.chmod(0o755)
    with pytest.raises(interpreter.OptionError, match="is pulumi in its environment?"):
        interpreter.host(bare, "127.0.0.1:1")


def test_an_install_that_fails_says_so(tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    pip = tmp_path / "bin" / "python"
    pip.write_text("#!/bin/sh\necho no such package\nexit 3\n")
    pip.chmod(0o755)
    requirements = tmp_path / "requirements.txt"
    assert list(interpreter.install(tmp_path, requirements)) == []
    requirements.touch()
    installing = interpreter.install(tmp_path, requirements)
    assert next(installing) == "no such package\n"
    with pytest.raises(interpreter.OptionError, match="exited with code 3"):
        next(installing)


class Refused(Exception):
    """What a call is ended with."""


def _abort(_: object, message: str) -> None:
    raise Refused(message)


CALL = SimpleNamespace(abort=_abort)


def generator(monkeypatch: pytest.MonkeyPatch, folder: Path, script: str) -> None:
    program = folder / server.GENERATOR
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setattr(builds, "ensure", lambda name: folder if name == program.name else None)


def test_a_program_is_written_by_the_generator(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer = language_pb2.GenerateProgramResponse(source={"__main__.py": b"import pulumi\n"})
    (tmp_path / "answer").write_bytes(answer.SerializeToString())
    generator(monkeypatch, tmp_path, f"cat > {tmp_path}/asked; cat {tmp_path}/answer")
    request = language_pb2.GenerateProgramRequest(source={"a.pp": "x"}, loader_target="here")
    assert server.PythonLanguage("").GenerateProgram(request, CALL) == answer
    asked = (tmp_path / "asked").read_bytes()
    assert language_pb2.GenerateProgramRequest.FromString(asked) == request


def test_a_generator_that_fails_or_cannot_be_built_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    host, request = server.PythonLanguage(""), language_pb2.GenerateProgramRequest()
    generator(monkeypatch, tmp_path, "echo no such schema >&2; exit 1")
    with pytest.raises(Refused, match="^no such schema$"):
        host.GenerateProgram(request, CALL)

    def unbuilt(_: str) -> Path:
        raise ToolchainError("no Go")

    monkeypatch.setattr(builds, "ensure", unbuilt)
    with pytest.raises(Refused, match="^no Go$"):
        host.GenerateProgram(request, CALL)


class Streaming(SimpleNamespace):
    """The call of a plugin, which the engine may cancel."""

    ended: Any = None

    def add_callback(self, callback: Any) -> None:
        self.ended = callback

    abort = staticmethod(_abort)


def plugin_request(folder: Path, *args: str, **options: Any) -> Any:
    return language_pb2.RunPluginRequest(
        info=info(folder, **options), pwd=str(folder), args=args, env=["GREETING=hello=you"]
    )


PLUGIN = """
import os, sys
print(os.environ["GREETING"], sys.argv[1:])
print("beside", file=sys.stderr)
sys.exit(3)
"""


def test_a_plugin_that_is_a_program_is_run(tmp_path: Path) -> None:
    (tmp_path / "__main__.py").write_text(PLUGIN)
    request = plugin_request(tmp_path, "127.0.0.1:1")
    *lines, last = server.PythonLanguage("").RunPlugin(request, Streaming())
    assert {line.WhichOneof("output"): line for line in lines} == {
        "stdout": language_pb2.RunPluginResponse(stdout=b"hello=you ['127.0.0.1:1']\n"),
        "stderr": language_pb2.RunPluginResponse(stderr=b"beside\n"),
    }
    assert last == language_pb2.RunPluginResponse(exitcode=3)


def test_a_plugin_ends_with_the_engines_call(tmp_path: Path) -> None:
    (tmp_path / "__main__.py").write_text("import time\nprint(1)\ntime.sleep(600)\n")
    call = Streaming()
    answers = server.PythonLanguage("").RunPlugin(plugin_request(tmp_path), call)
    assert next(answers).stdout == b"1\n"
    call.ended()
    assert next(answers).exitcode == -signal.SIGTERM


def test_a_plugin_without_its_environment_says_so(tmp_path: Path) -> None:
    request = plugin_request(tmp_path, virtualenv="venv")
    with pytest.raises(Refused, match="does not exist; `pulumi install` creates it"):
        list(server.PythonLanguage("").RunPlugin(request, Streaming()))


def test_requirements_are_relative_to_the_programs_folder(tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    pip = tmp_path / "bin" / "python"
    pip.write_text("#!/bin/sh\npwd\n")
    pip.chmod(0o755)
    program = tmp_path / "program"
    program.mkdir()
    (program / "requirements.txt").write_text("../\n")
    assert list(interpreter.install(tmp_path, program / "requirements.txt")) == [f"{program}\n"]
