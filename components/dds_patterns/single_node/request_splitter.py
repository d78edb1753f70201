"""Ambassador: the application connects to localhost, and a share of its users gets an experiment
(A/B testing, chapter 3).

nginx hashes the user's identifier to a number below 2**32; the lowest ``percent`` of the numbers
belong to the experiment. A user stays in their arm; a higher percentage moves only the users
between the old and the new threshold.
"""

import pulumi

from dds_patterns.pods.companion import ANYWHERE, LOOPBACK, Companion, joined
from dds_patterns.single_node.splitter_files import SplitterFile
from dds_patterns.single_node.splitter_settings import RequestSplitterArgs, checked
from dds_patterns.values import nginx
from dds_patterns.values.endpoint import Endpoint
from dds_patterns.values.metrics import ScrapeJob
from dds_patterns.values.reach import Reach
from dds_patterns.workloads.program import TEMPORARY, Program

_FILE = "/etc/nginx-splitter/nginx.conf"


class RequestSplitter(pulumi.ComponentResource):
    """An nginx beside the application that sends a share of its users to the experiment.

    Registers its configuration (auto-named: a changed percentage rolls the pods), and a headless
    Service by which Prometheus finds every pod that has it. ``companion`` adds the rest to any
    workload.
    """

    companion: Companion
    """What a workload takes in ``companions``."""
    endpoint: pulumi.Output[str]
    """``host:port`` for the application in the same pod."""
    job: ScrapeJob | None
    """What Prometheus scrapes; None with policy ``seed``."""

    def __init__(
        self, name: str, args: RequestSplitterArgs, opts: pulumi.ResourceOptions | None = None
    ) -> None:
        """Register the configuration.

        :param name: a DNS label of at most 50 characters; names the container
        :raises InputError: an invalid argument, before anything is registered
        """
        where = f'RequestSplitter "{name}"'
        args = checked(where, name, args)
        super().__init__(
            "dds:index:RequestSplitter",
            name,
            {key: args[key] for key in ("image", "metrics_image", "percent", "policy")},
            opts,
        )
        own = pulumi.ResourceOptions(parent=self)
        self.endpoint = Reach.local(args["listen_port"]).endpoint
        self.companion = _proxy(where, name, args).companion(own)
        self.job = None
        if args["policy"] != "seed":
            counter = _counter(where, name, args)
            # The counter starts first, so that every request is counted.
            self.companion = joined(name, counter.companion(own), self.companion)
            self.job = counter.job(own)
        self.register_outputs({"endpoint": self.endpoint})


def _proxy(where: str, name: str, args: RequestSplitterArgs) -> Program:
    text = pulumi.Output.all(args["control"].endpoint, args["experiment"].endpoint).apply(
        lambda known: SplitterFile(args, *map(Endpoint.parse, known)).configuration()
    )
    return Program(
        where,
        name,
        application="nginx",
        part="ambassador",
        image=args["image"],
        hosting=args["hosting"],
        command=nginx.command(_FILE, resolver=args["policy"] != "seed"),
        files={_FILE: text},
        writable=TEMPORARY,
        ports=[
            {"name": "splitter", "port": args["listen_port"], "address": LOOPBACK},
            {"name": "splitter-status", "port": args["status_port"]},
        ],
        # The probes check nginx, never an arm: a failed arm must not make every pod unready.
        readiness={"path": "/readyz"},
        liveness={"path": "/livez"},
        reaches=(args["control"], args["experiment"]),
    )


def _counter(where: str, name: str, args: RequestSplitterArgs) -> Program:
    port, line_port = args["metrics_port"], args["line_port"]
    return Program(
        where,
        name,
        container=f"{name}-metrics",
        application="nginx",
        part="ambassador",
        image=args["metrics_image"],
        hosting={**args["hosting"], "resources": {}},
        command=["python3", "-m", "companions.arms", ANYWHERE, str(port), str(line_port)],
        metrics={"name": "splitter-metric", "port": port, "clients": args["metrics_clients"]},
        ports=[
            {"name": "splitter-lines", "port": line_port, "address": LOOPBACK, "protocol": "UDP"},
        ],
        # No readiness probe: a failing counter must not make the pod unready.
        liveness={"path": "/healthz"},
    )
