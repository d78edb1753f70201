"""Composition ``topz``: the book's demonstration with plain Docker, two containers and no cluster.

The second container shares the first one's process namespace (``--pid=container:...``), and so lists
its processes.
"""

import pulumi
import pulumi_docker as docker

from dds_patterns import ImageCatalog, Topz
from stacks.settings import Settings
from stacks.target import CLUSTER_STACK, check_images

_IMAGES = ("redis", "companions")
_PORT = 8080
_CHECK = (
    "import json, urllib.request as r; "
    f"names = [p['name'] for p in json.load(r.urlopen('http://127.0.0.1:{_PORT}/topz.json'))"
    "['processes']]; "
    "assert 'redis-server' in names, names"
)


def deploy(settings: Settings) -> None:
    """Run a redis, and topz on 127.0.0.1."""
    check_images(settings, _IMAGES)
    registry: pulumi.Input[str]
    if settings.registry is not None:
        registry = settings.registry
    else:
        registry = pulumi.StackReference(CLUSTER_STACK).require_output("registry")
    images = ImageCatalog(
        "images",
        {
            "registry": registry,
            "names": list(_IMAGES),
            "overrides": dict(settings.images),
        },
    )
    labels: list[docker.ContainerLabelArgsDict] = [
        {"label": "dds.instance", "value": settings.instance}
    ]
    application = docker.Container(
        "application",
        name=f"{settings.instance}-topz-application",
        image=images.reference("redis"),
        command=["redis-server", "--save", "", "--appendonly", "no"],
        read_only=True,
        capabilities={"drops": ["ALL"]},
        security_opts=["no-new-privileges"],
        labels=labels,
    )
    topz = docker.Container(
        "topz",
        name=f"{settings.instance}-topz",
        image=images.reference("companions"),
        entrypoints=Topz.command("0.0.0.0", _PORT)[:1],  # noqa: S104
        command=Topz.command("0.0.0.0", _PORT)[1:],  # noqa: S104
        pid_mode=pulumi.Output.concat("container:", application.id),
        ports=[{"internal": _PORT, "external": settings.topz_port, "ip": "127.0.0.1"}],
        read_only=True,
        capabilities={"drops": ["ALL"]},
        security_opts=["no-new-privileges"],
        labels=labels,
        # The deployment fails unless it lists the other container's process.
        healthcheck={
            "tests": ["CMD", "python3", "-c", _CHECK],
            "interval": "5s",
            "timeout": "5s",
            "retries": 6,
        },
        wait=True,
        # It uses the process namespace of the other, so it is deleted first.
        opts=pulumi.ResourceOptions(depends_on=[application]),
    )
    url = f"http://127.0.0.1:{settings.topz_port}/topz"
    pulumi.export("endpoint", url)
    pulumi.export("application", application.name)
    pulumi.export(
        "try",
        {
            "look": f"curl -s {url}.json",
            "keep it busy": pulumi.Output.concat(
                "docker exec ", application.name, " redis-benchmark -q -n 100000 -t set"
            ),
            "its process namespace": pulumi.Output.concat(
                "docker inspect --format '{{.HostConfig.PidMode}}' ", topz.name
            ),
        },
    )
