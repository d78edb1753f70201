"""A client of the cluster that a command works on."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

# With three further attempts of the client's own.
ANSWER_SECONDS = 10.0


def connect(environment: Mapping[str, str]) -> Any:
    """A client of an API server that has just answered; raises what kept it from that.

    :param environment: what differs from the caller's: KUBECONFIG
    """
    import kubernetes

    client = kubernetes.config.new_client_from_config(  # type: ignore[no-untyped-call]
        config_file=environment.get("KUBECONFIG"), context=os.environ.get("KUBECONTEXT") or None
    )
    # Most calls have no bound of their own: a cluster that hangs would be waited for without end.
    kubernetes.client.VersionApi(client).get_code(_request_timeout=ANSWER_SECONDS)
    return client
