"""Composition ``functions``: an API behind a decorator, and functions that events call.

The API refuses an order without a name and a colour; the decorator, the book's own handler, adds
both. A smoke test checks from inside the cluster which requests reach the API. It also deploys the
events of ``stacks/signup.py``.
"""

import pathlib

import pulumi

from dds_patterns import Function, FunctionDecorator, SmokeTest
from stacks.settings import Settings
from stacks.signup import IMAGES, SIGNUP, deploy_events
from stacks.target import target

_HERE = pathlib.Path(__file__).parent
_DECORATOR = "add-defaults"


def deploy(settings: Settings) -> None:
    """Deploy the functions and the checks; export what a user wants to know."""
    here = target(settings, IMAGES)
    images = here.images
    function = images.reference("function")
    api = Function(
        "paint",
        {
            "image": function,
            "source": str(_HERE / "sources" / "paint_api.py"),
            "signature": "http",
            "min_scale": 2,
            "max_scale": 2,
            "hosting": here.hosting,
        },
        here.opts,
    )
    defaults = FunctionDecorator(
        _DECORATOR,
        {
            "image": function,
            "upstream": api.reach,
            "on_failure": settings.on_failure,
            # Every pod of the namespace may call it.
            "clients": [{}],
            "min_scale": settings.min_scale,
            "max_scale": settings.max_scale,
            "hosting": here.hosting,
        },
        here.opts,
    )
    SmokeTest(
        "functions-check",
        {
            "image": images.reference("toolbox"),
            "script": (_HERE / "scripts" / "functions_check.py").read_text(),
            "env": {"API": api.endpoint, "DEFAULTS": defaults.endpoint},
            # The API directly as well, to see that the decorator makes the difference.
            "reaches": [api.reach, defaults.reach],
            "covers": [
                api.application.deployment.spec["template"],
                defaults.application.deployment.spec["template"],
            ],
            "hosting": here.hosting,
        },
        here.opts,
    )
    signup = deploy_events(here, images)
    pulumi.export("on_failure", settings.on_failure)
    pulumi.export("endpoint", defaults.endpoint)
    # The pods that get the requests; with scale to zero only the activator always runs.
    front = defaults.activator or defaults.application
    container = "activator" if defaults.activator else _DECORATOR
    inside = f"kubectl -n {settings.composition} exec deploy/{{}} -c {container} --"
    exec_ = front.deployment.metadata["name"].apply(inside.format)
    pulumi.export(
        "try",
        {
            "an order without a colour": pulumi.Output.concat(
                exec_,
                " python3 -c 'import urllib.request as r; "
                'print(r.urlopen(r.Request("http://127.0.0.1:8080/", b"{\\"name\\": \\"foo\\"}", '
                '{"Content-Type": "application/json"})).read().decode())\'',
            ),
            "its log": f"kubectl -n {settings.composition} logs "
            f"-l app.kubernetes.io/instance={_DECORATOR} --tail=5",
            # From its own pods: the decorator's NetworkPolicy allows no egress to it.
            "let somebody sign up": pulumi.Output.concat(
                f"kubectl -n {settings.composition} exec deploy/",
                signup.application.deployment.metadata["name"],
                " -c events -- python3 -c 'import urllib.request as r; print(r.urlopen(r.Request("
                f'"http://127.0.0.1:{signup.reach.ports[0]}/events/{SIGNUP.name}", '
                'b"{\\"username\\": \\"ada\\", \\"email\\": \\"ada@example.org\\", '
                '\\"newsletter\\": true}")).read().decode())\'',
            ),
            "the way that its event took": "make trace ID=THE-ID-IN-THE-ANSWER",
            "how many pods there are, and why": f"kubectl -n {settings.composition} get hpa,pods",
        },
    )
