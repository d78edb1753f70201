"""A share of the users, the same users each time, whatever is away."""

import json
import re
import time
from collections import Counter
from collections.abc import Mapping
from typing import Any

import pytest

from dds_patterns import Reach, RequestSplitter
from dds_patterns.values import nginx
from tests.live.support.observed import Record
from tests.live.support.split import USER, USERS, Rolled, Split
from tests.live.support.waiting import eventually
from toolchain.graph import build

POINTS = 0.015
"""How far a share may be from its percentage."""
METRICS = re.compile(
    r'splitter_requests_total\{arm="(\w+)",how="(\w+)",status="(\d+)"\} (\d+)', re.ASCII
)


def share(seen: list[str], arm: str = "experiment") -> float:
    return seen.count(arm) / len(seen)


@pytest.fixture(scope="module", autouse=True)
def later(split: Split) -> float:
    """Before the Service ``later`` is made its arm is away; after that it need not be restarted."""
    before = split.seen("others", 8080, 100, headers=USER)
    split.kube.apply(
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": "later", "namespace": split.namespace},
            "spec": {
                "selector": {"app.kubernetes.io/instance": "experiment"},
                "ports": [{"port": 8080}],
            },
        }
    )
    # The proxy has started without the arm, serves the other, and says of this one what is true.
    assert set(before) == {"control", "status 502"}, Counter(before)
    return time.monotonic()


def test_ten_percent_of_the_users_and_each_sees_one_arm_only(at_ten: list[str]) -> None:
    assert set(at_ten) == {"control", "experiment"}, Counter(at_ten)
    assert abs(share(at_ten) - 0.10) <= POINTS, share(at_ten)


def test_connections_to_the_arms_are_used_again(split: Split) -> None:
    """One a request leaves no port free after some 28,000 requests a minute to one arm."""
    requests = 1000

    def to_arms() -> set[str]:
        """The local ends of connections to an arm, those included that ended in the last minute."""
        table = split.kube.run(split.pod("front"), "split", ["cat", "/proc/net/tcp"])
        rows = [line.split() for line in table.splitlines()[1:]]
        return {
            local
            for _, local, peer, *_ in rows
            if peer.endswith(f":{8080:04X}") and not peer.startswith("0100007F")
        }

    before = to_arms()
    split.seen("front", 8080, requests, headers=USER)
    after = to_arms()
    # Some are seen at all; none need be new, where those of a moment ago are used again.
    assert after
    assert len(after - before) < requests / 10


def test_a_header_forces_an_arm(split: Split, at_ten: list[str]) -> None:
    for arm in ("control", "experiment"):
        forced = split.seen("front", 8080, 50, headers={**USER, "X-Arm": arm})
        assert set(forced) == {arm}
    ignored = split.seen("front", 8080, 50, headers={**USER, "X-Arm": "other"})
    assert ignored == at_ten[:50]


def test_the_application_learns_the_arm(split: Split) -> None:
    answer = split.ask("front", "get", port=8080, headers={"X-User-Id": "user-1"})
    assert answer["headers"]["x-arm"] == answer["body"].strip()


def test_without_a_user_it_is_the_control(split: Split) -> None:
    assert set(split.seen("front", 8080, 50)) == {"control"}


def test_off_and_full(split: Split) -> None:
    assert set(split.seen("options", 8080, 300, headers=USER)) == {"control"}
    assert set(split.seen("options", 8090, 300, headers=USER)) == {"experiment"}


def test_users_are_named_by_a_cookie_or_an_address(split: Split) -> None:
    cookie = {"Cookie": "other=1; user=u#; more=2"}
    address = {"X-Forwarded-For": "10.1.2.#, 10.0.0.1"}
    for port, headers in ((8100, cookie), (8110, address)):
        seen = split.seen("options", port, 250, headers=headers, each=2)
        assert set(seen) == {"control", "experiment"}, (port, Counter(seen))
        assert 0.35 < share(seen) < 0.65, (port, share(seen))
    # Without the cookie each request goes by chance, so one user sees both.
    assert "control,experiment" in split.seen("options", 8100, 20, each=10)


def test_the_seeds_form_sends_all_to_one_arm(split: Split) -> None:
    seen = split.seen("others", 8090, 1000, headers=USER)
    assert len(set(seen)) == 1, Counter(seen)


def test_requests_are_counted_by_arm(split: Split) -> None:
    def counted() -> Counter[tuple[str, str]]:
        address = split.pod("front").address
        text = split.ask("visitor", "get", host=address, port=9114, path="/metrics")["body"]
        found: Counter[tuple[str, str]] = Counter()
        for arm, how, _, count in METRICS.findall(text):
            found[arm, how] += int(count)
        return found

    before = counted()
    split.seen("front", 8080, 40, headers={**USER, "X-Arm": "experiment"})
    seen = split.seen("front", 8080, 60, headers=USER)

    def after() -> bool:
        grown = counted()
        grown.subtract(before)
        return (
            grown["experiment", "forced"] == 40
            and grown["experiment", "user"] == seen.count("experiment")
            and grown["control", "user"] == seen.count("control")
        )

    eventually(after, 10, lambda: f"each request is counted once: {before} {counted()}")


def test_nobody_else_reaches_it(split: Split) -> None:
    address = split.pod("front").address
    # From inside the pod no policy is in the way: it listens on loopback only.
    own = split.ask("front", "get", host=address, port=8080, timeout=3)
    assert "ConnectionRefused" in own.get("error", ""), own
    answer = split.ask("visitor", "get", host=address, port=8080, timeout=3)
    assert "error" in answer, answer


@pytest.mark.parametrize("companion", ["split", "split-metrics"])
def test_killed_the_application_goes_on(split: Split, record: Record, companion: str) -> None:
    pod = split.pod("front")
    watch = split.start("visitor", "load", host=pod.address, port=8000, path="/livez", seconds=6)
    pages = split.start(
        "visitor", "load", host=pod.address, port=8000, path="/page?user=u#", seconds=6
    )
    time.sleep(1)
    split.nodes.kill(pod, companion)
    alive, served = watch.output(), pages.output()
    assert set(json.loads(alive)["outcomes"]) == {"status 200"}, alive
    outcomes = json.loads(served)["outcomes"]
    if companion == "split-metrics":
        assert set(outcomes) == {"status 200"}, served
    else:
        assert set(outcomes) <= {"status 200", "status 503"}, served
        # Refused until it is back, which may take longer than this load where others start too.
        eventually(
            lambda: (
                split.ask("visitor", "get", host=pod.address, port=8000, path="/page?user=u")
                .get("status") == 200
            ),
            30, "pages are served again",
        )  # fmt: skip
    after = split.kube.restarted(pod, companion)
    assert after.restarts["front"] == pod.restarts["front"]
    record.note(f"splitter: {companion} killed", pages=outcomes)


def test_paused_the_pod_says_that_it_is_not_ready(split: Split, record: Record) -> None:
    pod = split.pod("front")
    began = time.monotonic()
    with split.nodes.paused(pod, "split"):
        eventually(lambda: not split.now("front").ready, 40, "the pod is not ready")
        took = time.monotonic() - began
        answer = split.ask("visitor", "get", host=pod.address, port=8000, path="/livez", timeout=10)
        assert answer["status"] == 200, answer
    after = split.pod("front")
    assert after.restarts["front"] == pod.restarts["front"]
    record.note("splitter: paused", seconds_until_not_ready=round(took, 1))


def test_a_rolling_update_under_load_fails_no_request(rolled: Rolled, record: Record) -> None:
    """Of both arms and of the pod that has the splitter."""
    pages = rolled["front"]
    assert set(pages["outcomes"]) == {"status 200"}, pages
    record.note("splitter: rolling update", pages=pages["outcomes"])


@pytest.mark.usefixtures("rolled")
def test_a_higher_percentage_moves_only_the_users_between(
    split: Split, at_ten: list[str], record: Record
) -> None:
    at_twenty = split.seen("front", 8080, USERS, headers=USER)
    assert abs(share(at_twenty) - 0.20) <= POINTS, share(at_twenty)
    moved = Counter((was, now) for was, now in zip(at_ten, at_twenty, strict=True) if was != now)
    # Whoever was in the experiment stays there.
    assert set(moved) == {("control", "experiment")}, moved
    assert abs(moved.total() / USERS - 0.10) <= POINTS, moved
    record.note(
        "splitter: 10 % becomes 20 %",
        share_at_10=share(at_ten),
        share_at_20=share(at_twenty),
        moved=moved.total() / USERS,
    )


def test_an_arm_that_comes_later_is_served_and_one_that_goes_harms_nobody_else(
    split: Split, later: float, record: Record
) -> None:
    restarts = split.pod("others").restarts["absent"]

    def both() -> bool:
        return set(split.seen("others", 8080, 100, headers=USER)) == {"control", "experiment"}

    # The name service remembers for up to 30 s that there was no such name.
    eventually(both, 60, "the new arm is served", interval=1)
    appeared = time.monotonic() - later
    split.kube.delete("v1", "Service", split.namespace, "later")

    # Whether its name or its address is what is missing.
    gone = time.monotonic()
    eventually(
        lambda: "experiment" not in split.seen("others", 8080, 100, headers=USER, timeout=20),
        60, "the arm is away", interval=1,
    )  # fmt: skip
    assert "control" in split.seen("others", 8080, 100, headers=USER)
    assert split.pod("others").restarts["absent"] == restarts
    record.note(
        "splitter: an arm made, then deleted",
        served_after_seconds_at_most=round(appeared, 1),
        refused_after_seconds_at_most=round(time.monotonic() - gone, 1),
    )


VARIANTS: list[Mapping[str, Any]] = [
    {},
    {"percent": 0},
    {"percent": 100},
    {"percent": 0.29},
    {"sticky": {"by": "cookie", "without": "random"}},
    {"sticky": {"by": "address", "name": "X-Real-IP"}},
    {"salt": 'strange "salt"; {here} #1 \\'},
    {"policy": "seed"},
]


def configuration(variant: Mapping[str, Any]) -> str:
    arms = {"control": Reach.local(8080), "experiment": Reach.local(8080)}
    args: Any = {"image": "nginx:1", "metrics_image": "companions:1", **arms, **variant}

    def program() -> None:
        RequestSplitter("split", args)

    graph = build(program)
    text: str = next(
        node.inputs["data"]["nginx.conf"]
        for node in graph
        if "nginx.conf" in (node.inputs.get("data") or {})
    )
    return text


def test_nginx_finds_every_variant_good(split: Split) -> None:
    def accepted(text: str) -> str:
        return split.checked("others", "absent", text, nginx.command("FILE", check=True))

    for variant in VARIANTS:
        assert "test is successful" in accepted(configuration(variant)), variant
    assert "test failed" in accepted(configuration({}).replace("split_clients", "split_client"))
