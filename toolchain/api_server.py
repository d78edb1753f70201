"""A client of a cluster's API server."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

# The client itself retries three times.
ANSWER_SECONDS = 10.0


def connect(kubeconfig: str | None, context: str | None = None) -> Any:
    """A client of an API server that has just responded; raises the client's errors otherwise.

    :param kubeconfig: defaults to the user's
    :param context: defaults to the kubeconfig's own
    """
    import kubernetes

    client = kubernetes.config.new_client_from_config(  # type: ignore[no-untyped-call]
        config_file=kubeconfig, context=context
    )
    # Most calls have no timeout of their own: a cluster that hangs would block for ever.
    kubernetes.client.VersionApi(client).get_code(_request_timeout=ANSWER_SECONDS)
    return client


def of_the_command(environment: Mapping[str, str]) -> Any:
    """`connect` to the cluster of the CLI's commands.

    :param environment: variables that differ from the caller's
    """
    return connect(environment.get("KUBECONFIG"), os.environ.get("KUBECONTEXT") or None)
