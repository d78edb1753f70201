"""When a function has no pod, wakes it; when nobody has asked for a while, lets it sleep.

Its pods say themselves how long they have had nothing to do, so that several activators, or one
that was restarted, come to the same result. A pod counts as soon as it answers, not when the
kubelet has seen it: that asks once a second only.
"""

import http.client
import json
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Protocol

from function_runtime.cluster import ClusterError, Pod, Scale
from function_runtime.logs import Log

LOOK_SECONDS = 0.025
"""Between two looks at a pod that somebody waits for."""
_CALM_SECONDS = 1.0
_ORDER_SECONDS = 0.25
_PROBE_SECONDS = 0.25
_MISSES = 3
_FOLLOW_SECONDS = 1.0
"""From one question after the pods to the next, at least."""


class FullError(Exception):
    """As many requests are held as may be."""


class LateError(Exception):
    """No pod got ready in time. Says why in few words, and at length."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(reason)
        self.detail = detail


class Scaled(Protocol):
    """What can be woken."""

    def scale(self) -> Scale:
        """The number of pods that are wanted."""

    def order(self, replicas: int, seen: Scale) -> bool:
        """Change the number; False if somebody else has changed it since it was read."""


@dataclass
class Place:
    """A pod, and how many requests it has from here."""

    pod: Pod
    ready: bool = False
    taken: int = 0
    missed: int = 0
    """Probes in a row that it did not answer: one alone may only be busy."""


@dataclass(frozen=True)
class Limits:
    """What the activator was told."""

    concurrency: int
    """Requests that one pod gets at a time."""
    held: int
    """Requests that wait."""
    idle_seconds: float
    """Time without any request after which the pods go."""


Probe = Callable[[str], dict[str, Any] | None]
"""A pod's activity by its address; None if it is not ready."""


class Waking:
    """The function's pods, and who waits for one."""

    def __init__(
        self,
        limits: Limits,
        scaled: Scaled,
        probe: Probe,
        log: Log,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._limits = limits
        self._scaled = scaled
        self._probe = probe
        self._log = log
        self._clock = clock
        mutex = threading.Lock()
        self._place = threading.Condition(mutex)
        """Told when there may be a place."""
        self._work = threading.Condition(mutex)
        """Told when there is something to do."""
        self._places: dict[str, Place] = {}
        self._synchronised = False
        self._held = 0
        self._last = clock()
        self._looked = self._ordered = -_CALM_SECONDS
        self._began: float | None = None
        self._trouble = ""
        self.wakes = 0
        self.woken_seconds = 0.0

    @property
    def ready(self) -> bool:
        """Whether the pods are known."""
        return self._synchronised

    @property
    def held(self) -> int:
        """Requests that wait now."""
        return self._held

    @property
    def passed(self) -> int:
        """Requests that pods have now."""
        with self._place:
            return sum(one.taken for one in self._places.values())

    # requests

    def take_now(self) -> Place | None:
        """A place at a pod, if there is one."""
        with self._place:
            self._last = self._clock()
            place = self._free()
            if place is not None:
                place.taken += 1
            return place

    def take(self, seconds: float) -> Place:
        """A place at a pod, after waiting for one.

        :raises FullError: as many wait as may
        :raises LateError: there was none within ``seconds``
        """
        deadline = self._clock() + seconds
        with self._place:
            self._last = self._clock()
            place = self._free()
            if place is None:
                if self._held >= self._limits.held:
                    raise FullError
                self._held += 1
                self._work.notify()
                try:
                    while (place := self._free()) is None:
                        left = deadline - self._clock()
                        if left <= 0:
                            raise LateError(*self._why())
                        self._place.wait(left)
                finally:
                    self._held -= 1
            place.taken += 1
            return place

    def give(self, place: Place, *, lost: bool = False) -> None:
        """Give it back.

        :param lost: the pod did not answer; it must answer a probe before it gets another request
        """
        with self._place:
            place.taken -= 1
            self._last = self._clock()
            if lost:
                place.ready = False
                self._work.notify()
            self._place.notify()

    def _free(self) -> Place | None:
        free = [
            one
            for one in self._places.values()
            if one.ready and not one.pod.leaving and one.taken < self._limits.concurrency
        ]
        return min(free, key=lambda one: one.taken, default=None)

    def _why(self) -> tuple[str, str]:
        staying = [one for one in self._places.values() if not one.pod.leaving]
        if self._trouble:
            return "the cluster's API does not help", self._trouble
        if any(one.ready for one in staying):
            return "all pods are busy", ""
        for one in staying:
            if one.pod.reason:
                return one.pod.reason, f"{one.pod.name}: {one.pod.reason}: {one.pod.detail}"
        if staying:
            return "its pod is not ready yet", ", ".join(one.pod.name for one in staying)
        return "it has no pod", ""

    # pods

    def told(self, pods: Iterable[Pod]) -> None:
        """Take over what the cluster says."""
        with self._place:
            now = {pod.uid: pod for pod in pods}
            for uid in [*self._places]:
                if uid not in now:
                    del self._places[uid]
            for uid, pod in now.items():
                place = self._places.setdefault(uid, Place(pod))
                place.pod = pod
            self._synchronised = True
            self._work.notify()

    def run(self) -> None:
        """Do what is to be done, for ever."""
        while True:
            try:
                self.look()
            except Exception as error:  # noqa: BLE001 (whoever wakes must go on)
                self._log.write("error", f"{type(error).__name__}: {error}")
            with self._work:
                self._work.wait(self._pause())

    def _pause(self) -> float:
        if self._held:
            return LOOK_SECONDS
        return _CALM_SECONDS if self._places else 30 * _CALM_SECONDS

    def look(self) -> None:
        """Ask the pods, and wake them or let them sleep."""
        with self._place:
            staying = [one for one in self._places.values() if not one.pod.leaving]
            now = self._clock()
            calm = now - self._looked >= _CALM_SECONDS
            if calm:
                self._looked = now
        sleeping = [
            self._sleeps(one) for one in staying if one.pod.address and (calm or not one.ready)
        ]
        with self._place:
            waited, idle = self._held > 0, self._clock() - self._last
            busy = any(one.taken for one in self._places.values())
            known = self._synchronised
        try:
            if waited and not staying and known:
                self._order(0, 1, "woken")
            elif (
                staying
                and calm
                and not (waited or busy)
                and idle >= self._limits.idle_seconds
                and all(sleeping)
            ):
                self._order(None, 0, "nobody asks, goes to sleep")
        except ClusterError as error:
            if self._trouble != str(error):
                self._log.write("error", f"the number of pods could not be changed: {error}")
            self._trouble = str(error)

    def _sleeps(self, place: Place) -> bool:
        """Ask a pod; whether nothing speaks against letting it go."""
        activity = self._probe(place.pod.address)
        with self._place:
            place.missed = 0 if activity else place.missed + 1
            first = activity is not None and not place.ready
            place.ready = activity is not None or (place.ready and place.missed < _MISSES)
            if first:
                self._place.notify_all()
        if first and self._began is not None:
            seconds = self._clock() - self._began
            self._began = None
            self.wakes += 1
            self.woken_seconds += seconds
            self._log.write(
                "info", "awake", pod=place.pod.name, milliseconds=round(1000 * seconds, 1)
            )
        if activity is None:
            # One that never got ready need not stay.
            return not place.ready
        idle = float(activity["idle_seconds"])
        return not activity["busy"] and idle >= self._limits.idle_seconds

    def _order(self, expected: int | None, wanted: int, what: str) -> None:
        """Change the number of pods, if it is the expected one or, with None, another."""
        now = self._clock()
        if now - self._ordered < _ORDER_SECONDS:
            return
        self._ordered = now
        seen = self._scaled.scale()
        if seen.replicas == wanted or (expected is not None and seen.replicas != expected):
            # It has its number, and the pods are not there yet, or not gone yet.
            self._trouble = ""
            return
        if wanted:
            self._began = now
        if self._scaled.order(wanted, seen):
            self._log.write("info", what, pods=wanted)
        self._trouble = ""


def ask_pod(address: str, port: int) -> dict[str, Any] | None:
    """What a pod says of itself; None if it is not ready."""
    connection = http.client.HTTPConnection(address, port, timeout=_PROBE_SECONDS)
    try:
        connection.request("GET", "/activity")
        answer = connection.getresponse()
        text = answer.read()
        return json.loads(text) if answer.status == http.HTTPStatus.OK else None
    except (OSError, ValueError, http.client.HTTPException):
        return None
    finally:
        connection.close()


def follow(watch: Callable[[Callable[[list[Pod]], None]], None], waking: Waking, log: Log) -> None:
    """Keep the pods up to date, for ever."""
    while True:
        began = time.monotonic()
        try:
            watch(waking.told)
        except ClusterError as error:
            log.write("error", f"the pods are not followed: {error}")
        except Exception as error:  # noqa: BLE001 (as above)
            log.write("error", f"the pods are not followed: {type(error).__name__}: {error}")
        # Also one that ends without an error may end at once, each time.
        time.sleep(max(0.0, began + _FOLLOW_SECONDS - time.monotonic()))
