"""Creating, applying, reading and deleting objects on the API server."""

from __future__ import annotations

import copy
import dataclasses
import secrets
import time
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

from toolchain.plugins.kubernetes import merge, ownership, state
from toolchain.plugins.kubernetes.client import (
    APPLY_PATCH,
    JSON_PATCH,
    ApiError,
    Client,
    UnreachableError,
)
from toolchain.plugins.provider.errors import ProviderError

if TYPE_CHECKING:
    from toolchain.plugins.kubernetes.kinds import Kind

PREVIEW_PATIENCE: Final = 5.0
_PATIENCE = 30.0
_TAKE_OVER_ATTEMPTS = 5
_CLOCK_SKEW_SECONDS = 60.0
_NAME_LIMIT = 63


@dataclasses.dataclass(frozen=True)
class Target:
    """One object by its address.

    :param where: how messages call it
    """

    kind: Kind
    namespace: str | None
    name: str

    @property
    def identity(self) -> str:
        """Its id in the state."""
        return state.identity(self.namespace if self.kind.namespaced else None, self.name)

    @property
    def where(self) -> str:
        """Its name in messages, for example ``Deployment web/shop``."""
        return f"{self.kind.kind} {self.identity}"

    @property
    def collection(self) -> str:
        """Its collection's path."""
        return self.kind.collection(self.namespace)

    @property
    def path(self) -> str:
        """Its path."""
        return self.kind.path(self.namespace, self.name)


@dataclasses.dataclass(frozen=True)
class Server:
    """The operations on objects.

    :param warn: takes the server's warnings
    """

    client: Client
    warn: Callable[[str], None]

    def read(self, target: Target, patience: float = _PATIENCE) -> dict[str, Any] | None:
        """The live object; None if there is none."""
        try:
            found = self.client.request("GET", target.path, patience=patience)
        except ApiError as error:
            if error.not_found:
                return None
            raise _named(target, error) from error
        return dict(found)

    def create(
        self, target: Target, body: Mapping[str, Any], *, preview: bool = False
    ) -> dict[str, Any]:
        """Makes an object.

        Args:
            target: Its address.
            body: The object.
            preview: The server checks it and forgets it.

        Raises:
            ApiError: As the server said, among others that it exists.
            UnreachableError: The server does not answer.
        """
        query = {"fieldManager": state.CREATION_MANAGER, "fieldValidation": "Strict"}
        if preview:
            query["dryRun"] = "All"
        patience = PREVIEW_PATIENCE if preview else _PATIENCE
        started = time.time()
        until = time.monotonic() + patience
        uncertain = False
        while True:
            try:
                answer = self.client.request(
                    "POST",
                    target.collection,
                    query=query,
                    body=body,
                    patience=patience,
                    on_warning=self.warn,
                )
                return dict(answer)
            except UnreachableError as error:
                # It may have been carried out. Asking again shows whether it was.
                if not error.sent or time.monotonic() > until:
                    raise
                uncertain = True
            except ApiError as error:
                live = self.read(target) if uncertain and error.already_exists else None
                if live is None or not _is_ours(live, started):
                    raise
                return live

    def check_replacement(self, target: Target, body: Mapping[str, Any]) -> None:
        """Checks an object whose predecessor of the same name still exists, under another name."""
        if "." in target.name:
            return
        other = copy.deepcopy(dict(body))
        other["metadata"]["name"] = f"{target.name[: _NAME_LIMIT - 9]}-{secrets.token_hex(4)}"
        self.create(
            dataclasses.replace(target, name=other["metadata"]["name"]), other, preview=True
        )

    def apply(
        self,
        target: Target,
        body: Mapping[str, Any],
        manager: str,
        *,
        observed: Mapping[str, Any],
        force: bool,
        preview: bool = False,
    ) -> dict[str, Any]:
        """Brings an object to ``body``; makes it again if somebody has deleted it.

        Args:
            target: Its address.
            body: All that the program says about it.
            manager: The field manager.
            observed: The inputs of the last operation or refresh.
            force: Take fields over from other managers.
            preview: The server checks it and forgets it.

        Raises:
            ProviderError: Another manager has the fields and ``force`` is false.
            ApiError: As the server said.
            UnreachableError: The server does not answer.
        """
        live = self.read(target, PREVIEW_PATIENCE if preview else _PATIENCE)
        query = {"fieldManager": manager, "fieldValidation": "Strict"}
        if preview:
            query["dryRun"] = "All"
        elif live is not None:
            live = self._take_over(target, live, manager)
        created_only = live is not None and ownership.taken_over(live, manager) is not None
        try:
            query["force"] = str(force).lower()
            return self._patch(target, body, query, preview)
        except ApiError as error:
            if error.conflict and error.causes:
                if not ownership.may_force(error, live, observed):
                    raise ownership.conflict_error(target.where, error) from error
            elif not created_only:
                raise
        if live is not None and created_only:
            return self._check_update(target, body, live, observed)
        return self._patch(target, body, {**query, "force": "true"}, preview)

    def _check_update(
        self,
        target: Target,
        body: Mapping[str, Any],
        live: Mapping[str, Any],
        observed: Mapping[str, Any],
    ) -> dict[str, Any]:
        """Checks an update of an object whose fields all still belong to its creation.

        A dry run of apply would leave in what the update takes out: a preview changes nothing,
        so it cannot take the fields over first.
        """
        answer = self.client.request(
            "PUT",
            target.path,
            query={
                "fieldManager": state.CREATION_MANAGER,
                "fieldValidation": "Strict",
                "dryRun": "All",
            },
            body=merge.merged(live, observed, body),
            patience=PREVIEW_PATIENCE,
            on_warning=self.warn,
        )
        return dict(answer)

    def _patch(
        self, target: Target, body: Mapping[str, Any], query: Mapping[str, str], preview: bool
    ) -> dict[str, Any]:
        answer = self.client.request(
            "PATCH",
            target.path,
            query=query,
            body=body,
            content_type=APPLY_PATCH,
            patience=PREVIEW_PATIENCE if preview else _PATIENCE,
            on_warning=self.warn,
        )
        return dict(answer)

    def _take_over(self, target: Target, live: dict[str, Any], manager: str) -> dict[str, Any]:
        for _ in range(_TAKE_OVER_ATTEMPTS):
            fields = ownership.taken_over(live, manager)
            if fields is None:
                return live
            patch = [
                {"op": "replace", "path": "/metadata/managedFields", "value": fields},
                {
                    "op": "replace",
                    "path": "/metadata/resourceVersion",
                    "value": live["metadata"]["resourceVersion"],
                },
            ]
            try:
                return dict(
                    self.client.request(
                        "PATCH",
                        target.path,
                        query={"fieldManager": manager},
                        body=patch,
                        content_type=JSON_PATCH,
                    )
                )
            except ApiError as error:
                if not error.conflict:
                    raise
            live = self.read(target) or live
        return live

    def delete(self, target: Target, propagation: str) -> dict[str, Any] | None:
        """Asks for an object's deletion; None if there is none."""
        try:
            self.client.request("DELETE", target.path, body={"propagationPolicy": propagation})
        except ApiError as error:
            if error.not_found:
                return None
            raise _named(target, error) from error
        return self.read(target)


def _named(target: Target, error: ApiError) -> ProviderError:
    return ProviderError(f"{target.where}: {error}")


def _is_ours(live: Mapping[str, Any], started: float) -> bool:
    """Whether an object is the one that a lost answer was about."""
    metadata = live["metadata"]
    managers = {entry.get("manager") for entry in metadata.get("managedFields") or ()}
    age = datetime.fromisoformat(metadata["creationTimestamp"]).timestamp() - started
    return state.CREATION_MANAGER in managers and age > -_CLOCK_SKEW_SECONDS
