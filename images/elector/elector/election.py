"""One candidate: it campaigns, leads, renews, and reports its status."""

import logging
import math
import queue
import random
import threading
import time
from collections.abc import Callable
from typing import Any

from elector.belief import Clock, monotonic
from elector.errors import RefusedError, StoreError
from elector.lock import Lock
from elector.metrics import Metrics
from elector.observer import Observer, Vacancy
from elector.worker import Worker

_log = logging.getLogger(__name__)
# All candidates see a vacancy at the same moment. Each waits a random part of this, so that most see
# that another one was faster, and send no request to the store.
_SPREAD_SECONDS = 0.025
_RETRY_SECONDS = 0.1
_SUBSCRIBERS = 32


class Election:
    """Takes part in an election as one candidate, in threads of its own."""

    def __init__(
        self,
        name: str,
        lock: Lock,
        renew_seconds: float,
        metrics: Metrics,
        on_change: Callable[[dict[str, Any]], None] | None = None,
        notifier_alive: Callable[[], bool] = lambda: True,
        clock: Clock = monotonic,
        worker_seconds: float | None = None,
    ) -> None:
        """Create it; ``start`` starts it.

        :param name: name of the election
        :param renew_seconds: from one renewal to the next
        :param on_change: called with each change of the status, in order
        :param notifier_alive: whether the receiver of ``on_change`` still works
        :param worker_seconds: without a call of ``polled`` after which the application counts as
            failed: leadership is given up, and the candidate campaigns again only after the next
            call. By default no calls are needed
        """
        self.name = name
        self.identity = lock.owner
        self._lock = lock
        self._renew_seconds = renew_seconds
        self._metrics = metrics
        self._on_change = on_change
        self._notifier_alive = notifier_alive
        self._clock = clock
        self._observer = Observer(lock, clock)
        self._stopped = threading.Event()
        self._resigned = threading.Event()
        self._mutex = threading.RLock()
        self._trying = threading.Lock()
        """Held during an attempt to acquire the lock."""
        self._announced: tuple[str | None, bool, int | None] = (None, False, None)
        self._subscribers: set[queue.SimpleQueue[dict[str, Any] | None]] = set()
        self._threads = [
            threading.Thread(target=self._campaign, name="campaign", daemon=True),
            threading.Thread(target=self._watch_clock, name="clock", daemon=True),
        ]
        self._worker: Worker | None = None
        if worker_seconds is not None:
            self._worker = Worker(worker_seconds, clock)
            self._threads.append(
                threading.Thread(
                    target=self._watch_worker, args=[self._worker], name="worker", daemon=True
                )
            )

    # status

    def status(self) -> dict[str, Any]:
        """The response of ``GET /``. Whether it leads is computed from the clock at this moment."""
        record = self._observer.record()
        held = self._held()
        leader: str | None = None
        if held is not None:
            leader = self.identity
        elif record is not None and record.owner and record.owner != self.identity:
            leader = record.owner
        return {
            "election": self.name,
            "identity": self.identity,
            "leader": leader,
            "leading": held is not None,
            "token": None if held is None else held[0],
            "valid_for": 0 if held is None else round(held[1], 6),
        }

    def _held(self) -> tuple[int, float] | None:
        """As ``Lock.held``, limited to the rest of ``worker_seconds``.

                So ``valid_for`` ends before leadership is given up because the application sends no
        requests.
        """
        held = self._lock.held()
        left = self._worker_left()
        return None if held is None or left <= 0 else (held[0], min(held[1], left))

    def _worker_left(self) -> float:
        return math.inf if self._worker is None else self._worker.left()

    @property
    def ready(self) -> bool:
        """Whether the store has been read once; it stays ready during a later outage."""
        return self._observer.seen is not None

    @property
    def alive(self) -> bool:
        """Whether every thread runs."""
        threads = all(thread.is_alive() for thread in self._threads)
        return self._observer.alive and threads and self._notifier_alive()

    def metrics(self) -> str:
        """The metrics for Prometheus."""
        status = self.status()
        record = self._observer.record()
        return self._metrics.text(
            {"election": self.name, "identity": self.identity},
            {
                "leading": float(status["leading"]),
                "valid_seconds": status["valid_for"],
                "term": status["token"] or (record.version if record is not None else 0),
                "campaigning": float(not self._withdrawn()),
                "store_in_touch": float(self._observer.connected),
            },
            status["leader"] or "",
        )

    # requests

    def start(self) -> None:
        """Start to campaign."""
        self._observer.start()
        for thread in self._threads:
            thread.start()

    def polled(self) -> None:
        """Record a request of the application, which shows that it is alive."""
        if self._worker is not None and self._worker.polled():
            self._wake()

    def resign(self) -> bool:
        """Give up leadership now, and do not campaign until ``campaign`` is called.

        :returns: False if the release failed; then the lock ends with its time to live
        """
        self._resigned.set()
        return self._give_up()

    def campaign(self) -> None:
        """Campaign again."""
        self._resigned.clear()
        self._wake()

    def stop(self, announce: Callable[[], None] | None = None) -> bool:
        """Give up leadership and leave the election.

        :param announce: called after leadership has ended here and before the release
        :returns: as ``resign``
        """
        self._stopped.set()
        self._resigned.set()
        released = self._give_up(announce)
        # A request in flight may acquire the lock, which would then stay locked without a holder.
        if self._trying.acquire(timeout=self._lock.ttl):
            self._trying.release()
        self._observer.stop()
        self._lock.close()
        with self._mutex:
            for subscriber in self._subscribers:
                subscriber.put(None)
        return released

    def subscribe(self) -> queue.SimpleQueue[dict[str, Any] | None] | None:
        """A queue of the status and its changes; None marks the end.

        :returns: None if there are too many subscribers
        """
        with self._mutex:
            if len(self._subscribers) >= _SUBSCRIBERS or self._stopped.is_set():
                return None
            subscriber: queue.SimpleQueue[dict[str, Any] | None] = queue.SimpleQueue()
            subscriber.put(self.status())
            self._subscribers.add(subscriber)
            return subscriber

    def unsubscribe(self, subscriber: "queue.SimpleQueue[dict[str, Any] | None]") -> None:
        """Remove a queue."""
        with self._mutex:
            self._subscribers.discard(subscriber)

    # threads

    def _campaign(self) -> None:
        while not self._stopped.is_set():
            if self._withdrawn():
                with self._observer.changed:
                    self._observer.changed.wait(1.0)
                self._announce()
                continue
            vacancy = self._observer.vacancy(1.0)
            self._announce()
            if vacancy is None or self._withdrawn():
                continue
            if self._observer.after(vacancy, random.uniform(0, _SPREAD_SECONDS)):  # noqa: S311
                continue
            if self._won(vacancy):
                self._lead()
            else:
                # The winner's record is on its way.
                self._observer.after(vacancy, 2 * _RETRY_SECONDS)

    def _won(self, vacancy: Vacancy) -> bool:
        with self._trying:
            return not self._withdrawn() and self._try_lock(vacancy)

    def _try_lock(self, vacancy: Vacancy) -> bool:
        self._metrics.count("acquire_attempts_total")
        try:
            won = self._lock.simple_lock(vacancy.record)
        except (StoreError, RefusedError) as error:
            _log.warning("could not campaign: %s", error)
            # The attempt may have succeeded.
            self._lock.abandon()
            self._stopped.wait(_RETRY_SECONDS)
            return False
        if won and self._withdrawn():
            self._give_up()
            return False
        return won

    def _lead(self) -> None:
        self._metrics.count("elections_won_total")
        self._wake()
        self._announce()
        next_renewal = self._clock() + self._renew_seconds
        while self._lock.valid_for() > 0:
            if self._overtaken():
                _log.warning("the lock has another owner, or is deleted")
                self._lock.lose()
                break
            left = next_renewal - self._clock()
            if left > 0:
                with self._observer.changed:
                    self._observer.changed.wait(min(left, self._lock.valid_for()))
                continue
            began = self._clock()
            next_renewal = began + self._renew_seconds
            try:
                if not self._lock.renew(self._lock.valid_for()):
                    break
                self._metrics.renewed(self._clock() - began)
                self._wake()
            except (StoreError, RefusedError) as error:
                self._metrics.count("renew_failures_total")
                _log.warning("could not renew: %s", error)
                next_renewal = self._clock() + _RETRY_SECONDS
        self._metrics.count("elections_lost_total")
        self._announce()
        if not self._withdrawn():
            # This candidate no longer leads: release the lock early rather than by its TTL.
            self._lock.abandon()

    def _overtaken(self) -> bool:
        seen = self._observer.seen
        return seen is not None and self._lock.overtaken(seen)

    def _watch_clock(self) -> None:
        """Announce the end of leadership in time, also while other threads are blocked."""
        while not self._stopped.is_set():
            with self._observer.changed:
                left = self._lock.valid_for()
                self._observer.changed.wait(min(1.0, left) if left > 0 else 1.0)
            self._announce()

    def _watch_worker(self, worker: Worker) -> None:
        """Give leadership up while the application sends no requests."""
        while not self._stopped.is_set():
            with self._observer.changed:
                if not worker.back():
                    self._observer.changed.wait(1.0)
                    continue
            _log.info("the application sends requests: campaigning")
            self._wake()
            self._until_silent(worker)
            if self._stopped.is_set():
                return
            self._metrics.count("workers_lost_total")
            _log.warning("the application sends no requests: giving up leadership")
            self._give_up()

    def _until_silent(self, worker: Worker) -> None:
        while not self._stopped.is_set():
            with self._observer.changed:
                left = worker.left()
                if left <= 0:
                    return
                self._observer.changed.wait(min(1.0, left))

    def _withdrawn(self) -> bool:
        return self._stopped.is_set() or self._resigned.is_set() or self._worker_left() <= 0

    def _give_up(self, announce: Callable[[], None] | None = None) -> bool:
        self._lock.lose()
        self._announce()
        if announce is not None:
            announce()
        try:
            self._lock.unlock()
        except (StoreError, RefusedError) as error:
            _log.warning("could not release: %s", error)
            self._lock.abandon()
            return False
        finally:
            self._wake()
        return True

    def _wake(self) -> None:
        with self._observer.changed:
            self._observer.changed.notify_all()

    def _announce(self) -> None:
        """Notify subscribers, if anything but the time has changed."""
        with self._mutex:
            status = self.status()
            news = (status["leader"], status["leading"], status["token"])
            before = self._announced
            if news == before:
                return
            self._announced = news
            if news[0] != before[0]:
                self._metrics.count("leader_changes_total")
            _log.info("leader %s, leading %s, token %s (monotonic %.6f)", *news, time.monotonic())
            for subscriber in self._subscribers:
                subscriber.put(status)
            if self._on_change is not None:
                self._on_change(status)
