"""The lock: the book's scenario, and that no two believe in it whatever happens on the way."""

from collections.abc import Callable
from typing import Any

import pytest
from elector.belief import Belief
from elector.errors import RefusedError, StoreError
from elector.etcd_lock import EtcdLock
from elector.lock import Record, Seen, hold
from elector.seed import SeedLock
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from tests.unit.support.etcd_model import EtcdModel, FakeClock

TTL, MARGIN = 10.0, 1.0
KEY = "elections/duty"
SECONDS = st.floats(0, 3 * TTL)
# Mostly short, or hardly anybody would ever get the lock.
DELAYS = st.sampled_from([0.0, 0.0, 0.0, 0.1, 2.0, TTL - MARGIN, TTL, 2 * TTL])


class Process:
    """One that takes the lock, and what it thinks of it."""

    def __init__(self, lock: EtcdLock) -> None:
        self.lock = lock


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def etcd(clock: FakeClock) -> EtcdModel:
    return EtcdModel(clock)


def lock(etcd: EtcdModel, clock: FakeClock, owner: str) -> EtcdLock:
    return EtcdLock(etcd, KEY, owner, TTL, MARGIN, clock)


# The book's scenario: chapter 9, "Bug introduced", in its six steps.


def test_the_books_unversioned_lock_has_two_owners_after_six_steps(
    etcd: EtcdModel, clock: FakeClock
) -> None:
    one, two, three = (SeedLock(etcd, KEY, int(TTL)) for _ in range(3))
    assert one.simple_lock()  # 1. Process-1 obtains the lock with TTL t.
    clock.sleep(TTL + 1)  # 2. It runs really slowly, 3. the lock expires,
    assert two.simple_lock()  # 4. and Process-2 acquires it.
    assert one.unlock()  # 5. Process-1 finishes and calls unlock,
    assert three.simple_lock()  # 6. and Process-3 acquires the lock,
    assert two.renew()  # which Process-2 holds too: its next renewal says so.
    assert three.renew()


def test_the_versioned_lock_has_one_owner_after_the_same_steps(
    etcd: EtcdModel, clock: FakeClock
) -> None:
    one, two, three = (lock(etcd, clock, owner) for owner in ("one", "two", "three"))
    assert one.simple_lock()
    clock.sleep(TTL + 1)
    assert two.simple_lock()
    assert one.unlock() is False
    assert not three.simple_lock()
    assert two.renew()
    assert [p.version for p in (one, two, three)] == [None, two.version, None]


# Its parts


def test_a_lock_is_taken_renewed_and_given_up(etcd: EtcdModel, clock: FakeClock) -> None:
    mine, other = lock(etcd, clock, "mine"), lock(etcd, clock, "other")
    assert mine.simple_lock()
    assert mine.valid_for() == TTL - MARGIN
    assert mine.version == 2
    assert not other.simple_lock()
    clock.sleep(8)
    assert mine.renew()
    assert mine.valid_for() == TTL - MARGIN
    assert mine.unlock()
    assert mine.held() is None
    assert other.simple_lock()
    assert other.version == 4


def test_the_time_counts_from_before_the_request(etcd: EtcdModel, clock: FakeClock) -> None:
    mine = lock(etcd, clock, "mine")
    etcd.on_the_way_back = lambda: clock.sleep(1)
    assert mine.simple_lock()
    # Two requests, each a second on its way back.
    assert mine.valid_for() == TTL - MARGIN - 2
    clock.sleep(3)
    assert mine.renew()
    # Here as well: the lease, and whose the lock is.
    assert mine.valid_for() == TTL - MARGIN - 2


def test_an_answer_that_is_later_than_the_lock_lasts_is_no_lock(
    etcd: EtcdModel, clock: FakeClock
) -> None:
    mine = lock(etcd, clock, "mine")
    etcd.on_the_way_back = lambda: clock.sleep(5)
    assert not mine.simple_lock()
    etcd.on_the_way_back = lambda: None
    assert etcd.owner(KEY) is None, "what it got is given back"


def test_a_belief_that_has_ended_is_not_extended_by_a_late_answer(
    etcd: EtcdModel, clock: FakeClock
) -> None:
    mine = lock(etcd, clock, "mine")
    assert mine.simple_lock()
    clock.sleep(TTL - MARGIN - 0.5)
    # etcd renews in time, and the answer is on its way for a second.
    etcd.on_the_way_back = lambda: clock.sleep(1)
    assert not mine.renew()
    assert mine.valid_for() == 0
    assert etcd.owner(KEY) is not None
    assert not mine.renew()


def test_who_saw_the_end_is_not_told_otherwise_later(clock: FakeClock) -> None:
    belief = Belief(1, clock(), 5, clock)
    clock.sleep(5)
    assert belief.valid_for() == 0
    clock.now -= 1
    assert not belief.extend(clock(), 100)
    assert belief.valid_for() == 0


def test_a_lease_that_is_gone_is_a_lost_lock(etcd: EtcdModel, clock: FakeClock) -> None:
    mine = lock(etcd, clock, "mine")
    assert mine.simple_lock()
    etcd.leases.clear()
    assert not mine.renew()
    assert mine.valid_for() == 0


def test_a_renewal_that_nobody_answers_changes_nothing(etcd: EtcdModel, clock: FakeClock) -> None:
    mine = lock(etcd, clock, "mine")
    assert mine.simple_lock()
    clock.sleep(3)
    etcd.on_the_way = lambda: fail("nobody there")
    with pytest.raises(StoreError):
        mine.renew()
    assert mine.valid_for() == TTL - MARGIN - 3


def test_an_acquisition_whose_answer_was_lost_is_found_again(
    etcd: EtcdModel, clock: FakeClock
) -> None:
    mine = lock(etcd, clock, "mine")
    lose_the_second_answer(etcd)
    with pytest.raises(StoreError):
        mine.simple_lock()
    assert mine.version is None
    etcd.on_the_way_back = lambda: None
    assert mine.simple_lock()
    assert mine.version == 2


def test_an_acquisition_that_is_given_up_leaves_nothing(etcd: EtcdModel, clock: FakeClock) -> None:
    mine, other = lock(etcd, clock, "mine"), lock(etcd, clock, "other")
    lose_the_second_answer(etcd)
    with pytest.raises(StoreError):
        mine.simple_lock()
    etcd.on_the_way_back = lambda: None
    mine.abandon()
    assert other.simple_lock()


def test_a_release_that_nobody_answers_is_not_believed_in(
    etcd: EtcdModel, clock: FakeClock
) -> None:
    mine = lock(etcd, clock, "mine")
    assert mine.simple_lock()
    etcd.on_the_way = lambda: fail("nobody there")
    with pytest.raises(StoreError):
        mine.unlock()
    assert mine.valid_for() == 0


def test_a_release_that_never_arrived_is_made_up_for_with_a_new_version(
    etcd: EtcdModel, clock: FakeClock
) -> None:
    mine = lock(etcd, clock, "mine")
    assert mine.simple_lock()
    before = mine.version
    assert before is not None
    etcd.on_the_way = lambda: fail("nobody there")
    with pytest.raises(StoreError):
        mine.unlock()
    etcd.on_the_way = lambda: None
    assert not mine.simple_lock()
    assert mine.simple_lock()
    assert mine.version is not None
    assert mine.version > before


def test_losers_use_their_lease_again(etcd: EtcdModel, clock: FakeClock) -> None:
    assert lock(etcd, clock, "winner").simple_lock()
    loser = lock(etcd, clock, "loser")
    for _ in range(5):
        assert not loser.simple_lock()
    assert etcd.calls.count("lease/grant") == 2
    loser.close()
    assert len(etcd.leases) == 1


def test_acquire_and_release_ask_little(etcd: EtcdModel, clock: FakeClock) -> None:
    mine = lock(etcd, clock, "mine")
    assert mine.simple_lock()
    assert mine.unlock()
    assert mine.simple_lock()
    assert mine.unlock()
    # The lease of the first round is kept alive for the second, which etcd does in memory.
    assert etcd.calls == [
        "lease/grant", "kv/txn", "kv/txn", "lease/keepalive", "kv/txn", "kv/txn",
    ]  # fmt: skip


def test_a_key_that_is_deleted_by_hand_is_noticed_and_its_successor_is_younger(
    etcd: EtcdModel, clock: FakeClock
) -> None:
    mine, other = lock(etcd, clock, "mine"), lock(etcd, clock, "other")
    assert mine.simple_lock()
    before = mine.version
    assert before is not None
    assert not mine.overtaken(Seen(Record("mine", before), etcd.revision))
    assert not mine.overtaken(Seen(None, before - 1)), "news from before it was taken"
    del etcd.keys[KEY]
    etcd.revision += 1
    assert mine.overtaken(Seen(None, etcd.revision))
    assert other.simple_lock()
    assert other.version is not None
    assert other.version > before


def test_a_key_that_is_deleted_by_hand_is_noticed_by_the_next_renewal(
    etcd: EtcdModel, clock: FakeClock
) -> None:
    mine, other = lock(etcd, clock, "mine"), lock(etcd, clock, "other")
    assert mine.simple_lock()
    del etcd.keys[KEY]
    assert other.simple_lock()
    # Its own lease lives, and no watch says anything.
    assert not mine.renew()
    assert mine.held() is None
    assert other.renew()


def test_a_renewal_that_has_no_time_left_to_look_changes_nothing(
    etcd: EtcdModel, clock: FakeClock
) -> None:
    mine = lock(etcd, clock, "mine")
    assert mine.simple_lock()
    etcd.on_the_way = lambda: clock.sleep(2)
    with pytest.raises(StoreError, match="no time was left"):
        mine.renew(2)
    assert mine.valid_for() > 0


def test_hold_calls_handle_lock_lost_when_the_store_refuses(
    etcd: EtcdModel, clock: FakeClock
) -> None:
    mine = lock(etcd, clock, "mine")
    assert mine.simple_lock()

    def refuse() -> None:
        raise RefusedError(403, 7, "permission denied")

    etcd.on_the_way = refuse
    lost: list[float] = []
    hold(mine, lambda: lost.append(clock()), Stop(clock, 1000))  # type: ignore[arg-type]
    assert len(lost) == 1
    assert mine.held() is None


class Stop:
    """An event whose waiting is the fake clock's."""

    def __init__(self, clock: FakeClock, until: float) -> None:
        self.clock, self.until = clock, until

    def wait(self, seconds: float) -> bool:
        self.clock.sleep(seconds)
        return self.clock() >= self.until


def test_hold_renews_until_it_is_told_to_stop(etcd: EtcdModel, clock: FakeClock) -> None:
    mine, lost = lock(etcd, clock, "mine"), []
    assert mine.simple_lock()
    stop: Any = Stop(clock, clock() + 10 * TTL)
    hold(mine, lambda: lost.append(clock()), stop)
    assert not lost
    assert mine.valid_for() > 0
    assert 25 <= etcd.calls.count("lease/keepalive") <= 35


def test_hold_calls_handle_lock_lost_before_the_store_lets_go(
    etcd: EtcdModel, clock: FakeClock
) -> None:
    mine, lost = lock(etcd, clock, "mine"), []
    assert mine.simple_lock()
    end = clock() + TTL
    etcd.on_the_way = lambda: fail("nobody there")
    stop: Any = Stop(clock, clock() + 10 * TTL)
    hold(mine, lambda: lost.append(clock()), stop)
    (at,) = lost
    assert end - 2 * MARGIN < at <= end - MARGIN + 0.2


# Whatever happens


@given(st.lists(st.tuples(SECONDS, SECONDS, SECONDS, st.booleans()), min_size=1, max_size=12))
@settings(max_examples=200)
def test_a_belief_never_lasts_longer_than_what_was_granted(
    renewals: list[tuple[float, float, float, bool]],
) -> None:
    clock = FakeClock()
    granted_until = clock() + TTL
    belief = Belief(1, clock(), TTL - MARGIN, clock)
    ended = False
    for pause, there, back, looks in renewals:
        clock.sleep(pause)
        if looks:
            ended |= belief.valid_for() == 0
        sent = clock()
        clock.sleep(there)
        if clock() >= granted_until:
            # The store would not renew any more.
            break
        granted_until = max(granted_until, clock() + TTL)
        clock.sleep(back)
        taken = belief.extend(sent, TTL - MARGIN)
        assert not (ended and taken)
        ended |= not taken
        assert clock() + belief.valid_for() <= granted_until - MARGIN or belief.valid_for() == 0


class OneOwner(RuleBasedStateMachine):
    """Three processes that lock, renew and unlock, while others act and time passes on the way."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = FakeClock()
        self.etcd = EtcdModel(self.clock)
        self.processes = [lock(self.etcd, self.clock, f"p{i}") for i in range(3)]
        self.versions: list[int] = []

    @rule(seconds=SECONDS)
    def time_passes(self, seconds: float) -> None:
        self.clock.sleep(seconds)

    @rule(
        who=st.integers(0, 2),
        what=st.sampled_from(["simple_lock", "renew", "unlock", "abandon"]),
        there=DELAYS,
        back=DELAYS,
        meanwhile=st.lists(
            st.tuples(st.integers(1, 2), st.sampled_from(["simple_lock", "renew", "unlock"])),
            max_size=3,
        ),
        lost=st.sampled_from(["", "request", "answer"]),
    )
    def act(
        self,
        who: int,
        what: str,
        there: float,
        back: float,
        meanwhile: list[tuple[int, str]],
        lost: str,
    ) -> None:
        def others() -> None:
            before = self.etcd.on_the_way, self.etcd.on_the_way_back
            self.etcd.on_the_way = self.etcd.on_the_way_back = lambda: None
            for shift, other in meanwhile:
                self.do((who + shift) % 3, other)
                self.at_most_one_believes()
            self.etcd.on_the_way, self.etcd.on_the_way_back = before

        def on_the_way() -> None:
            self.clock.sleep(there)
            if lost == "request":
                fail("the request was lost")

        def on_the_way_back() -> None:
            self.clock.sleep(back)
            others()
            if lost == "answer":
                fail("the answer was lost")

        self.etcd.on_the_way, self.etcd.on_the_way_back = on_the_way, on_the_way_back
        self.do(who, what)
        self.etcd.on_the_way = self.etcd.on_the_way_back = lambda: None

    def do(self, who: int, what: str) -> None:
        process = self.processes[who]
        held = process.version
        try:
            done = getattr(process, what)()
        except (StoreError, RefusedError):
            return
        if what == "simple_lock" and done and process.version not in (None, held):
            self.versions.append(int(process.version or 0))

    @invariant()
    def at_most_one_believes(self) -> None:
        believing = [process for process in self.processes if process.valid_for() > 0]
        assert len(believing) <= 1
        for process in believing:
            entry = self.etcd.owner(KEY)
            assert entry is not None, "it believes in what the store has let go"
            assert int(entry["create_revision"]) == process.version
            end, _ = self.etcd.leases[entry["lease"]]
            assert self.clock() + process.valid_for() <= end - MARGIN + 1e-6

    @invariant()
    def tokens_grow(self) -> None:
        assert self.versions == sorted(set(self.versions))


TestOneOwner: Any = OneOwner.TestCase
TestOneOwner.settings = settings(max_examples=60, stateful_step_count=25)


def lose_the_second_answer(etcd: EtcdModel) -> None:
    def first() -> None:
        etcd.on_the_way_back = lambda: fail("lost")

    etcd.on_the_way_back = first


def fail(reason: str) -> None:
    raise StoreError(reason)


def test_the_model_ends_leases_to_the_moment(etcd: EtcdModel, clock: FakeClock) -> None:
    mine = lock(etcd, clock, "mine")
    assert mine.simple_lock()
    clock.sleep(TTL - 0.001)
    assert etcd.owner(KEY)
    clock.sleep(0.001)
    assert etcd.owner(KEY) is None


def test_names_of_the_book(etcd: EtcdModel, clock: FakeClock) -> None:
    names: list[Callable[..., object]] = [
        EtcdLock.simple_lock, EtcdLock.lock, EtcdLock.unlock, EtcdLock.renew,
    ]  # fmt: skip
    assert all(callable(name) for name in names)
    seed = SeedLock(etcd, KEY, 5)
    assert seed.simple_lock()
    assert seed.value() == "1"
    assert seed.unlock()
    assert seed.value() == "0"
    assert seed.simple_lock()
    assert not seed.simple_lock()
    clock.sleep(6)
    assert seed.value() is None
