#!/usr/bin/env python3
"""Check from inside the cluster that Prometheus sees every program, and the database is healthy.

PLAN (environment) is JSON: the addresses of Prometheus and of the database's monitor, the metrics
that must be 1, and the seconds until all must be well.
"""

import http.client
import json
import os
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from typing import Any


def main() -> None:
    """Wait until all is well; what is not is the last line printed."""
    plan = json.loads(os.environ["PLAN"])
    deadline = time.monotonic() + plan["seconds"]
    while True:
        failures = [*unseen(plan), *unhealthy(plan), *rules(plan)]
        if not failures:
            print("passed: every exporter is scraped, every program is up, the database is ready")
            return
        if time.monotonic() > deadline:
            sys.exit("FAILED: " + "; ".join(failures))
        time.sleep(1)


def get(url: str) -> Any:
    """What an API answers, as JSON; an error as None."""
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:  # noqa: S310 (addresses of PLAN)
            return json.load(answer)
    except (OSError, ValueError, http.client.HTTPException) as error:
        print(f"{url}: {error}")
        return None


def query(plan: dict[str, Any], expression: str) -> list[Any]:
    """The series that Prometheus answers."""
    asked = urllib.parse.urlencode({"query": expression})
    answer = get(f"http://{plan['prometheus']}/api/v1/query?{asked}")
    return [] if answer is None else answer["data"]["result"]


def unseen(plan: dict[str, Any]) -> list[str]:
    """Programs that are not up, or that Prometheus has not scraped."""
    failures = []
    for metric in plan["up"]:
        values = {series["value"][1] for series in query(plan, metric)}
        if values != {"1"}:
            failures.append(f"{metric} is {sorted(values) or 'not there'}")
    down = [series["metric"]["job"] for series in query(plan, "up == 0")]
    return failures + [f"job {job} cannot be scraped" for job in down]


def unhealthy(plan: dict[str, Any]) -> list[str]:
    """What the database's monitor finds wrong."""
    report = get(f"http://{plan['health']}/health")
    if report is None:
        return ["the database's monitor does not answer"]
    return [f"{q['query']}: {q['reason']}" for q in report["queries"] if not q["healthy"]]


def rules(plan: dict[str, Any]) -> list[str]:
    """Rules that Prometheus could not evaluate."""
    answer = get(f"http://{plan['prometheus']}/api/v1/rules")
    if answer is None:
        return ["Prometheus has no rules"]
    found = [rule for group in answer["data"]["groups"] for rule in group["rules"]]
    failed = [f"rule {r['name']}: {r['lastError']}" for r in found if r["health"] == "err"]
    return failed if found else ["Prometheus has no rules"]


if __name__ == "__main__":
    main()
