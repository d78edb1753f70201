"""The processes of this pod with their CPU time, memory and command.

`topz <address> <port>` serves /topz, an HTML page, and /topz.json. It lists the processes in /proc,
which are those of its own process namespace.
"""

import dataclasses
import html
import os
import pathlib
import re
import sys
import threading
import time
from collections.abc import Iterable

from companions import web

PROC = pathlib.Path("/proc")
# Seconds between the two samples from which the CPU usage is computed. A request within this time
# gets the same result.
SAMPLE_SECONDS = 0.25
LONGEST_COMMAND = 1024
COLUMNS = ("pid", "user", "state", "cpu", "cpu_seconds", "memory", "threads", "age", "command")
SORTS = {"cpu": "cpu_percent", "memory": "memory_bytes", "pid": "pid"}
_CONTAINER = re.compile(r"[0-9a-f]{64}")
_TICK = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")


@dataclasses.dataclass(frozen=True)
class Process:
    """One process at one moment."""

    pid: int
    parent: int
    name: str
    command: str
    user: int
    state: str
    threads: int
    cpu_seconds: float
    cpu_percent: float
    """Of one processor, since the last sample."""
    memory_bytes: int
    """Resident set size."""
    age_seconds: float
    container: str
    """First digits of its container's id, if the kernel shows it."""


def _read(path: pathlib.Path) -> str:
    return path.read_bytes().decode(errors="replace")


def sample(proc: pathlib.Path = PROC) -> dict[tuple[int, int], Process]:
    """Every process, by pid and start time."""
    found = {}
    uptime = float(_read(proc / "uptime").split()[0])
    for folder in proc.iterdir():
        if not folder.name.isdecimal():
            continue
        try:
            process, started = _process(folder, uptime)
        except (OSError, ValueError, IndexError):
            # The process has exited meanwhile.
            continue
        found[process.pid, started] = process
    return found


def _process(folder: pathlib.Path, uptime: float) -> tuple[Process, int]:
    stat = _read(folder / "stat")
    # The name is in parentheses and may itself contain parentheses.
    name = stat[stat.index("(") + 1 : stat.rindex(")")]
    # From the third field on, see proc(5): state is 0 here, starttime 19.
    rest = stat[stat.rindex(")") + 2 :].split()
    words = [word for word in _read(folder / "cmdline").split("\0") if word]
    started = int(rest[19])
    return (
        Process(
            pid=int(folder.name),
            parent=int(rest[1]),
            name=name,
            command=" ".join(words)[:LONGEST_COMMAND] or f"[{name}]",
            user=folder.stat().st_uid,
            state=rest[0],
            threads=int(rest[17]),
            cpu_seconds=(int(rest[11]) + int(rest[12])) / _TICK,
            cpu_percent=0.0,
            memory_bytes=int(rest[21]) * _PAGE,
            age_seconds=round(uptime - started / _TICK, 1),
            container=_container(folder),
        ),
        started,
    )


def _container(folder: pathlib.Path) -> str:
    try:
        found = _CONTAINER.findall(_read(folder / "cgroup"))
    except OSError:
        return ""
    return found[-1][:12] if found else ""


class Top:
    """Two samples, shared by concurrent requests."""

    def __init__(self, proc: pathlib.Path = PROC) -> None:
        self._proc = proc
        self._lock = threading.Lock()
        self._taken = 0.0
        self._processes: list[Process] = []

    def processes(self) -> list[Process]:
        """Every process, the busiest first."""
        with self._lock:
            if time.monotonic() - self._taken > SAMPLE_SECONDS:
                before, began = sample(self._proc), time.monotonic()
                time.sleep(SAMPLE_SECONDS)
                after, self._taken = sample(self._proc), time.monotonic()
                self._processes = _busiest(before, after, self._taken - began)
            return self._processes


def _busiest(
    before: dict[tuple[int, int], Process], after: dict[tuple[int, int], Process], seconds: float
) -> list[Process]:
    found = []
    for key, process in after.items():
        earlier = before[key].cpu_seconds if key in before else 0.0
        share = 100 * max(0.0, process.cpu_seconds - earlier) / seconds
        found.append(dataclasses.replace(process, cpu_percent=round(share, 1)))
    return sorted(found, key=lambda p: (-p.cpu_percent, -p.cpu_seconds, p.pid))


def page(processes: Iterable[Process]) -> str:
    """The HTML page."""
    rows = "\n".join(
        "<tr>"
        + "".join(
            f"<td>{html.escape(str(value))}</td>"
            for value in (
                process.pid,
                process.user,
                process.state,
                f"{process.cpu_percent:.1f} %",
                f"{process.cpu_seconds:.2f} s",
                f"{process.memory_bytes / 2**20:.1f} MiB",
                process.threads,
                f"{process.age_seconds:.0f} s",
                process.command,
            )
        )
        + "</tr>"
        for process in processes
    )
    heads = "".join(f"<th>{column.replace('_', ' ')}</th>" for column in COLUMNS)
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta http-equiv="refresh" content="5">
<title>topz</title>
<style>
body {{ font: 14px sans-serif; margin: 2em }}
table {{ border-collapse: collapse }}
th, td {{ padding: .3em .8em; text-align: right; border-bottom: 1px solid #ddd }}
th:last-child, td:last-child {{ text-align: left; font-family: monospace }}
</style></head>
<body><h1>topz</h1>
<p>Sorted by CPU; <a href="?sort=memory">by memory</a>, <a href="?sort=pid">by pid</a>,
<a href="/topz.json">as JSON</a></p>
<table><thead><tr>{heads}</tr></thead><tbody>
{rows}
</tbody></table></body></html>
"""


def routes(top: Top) -> dict[str, web.Route]:
    """The HTTP routes."""

    def ordered(request: web.Request) -> list[Process] | None:
        key = SORTS.get(request.query.get("sort", "cpu"))
        if key is None:
            return None
        processes = top.processes()
        if key == "cpu_percent":
            return processes
        return sorted(processes, key=lambda p: getattr(p, key), reverse=key != "pid")

    unknown = web.Answer(f"sort must be one of {', '.join(SORTS)}\n", status=400)

    def as_page(request: web.Request) -> web.Answer:
        if "application/json" in request.headers.get("accept", ""):
            return as_json(request)
        found = ordered(request)
        if found is None:
            return unknown
        return web.Answer(page(found), "text/html; charset=utf-8")

    def as_json(request: web.Request) -> web.Answer:
        found = ordered(request)
        if found is None:
            return unknown
        return web.as_json({"processes": [dataclasses.asdict(process) for process in found]})

    return {
        "/topz": as_page,
        "/topz.json": as_json,
        "/healthz": lambda _: web.Answer("ok\n"),
    }


def main() -> None:
    """Serve until SIGTERM."""
    web.Server(sys.argv[1], int(sys.argv[2]), routes(Top())).run()


if __name__ == "__main__":
    main()
