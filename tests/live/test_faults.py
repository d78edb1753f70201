"""Faults of a sharded store: what the client sees, for how long, and what it never loses."""

import time
from typing import Any

import pytest

from tests.live.support.kube import now
from tests.live.support.observed import Record, Seen, together
from tests.live.support.sharded import PROXY, REDIS, Sharded, Watched
from tests.live.support.waiting import eventually

pytestmark = pytest.mark.slow


def noted(record: Record, scenario: str, watched: Watched, hit: list[int], **more: Any) -> Seen:
    """Keep what was seen on the shards that were hit and on the others; the former."""
    affected = together(watched.shard(index) for index in hit)
    others = [watched.shard(index) for index in watched.others if index not in hit]
    record.note(
        scenario,
        affected=affected.rounded(),
        **({"others": together(others).rounded()} if others else {}),
        **more,
    )
    return affected


def untouched(watched: Watched, hit: int) -> None:
    """The keys of the other shards are served as if nothing had happened."""
    for index in watched.others:
        if index != hit:
            other = watched.shard(index)
            assert other.operations > 100, other
            # A machine with too much to do may keep a command beyond the proxy's timeout, or a
            # probe beyond its own; what a fault spreads to fails at every try.
            assert other.failed <= other.operations // 100, other


# a shard killed


def test_store_shard_killed_answers_errors_and_loses_nothing(
    store: Sharded, record: Record
) -> None:
    pod = store.shard_pod(0)
    watched = store.watch("killed", 14, lambda: store.nodes.kill(pod, REDIS))
    store.recovered()
    lost = store.lost(watched)
    affected = noted(record, "store: shard killed", watched, [0], lost_acknowledged=len(lost))
    store.kube.restarted(pod, REDIS)
    assert affected.failed > 0, affected
    assert affected.absent == 0, affected
    assert lost == []
    untouched(watched, 0)


def test_cache_shard_killed_is_ejected_and_the_cache_goes_on(
    cache: Sharded, record: Record
) -> None:
    pod = cache.shard_pod(0)
    watched = cache.watch("killed", 14, lambda: cache.nodes.kill(pod, REDIS))
    cache.recovered()
    affected = noted(record, "cache: shard killed", watched, [0])
    # Its keys are served by the others meanwhile: only few commands are refused.
    assert affected.failed <= 20, affected
    untouched(watched, 0)


# a shard paused


def test_store_shard_paused_answers_errors_and_loses_nothing(
    store: Sharded, record: Record
) -> None:
    pod = store.shard_pod(1)

    def pause() -> None:
        with store.nodes.paused(pod, REDIS):
            time.sleep(5)

    watched = store.watch("paused", 16, pause)
    store.recovered()
    lost = store.lost(watched)
    affected = noted(record, "store: shard paused for 5 s", watched, [1],
                     lost_acknowledged=len(lost))  # fmt: skip
    assert affected.failed > 0, affected
    assert lost == []
    untouched(watched, 1)


def test_cache_shard_paused_is_ejected_and_comes_back(cache: Sharded, record: Record) -> None:
    pod = cache.shard_pod(1)

    def pause() -> None:
        with cache.nodes.paused(pod, REDIS):
            time.sleep(5)

    watched = cache.watch("paused", 16, pause)
    cache.recovered()
    affected = noted(record, "cache: shard paused for 5 s", watched, [1])
    assert 0 < affected.failed <= 40, affected
    untouched(watched, 1)


# the acknowledged write


def acknowledged_and_read(variant: Sharded, shard: int, key: str) -> tuple[str, str, list[Any]]:
    """Write v1, pause the key's shard, read, write v2, go on, read.

    It is a read that meets the silent shard first: a write that timed out has been sent all the
    same, and the shard would carry it out as soon as it goes on.

    What was acknowledged last, what is read afterwards, and all answers.
    """
    client = variant.client()
    at = variant.through
    pod = variant.shard_pod(shard)
    answers: list[Any] = []

    def ask(*commands: list[str]) -> list[Any]:
        given = client.ask("steps", at=at, commands=commands)["answers"]
        replies = [one["answer"] for one in given]
        answers.extend([*words, reply] for words, reply in zip(commands, replies, strict=True))
        return replies

    assert ask(["SET", key, "v1"]) == ["OK"]
    with variant.nodes.paused(pod, REDIS):
        # In one go: after two seconds the seed's proxy asks the silent shard again.
        first, second = ask(["GET", key], ["SET", key, "v2"])
    assert first != "v1"
    acknowledged = "v2" if second == "OK" else "v1"
    # Longer than any proxy here waits before it asks an ejected shard again.
    time.sleep(4)
    variant.recovered()

    def read() -> str:
        (reply,) = ask(["GET", key])
        assert isinstance(reply, str), reply
        return reply

    return acknowledged, eventually(read, 30, f"{key} can be read"), answers


def test_the_seed_loses_an_acknowledged_write(seed: Sharded, record: Record) -> None:
    """The book's own settings: v2 is acknowledged, and v1 is read afterwards."""
    key = seed.keys_by_shard(1, "lost")["2"][0]
    acknowledged, read, answers = acknowledged_and_read(seed, 2, key)
    record.note("seed: acknowledged write lost", answers=answers)
    assert (acknowledged, read) == ("v2", "v1"), answers


def test_the_store_keeps_what_it_acknowledged(store: Sharded, record: Record) -> None:
    """The same sequence: v2 is refused; so nothing that was acknowledged is gone."""
    key = store.keys_by_shard(1, "lost")["2"][0]
    acknowledged, read, answers = acknowledged_and_read(store, 2, key)
    record.note("store: the same sequence", answers=answers)
    assert acknowledged == "v1", answers
    # A refused write may have been applied: it was sent, and only its answer did not come.
    assert read in ("v1", "v2"), answers


# a new address


def test_cache_shard_moved_to_the_other_node_is_found_again(cache: Sharded, record: Record) -> None:
    if len(cache.kube.nodes()) < 2:
        pytest.fail("the cluster has one node only; it needs `agents: 1` at least")
    old = cache.shard_pod(2)
    moved = []
    watched = cache.watch("moved", 20, lambda: moved.append(cache.kube.move(old, 60)))
    cache.recovered()
    new = moved[0]
    assert new.node != old.node
    assert new.address != old.address
    affected = noted(record, "cache: shard moved to the other node", watched, [2])
    untouched(watched, 2)
    assert affected.last_failure is None or affected.last_failure < 18, affected
    # The new one holds keys that were written through the ambassador.
    key = cache.keys_by_shard(1, "after-move")["2"][0]
    eventually(lambda: cache.answers(2, key), 60, "the moved shard takes writes")

    def at_home() -> bool:
        place = cache.client().ask(
            "steps", at=cache.direct[2], commands=[["SET", "home", "1"], ["EXISTS", key]]
        )["answers"]
        if place[1]["answer"] != 1:
            cache.answers(2, key)
            return False
        return True

    eventually(at_home, 60, f"{key} is written to the shard at its new address", interval=1)


def test_store_shard_replaced_on_its_node_with_a_new_address_loses_nothing(
    store: Sharded, record: Record
) -> None:
    """A store's volume belongs to its node, so its successor starts there, elsewhere in the net."""
    old = store.shard_pod(2)
    watched = store.watch("replaced", 20, lambda: store.kube.delete_pod(old))
    new = store.shard_pod(2, not_uid=old.uid)
    store.recovered()
    assert new.address != old.address
    lost = store.lost(watched)
    affected = noted(record, "store: shard's pod replaced", watched, [2],
                     lost_acknowledged=len(lost))  # fmt: skip
    assert affected.failed > 0, affected
    assert lost == []
    untouched(watched, 2)


# the ambassador


def test_ambassador_killed_is_restarted(store: Sharded, record: Record) -> None:
    pod = store.client_pod()
    watched = store.watch("ambassador", 14, lambda: store.nodes.kill(pod, PROXY))
    store.recovered()
    lost = store.lost(watched)
    affected = noted(record, "ambassador killed", watched, watched.others,
                     lost_acknowledged=len(lost))  # fmt: skip
    store.kube.restarted(pod, PROXY)
    assert affected.failed > 0, affected
    assert lost == []


# a name that does not resolve


def test_a_shard_name_that_does_not_resolve_at_start(cache: Sharded, record: Record) -> None:
    """The proxy starts, serves the other shards, and finds the shard once it has a name."""
    kube, namespace = cache.kube, cache.namespace
    last = len(cache.shards) - 1
    name = cache.shards[last]["host"].partition(".")[0]
    service = kube.core.read_namespaced_service(name, namespace)
    wanted = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {
            "name": service.metadata.name,
            "namespace": namespace,
            "labels": service.metadata.labels,
            "annotations": service.metadata.annotations,
        },
        "spec": {
            "selector": service.spec.selector,
            "ports": [{"name": "redis", "port": cache.shards[last]["port"], "targetPort": 6379}],
        },
    }
    named_at: list[float] = []

    def name_it() -> None:
        named_at.append(now())
        kube.apply(wanted)

    kube.delete("v1", "Service", namespace, str(service.metadata.name))
    try:
        old = cache.client_pod()
        began = time.monotonic()
        kube.delete_pod(old)
        eventually(lambda: kube.pod(namespace, old.name) is None, 60, "the old client is gone")
        new = cache.client_pod()
        started = time.monotonic() - began
        watched = cache.watch("unresolved", 50, name_it, settle=4, failing_before=(last,))
    finally:
        kube.apply(wanted)
    cache.recovered()
    assert new.restarts[PROXY] == 0, "the proxy starts although it cannot find one shard"
    untouched(watched, last)
    affected = watched.shard(last)
    record.note(
        "cache: a shard's name does not resolve at the proxy's start",
        client_ready_seconds=round(started, 1),
        affected=affected.rounded(),
    )
    eventually(lambda: cache.answers(last), 60, "the shard is found once its name resolves")
