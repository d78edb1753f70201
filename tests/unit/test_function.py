"""Function and FunctionDecorator: what is registered, where code goes, what is refused."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pulumi
import pytest

from dds_patterns import Application, Function, FunctionDecorator
from dds_patterns.arguments.errors import InputError
from dds_patterns.serving import function_plan
from dds_patterns.serving.function_decorator import DEFAULTING
from dds_patterns.serving.function_source import RUBBISH, SECRETS
from dds_patterns.values.reach import Reach
from tests.unit.support.examples import HANDLER, IMAGE
from tests.unit.support.examples.example import reach
from tests.unit.support.manifests import objects, policy, the
from toolchain.graph import Graph, build
from toolchain.plugins.docker import context

MODES = [pytest.param(True, id="preview"), pytest.param(False, id="update")]
PIN = "inflection==0.5.1 \\\n    --hash=sha256:" + "a" * 64 + "\n"


def made(preview: bool = False, **args: Any) -> Graph:
    """A function; what is callable in the arguments gives its value inside the program."""
    given: Any = {"image": IMAGE, **({} if "source" in args else {"code": HANDLER}), **args}

    def program() -> None:
        late: Any = {key: value() if callable(value) else value for key, value in given.items()}
        Function("shop", late)

    return build(program, preview=preview)


def decorated(preview: bool = False, **args: Any) -> Graph:
    given: Any = {"image": IMAGE, "upstream": reach("api"), **args}
    return build(lambda: FunctionDecorator("shop", given), preview=preview)


def container(graph: Graph) -> dict[str, Any]:
    (only,) = the(graph, "Deployment")["spec"]["template"]["spec"]["containers"]
    found: dict[str, Any] = only
    return found


def peers(spec: dict[str, Any], port: int = 8080) -> list[dict[str, str]]:
    """Labels of the pods that a NetworkPolicy lets in at a port."""
    return [
        peer["podSelector"]["matchLabels"]
        for rule in spec.get("ingress", [])
        if port in [each["port"] for each in rule["ports"]]
        for peer in rule["from"]
    ]


def environment(graph: Graph) -> dict[str, str]:
    return {entry["name"]: entry["value"] for entry in container(graph)["env"]}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "main.py").write_text(HANDLER)
    (tmp_path / "other.py").write_text("def handler(context):\n    return {}\n")
    return tmp_path


# the runtime


def test_the_runtime_is_told_everything() -> None:
    told = environment(
        made(concurrency=3, queue_size=5, timeout_seconds=7, target="answer", signature="http")
    )
    assert told["FUNCTION_CONCURRENCY"] == "3"
    assert told["FUNCTION_QUEUE_SIZE"] == "5"
    assert told["FUNCTION_TIMEOUT_SECONDS"] == "7"
    assert told["FUNCTION_HANDLER"] == "answer"
    assert told["FUNCTION_FORM"] == "http"
    assert told["FUNCTION_FILE"] == "/opt/function/source/main.py"


def test_what_is_not_given_has_its_default() -> None:
    told = environment(made())
    assert (told["FUNCTION_CONCURRENCY"], told["FUNCTION_QUEUE_SIZE"]) == ("8", "32")
    assert told["FUNCTION_HANDLER"] == "handler"
    assert told["FUNCTION_FORM"] == "context"
    assert container(made())["resources"]["limits"]["memory"] == "256Mi"


def test_a_pod_ends_after_what_runs_in_it() -> None:
    spec = the(made(timeout_seconds=120), "Deployment")["spec"]["template"]["spec"]
    drain = spec["containers"][0]["lifecycle"]["preStop"]["sleep"]["seconds"]
    assert spec["terminationGracePeriodSeconds"] >= 120 + drain + 5


def test_probes_ask_the_health_port() -> None:
    probes = container(made())
    for kind, path in (("readiness", "/readyz"), ("liveness", "/healthz"), ("startup", "/readyz")):
        assert probes[f"{kind}Probe"]["httpGet"] == {
            "path": path,
            "port": function_plan.HEALTH_PORT,
        }
    (service,) = objects(made(), "Service")
    assert [port["name"] for port in service["spec"]["ports"]] == ["http"]


# scale


@pytest.mark.parametrize("preview", MODES)
def test_it_scales_on_its_own_containers_cpu(preview: bool) -> None:
    graph = made(preview, min_scale=2, max_scale=5, target_cpu_percent=60, scale_down_seconds=9)
    spec = the(graph, "HorizontalPodAutoscaler")["spec"]
    assert (spec["minReplicas"], spec["maxReplicas"]) == (2, 5)
    (metric,) = spec["metrics"]
    assert metric["containerResource"]["container"] == "shop"
    assert metric["containerResource"]["target"]["averageUtilization"] == 60
    assert spec["behavior"]["scaleDown"]["stabilizationWindowSeconds"] == 9
    assert spec["scaleTargetRef"]["kind"] == "Deployment"
    # The number belongs to the autoscaler: an update would otherwise set it back.
    (deployment,) = graph.all("Deployment")
    assert "replicas" not in deployment.inputs["spec"]


def test_the_autoscaler_finds_the_deployment_and_its_container() -> None:
    graph = made()
    deployment = the(graph, "Deployment")
    spec = the(graph, "HorizontalPodAutoscaler")["spec"]
    assert spec["scaleTargetRef"]["name"] == deployment["metadata"]["name"]
    assert spec["metrics"][0]["containerResource"]["container"] == container(graph)["name"]


def test_a_fixed_number_needs_no_autoscaler() -> None:
    graph = made(min_scale=2, max_scale=2)
    assert the(graph, "Deployment")["spec"]["replicas"] == 2
    assert objects(graph, "HorizontalPodAutoscaler") == []
    assert the(graph, "Deployment")["spec"]["replicas"] == 2


# to zero


def test_an_update_waits_for_as_many_pods_as_there_may_be() -> None:
    graph = made(min_scale=1, max_scale=20, timeout_seconds=20)
    # Each: 30 s to end and 5 s before that, two minutes to start, 30 s for all else.
    assert graph.one("Deployment").timeouts["update"] == f"{20 * 185}s"


def two(graph: Graph, kind: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """The function's own object of a kind, and its activator's."""
    found = {
        body["metadata"]["labels"]["app.kubernetes.io/instance"]: body
        for body in objects(graph, kind)
    }
    return found["shop"], found["shop-activator"]


@pytest.mark.parametrize("preview", MODES)
def test_without_a_warm_pod_an_activator_stands_before_it(preview: bool) -> None:
    graph = made(preview, min_scale=0, concurrency=3, activator_queue_size=7)
    function, activator = two(graph, "Deployment")
    # The numbers of the function's pods are the activator's and the autoscaler's.
    assert "replicas" not in function["spec"]
    assert activator["spec"]["replicas"] == 1
    assert the(graph, "HorizontalPodAutoscaler")["spec"]["minReplicas"] == 1
    (service,) = objects(graph, "Service")
    assert service["spec"]["selector"]["app.kubernetes.io/instance"] == "shop-activator"
    told = {
        e["name"]: e["value"] for e in activator["spec"]["template"]["spec"]["containers"][0]["env"]
    }
    assert told["FUNCTION_CONCURRENCY"] == "3"
    assert (told["ACTIVATOR_QUEUE_SIZE"], told["ACTIVATOR_IDLE_SECONDS"]) == ("7", "60")
    selected = dict(pair.split("=") for pair in told["ACTIVATOR_SELECTOR"].split(","))
    assert selected == function["spec"]["selector"]["matchLabels"]
    assert told["ACTIVATOR_DEPLOYMENT"] == function["metadata"]["name"]


def test_who_calls_reaches_the_activator_and_it_alone_the_pods() -> None:
    graph = made(
        min_scale=0,
        clients=[{"pods": {"role": "web"}}],
        metrics_clients=[{"pods": {"role": "watch"}}],
    )
    function, activator = policy(graph, "shop")["spec"], policy(graph, "shop-activator")["spec"]
    assert (peers(function), peers(activator)) == ([], [{"role": "web"}])
    assert peers(function, 8081) == peers(activator, 8081) == [{"role": "watch"}]
    way = policy(graph, "shop-activator-to-shop")["spec"]
    assert way["podSelector"] == function["podSelector"]
    for port in (8080, 8081):
        assert peers(way, port) == [activator["podSelector"]["matchLabels"]]
    assert [{"podSelector": function["podSelector"]}] in [r.get("to") for r in activator["egress"]]


def test_an_activator_may_scale_its_function_and_no_other() -> None:
    graph = made(min_scale=0)
    function, _ = two(graph, "Deployment")
    assert the(graph, "Role")["rules"] == [
        {"apiGroups": ["apps"], "resources": ["deployments/scale"], "verbs": ["get", "patch"],
         "resourceNames": [function["metadata"]["name"]]},
        {"apiGroups": [""], "resources": ["pods"], "verbs": ["list", "watch"]},
    ]  # fmt: skip
    # The function's code has no token.
    own, other = (body["spec"]["template"]["spec"] for body in two(graph, "Deployment"))
    assert "projected" not in str(own)
    assert "projected" in str(other)


def test_what_reaches_it_reaches_the_activator() -> None:
    graph = called(min_scale=0)
    assert "shop-activator" in graph.outputs[""]["url"]
    way = policy(graph, "web-to-shop-activator")["spec"]
    assert way["podSelector"] == policy(graph, "shop-activator")["spec"]["podSelector"]


def test_one_pod_or_none_needs_no_autoscaler() -> None:
    graph = made(min_scale=0, max_scale=1)
    assert objects(graph, "HorizontalPodAutoscaler") == []
    assert "replicas" not in two(graph, "Deployment")[0]["spec"]


# who calls it


def called(**args: Any) -> Graph:
    """A function in a namespace of its own, and what calls it from another."""

    def program() -> None:
        given: Any = {"image": IMAGE, "code": HANDLER, "hosting": {"namespace": "there"}, **args}
        function = Function("shop", given)
        pulumi.export("url", function.reach.url)
        caller: Any = {
            "image": IMAGE,
            "reaches": [function.reach],
            "hosting": {"namespace": "here"},
        }
        Application("web", caller)

    return build(program)


def test_nobody_may_call_it_unless_said() -> None:
    assert peers(policy(made(), "shop")["spec"]) == []
    said = made(
        clients=[{"pods": {"role": "web"}}], metrics_clients=[{"pods": {"app": "prometheus"}}]
    )
    assert peers(policy(said, "shop")["spec"]) == [{"role": "web"}]
    assert peers(policy(said, "shop")["spec"], 8081) == [{"app": "prometheus"}]


def test_what_reaches_it_is_let_out_and_in_and_waits_until_it_is_ready() -> None:
    graph = called()
    assert graph.outputs[""]["url"].endswith(".there.svc:8080/")
    own, caller, way = (policy(graph, name)["spec"] for name in ("shop", "web", "web-to-shop"))
    assert peers(own) == []
    assert graph.one("NetworkPolicy", "web-to-shop").inputs["metadata"]["namespace"] == "there"
    assert way["podSelector"] == own["podSelector"]
    assert way["ingress"] == [
        {
            "ports": [{"port": 8080, "protocol": "TCP"}],
            "from": [
                {
                    "podSelector": caller["podSelector"],
                    "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "here"}},
                }
            ],
        }
    ]
    assert [{"port": 8080, "protocol": "TCP"}] in [rule["ports"] for rule in caller["egress"]]
    ready = graph.one("Deployment", "shop").urn
    assert ready in graph.one("Deployment", "web").dependencies


def test_what_it_reaches_is_reached_by_its_own_pods() -> None:
    graph = made(reaches=[reach("store", 6379)], min_scale=0)
    way = policy(graph, "shop-to-store")["spec"]
    assert way["podSelector"] == {"matchLabels": {"app": "store"}}
    assert peers(way, 6379) == [policy(graph, "shop")["spec"]["podSelector"]["matchLabels"]]
    assert graph.all("NetworkPolicy", "shop-activator-to-store") == []


# code


@pytest.mark.parametrize("preview", MODES)
def test_a_text_is_mounted(preview: bool) -> None:
    graph = made(preview)
    assert graph.all("docker:index/image:Image") == []
    (files,) = [node.inputs["data"] for node in graph.all("ConfigMap")]
    assert list(files.values()) == [HANDLER]
    assert container(graph)["image"] == IMAGE


def test_a_text_may_be_known_later() -> None:
    (files,) = [
        n.inputs["data"]
        for n in made(code=lambda: pulumi.Output.from_input(HANDLER)).all("ConfigMap")
    ]
    assert list(files.values()) == [HANDLER]


def test_a_file_keeps_its_name(folder: Path) -> None:
    graph = made(source=str(folder / "other.py"))
    assert environment(graph)["FUNCTION_FILE"].endswith("/other.py")


def test_a_folder_of_text_files_is_mounted(folder: Path) -> None:
    (folder / "rules.json").write_text("{}")
    (folder / "__pycache__").mkdir()
    graph = made(source=str(folder), file="other.py")
    assert graph.all("docker:index/image:Image") == []
    (files,) = [node.inputs["data"] for node in graph.all("ConfigMap")]
    assert len(files) == 3


@pytest.mark.parametrize("preview", MODES)
def test_a_folder_with_requirements_becomes_an_image(folder: Path, preview: bool) -> None:
    (folder / "requirements.txt").write_text(f"# why\n--only-binary :all:\n{PIN}")
    graph = made(preview, source=str(folder), registry="localhost:5000")
    image = graph.one("docker:index/image:Image")
    assert image.inputs["imageName"] == "localhost:5000/dds/function-shop:current"
    assert image.inputs["build"]["target"] == "dependencies"
    assert image.inputs["build"]["args"] == {"BASE": IMAGE}
    assert Path(image.inputs["build"]["dockerfile"]).is_file()
    assert graph.all("ConfigMap") == []
    if not preview:
        assert container(graph)["image"].startswith("localhost:5000/dds/function-shop@sha256:")


@pytest.mark.parametrize("extra", ["package", "picture"])
def test_what_cannot_be_mounted_becomes_an_image(folder: Path, extra: str) -> None:
    if extra == "package":
        (folder / "words").mkdir()
        (folder / "words" / "__init__.py").touch()
    else:
        (folder / "picture.png").write_bytes(b"\x89PNG\xff")
    graph = made(source=str(folder), registry="localhost:5000")
    assert graph.one("docker:index/image:Image").inputs["build"]["target"] == "plain"


def test_a_file_whose_name_no_mount_takes_is_built_in(folder: Path) -> None:
    (folder / "a:b.txt").write_text("x")
    graph = made(source=str(folder), registry="localhost:5000")
    assert graph.one("docker:index/image:Image").inputs["build"]["target"] == "plain"


# what of a folder goes nowhere

SECRET = (
    ".env", ".env.local", "prod.env", "tls.key", "chain.pem", "id_rsa", "id_ed25519.pub", ".netrc",
    ".npmrc", ".pypirc", "words/.env", ".aws", ".git", ".venv",
)  # fmt: skip


@pytest.fixture
def warnings(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    found: list[str] = []
    monkeypatch.setattr("pulumi.log.warn", lambda text, *_: found.append(text))
    return found


def with_secrets(folder: Path, names: Sequence[str]) -> None:
    for name in names:
        path = folder / name
        if name in (".aws", ".git", ".venv"):
            path.mkdir()
            path /= "credentials"
        path.parent.mkdir(exist_ok=True)
        path.write_text("swordfish")


def test_secrets_of_a_folder_are_not_mounted_and_that_is_said(
    folder: Path, warnings: list[str]
) -> None:
    names = [name for name in SECRET if "/" not in name]
    with_secrets(folder, names)
    (folder / "__pycache__").mkdir()
    graph = made(source=str(folder))
    (files,) = [node.inputs["data"] for node in graph.all("ConfigMap")]
    assert len(files) == 2
    assert "swordfish" not in str([node.inputs for node in graph])
    (said,) = warnings
    assert said.startswith(f"{', '.join(sorted(names))} may be secret and is not in the function")


def test_secrets_of_a_folder_are_not_built_in_and_that_is_said(
    folder: Path, warnings: list[str]
) -> None:
    with_secrets(folder, SECRET)
    (folder / "words" / "__init__.py").touch()
    (folder / "words" / "__pycache__").mkdir()
    (folder / "words" / "__pycache__" / "a.pyc").touch()
    build_args = made(source=str(folder), registry="localhost:5000").one("Image").inputs["build"]
    patterns = context.ignore_patterns(folder, Path(build_args["dockerfile"]))
    there = [name for name, _ in context.files(folder, patterns)]
    assert there == ["main.py", "other.py", "words/__init__.py"]
    (said,) = warnings
    assert said.startswith(", ".join(sorted(SECRET)))


def test_a_folder_without_secrets_needs_no_word(folder: Path, warnings: list[str]) -> None:
    made(source=str(folder))
    assert warnings == []


def test_an_image_leaves_out_what_a_mount_does() -> None:
    ignored = Path(function_plan.__file__).with_name("function.Dockerfile.dockerignore")
    lines = ignored.read_text().splitlines()
    assert lines[1:] == [f"**/{name}" for name in (*SECRETS, *RUBBISH)]


# the decorator


def test_without_code_it_is_the_books_handler() -> None:
    graph = decorated()
    (files,) = [node.inputs["data"] for node in graph.all("ConfigMap")]
    assert list(files.values()) == [DEFAULTING]
    told = environment(graph)
    assert told["FUNCTION_UPSTREAM"] == "api.there.svc:8080"
    assert told["FUNCTION_ON_FAILURE"] == "closed"
    assert "FUNCTION_RESPONSE" not in told


def test_it_reaches_the_service_and_nothing_else() -> None:
    graph = decorated()
    _, *reached = policy(graph, "shop")["spec"]["egress"]
    assert [rule["to"][0]["podSelector"]["matchLabels"] for rule in reached] == [{"app": "api"}]
    way = policy(graph, "shop-to-api")["spec"]
    assert way["podSelector"] == {"matchLabels": {"app": "api"}}
    assert peers(way) == [policy(graph, "shop")["spec"]["podSelector"]["matchLabels"]]


# what is refused


@pytest.mark.parametrize(
    ("args", "said"),
    [
        ({"min_scale": 4, "max_scale": 2}, "min_scale is 4; must not be above max_scale.* 2"),
        ({"min_scale": 0, "max_scale": 0}, "max_scale is 0; must be from 1 to 1000"),
        ({"idle_seconds": 60}, "idle_seconds is 60; is for min_scale 0"),
        ({"activator_queue_size": 1}, "activator_queue_size is 1; is for min_scale 0"),
        (
            {"activator_timeout_seconds": 9, "min_scale": 1},
            "activator_timeout_seconds is 9; is for min_scale 0",
        ),
        (
            {"hosting": {"resources": {"limits": {"memory": "32Mi"}}}},
            "hosting.resources.limits.memory is '32Mi'; must be at least 64Mi",
        ),
        (
            {"hosting": {"resources": {"requests": {"cpu": "2"}, "limits": {"cpu": "1"}}}},
            "hosting.resources.requests.cpu is '2'; must not be above the limit 1",
        ),
        ({"target": "handle"}, "target is 'handle'; did you mean handler"),
        ({"code": "def handler(context:\n  pass"}, "code is 'line 1: def handler"),
        ({"code": "async def handler(context):\n    pass"}, "must be a plain function"),
        ({"source": "missing", "code": HANDLER}, "source is 'missing'; must be left out"),
        ({"file": "a.py"}, "file is 'a.py'; is for a folder"),
        (
            {"env": {"FUNCTION_NAME": "x"}},
            r"env .a key. is 'FUNCTION_NAME'; .* without the prefix FUNCTION_",
        ),
        ({"files": {"/opt/function/source/a": "x"}}, "files is .* must not lie in /opt/function"),
        ({"secret_files": {"/opt/function/a": "x"}}, "secret_files is .* must not lie in"),
        ({"writable": ["/opt/function"]}, "writable is '/opt/function'; must not lie in"),
        ({"replicas": 2}, "replicas is not an argument"),
        ({"command": ["sh"]}, "command is not an argument"),
    ],
    ids=str,
)
def test_bad_input(args: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=f'(?s)Function "shop".*{said}'):
        made(**args)


def test_bad_folders(folder: Path) -> None:
    def refused(said: str, **args: Any) -> None:
        with pytest.raises(InputError, match=said):
            made(**args)

    refused("does not exist", source=str(folder / "nothing"))
    refused("does not exist", source=str(folder / ("x" * 300)))
    (folder / "large.py").write_text(f"{HANDLER}\n#{'x' * 900_000}")
    refused("must have at most 900000 bytes", source=str(folder / "large.py"))
    (folder / "large.py").unlink()
    refused("file is 'mian.py'; did you mean main.py", source=str(folder), file="mian.py")
    (folder / "words.txt").write_text("x")
    refused("must be a Python file with", source=str(folder / "words.txt"))
    (folder / "a:b.py").write_text(HANDLER)
    refused("must be a Python file with", source=str(folder / "a:b.py"))
    (folder / "a:b.py").unlink()
    (folder / "sub").mkdir()
    refused("registry is None; must be given", source=str(folder))
    for line in ("inflection", "inflection==0.5.1", "inflection>=0.5 --hash=sha256:" + "a" * 64,
                 "-r other.txt", "git+https://example.org/x"):  # fmt: skip
        (folder / "requirements.txt").write_text(f"{line}\n")
        refused("must have a version and a hash", source=str(folder), registry="localhost:1")
    (folder / "requirements.txt").write_bytes(b"\xff")
    refused("'requirements.txt'; must be text", source=str(folder), registry="localhost:1")
    (folder / ".dockerignore").write_text("tests\n")
    refused("dockerignore'; must not exist", source=str(folder), registry="localhost:1")


def test_a_secret_is_no_code() -> None:
    with pytest.raises(InputError, match="must not be a secret"):
        made(code=lambda: pulumi.Output.secret(HANDLER))


@pytest.mark.parametrize(
    ("args", "said"),
    [
        ({"upstream": "api:80"}, "upstream is 'api:80'; must be a Reach, such as"),
        (
            {"upstream": Reach.local(6379, app_protocol="redis")},
            "upstream is Reach.*; must be a reach of a server that speaks http",
        ),
        ({"upstream": Reach.local(80, path="/v1")}, "upstream.path is '/v1'; must be left out"),
        ({"response": "back"}, "response is 'back'; known are handler"),
        ({"signature": "http"}, "signature is not an argument"),
    ],
    ids=str,
)
def test_bad_input_of_the_decorator(args: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=f'FunctionDecorator "shop".*{said}'):
        decorated(**args)


def test_the_runtimes_own_requirements_are_pinned(tmp_path: Path) -> None:
    own = Path(__file__).parents[2] / "images" / "function" / "requirements.txt"
    (tmp_path / "main.py").write_text(HANDLER)
    (tmp_path / "requirements.txt").write_text(own.read_text())
    assert made(source=str(tmp_path), registry="localhost:5000").all("docker:index/image:Image")
