"""A replacement for Storm's UI: the responses of its API as its documentation describes them."""

import json
from typing import Any

TOPOLOGY = "wordcount-3-1425844354"

SUMMARY: dict[str, Any] = {
    "topologies": [
        {
            "id": TOPOLOGY,
            "name": "wordcount",
            "status": "ACTIVE",
            "uptime": "6m 5s",
            "uptimeSeconds": 365,
            "tasksTotal": 28,
            "workersTotal": 3,
            "executorsTotal": 28,
        }
    ]
}
DETAILS: dict[str, Any] = {
    "id": TOPOLOGY,
    "name": "wordcount",
    "status": "ACTIVE",
    "window": "600",
    "topologyStats": [
        {
            "windowPretty": "10m 0s",
            "window": "600",
            "emitted": 397960,
            "transferred": 213380,
            "completeLatency": "12.5",
            "acked": 213460,
            "failed": 0,
        },
        {
            "windowPretty": "All time",
            "window": ":all-time",
            "emitted": 1198960,
            "transferred": 643260,
            "completeLatency": "0.000",
            "acked": 1,
            "failed": 7,
        },
    ],
    "spouts": [
        {
            "spoutId": "spout",
            "executors": 5,
            "tasks": 5,
            "emitted": 28880,
            "transferred": 28880,
            "completeLatency": "0.000",
            "acked": 0,
            "failed": 3,
            "lastError": "",
        }
    ],
    "bolts": [
        {
            "boltId": "count",
            "executors": 12,
            "tasks": 12,
            "emitted": 184580,
            "transferred": 0,
            "acked": 184640,
            "executed": 184620,
            "executeLatency": "0.048",
            "processLatency": "0.043",
            "capacity": "0.003",
            "failed": 0,
            "lastError": "",
        },
        {
            "boltId": "split",
            "executors": 8,
            "tasks": 8,
            "emitted": 184500,
            "transferred": 184500,
            "acked": 28820,
            "executed": 28820,
            "executeLatency": "0.024",
            "processLatency": "2.112",
            "capacity": "0.000",
            "failed": 0,
            "lastError": "java.lang.RuntimeException: split went wrong",
        },
    ],
}


def files(folder: str) -> dict[str, str]:
    """The API as files below a folder, for any server of files; it ignores the query."""
    return {
        f"{folder}/api/v1/topology/summary": json.dumps(SUMMARY),
        f"{folder}/api/v1/topology/{TOPOLOGY}": json.dumps(DETAILS),
    }
