"""The deployed functions, and requests to them."""

import json
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tests.live.support.kube import InPod, Kube, Pod
from tests.live.support.waiting import eventually, patience

CALLS = "tests.live.in_pod.calls"
_NOT_ALLOWED = "[Errno 113]"


@dataclass(frozen=True)
class Functions:
    """The program ``functions``."""

    kube: Kube
    namespace: str
    urls: Mapping[str, str]

    def pods(self, name: str) -> list[Pod]:
        """The pods of one function."""
        return self.kube.pods(self.namespace, {"app.kubernetes.io/instance": name})

    def pod(self, name: str) -> Pod:
        """Its only pod, once it is ready."""

        def condition() -> Pod | None:
            ready = [pod for pod in self.pods(name) if pod.ready]
            return ready[0] if len(ready) == 1 else None

        found = eventually(
            condition, 90, lambda: f"one {name} is ready\n{self.kube.describe(self.namespace)}"
        )
        assert found is not None
        return found

    def client(self) -> InPod:
        return InPod(self.kube, self.pod("client"), "client")

    def call(self, name: str, body: Any = None, **more: Any) -> dict[str, Any]:
        """The response of one function to one request."""
        one: dict[str, Any] = {"url": self.urls[name], **more}
        if body is not None:
            one["body"] = body

        def answered() -> dict[str, Any] | None:
            answer = self.calls([one])[0]
            # A node may allow the connections to a new pod later than the pod is ready. Such a request
            # has not arrived, so it can be repeated.
            refused = answer["status"] == 0 and _NOT_ALLOWED in answer["content"]
            return None if refused else answer

        found = eventually(answered, 60, f"connections to {name} are allowed")
        assert found is not None
        return found

    def calls(
        self, calls: Sequence[Mapping[str, Any]], at_once: int = 1, **more: Any
    ) -> list[dict[str, Any]]:
        """The responses to several requests, in their order."""
        answers: list[dict[str, Any]] = self.client().ask(
            "calls", module=CALLS, calls=list(calls), at_once=at_once, **more
        )
        return answers

    def lines(self, name: str, request_id: str) -> list[dict[str, Any]]:
        """The lines of a function's log about one request; its status comes last."""

        def complete() -> list[dict[str, Any]] | None:
            text = self.kube.logs(self.pod(name), name)
            lines = [json.loads(line) for line in text.splitlines()]
            found = [line for line in lines if line.get("request_id") == request_id]
            # It is written after the response was sent.
            return found if any("status" in line for line in found) else None

        found = eventually(complete, 10, f"the log of {name} has the status of {request_id}")
        assert found is not None
        return found

    def health(self, name: str, path: str = "/healthz") -> str:
        """The response of the health port to a request from within the pod."""
        program = f"""
import urllib.request, urllib.error
try:
    answer = urllib.request.urlopen("http://127.0.0.1:8081{path}", timeout=5)
except urllib.error.HTTPError as error:
    answer = error
print(answer.status, answer.read().decode())
"""
        return self.kube.run(self.pod(name), name, ["python3", "-c", program])


class Scaling:
    """Load on one function until it has as many pods as it may have, and what happens after that.

    All of it runs in parallel to the tests: scaling takes minutes.
    """

    ENOUGH = "/tmp/enough"

    def __init__(self, functions: Functions, name: str, most: int) -> None:
        self._functions = functions
        self._name = name
        self._most = most
        self.seen: list[tuple[float, int]] = []
        """Seconds since the load began, and ready pods from then on."""
        self.statuses: dict[str, int] = {}
        """Number of responses by status."""
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def wait(self, timeout: float) -> None:
        """Wait for the end; raises the error that occurred."""
        self._thread.join(patience(timeout))
        if self._error is not None:
            raise self._error
        assert not self._thread.is_alive(), f"not within {patience(timeout):g} s: {self.seen}"

    def _run(self) -> None:
        try:
            self._measure()
        except BaseException as error:  # noqa: BLE001 (raised where it is waited for)
            self._error = error

    def _measure(self) -> None:
        client = self._functions.client()
        load = client.start(
            "load",
            module=CALLS,
            call={"url": self._functions.urls[self._name], "body": {"milliseconds": 12}},
            clients=4,
            pause=0.3,
            seconds=300,
            enough=self.ENOUGH,
        )
        began = time.monotonic()
        try:
            self._until(began, self._most, 240)
        finally:
            client.kube.run(client.pod, "client", ["touch", self.ENOUGH])
        self.statuses = json.loads(load.output(60))
        self._until(began, 1, 240)

    def _until(self, began: float, wanted: int, seconds: float) -> None:
        def there() -> bool:
            count = sum(pod.ready for pod in self._functions.pods(self._name))
            if not self.seen or self.seen[-1][1] != count:
                self.seen.append((round(time.monotonic() - began, 1), count))
            return count == wanted

        eventually(there, seconds, lambda: f"{wanted} pods; {self.seen} {self._scaler()}", 0.5)

    def _scaler(self) -> str:
        (found,) = self._functions.kube.objects(
            "autoscaling/v2", "HorizontalPodAutoscaler", self._functions.namespace
        )
        return json.dumps(found.get("status"))
