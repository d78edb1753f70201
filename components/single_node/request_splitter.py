"""Ambassador: the application talks to localhost, and a share of its users takes part in an
experiment (chapter 3).

nginx hashes what names a user onto a line of 2**32 points, of which the first ``percent`` belong to
the experiment. A user stays where they are; a higher percentage moves only those between the old and
the new threshold.
"""

import pulumi
from pulumi_kubernetes.core.v1 import ContainerArgsDict

from components.pods.companion import ANYWHERE, Companion, Listener
from components.pods.probes import asked
from components.single_node import configured, scraped
from components.single_node.splitter_files import LOOPBACK, SplitterFile
from components.single_node.splitter_settings import RequestSplitterArgs, checked
from components.values import nginx
from components.values.endpoint import Endpoint
from components.values.metrics import ScrapeJob

_FOLDER = "/etc/nginx-splitter"
_FILE = "nginx.conf"


class RequestSplitter(pulumi.ComponentResource):
    """An nginx beside the application that sends a share of its users elsewhere.

    Registers its configuration (auto-named: a changed percentage rolls the pods), and a headless
    Service by which Prometheus finds every pod that has it. ``companion`` adds the rest to any
    workload.
    """

    companion: Companion
    """What a workload takes in ``companions``."""
    endpoint: str
    """``host:port`` for the application in the same pod."""
    job: ScrapeJob | None
    """What Prometheus scrapes; None with the seed's policy."""

    def __init__(
        self, name: str, args: RequestSplitterArgs, opts: pulumi.ResourceOptions | None = None
    ) -> None:
        """Register the configuration.

        :param name: a DNS label of at most 50 characters; names the container
        :raises InputError: an argument that cannot be right, before anything is registered
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
        metadata = configured.metadata("nginx", name, "ambassador", args["hosting"])
        text = pulumi.Output.all(args["control"].endpoint, args["experiment"].endpoint).apply(
            lambda known: SplitterFile(args).configuration(*map(Endpoint.parse, known))
        )
        files = configured.configured(name, _FOLDER, {_FILE: text}, metadata=metadata, opts=own)
        self.endpoint = f"{LOOPBACK}:{args['listen_port']}"
        self.companion = _companion(name, args, files)
        self.job = None
        if args["policy"] != "seed":
            self.job = scraped.job(name, args["metrics_port"], metadata, own)
        self.register_outputs({"endpoint": self.endpoint})


def _companion(name: str, args: RequestSplitterArgs, files: configured.Configured) -> Companion:
    seed = args["policy"] == "seed"
    proxy: ContainerArgsDict = {
        "name": name,
        "image": args["image"],
        "command": nginx.command(f"{_FOLDER}/{_FILE}", resolver=not seed),
        "volume_mounts": list(files.mounts),
        # They ask nginx, never an arm: one that is gone must not take the applications of a whole
        # deployment with it.
        "startup_probe": asked("/readyz", args["status_port"], 1, 60),
        "readiness_probe": asked("/readyz", args["status_port"], 5, 2),
        "liveness_probe": asked("/livez", args["status_port"], 10, 6),
        "resources": args["hosting"]["resources"],
    }
    containers: list[ContainerArgsDict] = [proxy]
    listeners = [
        Listener(args["listen_port"], "splitter", LOOPBACK),
        Listener(args["status_port"], "splitter-status"),
    ]
    labels: dict[str, str] = {}
    if not seed:
        # First, so that no request goes uncounted.
        containers.insert(0, _counter(name, args))
        listeners += [
            Listener(
                args["metrics_port"], "splitter-metric", clients=tuple(args["metrics_clients"])
            ),
            Listener(args["line_port"], "splitter-lines", LOOPBACK, "UDP"),
        ]
        labels = scraped.labels(name)
    return Companion(
        name=name,
        containers=tuple(containers),
        listeners=tuple(listeners),
        volumes=files.volumes,
        pod_labels=labels,
        reaches=(args["control"], args["experiment"]),
        depends_on=(files.config,),
    )


def _counter(name: str, args: RequestSplitterArgs) -> ContainerArgsDict:
    ports = (str(args["metrics_port"]), str(args["line_port"]))
    return {
        "name": f"{name}-metrics",
        "image": args["metrics_image"],
        "command": ["python3", "-m", "companions.arms", ANYWHERE, *ports],
        "startup_probe": asked("/healthz", args["metrics_port"], 1, 60),
        # There is no readiness probe: what cannot be watched for a moment still serves.
        "liveness_probe": asked("/healthz", args["metrics_port"], 10, 6),
    }
