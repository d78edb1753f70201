"""Users that log in, and the text messages sent to them."""

import http
import time
from dataclasses import dataclass
from typing import Any

from tests.live.support.events import Events
from tests.live.support.waiting import eventually

OUTAGE_SECONDS = 60.0
_UNREACHED = "+4930999999"
_counter = iter(range(10**6))


@dataclass(frozen=True)
class Login:
    """One event, and the text messages it led to."""

    events: Events
    user: str
    id: str

    def messages(self) -> list[dict[str, Any]]:
        """The gateway's messages to this user."""
        sent = inbox(self.events)["messages"]
        return [one for one in sent if f"Hello {self.user} " in one["body"]]

    def code(self, timeout: float = 40) -> str:
        """The code of the first message, once there is one."""
        first = eventually(self.messages, timeout, f"{self.user} gets a message")[0]
        return str(first["body"].rstrip(".").rpartition(" ")[2])

    def check(self, code: str) -> tuple[int, Any]:
        """Check a code; the login service's response."""
        url = f"{self.events.outputs['codes']}/codes/check"
        return self.events.http(url, {"user": self.user, "code": code})

    def outcomes(self) -> list[str]:
        """The outcome of each attempt so far, its publication included."""
        return [one["outcome"] for one in self.events.trace(self.id)["records"]]

    def over(self) -> dict[str, Any]:
        """The trace, once the event is acknowledged."""

        def acknowledged() -> Any:
            found = self.events.trace(self.id)
            return found if found["done"] or found["dead"] else None

        found: dict[str, Any] = eventually(acknowledged, 40, f"{self.user}'s event is over")
        return found


def inbox(events: Events) -> dict[str, Any]:
    """The messages that the gateway has sent, and its number of requests."""
    status, content = events.http(f"{events.outputs['gateway']}/inbox")
    assert status == 200
    found: dict[str, Any] = content
    return found


def behave(events: Events, **how: Any) -> None:
    """Change the gateway's behaviour."""
    assert events.http(f"{events.outputs['gateway']}/behave", how)[0] == 200


def login(events: Events, phone: str = "+4930123456") -> Login:
    """Let a new user log in."""
    number = next(_counter)
    made = Login(events, f"user{number}@example.org", f"login-{number}-{time.time_ns()}")

    def accepted() -> bool:
        status, content = events.http(
            events.outputs["logins"],
            {"user": made.user, "phoneNumber": phone},
            headers={"ce-id": made.id},
        )
        # Already known if its first response came too late.
        return status == http.HTTPStatus.ACCEPTED and content["id"] == made.id

    eventually(accepted, 30, f"{made.user} logs in")
    return made


@dataclass(frozen=True)
class SlowLogins:
    """Slow logins, which run in parallel to the other tests."""

    early: Login
    """A login whose code expires."""
    code: str
    there: float
    """When the code had arrived, on the monotonic clock."""
    unreached: Login
    """A login whose messages the gateway refuses for a minute."""
    began: float
    """When the refusal began, on the monotonic clock."""
    refused_from: float
    """The same in Unix seconds."""


def slow_logins(events: Events) -> SlowLogins:
    """Start both."""
    refused_from = time.time()
    behave(events, down=OUTAGE_SECONDS, to=_UNREACHED)
    began = time.monotonic()
    unreached = login(events, _UNREACHED)
    early = login(events)
    return SlowLogins(early, early.code(), time.monotonic(), unreached, began, refused_from)
