#!/usr/bin/env python3
"""Check from inside the cluster that the decorator fills in what an order lacks.

API and DEFAULTS (environment) are host:port of the API and of the decorator before it.
"""

import http.client
import json
import os
import sys
import time
import uuid
from typing import Any

SECONDS = 100
"""For all that is waited for, less than the check itself has: it then says what was not there."""


def main() -> None:
    """Run the check; the last line printed names the failure."""
    deadline = time.monotonic() + SECONDS
    mark = uuid.uuid4().hex
    status, answer = post(os.environ["API"], {"name": "foo"}, mark, deadline)
    expect(status == 422, f"the API alone answers {status} to an order without a colour: {answer}")  # noqa: PLR2004

    status, answer = post(os.environ["DEFAULTS"], {"name": "foo"}, mark, deadline)
    expect(status == 200, f"the decorator answers {status}: {answer}")  # noqa: PLR2004
    wanted = {"name": "foo", "color": "blue"}
    expect(answer["painted"] == wanted, f"{answer['painted']} reached the API, not {wanted}")
    expect(answer["request_id"] == mark, "the request's id did not reach the API")

    status, answer = post(os.environ["DEFAULTS"], {"color": "red"}, mark, deadline)
    expect(status == 200, f"the decorator answers {status}: {answer}")  # noqa: PLR2004
    expect(bool(answer["painted"]["name"]), f"no name was given: {answer}")
    expect(answer["painted"]["color"] == "red", f"the colour was changed: {answer}")
    print("passed: colour, name, what is there, the id")


def post(address: str, order: dict[str, str], mark: str, deadline: float) -> tuple[int, Any]:
    """Send an order until a response is below 500.

    For a moment a Service may have no endpoints, the activator no pod, or a NetworkPolicy may not
    allow the connection to the API yet: then there is no response, or 5xx.
    """
    headers = {"Content-Type": "application/json", "X-Request-Id": mark}
    while True:
        connection = http.client.HTTPConnection(address, timeout=15)
        try:
            connection.request("POST", "/", json.dumps(order), headers)
            answer = connection.getresponse()
            content = answer.read()
            problem: object = f"{answer.status} {content[:500]!r}"
            if answer.status < http.HTTPStatus.INTERNAL_SERVER_ERROR:
                return answer.status, json.loads(content)
        except (OSError, ValueError, http.client.HTTPException) as error:
            problem = repr(error)
        finally:
            connection.close()
        if time.monotonic() > deadline:
            sys.exit(f"FAILED: {address} does not answer: {problem}")
        time.sleep(0.5)


def expect(right: bool, otherwise: str) -> None:
    """End with what is wrong."""
    if not right:
        sys.exit(f"FAILED: {otherwise}")


if __name__ == "__main__":
    main()
