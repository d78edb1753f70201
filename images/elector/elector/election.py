"""One candidate: it campaigns, leads, renews, and says at any time how it stands."""

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
# Candidates that wait see a vacancy at the same moment. Each waits a random part of this and looks
# again, so that most of them see that another one was faster and ask nothing of the store.
_SPREAD_SECONDS = 0.025
_RETRY_SECONDS = 0.1
_SUBSCRIBERS = 32


class Election:
    """Threads that keep one candidate's part in an election."""

    def __init__(
        self,
        name: str,
        lock: Lock,
        renew_seconds: float,
        metrics: Metrics,
        told: Callable[[dict[str, Any]], None] | None = None,
        telling: Callable[[], bool] = lambda: True,
        clock: Clock = monotonic,
        worker_seconds: float | None = None,
    ) -> None:
        """Prepare; ``start`` begins.

        :param name: the election's
        :param renew_seconds: from one renewal to the next
        :param told: called with each change of the standing, in order
        :param telling: whether what is behind ``told`` still works
        :param worker_seconds: without a call of ``asked`` after which the application counts as
            gone: leadership is given up, and taken again only when it asks. By default it may be
            silent
        """
        self.name = name
        self.identity = lock.owner
        self._lock = lock
        self._renew_seconds = renew_seconds
        self._metrics = metrics
        self._told = told
        self._telling = telling
        self._clock = clock
        self._observer = Observer(lock, clock)
        self._stopped = threading.Event()
        self._resigned = threading.Event()
        self._mutex = threading.RLock()
        self._trying = threading.Lock()
        """Held while the store is asked for the lock."""
        self._announced: tuple[str | None, bool, int | None] = (None, False, None)
        self._subscribers: set[queue.SimpleQueue[dict[str, Any] | None]] = set()
        self._threads = [
            threading.Thread(target=self._campaign, name="campaign", daemon=True),
            threading.Thread(target=self._watch_the_clock, name="clock", daemon=True),
        ]
        self._worker: Worker | None = None
        if worker_seconds is not None:
            self._worker = Worker(worker_seconds, clock)
            self._threads.append(
                threading.Thread(
                    target=self._watch_the_worker, args=[self._worker], name="worker", daemon=True
                )
            )

    # how it stands

    def standing(self) -> dict[str, Any]:
        """What ``GET /`` answers. Whether it leads is worked out from the clock at this moment."""
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
        """As ``Lock.held``, for no longer than the application may be silent from now on.

        What it is told ends before leadership is given up because it asks no more.
        """
        held = self._lock.held()
        left = self._worker_left()
        return None if held is None or left <= 0 else (held[0], min(held[1], left))

    def _worker_left(self) -> float:
        return math.inf if self._worker is None else self._worker.left()

    @property
    def ready(self) -> bool:
        """Whether the store has been heard of; from then on it stays so, with it or without."""
        return self._observer.seen is not None

    @property
    def alive(self) -> bool:
        """Whether every thread runs."""
        threads = all(thread.is_alive() for thread in self._threads)
        return self._observer.alive and threads and self._telling()

    def metrics(self) -> str:
        """The text for Prometheus."""
        standing = self.standing()
        record = self._observer.record()
        return self._metrics.text(
            {"election": self.name, "identity": self.identity},
            {
                "leading": float(standing["leading"]),
                "valid_seconds": standing["valid_for"],
                "term": standing["token"] or (record.version if record is not None else 0),
                "campaigning": float(not self._out_of_it()),
                "store_in_touch": float(self._observer.in_touch),
            },
            standing["leader"] or "",
        )

    # what may be asked of it

    def start(self) -> None:
        """Begin to campaign."""
        self._observer.start()
        for thread in self._threads:
            thread.start()

    def asked(self) -> None:
        """Note that the application asks, and so is there."""
        if self._worker is not None and self._worker.asked():
            self._wake()

    def resign(self) -> bool:
        """Give up leadership now, and do not campaign until ``campaign`` is called.

        :returns: False if the store could not be told, which then waits for the time to live
        """
        self._resigned.set()
        return self._give_up()

    def campaign(self) -> None:
        """Take part again."""
        self._resigned.clear()
        self._wake()

    def stop(self, announce: Callable[[], None] | None = None) -> bool:
        """Give up leadership and take part no longer.

        :param announce: called between the end of the belief and the release
        :returns: as ``resign``
        """
        self._stopped.set()
        self._resigned.set()
        released = self._give_up(announce)
        # What is being asked of the store may be granted, and would then be held by nobody.
        if self._trying.acquire(timeout=self._lock.ttl):
            self._trying.release()
        self._observer.stop()
        self._lock.close()
        with self._mutex:
            for subscriber in self._subscribers:
                subscriber.put(None)
        return released

    def subscribe(self) -> queue.SimpleQueue[dict[str, Any] | None] | None:
        """A queue with the standing and each change of it; None at its end.

        :returns: None if there are too many already
        """
        with self._mutex:
            if len(self._subscribers) >= _SUBSCRIBERS or self._stopped.is_set():
                return None
            subscriber: queue.SimpleQueue[dict[str, Any] | None] = queue.SimpleQueue()
            subscriber.put(self.standing())
            self._subscribers.add(subscriber)
            return subscriber

    def unsubscribe(self, subscriber: "queue.SimpleQueue[dict[str, Any] | None]") -> None:
        """Forget a queue."""
        with self._mutex:
            self._subscribers.discard(subscriber)

    # threads

    def _campaign(self) -> None:
        while not self._stopped.is_set():
            if self._out_of_it():
                with self._observer.changed:
                    self._observer.changed.wait(1.0)
                self._announce()
                continue
            vacancy = self._observer.vacancy(1.0)
            self._announce()
            if vacancy is None or self._out_of_it():
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
            return not self._out_of_it() and self._tried(vacancy)

    def _tried(self, vacancy: Vacancy) -> bool:
        self._metrics.count("acquire_attempts_total")
        try:
            won = self._lock.simple_lock(vacancy.record)
        except (StoreError, RefusedError) as error:
            _log.warning("could not campaign: %s", error)
            # It may have worked.
            self._lock.abandon()
            self._stopped.wait(_RETRY_SECONDS)
            return False
        if won and self._out_of_it():
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
                _log.warning("the lock is another's, or gone")
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
        if not self._out_of_it():
            # Its time is over for this holder; the sooner the store knows the better.
            self._lock.abandon()

    def _overtaken(self) -> bool:
        seen = self._observer.seen
        return seen is not None and self._lock.overtaken(seen)

    def _watch_the_clock(self) -> None:
        """Say that leadership has ended when it ends, whatever the other threads wait for."""
        while not self._stopped.is_set():
            with self._observer.changed:
                left = self._lock.valid_for()
                self._observer.changed.wait(min(1.0, left) if left > 0 else 1.0)
            self._announce()

    def _watch_the_worker(self, worker: Worker) -> None:
        """Give leadership up when the application asks no more, until it asks again."""
        while not self._stopped.is_set():
            with self._observer.changed:
                if not worker.back():
                    self._observer.changed.wait(1.0)
                    continue
            _log.info("the application asks, so this one takes part")
            self._wake()
            self._until_silent(worker)
            if self._stopped.is_set():
                return
            self._metrics.count("workers_lost_total")
            _log.warning("the application asks no more, so this one leads no more")
            self._give_up()

    def _until_silent(self, worker: Worker) -> None:
        while not self._stopped.is_set():
            with self._observer.changed:
                left = worker.left()
                if left <= 0:
                    return
                self._observer.changed.wait(min(1.0, left))

    def _out_of_it(self) -> bool:
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
        """Tell whoever wants to know, if anything but the time has changed."""
        with self._mutex:
            standing = self.standing()
            news = (standing["leader"], standing["leading"], standing["token"])
            before = self._announced
            if news == before:
                return
            self._announced = news
            if news[0] != before[0]:
                self._metrics.count("leader_changes_total")
            _log.info("leader %s, leading %s, token %s (monotonic %.6f)", *news, time.monotonic())
            for subscriber in self._subscribers:
                subscriber.put(standing)
            if self._told is not None:
                self._told(standing)
