"""Users: root, and those with access to one prefix. It is idempotent.

A declared user has a role, ``dds/<user>``, and one or more logins, each a user of etcd: ``<user>``,
``<user>-2`` and so on. The role is created before them and deleted after them, so that the next run
recognizes what a killed run has left. Users that an operator created by hand have other roles, and
stay.
"""

import json
import re
import time
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from member import settings as at
from member.gateway import ROOT, Gateway, GatewayError, UnreachableError, encoded, end_of_prefix
from member.say import say

PLAN = Path("/etc/etcd/access/access.json")
_OURS = "dds/"
_TIMEOUT_SECONDS = 90
_POLL_SECONDS = 1


def main() -> None:
    """Apply the plan: enable authentication, create and delete users."""
    plan = json.loads(PLAN.read_text())
    end = time.monotonic() + _TIMEOUT_SECONDS
    while True:
        gateway = Gateway(plan["endpoints"], at.CLIENT_CA, at.root_passwords)
        try:
            _root(gateway)
            for user in plan["users"]:
                _user(gateway, plan["endpoints"], user)
            _remove(gateway, {user["name"]: user["logins"] for user in plan["users"]})
        except (UnreachableError, GatewayError) as error:
            if isinstance(error, GatewayError) and error.wrong_password:
                raise SystemExit(
                    "etcd accepts neither root's password nor a known former one: it was changed by "
                    "hand, or more than once since an update succeeded, or before the snapshot that "
                    "is now restored was taken; pass the current one as former_root_password"
                ) from None
            if time.monotonic() > end:
                raise SystemExit(f"timed out after {_TIMEOUT_SECONDS} s: {error}") from None
            say(f"retrying: {error}")
            time.sleep(_POLL_SECONDS)
        else:
            return


def _root(gateway: Gateway) -> None:
    """Enable authentication, and set root's current password."""
    current, *former = at.root_passwords()
    try:
        enabled = gateway.authenticate(current) is not None
    except GatewayError as error:
        if not (error.wrong_password and former):
            raise
        # The gateway authenticates with a former password.
        gateway.call("/v3/auth/user/changepw", {"name": ROOT, "password": current})
        say("root's password is changed")
        return
    if enabled:
        return
    _added(gateway, "/v3/auth/role/add", {"name": ROOT})
    if not _added(gateway, "/v3/auth/user/add", {"name": ROOT, "password": current}):
        gateway.call("/v3/auth/user/changepw", {"name": ROOT, "password": current})
    gateway.call("/v3/auth/user/grant", {"user": ROOT, "role": ROOT})
    gateway.call("/v3/auth/enable")
    say("authentication is enabled")


def _user(gateway: Gateway, endpoints: list[str], user: Mapping[str, Any]) -> None:
    """One declared user; without a change, its tokens stay valid."""
    role = _OURS + user["name"]
    _role(gateway, role, user["prefix"])
    passwords = at.passwords(Path(user["passwords_file"]))
    for name, password in zip(user["logins"], passwords, strict=True):
        if _added(gateway, "/v3/auth/user/add", {"name": name, "password": password}):
            say(f"user {name} is created")
        elif not _accepted(endpoints, name, password):
            gateway.call("/v3/auth/user/changepw", {"name": name, "password": password})
            say(f"user {name}: the password is changed")
        has = _roles(gateway, name)
        if role not in has:
            gateway.call("/v3/auth/user/grant", {"user": name, "role": role})
        for other in has - {role}:
            gateway.call("/v3/auth/user/revoke", {"name": name, "role": other})


def _role(gateway: Gateway, role: str, prefix: str) -> None:
    wanted = {"key": encoded(prefix), "range_end": end_of_prefix(prefix)}
    _added(gateway, "/v3/auth/role/add", {"name": role})
    has = [
        (perm.get("permType", "READ"), perm["key"], perm.get("range_end", ""))
        for perm in gateway.call("/v3/auth/role/get", {"role": role}).get("perm", ())
    ]
    needed = ("READWRITE", wanted["key"], wanted["range_end"])
    if needed not in has:
        gateway.call(
            "/v3/auth/role/grant", {"name": role, "perm": {"permType": needed[0], **wanted}}
        )
    for _, key, end in has:
        if (key, end) != needed[1:]:
            gateway.call("/v3/auth/role/revoke", {"role": role, "key": key, "range_end": end})


def _remove(gateway: Gateway, declared: Mapping[str, Collection[str]]) -> None:
    """Delete the project's logins and roles that are not declared.

    :param declared: logins by user
    """
    roles = gateway.call("/v3/auth/role/list").get("roles", ())
    names = gateway.call("/v3/auth/user/list").get("users", ())
    for role in roles:
        if not role.startswith(_OURS):
            continue
        user = role.removeprefix(_OURS)
        logins = re.compile(rf"{re.escape(user)}(-[0-9]+)?")
        for name in names:
            if name in declared.get(user, ()) or not logins.fullmatch(name):
                continue
            has = _roles(gateway, name)
            # A login without a role is left from a killed run.
            if role in has or not has:
                gateway.call("/v3/auth/user/delete", {"name": name})
                say(f"user {name} is deleted")
        if user not in declared:
            gateway.call("/v3/auth/role/delete", {"role": role})


def _roles(gateway: Gateway, name: str) -> set[str]:
    return set(gateway.call("/v3/auth/user/get", {"name": name}).get("roles", ()))


def _added(gateway: Gateway, path: str, body: dict[str, Any]) -> bool:
    """Add something; False if it exists."""
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
