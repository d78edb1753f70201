"""The log: one JSON object a line on standard output, also for the function's output."""

import datetime
import io
import json
import logging
import sys
import threading
from typing import Any, TextIO

from function_runtime import identity

_LEVELS = {logging.DEBUG: "debug", logging.INFO: "info", logging.WARNING: "warning",
           logging.ERROR: "error", logging.CRITICAL: "error"}  # fmt: skip
_LONGEST = 32768


class Log:
    """Writes lines, from several threads."""

    def __init__(self, function: str, out: TextIO) -> None:
        self._function = function
        self._out = out
        self._mutex = threading.Lock()

    def write(self, level: str, message: str, **more: Any) -> None:
        """One line, with the ids of the current request."""
        line = {
            "time": datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds"),
            "level": level,
            "function": self._function,
            # A lone surrogate is not valid UTF-8.
            "message": message[:_LONGEST].encode(errors="replace").decode(),
        }
        ids = identity.current.get()
        if ids is not None:
            line |= {"request_id": ids.request_id, "trace_id": ids.trace_id}
            line |= {f"event_{k}": ids.event[k] for k in ("id", "type") if k in ids.event}
        text = json.dumps(line | more, default=str) + "\n"
        with self._mutex:
            self._out.write(text)
            self._out.flush()


class _Handler(logging.Handler):
    def __init__(self, log: Log) -> None:
        super().__init__()
        self._log = log
        self.setFormatter(logging.Formatter("%(message)s"))

    def emit(self, record: logging.LogRecord) -> None:
        """Write one record; with an exception its traceback is part of the message."""
        try:
            text = self.format(record)
        except Exception as error:  # noqa: BLE001 (a wrong format string must not end a request)
            text = f"{record.msg} ({error})"
        self._log.write(_LEVELS.get(record.levelno, "info"), text, logger=record.name)


class Printed(io.TextIOBase):
    """Replaces standard output or error: each line becomes a line of the log."""

    encoding = "utf-8"

    def __init__(self, log: Log, level: str) -> None:
        self._log = log
        self._level = level
        self._parts = threading.local()

    def writable(self) -> bool:
        """True."""
        return True

    def write(self, text: str) -> int:
        """Buffer the text until its line is complete, separately for each thread."""
        whole = getattr(self._parts, "text", "") + text
        *lines, self._parts.text = whole.split("\n")
        for line in lines:
            if line:
                self._log.write(self._level, line)
        return len(text)

    def flush(self) -> None:
        """Write an incomplete line."""
        rest = getattr(self._parts, "text", "")
        self._parts.text = ""
        if rest:
            self._log.write(self._level, rest)


def take_over(function: str, level: str = "INFO") -> Log:
    """Send logging, standard output and standard error through one log."""
    log = Log(function, sys.__stdout__ or sys.stdout)
    root = logging.getLogger()
    root.handlers[:] = [_Handler(log)]
    root.setLevel(level)
    sys.stdout = Printed(log, "info")
    sys.stderr = Printed(log, "warning")
    return log
