"""The lock on a Lease, against a model of what the API server does with one."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from elector.errors import RefusedError, StoreError
from elector.lease_lock import LeaseLock
from elector.lock import Record
from elector.transport import Answer, Transport

from tests.unit.support.etcd_model import FakeClock

TTL, MARGIN = 10.0, 1.0


class ApiServer(Transport):
    """One Lease; a write needs the version that it was read at."""

    def __init__(self) -> None:
        super().__init__(["http://api.example"])
        self.lease: dict[str, Any] | None = {
            "metadata": {"name": "duty", "resourceVersion": "10"},
        }
        self.lose_answers = 0
        self.lose_requests = 0
        self.asked: list[str] = []

    def request(self, method: str, path: str, *args: Any, **_: Any) -> Answer:
        body, headers = args[0], args[1]
        assert path == "/apis/coordination.k8s.io/v1/namespaces/here/leases/duty"
        assert headers == {"Authorization": "Bearer token-1"}
        self.asked.append(method)
        if self.lose_requests:
            self.lose_requests -= 1
            raise StoreError("nobody there")
        if self.lease is None:
            raise RefusedError(404, 404, "not found")
        if method == "PUT":
            if body["metadata"]["resourceVersion"] != self.lease["metadata"]["resourceVersion"]:
                raise RefusedError(409, 409, "the object has been modified")
            self.write(body)
        if self.lose_answers:
            self.lose_answers -= 1
            raise StoreError("the answer was lost")
        assert self.lease is not None
        return Answer(self.lease, "")

    def write(self, body: dict[str, Any]) -> None:
        assert self.lease is not None
        version = int(self.lease["metadata"]["resourceVersion"]) + 1
        self.lease = {**body, "metadata": {**body["metadata"], "resourceVersion": str(version)}}

    def record(self) -> Record:
        from elector.lease_lock import _record  # noqa: PLC0415

        assert self.lease is not None
        return _record(self.lease)


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def api() -> ApiServer:
    return ApiServer()


@pytest.fixture
def token(tmp_path: Path) -> Path:
    file = tmp_path / "token"
    file.write_text("token-1\n")
    return file


@pytest.fixture
def locks(api: ApiServer, clock: FakeClock, token: Path) -> tuple[LeaseLock, LeaseLock]:
    one, two = (
        LeaseLock(api, "here", "duty", owner, TTL, MARGIN, clock, token) for owner in ("one", "two")
    )
    return one, two


def test_a_new_lease_is_taken_renewed_and_given_up(
    api: ApiServer, clock: FakeClock, locks: tuple[LeaseLock, LeaseLock]
) -> None:
    one, two = locks
    assert one.simple_lock()
    assert api.lease is not None
    spec = api.lease["spec"]
    assert (spec["holderIdentity"], spec["leaseTransitions"], spec["leaseDurationSeconds"]) == (
        "one", 1, 10,
    )  # fmt: skip
    assert not two.simple_lock()
    clock.sleep(8)
    assert one.renew()
    assert one.valid_for() == TTL - MARGIN
    assert one.unlock()
    assert api.record().owner == ""
    assert two.simple_lock()
    assert two.version == 2


def test_one_that_was_not_renewed_is_taken_over_by_who_has_seen_that(
    api: ApiServer, clock: FakeClock, locks: tuple[LeaseLock, LeaseLock]
) -> None:
    one, two = locks
    assert one.simple_lock()
    seen = api.record()
    assert seen.expires_in == TTL
    clock.sleep(TTL)
    assert one.valid_for() == 0
    assert two.simple_lock(seen)
    assert two.version == 2
    # Process-1 of the book finishes, and unlocks nothing of another's.
    assert one.unlock() is False
    assert two.renew()


def test_who_is_renewed_meanwhile_is_not_taken_over(
    api: ApiServer, locks: tuple[LeaseLock, LeaseLock]
) -> None:
    one, two = locks
    assert one.simple_lock()
    seen = api.record()
    assert one.renew()
    assert not two.simple_lock(seen)
    assert two.version is None


def test_a_change_by_somebody_else_costs_nothing(
    api: ApiServer, locks: tuple[LeaseLock, LeaseLock]
) -> None:
    one, _ = locks
    assert one.simple_lock()
    assert api.lease is not None
    api.write({**api.lease, "metadata": {**api.lease["metadata"], "annotations": {"a": "b"}}})
    assert one.renew()
    api.write({**api.lease, "metadata": {**api.lease["metadata"], "annotations": {"a": "c"}}})
    assert one.unlock()
    assert api.lease["metadata"]["annotations"] == {"a": "c"}


def test_a_renewal_whose_answer_was_lost_is_no_conflict(
    api: ApiServer, clock: FakeClock, locks: tuple[LeaseLock, LeaseLock]
) -> None:
    one, _ = locks
    assert one.simple_lock()
    api.lose_answers = 1
    with pytest.raises(StoreError):
        one.renew()
    clock.sleep(1)
    assert one.renew()
    assert one.valid_for() == TTL - MARGIN


def test_an_acquisition_whose_answer_was_lost_is_taken_over_at_once_with_a_new_version(
    api: ApiServer, locks: tuple[LeaseLock, LeaseLock]
) -> None:
    one, two = locks
    seen = api.record()
    api.lose_answers = 1
    with pytest.raises(StoreError):
        one.simple_lock(seen)
    one.abandon()
    record = api.record()
    assert record.owner == "one"
    assert one.claims(record)
    assert not two.claims(record)
    assert one.simple_lock(record)
    assert one.version == 2
    assert not one.claims(api.record())


def test_a_namesake_is_somebody_else(
    api: ApiServer, clock: FakeClock, token: Path, locks: tuple[LeaseLock, LeaseLock]
) -> None:
    one, _ = locks
    assert one.simple_lock()
    # The same pod's elector after a crash.
    again = LeaseLock(api, "here", "duty", "one", TTL, MARGIN, clock, token)
    assert not again.claims(api.record())
    assert not again.simple_lock()
    assert one.renew()


def test_a_deleted_lease_is_a_lost_lock(api: ApiServer, locks: tuple[LeaseLock, LeaseLock]) -> None:
    one, two = locks
    assert one.simple_lock()
    api.lease = None
    assert not one.renew()
    assert one.valid_for() == 0
    with pytest.raises(RefusedError):
        two.simple_lock()


def test_nobody_there_is_not_lost_yet(
    api: ApiServer, clock: FakeClock, locks: tuple[LeaseLock, LeaseLock]
) -> None:
    one, _ = locks
    assert one.simple_lock()
    clock.sleep(3)
    api.lose_requests = 1
    with pytest.raises(StoreError):
        one.renew()
    assert one.valid_for() == TTL - MARGIN - 3
    assert one.renew()


def test_the_token_is_read_anew(token: Path, locks: tuple[LeaseLock, LeaseLock]) -> None:
    one, _ = locks
    assert one.simple_lock()
    token.write_text("token-2")
    with pytest.raises(AssertionError):
        one.renew()


def test_what_was_refused_once_is_read_again(
    api: ApiServer, locks: tuple[LeaseLock, LeaseLock]
) -> None:
    one, _ = locks
    # A watch that stands still shows what was there before, again and again.
    stale = api.record()
    assert api.lease is not None
    api.write({**api.lease, "metadata": {**api.lease["metadata"], "annotations": {"a": "b"}}})
    assert not one.simple_lock(stale)
    assert one.simple_lock(stale)


def test_a_try_that_nobody_answered_is_given_up_at_the_end(
    api: ApiServer, locks: tuple[LeaseLock, LeaseLock]
) -> None:
    one, two = locks
    free = api.record()
    api.lose_answers = 1
    with pytest.raises(StoreError):
        one.simple_lock(free)
    one.abandon()
    assert api.record().owner == "one"
    one.close()
    assert api.record().owner == ""
    assert two.simple_lock()
    # And one that another has by now is left alone.
    one.close()
    assert api.record().owner == "two"


def test_a_watch_is_asked_anew_after_a_ttl_without_a_word(
    api: ApiServer, locks: tuple[LeaseLock, LeaseLock], monkeypatch: pytest.MonkeyPatch
) -> None:
    silences: list[float] = []

    @contextmanager
    def lines(*given: Any) -> Iterator[Iterator[dict[str, Any]]]:
        silences.append(given[4])
        yield iter(())

    monkeypatch.setattr(api, "lines", lines)
    one, _ = locks
    assert [seen.revision for seen in one.observe()] == [10]
    assert silences == [TTL]
