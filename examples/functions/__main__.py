"""An API behind a decorator, and a function, in a program of your own."""

from pathlib import Path

import pulumi
from pulumi_kubernetes.core.v1 import Namespace

from dds_patterns import Application, Function, FunctionDecorator, Hosting

config = pulumi.Config()
namespace = Namespace("functions-example").metadata["name"]
hosting: Hosting = {"namespace": namespace, "images": {"function": config.require("function")}}
here = Path(__file__).parent

api = Application(
    "api",
    {
        "image": config.require("api"),
        "command": ["python3", "-u", "/opt/api/api.py"],
        "files": {"/opt/api/api.py": (here / "api.py").read_text()},
        "ports": [{"name": "http", "port": 8080}],
        "hosting": hosting,
    },
)
# Without ``code`` it runs the book's handler, which adds a missing name and the colour blue. It
# scales from one pod to three.
defaults = FunctionDecorator(
    "defaults",
    {
        "upstream": api.reach,
        "clients": [{}],
        "hosting": hosting,
    },
)
greet = Function(
    "greet",
    {
        "code": 'def handler(context):\n    return {"hello": context.json["name"]}\n',
        "timeout_seconds": 5,
        "clients": [{}],
        "hosting": hosting,
    },
)
pulumi.export("namespace", namespace)
pulumi.export("endpoints", {"defaults": defaults.endpoint, "greet": greet.endpoint})
pulumi.export("try", pulumi.Output.format("kubectl -n {0} port-forward deploy/{1} 8080", namespace,
                                          defaults.application.deployment.metadata["name"]))  # fmt: skip
