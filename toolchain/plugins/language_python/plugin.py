"""A plugin that is a Python program, such as the folder `provider`."""

from __future__ import annotations

import os
import queue
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from pulumi.runtime.proto import language_pb2

from toolchain.plugins.language_python import interpreter

_STREAMS = ("stdout", "stderr")


def run(request: Any, context: Any) -> Iterator[Any]:
    """Run it to its end, and yield its output and its exit code.

    :raises OptionError: its virtual environment does not exist
    """
    folder = interpreter.environment(request.info)
    python = sys.executable if folder is None else interpreter.python(folder)
    program = Path(request.info.program_directory, request.info.entry_point or ".")
    with subprocess.Popen(
        [python, "-u", program, *request.args],
        cwd=request.pwd or None,
        env={**os.environ, **dict(entry.split("=", 1) for entry in request.env)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        # The engine cancels the call when it needs the plugin no more.
        context.add_callback(process.terminate)
        yield from _output(process)
    yield language_pb2.RunPluginResponse(exitcode=process.returncode)


def _output(process: subprocess.Popen[bytes]) -> Iterator[Any]:
    lines: queue.SimpleQueue[tuple[str, bytes]] = queue.SimpleQueue()

    def read(name: str, stream: IO[bytes]) -> None:
        for line in stream:
            lines.put((name, line))
        lines.put((name, b""))

    for name in _STREAMS:
        stream = getattr(process, name)
        threading.Thread(target=read, args=(name, stream), daemon=True).start()
    open_streams = len(_STREAMS)
    while open_streams:
        name, line = lines.get()
        open_streams -= not line
        if line:
            output: Any = {name: line}
            yield language_pb2.RunPluginResponse(**output)
