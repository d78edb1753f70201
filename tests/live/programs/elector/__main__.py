"""Replicas with two electors each, on Leases: one tells by request, the other by signal.

Beside them a pod that may read the metrics, and one that may not.
"""

import pulumi

from dds_patterns import Application, Election, Hosting, Reach
from tests.live.programs.common import in_namespace

SMALL: Hosting = {"resources": {"requests": {"cpu": "5m", "memory": "32Mi"}}}
SCRIPT = "/opt/app/listener.py"
LISTENER = """
import http.server, json, signal

signal.signal(signal.SIGUSR1, lambda *_: print("signal", flush=True))


class Leadership(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        print("request", self.rfile.read(int(self.headers["Content-Length"])).decode().strip(),
              flush=True)
        self.send_response(204)
        self.end_headers()

    def log_message(self, *_):
        pass


http.server.HTTPServer(("127.0.0.1", 8080), Leadership).serve_forever()
"""

config = pulumi.Config()
images = config.require_object("images")
options = in_namespace(config.require("namespace"))

by_request = Election(
    "by-request",
    {
        "image": images["elector"],
        "backend": "lease",
        "ttl_seconds": 15,
        "on_change": {"url": "http://localhost:8080/leadership"},
        "metrics_clients": [{"pods": {"role": "scraper"}}],
        "hosting": SMALL,
    },
    options,
)
by_signal = Election(
    "by-signal",
    {
        "image": images["elector"],
        "backend": "lease",
        "ttl_seconds": 15,
        "on_change": {"signal": "USR1", "process": "listener.py"},
        "port": 4050,
        "metrics_port": 4051,
        "hosting": SMALL,
    },
    options,
)
replicas = Application(
    "app",
    {
        "image": images["toolbox"],
        "command": ["python3", SCRIPT],
        "files": {SCRIPT: LISTENER},
        "replicas": 2,
        "companions": [by_request.companion, by_signal.companion],
        "hosting": SMALL,
        "termination_grace_period_seconds": 2,
    },
    options,
)
# A way out alone: what lets a pod in are the ``metrics_clients``.
electors = Reach("electors", ("app:4040", "app:4041"), pods=replicas.labels)
for name in ("scraper", "stranger"):
    Application(
        name,
        {
            "image": images["toolbox"],
            "command": ["sleep", "infinity"],
            "reaches": [electors],
            "hosting": SMALL | {"pod_labels": {"role": name}},
            "termination_grace_period_seconds": 1,
        },
        options,
    )
pulumi.export("leases", {"by-request": by_request.key, "by-signal": by_signal.key})
