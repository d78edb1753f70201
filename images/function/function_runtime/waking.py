"""Scales a function from zero for a request, and to zero when it is idle.

The pods themselves report how long they have been idle, so that several activators, or a restarted
one, agree. A pod is used as soon as it responds to a probe of the activator, before the kubelet marks
it ready: that probes only once a second.
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

POLL_SECONDS = 0.025
"""Interval of probes while requests wait for a pod."""
_IDLE_POLL_SECONDS = 1.0
_ORDER_SECONDS = 0.25
_PROBE_SECONDS = 0.25
_MISSES = 3
_FOLLOW_SECONDS = 1.0
"""Minimum interval between two watches."""


class FullError(Exception):
    """The queue of requests is full."""


class LateError(Exception):
    """No pod was ready in time; with a short and a detailed reason."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(reason)
        self.detail = detail


class Scaled(Protocol):
    """A Deployment that can be scaled."""

    def scale(self) -> Scale:
        """The desired number of pods."""

    def order(self, replicas: int, seen: Scale) -> bool:
        """Set the number of pods; False if it was changed concurrently."""


@dataclass
class Place:
    """A pod, and the number of requests forwarded to it."""

    pod: Pod
    ready: bool = False
    taken: int = 0
    missed: int = 0
    """Consecutive failed probes: a single one may only mean that the pod is busy."""


@dataclass(frozen=True)
class Limits:
    """The activator's limits."""

    concurrency: int
    """Maximum concurrent requests of a pod."""
    held: int
    """Maximum queued requests."""
    idle_seconds: float
    """Time without a request after which the function is scaled to zero."""


Probe = Callable[[str], dict[str, Any] | None]
"""Returns a pod's activity by its address; None if it is not ready."""


class Waking:
    """The function's pods, and the requests that wait for one."""

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
        """Notified when there may be a free slot."""
        self._work = threading.Condition(mutex)
        """Notified when there is work for the reconcile loop."""
        self._places: dict[str, Place] = {}
        self._synchronised = False
        self._held = 0
        self._last = clock()
        self._polled = self._ordered = -_IDLE_POLL_SECONDS
        self._began: float | None = None
        self._trouble = ""
        self.wakes = 0
        self.woken_seconds = 0.0

    @property
    def ready(self) -> bool:
        """Whether the list of pods has been read."""
        return self._synchronised

    @property
    def held(self) -> int:
        """Number of queued requests."""
        return self._held

    @property
    def passed(self) -> int:
        """Number of forwarded requests."""
        with self._place:
            return sum(one.taken for one in self._places.values())

    # requests

    def take_now(self) -> Place | None:
        """A free slot of a pod, if there is one."""
        with self._place:
            self._last = self._clock()
            place = self._free()
            if place is not None:
                place.taken += 1
            return place

    def take(self, seconds: float) -> Place:
        """A slot of a pod; waits for one.

        :raises FullError: the queue is full
        :raises LateError: no slot within ``seconds``
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
        """Release a slot.

        :param lost: the pod did not respond; it gets no requests until its next successful probe
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
            return "the Kubernetes API failed", self._trouble
        if any(one.ready for one in staying):
            return "all pods are busy", ""
        for one in staying:
            if one.pod.reason:
                return one.pod.reason, f"{one.pod.name}: {one.pod.reason}: {one.pod.detail}"
        if staying:
            return "the pod is not ready yet", ", ".join(one.pod.name for one in staying)
        return "there is no pod", ""

    # pods

    def update(self, pods: Iterable[Pod]) -> None:
        """Update the list of pods."""
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
        """Reconcile for ever."""
        while True:
            try:
                self.reconcile()
            except Exception as error:  # noqa: BLE001 (the loop must continue)
                self._log.write("error", f"{type(error).__name__}: {error}")
            with self._work:
                self._work.wait(self._pause())

    def _pause(self) -> float:
        if self._held:
            return POLL_SECONDS
        return _IDLE_POLL_SECONDS if self._places else 30 * _IDLE_POLL_SECONDS

    def reconcile(self) -> None:
        """Probe the pods, and scale from or to zero."""
        with self._place:
            staying = [one for one in self._places.values() if not one.pod.leaving]
            now = self._clock()
            due = now - self._polled >= _IDLE_POLL_SECONDS
            if due:
                self._polled = now
        idle_pods = [
            self._is_idle(one) for one in staying if one.pod.address and (due or not one.ready)
        ]
        with self._place:
            waited, idle = self._held > 0, self._clock() - self._last
            busy = any(one.taken for one in self._places.values())
            known = self._synchronised
        try:
            if waited and not staying and known:
                self._scale_to(0, 1, "scaled from zero")
            elif (
                staying
                and due
                and not (waited or busy)
                and idle >= self._limits.idle_seconds
                and all(idle_pods)
            ):
                self._scale_to(None, 0, "idle, scaled to zero")
        except ClusterError as error:
            if self._trouble != str(error):
                self._log.write("error", f"could not scale: {error}")
            self._trouble = str(error)

    def _is_idle(self, place: Place) -> bool:
        """Probe a pod; returns whether it may be scaled down."""
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
                "info", "first pod ready", pod=place.pod.name, milliseconds=round(1000 * seconds, 1)
            )
        if activity is None:
            # A pod that never became ready may be scaled down.
            return not place.ready
        idle = float(activity["idle_seconds"])
        return not activity["busy"] and idle >= self._limits.idle_seconds

    def _scale_to(self, expected: int | None, wanted: int, what: str) -> None:
        """Set the number of pods, if the current one is ``expected`` (None: any)."""
        now = self._clock()
        if now - self._ordered < _ORDER_SECONDS:
            return
        self._ordered = now
        seen = self._scaled.scale()
        if seen.replicas == wanted or (expected is not None and seen.replicas != expected):
            # It is set already; the pods have not started or terminated yet.
            self._trouble = ""
            return
        if wanted:
            self._began = now
        if self._scaled.order(wanted, seen):
            self._log.write("info", what, pods=wanted)
        self._trouble = ""


def ask_pod(address: str, port: int) -> dict[str, Any] | None:
    """A pod's activity; None if it is not ready."""
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
    """Watch the pods for ever."""
    while True:
        began = time.monotonic()
        try:
            watch(waking.update)
        except ClusterError as error:
            log.write("error", f"the watch of the pods failed: {error}")
        except Exception as error:  # noqa: BLE001 (as above)
            log.write("error", f"the watch of the pods failed: {type(error).__name__}: {error}")
        # A watch without an error may end at once too, each time.
        time.sleep(max(0.0, began + _FOLLOW_SECONDS - time.monotonic()))
