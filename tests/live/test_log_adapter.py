"""Four logs of four forms come out in one, each entry once, whatever happens to the adapter."""

import base64
import json
import secrets
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from dds_patterns import LogAdapter
from tests.live.support.adapters import Adapters
from tests.live.support.kube import Pod
from tests.live.support.storm import TOPOLOGY
from tests.live.support.waiting import eventually

SCHEMA = json.loads(
    (Path(__file__).parents[2] / "docs" / "schemas" / "log-entry-1.json").read_text()
)
VALID = jsonschema.Draft202012Validator(SCHEMA)
ADAPTER = {"redis": "redis-logs", "web": "web-logs", "database": "database-logs"}
_VISIT = "tests.live.in_pod.visit"
# For 50 ms, however fast the machine is: from 10 ms on a command is slow there.
_SLOW = (
    "local function now() local t = redis.call('TIME') return t[1] * 1000000 + t[2] end "
    "local began = now() repeat until now() - began > 50000"
)


class Marked:
    """Entries of one program that can be told from all others, and what came of them."""

    def __init__(self, adapters: Adapters, program: str, make: Callable[[Adapters, str], None]):
        self.adapters = adapters
        self.pod = adapters.pod(program)
        self.container = ADAPTER[program]
        self.marks: list[str] = []
        self._make = make
        self._former = ""

    def make(self, count: int) -> None:
        """So many entries, each with a mark of its own."""
        for _ in range(count):
            mark = f"mark{secrets.token_hex(6)}"
            self._make(self.adapters, mark)
            self.marks.append(mark)

    def kill_and_make(self, count: int) -> Pod:
        """Kill the adapter, and make entries while it is away; the pod once it is back.

        All entries so far must be written.
        """
        # The kubelet does not always keep the log of a dead container: a garbage collection while
        # the next one is created, but not started, takes that for the dead one to keep.
        self._former = self.adapters.kube.logs(self.pod, self.container)
        self.adapters.nodes.kill(self.pod, self.container)
        self.make(count)
        return self.adapters.kube.restarted(self.pod, self.container)

    def entries(self) -> list[dict[str, Any]]:
        """All marked entries, also from before ``kill``, checked against the schema."""
        text = self._former + self.adapters.kube.logs(self.pod, self.container)
        # Thousands of others are there, from other tests and from probes.
        ours = [line for line in text.splitlines() if any(mark in line for mark in self.marks)]
        return parsed("\n".join(ours))

    def seen(self) -> Counter[str]:
        """How often each mark came out."""
        return Counter(
            mark for entry in self.entries() for mark in self.marks if mark in entry["message"]
        )

    def complete(self) -> bool:
        return set(self.seen()) == set(self.marks)


def parsed(text: str) -> list[dict[str, Any]]:
    """The output's entries; what the adapter says of itself goes beside them."""
    entries = [json.loads(line) for line in text.splitlines() if line.startswith("{")]
    for entry in entries:
        VALID.validate(entry)
    return entries


def slow_command(adapters: Adapters, mark: str) -> None:
    pod = adapters.pod("redis")
    script = 'read -r REDISCLI_AUTH; export REDISCLI_AUTH; redis-cli eval "$0" 0 "$1"'
    adapters.kube.start(pod, "redis", ["sh", "-c", script, _SLOW, mark], adapters.password).output()


def request(adapters: Adapters, mark: str) -> None:
    answer = adapters.get(adapters.pod("web").address, 8080, f"/{mark}")
    assert answer["status"] == 200


def slow_query(adapters: Adapters, mark: str) -> None:
    script = (
        "import pathlib, pymysql, sys\n"
        "password = pathlib.Path('/etc/mysql-health-secret/password').read_text()\n"
        "c = pymysql.connect(host='127.0.0.1', user='health', password=password)\n"
        "c.cursor().execute(f'SELECT SLEEP(0.05)\\n/* {sys.argv[1]} */')\n"
    )
    pod = adapters.pod("database")
    adapters.kube.run(pod, "database-health", ["python3", "-c", script, mark])


MAKERS = {"redis": slow_command, "web": request, "database": slow_query}


@pytest.mark.parametrize("program", MAKERS)
def test_each_entry_comes_out_once_also_when_the_adapter_is_killed(
    adapters: Adapters, program: str
) -> None:
    """The proof of the row: one schema whatever the source, each entry once, none lost."""
    marked = Marked(adapters, program, MAKERS[program])
    before = marked.pod.restarts
    marked.make(2)
    eventually(marked.complete, 20, "the first entries come out")
    pod = marked.kill_and_make(2)
    eventually(marked.complete, 60, lambda: f"{marked.marks} come out, seen are {marked.seen()}")
    # What it would write again, it would have by now.
    time.sleep(2)
    assert marked.seen() == Counter(marked.marks)
    others = set(before) - {marked.container}
    assert all(pod.restarts[name] == before[name] for name in others), "the application went on"
    entries = marked.entries()
    assert len({entry["id"] for entry in entries}) == len(entries)
    kinds = {"redis": "redis_slowlog", "web": "nginx_access", "database": "mysql_slow"}
    assert {entry["kind"] for entry in entries} == {kinds[program]}
    assert all(entry["duration_ms"] is not None for entry in entries)
    if program == "database":
        assert all(entry["duration_ms"] >= 50 for entry in entries)
        assert all(entry["attributes"]["user"] == "health" for entry in entries)
    if program == "redis":
        assert all(entry["attributes"]["command"] == "EVAL" for entry in entries)
    if program == "web":
        assert all(entry["attributes"]["status"] == 200 for entry in entries)


def test_a_bad_line_and_an_emptied_file_hold_up_nothing_and_repeat_nothing(
    adapters: Adapters,
) -> None:
    marked = Marked(adapters, "web", request)
    marked.make(1)
    # What anybody may give as a name; it once stopped the reading for ever.
    mark, name = f"mark{secrets.token_hex(6)}", base64.b64encode(b"a [b:word").decode()
    answer = adapters.client().ask(
        "get", module=_VISIT, host=marked.pod.address, port=8080, path=f"/{mark}",
        headers={"Authorization": f"Basic {name}"},
    )  # fmt: skip
    assert answer["status"] == 200
    marked.marks.append(mark)
    marked.make(1)
    eventually(marked.complete, 20, lambda: f"all come out, seen are {marked.seen()}")
    empty = f"import os; os.truncate({f'{LogAdapter.FOLDER}/access.log'!r}, 0)"
    adapters.kube.run(marked.pod, marked.container, ["python3", "-c", empty])
    marked.make(2)
    eventually(marked.complete, 20, lambda: f"and those after it, seen are {marked.seen()}")
    assert marked.seen() == Counter(marked.marks)
    entries = marked.entries()
    assert [entry["attributes"]["status"] for entry in entries] == [200] * 5
    assert len({entry["id"] for entry in entries}) == len(entries)


def test_a_restarted_redis_counts_anew_and_nothing_is_taken_for_old(adapters: Adapters) -> None:
    marked = Marked(adapters, "redis", slow_command)
    marked.make(1)
    eventually(marked.complete, 20, "the entry comes out")
    adapters.nodes.kill(marked.pod, "redis")

    def back() -> Pod | None:
        pod = adapters.kube.pod(marked.pod.namespace, marked.pod.name)
        restarted = pod and pod.restarts["redis"] > marked.pod.restarts["redis"]
        return pod if pod and restarted and pod.ready else None

    eventually(back, 60, "redis is back")
    # Its slow log starts at number 0 again.
    marked.make(1)
    eventually(marked.complete, 30, lambda: f"the new entry comes out: {marked.seen()}")
    assert marked.seen() == Counter(marked.marks)
    first, second = (entry["id"].split(":") for entry in marked.entries())
    assert first[1] != second[1], "each life of the server has its own ids"


def test_storms_metrics_come_out_in_the_same_form_once_a_sample(adapters: Adapters) -> None:
    pod = adapters.pod("storm")

    def entries() -> list[dict[str, Any]]:
        return parsed(adapters.kube.logs(pod, "storm-logs"))

    eventually(lambda: len({e["time"] for e in entries()}) >= 3, 30, "three samples are there")
    found = entries()
    assert len({entry["id"] for entry in found}) == len(found)
    last_whole = sorted({entry["time"] for entry in found})[-2]
    sample = {entry["attributes"]["name"]: entry for entry in found if entry["time"] == last_whole}
    assert set(sample) == {"wordcount", "spout", "count", "split"}
    assert sample["wordcount"]["attributes"]["emitted"] == 397960
    assert sample["wordcount"]["duration_ms"] == 12.5
    assert sample["split"]["severity"] == "error"
    assert "split went wrong" in sample["split"]["message"]
    assert sample["spout"]["severity"] == "warning"
    assert all(TOPOLOGY in entry["id"] for entry in found)


def test_adapter_paused_the_application_goes_on_and_nothing_is_lost(adapters: Adapters) -> None:
    marked = Marked(adapters, "web", request)
    with adapters.watched(marked.pod) as readiness:
        with adapters.nodes.paused(marked.pod, marked.container):
            marked.make(4)
            assert marked.seen() == Counter()
        eventually(marked.complete, 20, "what was written meanwhile comes out")
    assert marked.seen() == Counter(marked.marks)
    assert [ready for _, ready in readiness.changes] == [True]
    assert adapters.pod("web").restarts == marked.pod.restarts


def test_the_adapters_are_scraped(adapters: Adapters) -> None:
    eventually(
        lambda: (
            adapters.query("log_adapter_source_up")
            == {"database-logs,database": 1.0, "redis-logs,redis": 1.0, "web-logs,web": 1.0}
        ),
        30,
        lambda: f"all sources are read: {adapters.query('log_adapter_source_up')}",
    )
    written, lost = "log_adapter_entries_total", "log_adapter_lost_total"
    eventually(lambda: adapters.query(written).get("web-logs,web", 0) > 0, 30, "it is counted")
    eventually(lambda: set(adapters.query(lost).values()) == {0.0}, 30, "nothing was lost")
