"""Requests and limits of a container: the given ones, and defaults for the rest."""

from collections.abc import Mapping
from typing import Any

from dds_patterns.arguments.place import Place
from dds_patterns.arguments.quantities import NO_LIMIT, amount


def with_defaults(
    place: Place,
    given: Mapping[str, Any],
    *,
    requests: Mapping[str, str],
    limits: Mapping[str, str],
) -> dict[str, dict[str, Any]]:
    """The given requests and limits, completed with a container's defaults.

    A default follows the given value of the other kind: no request is above its limit. A removed
    limit stays ``NO_LIMIT``, so that no later default replaces it.

    :param place: where they are given
    :raises InputError: a given request above a given limit
    """
    given_requests, given_limits = given.get("requests", {}), given.get("limits", {})
    found_requests: dict[str, Any] = {**requests, **given_requests}
    found_limits: dict[str, Any] = {**limits, **given_limits}
    for resource, limit in found_limits.items():
        request = found_requests.get(resource)
        if not isinstance(request, str) or not isinstance(limit, str) or limit == NO_LIMIT:
            continue
        if amount(request) > amount(limit):
            if resource in given_requests and resource in given_limits:
                place.key(f"requests.{resource}").refuse(
                    request, f"must not be above the limit {limit}"
                )
            if resource in given_requests:
                found_limits[resource] = request
            else:
                found_requests[resource] = limit
    return {"requests": found_requests, "limits": found_limits}
