"""A bus, a pipeline whose steps do what their events say, and two-factor with its gateway."""

import pulumi

from dds_patterns import (
    Application,
    DeliveryArgs,
    EventBus,
    Function,
    Password,
    Pipeline,
    Reach,
    Subscriber,
)
from tests.live.programs.common import in_namespace
from tests.live.support.events import FLOW
from tests.live.support.kube import InPod
from toolchain.paths import Checkout

TOKEN_FILE = "/etc/sms/token"
PATIENT: DeliveryArgs = {
    "attempts": 20,
    "first_delay_seconds": 0.2,
    "max_delay_seconds": 3,
    "timeout_seconds": 5,
}

config = pulumi.Config()
images = config.require_object("images")
options = in_namespace(config.require("namespace"))

bus = EventBus(
    "bus",
    {
        "image": images["nats"],
        "tools_image": images["events"],
        # Little enough to be filled by a test.
        "events_mib": 1,
        "dead_mib": 8,
        "records_mib": 16,
        "buckets": [{"name": "codes", "ttl_seconds": 3600, "size_mib": 4}],
        "rotation": {
            "generation": config.get_int("generation") or 1,
            "keep_former": config.get_bool("keep_former") is not False,
        },
        "hosting": {"storage": {"delete_with_workload": True}},
    },
    options,
).reach

steps = Application(
    "steps",
    {
        "image": images["toolbox"],
        "command": ["python3", f"{InPod.FOLDER}/tests/live/in_pod/steps.py"],
        "files": InPod.files(),
        "writable": ["/var/steps"],
        "ports": [{"name": "http", "port": 8080}],
        "readiness": {"path": "/calls?after=-1", "period_seconds": 1},
        "drain_seconds": 0,
        "termination_grace_period_seconds": 1,
    },
    options,
)


pipeline = Pipeline(
    "signup-pipeline",
    {
        "image": images["events"],
        "bus": bus,
        "flow": FLOW,
        "targets": {step: steps.reach.at(f"/{step}") for step in FLOW.steps},
        "delivery": PATIENT,
        "deliveries": {
            # Few, for the poison; and half a minute, which a step that was killed takes to return.
            "subscribe-user": {
                "attempts": 6,
                "first_delay_seconds": 1,
                "max_delay_seconds": 16,
            },
            "create-user": {"timeout_seconds": 30},
        },
    },
    options,
)

token = Password("sms-token", {}, options)
gateway = Application(
    "gateway",
    {
        "image": images["toolbox"],
        "command": ["python3", "/opt/examples/sms_gateway.py"],
        "env": {"TOKEN_FILE": TOKEN_FILE},
        "secret_files": {TOKEN_FILE: token.value},
        "ports": [{"name": "http", "port": 8080}],
        "readiness": {"path": "/readyz"},
        "drain_seconds": 0,
    },
    options,
)
store = EventBus.client(images["events"], "codes", bus)
codes = Application(
    "codes",
    {
        **store,  # type: ignore[typeddict-item]
        "env": {**store["env"], "CODE_SECONDS": config.require("code_seconds"),
                "CODE_ATTEMPTS": "3"},
        "ports": [{"name": "http", "port": 8080}],
        "readiness": {"path": "/readyz"},
        "drain_seconds": 0,
    },
    options,
)  # fmt: skip
two_factor = Function(
    "two-factor",
    {
        "image": images["function"],
        "source": str(Checkout().root / "stacks" / "sources" / "two_factor.py"),
        "target": "two_factor",
        "env": {
            "CODES_URL": pulumi.Output.concat("http://", codes.endpoint or "", "/codes"),
            "SMS_URL": pulumi.Output.concat("http://", gateway.endpoint or "", "/messages"),
            "SMS_ACCOUNT": "account",
            "SMS_FROM": "+12065251212",
            "SMS_TOKEN_FILE": TOKEN_FILE,
        },
        "secret_files": {TOKEN_FILE: token.value},
        "max_scale": 1,
        "reaches": [codes.reach, gateway.reach],
    },
    options,
)
naps = Function(
    "naps",
    {
        "image": images["function"],
        "code": "def handler(context):\n    return {'woken': context.request_id}\n",
        "min_scale": 0,
        "max_scale": 1,
        "idle_seconds": 5,
    },
    options,
)
logins = Subscriber(
    "logins",
    {
        "image": images["events"],
        "bus": bus,
        "subscriptions": [
            {
                "name": "two-factor",
                "topic": "login.requested",
                "target": two_factor.reach,
                **PATIENT,
                # For a minute and more.
                "attempts": 16,
                "max_delay_seconds": 8,
            },
            # A start from nothing takes longer than an answer.
            {
                "name": "naps",
                "topic": "nap.wanted",
                "target": naps.reach,
                "timeout_seconds": 60,
            },
        ],
        "accepts": ["login.requested", "nap.wanted"],
        "replicas": 1,
    },
    options,
)
client = Application(
    "client",
    {
        "image": images["toolbox"],
        "command": ["sleep", "infinity"],
        "files": InPod.files(),
        "reaches": [
            steps.reach,
            gateway.reach,
            codes.reach,
            pipeline.reach,
            logins.reach,
            # Out only: nothing tells the bus to let it in, which a test sees.
            Reach("bus", ("bus:4222", "bus:8222"), pods=bus.pods),
        ],
        "termination_grace_period_seconds": 1,
    },
    options,
)
pulumi.export("signup", pipeline.url)
pulumi.export("logins", pulumi.Output.concat(logins.url, "/login.requested"))
pulumi.export("naps", pulumi.Output.concat(logins.url, "/nap.wanted"))
for name, made in {"steps": steps, "gateway": gateway, "codes": codes}.items():
    pulumi.export(name, pulumi.Output.concat("http://", made.endpoint or ""))
pulumi.export("token", pulumi.Output.secret(token.value))
