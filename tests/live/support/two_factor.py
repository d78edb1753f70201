"""Users that log in, and the text messages that they get."""

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
        """What the gateway sent this user."""
        sent = inbox(self.events)["messages"]
        return [one for one in sent if f"Hello {self.user} " in one["body"]]

    def code(self, timeout: float = 40) -> str:
        """The code of the first message, once there is one."""
        first = eventually(self.messages, timeout, f"{self.user} gets a message")[0]
        return str(first["body"].rstrip(".").rpartition(" ")[2])

    def check(self, code: str) -> tuple[int, Any]:
        """What the login service is told."""
        url = f"{self.events.outputs['codes']}/codes/check"
        return self.events.http(url, {"user": self.user, "code": code})

    def outcomes(self) -> list[str]:
        """What became of each attempt so far, its publication included."""
        return [one["outcome"] for one in self.events.trace(self.id)["records"]]

    def over(self) -> dict[str, Any]:
        """The trace, once the event is acknowledged."""

        def acknowledged() -> Any:
            found = self.events.trace(self.id)
            return found if found["done"] or found["dead"] else None

        found: dict[str, Any] = eventually(acknowledged, 40, f"{self.user}'s event is over")
        return found


def inbox(events: Events) -> dict[str, Any]:
    """What the gateway has sent, and how often it was asked."""
    status, content = events.http(f"{events.outputs['gateway']}/inbox")
    assert status == 200
    found: dict[str, Any] = content
    return found


def behave(events: Events, **how: Any) -> None:
    """Make the gateway behave otherwise."""
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
        # Known already where its first answer came too late.
        return status == http.HTTPStatus.ACCEPTED and content["id"] == made.id

    eventually(accepted, 30, f"{made.user} logs in")
    return made


@dataclass(frozen=True)
class SlowLogins:
    """What takes its time, and runs while the other tests do."""

    early: Login
    """One whose code ends."""
    code: str
    there: float
    """When that was there, on the monotonic clock."""
    unreached: Login
    """One whose messages the gateway refuses for a minute."""
    began: float
    """When that began."""
    refused_from: float
    """The same in Unix seconds."""


def slow_logins(events: Events) -> SlowLogins:
    """Begin both."""
    refused_from = time.time()
    behave(events, down=OUTAGE_SECONDS, to=_UNREACHED)
    began = time.monotonic()
    unreached = login(events, _UNREACHED)
    early = login(events)
    return SlowLogins(early, early.code(), time.monotonic(), unreached, began, refused_from)
