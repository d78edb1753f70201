"""The events of the composition ``functions``: the signup pipeline, and two-factor.

Both use one bus. A smoke test publishes a signup and a login, and waits until both events have been
processed.
"""

import json
import pathlib

import pulumi

from dds_patterns import (
    Application,
    ApplicationArgs,
    EventBus,
    Flow,
    Function,
    FunctionArgs,
    ImageCatalog,
    Next,
    Password,
    Pipeline,
    Reach,
    SmokeTest,
    Subscriber,
)
from stacks.target import Target

IMAGES = ("nats", "events", "function", "toolbox")
SIGNUP = Flow(
    "signup",
    "create-user",
    {
        "create-user": Next(required=("email-user",), optional={"newsletter": "subscribe-user"}),
        "email-user": Next(),
        "subscribe-user": Next(),
    },
)
"""The book's pipeline. docs/patterns/functions.md draws it from here."""
LOGIN = "login.requested"

_HERE = pathlib.Path(__file__).parent
_TOKEN_FILE = "/etc/sms/token"  # noqa: S105 (a path)
_CODE_SECONDS = 300


def deploy_events(here: Target, images: ImageCatalog) -> Pipeline:
    """Deploy bus, pipeline, two-factor and their check; return the signup pipeline."""
    bus = EventBus(
        "bus",
        {
            "image": images.reference("nats"),
            "tools_image": images.reference("events"),
            # Longer than a code is valid, so that a redelivered event gets the same code.
            "buckets": [{"name": "codes", "ttl_seconds": 2 * _CODE_SECONDS}],
            "hosting": here.hosting,
        },
        here.opts,
    ).reach
    pipeline = Pipeline(
        "signup",
        {
            "image": images.reference("events"),
            "bus": bus,
            "flow": SIGNUP,
            "targets": {step: _step(here, images, step).reach for step in SIGNUP.steps},
            # Every pod of the namespace may sign up a user.
            "clients": [{}],
            "hosting": here.hosting,
        },
        here.opts,
    )
    logins, gateway = _two_factor(here, images, bus)
    _check(here, images, bus, pipeline, logins, gateway)
    deployment = pipeline.application.deployment.metadata["name"]
    pulumi.export("signup", pipeline.url)
    pulumi.export("logins", pulumi.Output.concat(logins.url, f"/{LOGIN}"))
    pulumi.export("trace", {"namespace": here.namespace, "deployment": deployment})
    return pipeline


def _step(here: Target, images: ImageCatalog, step: str) -> Function:
    args: FunctionArgs = {
        "image": images.reference("function"),
        "source": str(_HERE / "sources" / "signup.py"),
        "target": step.replace("-", "_"),
        # It keeps the idempotency keys in memory; a second pod would not have them.
        "max_scale": 1,
        "hosting": here.hosting,
    }
    return Function(step, args, here.opts)


def _two_factor(here: Target, images: ImageCatalog, bus: Reach) -> tuple[Subscriber, Application]:
    """The handler of logins, with the code store and a gateway that sends nothing."""
    token = Password("sms-token", {}, here.opts)
    gateway = Application(
        "sms-gateway",
        {
            "image": images.reference("toolbox"),
            "command": ["python3", "/opt/examples/sms_gateway.py"],
            "env": {"TOKEN_FILE": _TOKEN_FILE},
            "secret_files": {_TOKEN_FILE: token.value},
            "ports": [{"name": "http", "port": 8080}],
            "readiness": {"path": "/readyz"},
            "liveness": {"path": "/livez"},
            "hosting": here.hosting,
        },
        here.opts,
    )
    store = EventBus.client(images.reference("events"), "codes", bus)
    codes_args: ApplicationArgs = {
        **store,  # type: ignore[typeddict-item]
        "env": {**store["env"], "CODE_SECONDS": str(_CODE_SECONDS), "CODE_ATTEMPTS": "5"},
        "ports": [{"name": "http", "port": 8080}],
        "readiness": {"path": "/readyz"},
        "liveness": {"path": "/healthz"},
        "replicas": 2,
        "hosting": here.hosting,
    }
    codes = Application("codes", codes_args, here.opts)
    two_factor = Function(
        "two-factor",
        {
            "image": images.reference("function"),
            "source": str(_HERE / "sources" / "two_factor.py"),
            "target": "two_factor",
            "env": {
                "CODES_URL": pulumi.Output.concat("http://", codes.endpoint or "", "/codes"),
                "SMS_URL": pulumi.Output.concat("http://", gateway.endpoint or "", "/messages"),
                "SMS_ACCOUNT": "account",
                "SMS_FROM": "+12065251212",
                "SMS_TOKEN_FILE": _TOKEN_FILE,
            },
            "secret_files": {_TOKEN_FILE: token.value},
            "reaches": [codes.reach, gateway.reach],
            "hosting": here.hosting,
        },
        here.opts,
    )
    logins = Subscriber(
        "logins",
        {
            "image": images.reference("events"),
            "bus": bus,
            "subscriptions": [{"name": "two-factor", "topic": LOGIN, "target": two_factor.reach}],
            "accepts": [LOGIN],
            "clients": [{}],
            "hosting": here.hosting,
        },
        here.opts,
    )
    return logins, gateway


def _check(
    here: Target,
    images: ImageCatalog,
    bus: Reach,
    pipeline: Pipeline,
    logins: Subscriber,
    gateway: Application,
) -> None:
    client = EventBus.client(images.reference("events"), "trace", bus)
    SmokeTest(
        "events-check",
        {
            "image": images.reference("events"),
            "script": (_HERE / "scripts" / "events_check.py").read_text(),
            "env": {
                **client["env"],
                "SIGNUP": pipeline.url,
                "LOGINS": pulumi.Output.concat(logins.url, f"/{LOGIN}"),
                "INBOX": pulumi.Output.concat("http://", gateway.endpoint or "", "/inbox"),
                "WAYS": json.dumps(["/".join(path) for path in SIGNUP.paths()]),
            },
            "secret_files": client["secret_files"],
            "reaches": [bus, pipeline.reach, logins.reach, gateway.reach],
            "covers": [
                made.deployment.spec["template"]
                for made in (pipeline.application, logins.application, gateway)
            ],
            "timeout_seconds": 180,
            "hosting": here.hosting,
        },
        here.opts,
    )
