"""Users: root, and those that may use one prefix. Doing it again changes nothing."""

import json
import time
from pathlib import Path
from typing import Any

from member import settings as at
from member.gateway import ROOT, Gateway, GatewayError, UnreachableError, encoded, end_of_prefix
from member.say import say

PLAN = Path("/etc/etcd/access/access.json")
_PATIENCE_SECONDS = 90
_POLL_SECONDS = 1


def main() -> None:
    """Make authentication and the users what the plan says."""
    plan = json.loads(PLAN.read_text())
    end = time.monotonic() + _PATIENCE_SECONDS
    while True:
        gateway = Gateway(plan["endpoints"], at.CLIENT_CA, at.ROOT_PASSWORD.read_text)
        try:
            _enable(gateway)
            for user in plan["users"]:
                _user(gateway, plan["endpoints"], user)
        except (UnreachableError, GatewayError) as error:
            if isinstance(error, GatewayError) and "invalid user ID or password" in str(error):
                raise SystemExit(
                    "etcd does not take root's password: it was enabled with another one, most "
                    "often before a snapshot was taken that is now restored"
                ) from None
            if time.monotonic() > end:
                raise SystemExit(f"not within {_PATIENCE_SECONDS} s: {error}") from None
            say(f"trying again: {error}")
            time.sleep(_POLL_SECONDS)
        else:
            return


def _enable(gateway: Gateway) -> None:
    password = at.ROOT_PASSWORD.read_text()
    if gateway.authenticate(password) is not None:
        return
    _there(gateway, "/v3/auth/role/add", {"name": ROOT})
    if not _there(gateway, "/v3/auth/user/add", {"name": ROOT, "password": password}):
        gateway.call("/v3/auth/user/changepw", {"name": ROOT, "password": password})
    gateway.call("/v3/auth/user/grant", {"user": ROOT, "role": ROOT})
    gateway.call("/v3/auth/enable")
    say("authentication is enabled")


def _user(gateway: Gateway, endpoints: list[str], user: dict[str, str]) -> None:
    """One user and its role; tokens stay valid where nothing changes."""
    name, password = user["name"], Path(user["password_file"]).read_text()
    wanted = {"key": encoded(user["prefix"]), "range_end": end_of_prefix(user["prefix"])}
    _there(gateway, "/v3/auth/role/add", {"name": name})
    has = [
        (perm.get("permType", "READ"), perm["key"], perm.get("range_end", ""))
        for perm in gateway.call("/v3/auth/role/get", {"role": name}).get("perm", ())
    ]
    needed = ("READWRITE", wanted["key"], wanted["range_end"])
    if needed not in has:
        gateway.call(
            "/v3/auth/role/grant", {"name": name, "perm": {"permType": needed[0], **wanted}}
        )
    for _, key, end in has:
        if (key, end) != needed[1:]:
            gateway.call("/v3/auth/role/revoke", {"role": name, "key": key, "range_end": end})
    if _there(gateway, "/v3/auth/user/add", {"name": name, "password": password}):
        say(f"user {name} is there")
    elif not _accepted(endpoints, name, password):
        gateway.call("/v3/auth/user/changepw", {"name": name, "password": password})
        say(f"user {name} has another password")
    if name not in gateway.call("/v3/auth/user/get", {"name": name}).get("roles", ()):
        gateway.call("/v3/auth/user/grant", {"user": name, "role": name})


def _there(gateway: Gateway, path: str, body: dict[str, Any]) -> bool:
    """Add something; False if it was there."""
    try:
        gateway.call(path, body)
    except GatewayError as error:
        if "already exists" not in str(error):
            raise
        return False
    return True


def _accepted(endpoints: list[str], name: str, password: str) -> bool:
    try:
        return Gateway(endpoints, at.CLIENT_CA, user=name).authenticate(password) is not None
    except GatewayError:
        return False
