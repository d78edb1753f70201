"""The two-factor handler and the gateway that sends nothing, together over HTTP."""

import base64
import contextlib
import http.client
import http.server
import json
import os
import socket
import threading
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from stacks.sources import signup, two_factor
from tests.unit.support.programs import program
from tests.unit.support.wire import answered, chunked, raw_server

sms: Any = program("toolbox/sms_gateway.py")
TOKEN = "swordfish"


class CodeStore(http.server.BaseHTTPRequestHandler):
    """Answers each key with a code, and a key ``late`` as one that has ended."""

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        gone = asked["key"] == "late"
        body = json.dumps({"code": f"code-for-{asked['user']}"}).encode()
        self.send_response(410 if gone else 200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        pass


@contextlib.contextmanager
def serving(server: Any) -> Iterator[str]:
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
def gateway(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Any]:
    (tmp_path / "token").write_text(f"{TOKEN}\n")
    kept = sms.Gateway()
    server = sms.Server(0, kept, f"account:{TOKEN}")
    codes = http.server.HTTPServer(("127.0.0.1", 0), CodeStore)
    with serving(server) as gateway_url, serving(codes) as codes_url:
        for name, value in {
            "CODES_URL": codes_url,
            "SMS_URL": f"{gateway_url}/messages",
            "SMS_ACCOUNT": "account",
            "SMS_FROM": "+1",
            "SMS_TOKEN_FILE": str(tmp_path / "token"),
        }.items():
            monkeypatch.setenv(name, value)
        yield kept


def event(key: str = "k") -> Any:
    data = {"user": "ada", "phoneNumber": "+49"}
    return SimpleNamespace(json=data, headers={"Idempotency-Key": key})


def test_the_user_gets_the_code_once_for_each_key(gateway: Any) -> None:
    for key in ("k1", "k1", "k2"):
        assert two_factor.two_factor(event(key)) == {"status": "ok"}
    found = gateway.inbox()
    assert found["requests"] == 3
    bodies = [one["body"] for one in found["messages"]]
    assert bodies == ["Hello ada your authentication code is: code-for-ada."] * 2


def test_a_gateway_that_is_down_is_an_error_so_that_the_event_comes_again(gateway: Any) -> None:
    gateway.behave({"down": 60})
    with pytest.raises(urllib.error.HTTPError, match="503"):
        two_factor.two_factor(event())
    gateway.behave({"down": 0, "lose": 1})
    with pytest.raises(http.client.RemoteDisconnected):
        two_factor.two_factor(event())
    assert two_factor.two_factor(event()) == {"status": "ok"}
    assert len(gateway.inbox()["messages"]) == 1
    assert gateway.inbox()["refused"] == 1


def test_a_gateway_may_be_down_for_one_number_only(gateway: Any) -> None:
    gateway.behave({"down": 60, "to": event().json["phoneNumber"]})
    with pytest.raises(urllib.error.HTTPError, match="503"):
        two_factor.two_factor(event())
    gateway.behave({"down": 60, "to": "+1000"})
    gateway.behave({"down": 0, "to": event().json["phoneNumber"]})
    assert two_factor.two_factor(event()) == {"status": "ok"}


def test_a_gateway_may_lose_answers_to_one_number_only(gateway: Any) -> None:
    gateway.behave({"lose": 1, "to": "+1000"})
    assert two_factor.two_factor(event()) == {"status": "ok"}
    gateway.behave({"lose": 1, "to": event().json["phoneNumber"]})
    with pytest.raises(http.client.RemoteDisconnected):
        two_factor.two_factor(event("late-answer"))


def test_without_keys_a_lost_answer_is_sent_twice(gateway: Any) -> None:
    gateway.behave({"lose": 1, "keys": False})
    with pytest.raises(http.client.RemoteDisconnected):
        two_factor.two_factor(event())
    two_factor.two_factor(event())
    assert len(gateway.inbox()["messages"]) == 2


def test_a_code_that_has_ended_is_not_sent(gateway: Any) -> None:
    assert two_factor.two_factor(event("late")) == {"status": "expired"}
    assert gateway.inbox()["requests"] == 0


@pytest.mark.usefixtures("gateway")
def test_a_redirect_does_not_take_the_token_to_another_host(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with raw_server(answered(b"{}")) as other:
        moved = answered(b"", f"Location: {other.url}/", status="302 Found")
        with raw_server(moved) as first:
            monkeypatch.setenv("SMS_URL", first.url)
            with pytest.raises(urllib.error.HTTPError, match="302"):
                two_factor.two_factor(event())
        assert other.requests == []


@pytest.mark.parametrize(
    "cut", [answered(b"{}", length=9), chunked(b"{}", whole=False), answered(b"{"), b"HTTQ"]
)
@pytest.mark.usefixtures("gateway")
def test_an_answer_that_is_not_whole_is_no_message_that_was_sent(
    monkeypatch: pytest.MonkeyPatch, cut: bytes
) -> None:
    with raw_server(cut) as server:
        monkeypatch.setenv("SMS_URL", server.url)
        with pytest.raises(OSError, match="incomplete|BadStatus"):
            two_factor.two_factor(event())


def test_a_wrong_token_is_refused(gateway: Any, tmp_path: Path) -> None:
    (tmp_path / "token").write_text("wrong")
    with pytest.raises(urllib.error.HTTPError, match="401"):
        two_factor.two_factor(event())
    assert gateway.inbox()["messages"] == []


def test_the_provider_may_be_another(gateway: Any) -> None:
    sent = []

    class Other:
        def send(self, to: str, body: str, key: str) -> None:
            sent.append((to, key, body))

    two_factor.two_factor(event(), Other())
    assert sent[0][:2] == ("+49", "k")
    assert gateway.inbox()["requests"] == 0


def test_no_secret_stands_in_the_source() -> None:
    text = Path(two_factor.__file__).read_text()
    assert "SMS_TOKEN_FILE" in text
    assert base64.b64encode(f"account:{TOKEN}".encode()).decode() not in text
    for word in ("my-token", "my-account-sid", "random.randint"):
        assert word not in text


def test_the_steps_of_the_signup_have_their_effect_once_for_each_key() -> None:
    data = {"username": "ada", "email": "ada@example.org"}
    context = SimpleNamespace(json=data, headers={"Idempotency-Key": "e/create-user"})
    assert signup.create_user(context) == {"account": "account-of-ada"}
    assert signup.create_user(context) is signup.create_user(context)
    for step, key in ((signup.email_user, "e/m"), (signup.subscribe_user, "e/s")):
        context = SimpleNamespace(json=data, headers={"Idempotency-Key": key})
        assert "ada@example.org" in str(step(context))


@pytest.mark.parametrize(
    ("path", "body", "why"),
    [
        ("messages", {"to": [], "from": "+1", "body": "x"}, "each a string"),
        ("messages", {"to": "+49", "from": "+1"}, "each a string"),
        ("messages", [], "a JSON object"),
        ("behave", [], "a JSON object"),
        ("behave", {"down": "x"}, "down must be a number"),
        ("behave", {"down": float("nan")}, "down must be a number"),
        ("behave", {"down": 10**400}, "down must be a number"),
        ("behave", {"lose": []}, "lose must be an integer"),
        ("behave", {"down": 60, "to": []}, "to must be a number"),
    ],
)
def test_the_gateway_says_what_is_wrong_with_a_request(
    gateway: Any, path: str, body: Any, why: str
) -> None:
    login = base64.b64encode(f"account:{TOKEN}".encode()).decode()
    request = urllib.request.Request(  # noqa: S310
        urllib.parse.urljoin(os.environ["SMS_URL"], path),
        json.dumps(body).encode(),
        {"Authorization": f"Basic {login}"},
    )
    with pytest.raises(urllib.error.HTTPError, match="400") as refused:
        urllib.request.urlopen(request, timeout=30)  # noqa: S310
    with refused.value as answer:
        assert why in json.load(answer)["error"]
    # Nothing of it counts.
    assert two_factor.two_factor(event()) == {"status": "ok"}
    assert gateway.inbox()["requests"] == 1


@pytest.mark.parametrize(
    ("length", "body", "status"),
    [
        ("-1", b"", b" 413 "),
        ("²", b"", b" 413 "),
        ("9", b"{}", b" 400 "),
        ("4000", b"[" * 4000, b" 400 "),
    ],
    ids=["negative", "another script's", "short", "deep"],
)
def test_the_gateway_answers_a_body_without_an_end(
    gateway: Any, length: str, body: bytes, status: bytes
) -> None:
    assert gateway.inbox()["messages"] == []
    port = urllib.parse.urlsplit(os.environ["SMS_URL"]).port
    with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
        head = f"POST /messages HTTP/1.1\r\nContent-Length: {length}\r\n\r\n"
        connection.sendall(head.encode() + body)
        connection.shutdown(socket.SHUT_WR)
        assert status in connection.recv(65536)
