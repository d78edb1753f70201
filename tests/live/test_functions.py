"""Functions (S20, S23): decorators, limits, ids, scaling; each on the real cluster."""

import json
import re
import uuid
from collections.abc import Iterator, Mapping

import pytest

from tests.live.support.cluster import Cluster
from tests.live.support.functions import Functions, Scaling
from tests.live.support.kube import Kube
from tests.live.support.stacks import PROGRAMS, throwaway
from tests.live.support.variants import built_images
from tests.live.support.waiting import eventually


@pytest.fixture(scope="module")
def functions(
    cluster: Cluster, kube: Kube, tmp_path_factory: pytest.TempPathFactory, worker_id: str
) -> Iterator[Functions]:
    """All functions of the program, in a namespace of their own."""
    own = tmp_path_factory.getbasetemp()
    shared = own if worker_id == "master" else own.parent
    images: Mapping[str, str] = built_images(cluster, shared, ("function", "toolbox"))
    folder = tmp_path_factory.mktemp("functions") / "stack"
    with (
        kube.namespace("functions") as namespace,
        throwaway(cluster, PROGRAMS / "functions", folder, destroy=False) as stack,
    ):
        stack.up(namespace=namespace, images=dict(images), registry=cluster.registry)
        yield Functions(kube, namespace, stack.outputs()["urls"])


@pytest.fixture(scope="module")
def scaling(functions: Functions) -> Scaling:
    """Load on the function that scales, from the first test on: the others run meanwhile."""
    return Scaling(functions, "scaled", most=3)


def seen(functions: Functions) -> list[dict[str, object]]:
    """What reached the API, in order."""
    answer = functions.call("api")
    assert answer["status"] == 200
    found: list[dict[str, object]] = answer["content"]
    return found


# S20


@pytest.mark.usefixtures("scaling")
def test_a_missing_colour_becomes_blue(functions: Functions) -> None:
    answer = functions.call("defaults", {"name": "foo"})
    assert answer["status"] == 200
    assert answer["content"] == {"made": {"name": "foo", "color": "blue"}}
    assert seen(functions)[-1]["body"] == {"name": "foo", "color": "blue"}


def test_a_missing_name_is_given(functions: Functions) -> None:
    made = [functions.call("defaults", {"color": "red"})["content"]["made"] for _ in range(2)]
    assert [one["color"] for one in made] == ["red", "red"]
    names = [one["name"] for one in made]
    assert all(re.fullmatch(r"[a-z]+-[a-z]+-\d{4}", name) for name in names)
    assert names[0] != names[1]


def test_what_is_there_stays(functions: Functions) -> None:
    body = {"name": "foo", "color": "red", "size": [1, {"a": None}]}
    assert functions.call("defaults", body)["content"] == {"made": body}


def test_the_apis_refusal_and_other_requests_pass_unchanged(functions: Functions) -> None:
    refused, got = functions.calls([
        {"url": functions.urls["defaults"], "body": {"refuse": "no"}},
        {"url": functions.urls["defaults"]},
    ])  # fmt: skip
    assert (refused["status"], refused["content"]) == (409, {"refused": "no"})
    assert got["status"] == 200
    assert isinstance(got["content"], list)


def test_target_status_and_headers_pass_as_they_came(functions: Functions) -> None:
    mark = uuid.uuid4().hex
    target = "/a%3Fadmin=1/%2e%2e/b%2Fc%20d?q=what?"
    url = functions.urls["defaults"] + target
    body = {"name": mark, "color": "red", "create": True}
    (answer,) = functions.calls([{"url": url, "body": body}])
    assert (answer["status"], answer["content"]) == (201, {"made": body})
    assert [answer["headers"][k] for k in ("location", "set-cookie")] == ["/made/1", "a=1"]
    (reached,) = [one for one in seen(functions) if mark in json.dumps(one["body"])]
    assert reached["target"] == target


def test_a_decorator_that_fails_closed_keeps_the_request_from_the_api(functions: Functions) -> None:
    mark = uuid.uuid4().hex
    answer = functions.call("closed", {"name": mark, "fail": "request"})
    assert answer["status"] == 500
    assert "broken" not in json.dumps(answer["content"])
    assert not [one for one in seen(functions) if mark in json.dumps(one)]


def test_a_decorator_that_fails_open_lets_the_request_through_as_it_came(
    functions: Functions,
) -> None:
    mark = uuid.uuid4().hex
    answer = functions.call("open", {"name": mark, "fail": "request"})
    assert answer["status"] == 200
    assert answer["content"] == {"made": {"name": mark, "fail": "request"}}
    assert len([one for one in seen(functions) if mark in json.dumps(one)]) == 1


def test_the_answer_is_changed_on_its_way_back(functions: Functions) -> None:
    answer = functions.call("closed", {"name": "foo"}, headers={"X-Request-Id": "way-back"})
    assert answer["content"] == {"made": {"name": "foo", "decorated": True}, "by": "way-back"}


@pytest.mark.parametrize(("kind", "status"), [("open", 200), ("closed", 500)])
def test_failing_on_the_way_back_asks_the_api_once(
    functions: Functions, kind: str, status: int
) -> None:
    mark = uuid.uuid4().hex
    answer = functions.call(kind, {"name": mark, "fail": "response"})
    assert answer["status"] == status
    assert ("made" in json.dumps(answer["content"])) == (kind == "open")
    assert len([one for one in seen(functions) if mark in json.dumps(one)]) == 1


def test_malformed_json_fails_as_the_argument_says(functions: Functions) -> None:
    closed, open_ = (
        functions.calls([{"url": functions.urls[kind], "text": "{broken"}])[0]
        for kind in ("closed", "open")
    )
    assert closed["status"] == 400
    # The API itself has judged it.
    assert (open_["status"], "400" in str(open_["content"])) == (400, True)
    assert functions.lines("open", open_["headers"]["x-request-id"])[-1]["status"] == 400


def test_the_request_id_goes_through_to_the_api(functions: Functions) -> None:
    mark = uuid.uuid4().hex
    trace = "4bf92f3577b34da6a3ce929d0e0e4736"
    answer = functions.call(
        "defaults",
        {"name": mark},
        headers={"X-Request-Id": mark, "traceparent": f"00-{trace}-00f067aa0ba902b7-01"},
    )
    assert answer["headers"]["x-request-id"] == mark
    (reached,) = [one for one in seen(functions) if mark in json.dumps(one["body"])]
    headers = reached["headers"]
    assert isinstance(headers, dict)
    assert headers["x-request-id"] == mark
    assert headers["traceparent"].startswith(f"00-{trace}-")
    for name in ("defaults", "api"):
        (line,) = functions.lines(name, mark)
        assert (line["message"], line["trace_id"], line["status"]) == ("answered", trace, 200)


# S23: to zero and back


def asleep(functions: Functions, name: str) -> None:
    """Wait until a function has no pod."""
    eventually(lambda: not functions.pods(name), 90, f"{name} has no pod")


def test_without_a_pod_none_of_many_requests_is_lost(functions: Functions) -> None:
    asleep(functions, "sleepy")
    call = {"url": functions.urls["sleepy"], "body": {"sleep": 0.1}, "timeout": 90}
    answers = functions.calls([call] * 12, at_once=12)
    assert [answer["status"] for answer in answers] == [200] * 12, answers
    assert {a["content"]["most"] for a in answers} <= {1, 2}, "more than its concurrency"
    pod = functions.pod("sleepy")
    # The activator is the only way to it.
    direct = {"url": f"http://{pod.address}:8080", "body": {}, "timeout": 3}
    assert functions.calls([direct])[0]["status"] == 0
    mark = uuid.uuid4().hex
    again = functions.call("sleepy", {}, headers={"X-Request-Id": mark}, timeout=90)
    assert again["headers"]["x-request-id"] == mark
    assert functions.lines("sleepy", mark)[-1]["status"] == 200


def test_slow_clients_stop_nobody_and_streams_come_as_they_are_made(functions: Functions) -> None:
    """Once directly and once through the activator, which has just woken it."""
    for name in ("limited", "sleepy"):
        url = functions.urls[name]
        call = {"url": url, "body": {"lines": 2}, "timeout": 90}
        (answer,) = functions.calls([call], slow=60, slow_url=url)
        assert (answer["status"], answer["content"]) == (200, "0\n1\n")
        # Each line is a second's work.
        assert answer["seconds"] - answer["first"] > 1


def test_a_pod_that_cannot_start_is_a_503_that_says_why(functions: Functions) -> None:
    asleep(functions, "unlucky")
    (deployment,) = functions.kube.objects(
        "apps/v1", "Deployment", functions.namespace, "app.kubernetes.io/instance=unlucky"
    )
    nowhere = {"spec": {"template": {"spec": {"nodeSelector": {"dds/test": "nowhere"}}}}}
    functions.kube.apps.patch_namespaced_deployment(
        deployment["metadata"]["name"], functions.namespace, nowhere
    )
    call = {"url": functions.urls["unlucky"], "timeout": 60}
    answers = functions.calls([call] * 6, at_once=6)
    assert [answer["status"] for answer in answers] == [503] * 6
    assert {answer["headers"]["retry-after"] for answer in answers} == {"1"}
    said = [answer["content"]["error"] for answer in answers]
    assert said.count("the queue of requests is full") == 3, said
    assert said.count("no pod within 15 s: Unschedulable") == 3, said


# S23 and the runtime


def test_no_more_at_once_than_the_concurrency(functions: Functions) -> None:
    """Two run, two wait, the others are told to come again; nothing runs beside the two."""
    call = {"url": functions.urls["limited"], "body": {"sleep": 2.0}}
    answers = functions.calls([call] * 8, at_once=8)
    statuses = sorted(answer["status"] for answer in answers)
    assert set(statuses) == {200, 503}
    assert statuses.count(200) >= 4
    assert {a["content"]["most"] for a in answers if a["status"] == 200} <= {1, 2}
    turned_away = [a for a in answers if a["status"] == 503]
    assert {a["headers"]["retry-after"] for a in turned_away} == {"1"}


def test_a_function_that_spins_is_ended_in_time(functions: Functions) -> None:
    before = functions.pod("limited").restarts
    answer = functions.call("limited", {"spin": True})
    assert answer["status"] == 504
    # Its limit is 4 s; a busy machine may take longer to see it.
    assert 4 <= answer["seconds"] < 12
    identity = answer["headers"]["x-request-id"]
    said = [line["message"] for line in functions.lines("limited", identity)]
    assert "the function was interrupted after its timeout" in said
    # Its place is free again, in the same process.
    again = functions.call("limited", {"sleep": 0})
    assert again["status"] == 200
    assert again["content"]["most"] > 0
    assert functions.pod("limited").restarts == before


def test_a_function_that_cannot_be_ended_is_replaced(functions: Functions) -> None:
    """It sits in a system call: others are served, then the process gives way to a new one."""
    answers = functions.calls(
        [
            {"url": functions.urls["limited"], "body": {"sleep": 60}},
            {"url": functions.urls["limited"], "body": {"sleep": 1}},
        ],
        at_once=2,
    )
    assert [answer["status"] for answer in answers] == [504, 200]
    # Refused for a moment if the process has given way by now.
    eventually(lambda: functions.health("limited").startswith("200"), 30, "it is alive")

    def replaced() -> bool:
        return "being replaced" in functions.kube.logs(functions.pod("limited"), "limited")

    eventually(replaced, 30, "the process is replaced")
    eventually(
        lambda: functions.call("limited", {"sleep": 0}).get("status") == 200, 30, "it answers again"
    )
    assert sum(functions.pod("limited").restarts.values()) == 0


def test_health_is_not_the_functions(functions: Functions) -> None:
    broken = functions.call("limited", {"fail": "always"})
    assert broken["status"] == 500
    assert "always" not in json.dumps(broken["content"])
    assert functions.health("limited").strip() == '200 {"alive": true}'
    assert functions.health("limited", "/readyz").startswith("200")
    assert 'function_answers_total{function="limited",status="500"}' in functions.health(
        "limited", "/metrics"
    )
    # At the function's own port that path is the function's.
    own = functions.calls([{"url": f"{functions.urls['limited']}/healthz"}])[0]
    assert own["content"]["id"]


def test_each_line_of_the_log_has_the_requests_id(functions: Functions) -> None:
    mark = uuid.uuid4().hex
    answer = functions.call("limited", {"say": mark}, headers={"X-Request-Id": mark})
    assert answer["content"]["id"] == mark
    lines = functions.lines("limited", mark)
    assert [line["message"] for line in lines] == [
        f"said by print {mark}", "said by logging", "answered",
    ]  # fmt: skip
    assert [line["level"] for line in lines] == ["info", "warning", "info"]
    assert lines[-1]["status"] == 200
    malformed = functions.call("limited", {}, headers={"X-Request-Id": "a b"})
    assert re.fullmatch("[0-9a-f]{32}", malformed["headers"]["x-request-id"])


def test_events_in_the_books_form_and_in_the_frameworks(functions: Functions) -> None:
    headers = {
        "ce-specversion": "1.0", "ce-id": "e-1", "ce-source": "/test", "ce-type": "shop.order",
        "ce-key": "k",
    }  # fmt: skip
    own = functions.call("limited", {"a": 1}, headers=headers)
    assert own["content"]["event"] == {
        "specversion": "1.0", "id": "e-1", "source": "/test", "type": "shop.order", "key": "k",
    }  # fmt: skip
    framework = functions.call("events", {"a": 1}, headers=headers)
    assert framework["status"] == 200
    said = functions.lines("events", framework["headers"]["x-request-id"])
    assert said[0]["message"] == "event e-1 shop.order {'a': 1}"
    assert said[0]["event_id"] == "e-1"
    assert functions.call("events", {"fail": True}, headers=headers)["status"] == 500


def test_dependencies_are_in_the_image(functions: Functions) -> None:
    answer = functions.call("shouts", {"word": "ambassador"})
    assert answer["content"] == {"words": "ambassadors!"}
    (deployment,) = functions.kube.objects(
        "apps/v1", "Deployment", functions.namespace, "app.kubernetes.io/instance=shouts"
    )
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    assert "/dds/function-shouts@sha256:" in container["image"]


def test_nobody_asks_and_the_pod_is_gone_again(functions: Functions) -> None:
    asleep(functions, "sleepy")
    log = functions.kube.logs(functions.pod("sleepy-activator"), "activator")
    said = [json.loads(line)["message"] for line in log.splitlines()]
    assert "scaled from zero" in said
    last = len(said) - said[::-1].index("scaled from zero")
    assert "idle, scaled to zero" in said[last:]


def test_an_activator_that_is_lost_comes_back_and_wakes_it(functions: Functions) -> None:
    asleep(functions, "sleepy")
    lost = functions.pod("sleepy-activator")
    functions.kube.delete_pod(lost, grace=1)
    # Until another one is there a connection is refused; nothing is accepted and lost.
    call = functions.urls["sleepy"]

    def answered() -> bool:
        answer = functions.calls([{"url": call, "body": {}, "timeout": 90}])[0]
        assert answer["status"] in (0, 200), answer
        return bool(answer["status"] == 200)

    eventually(answered, 120, "it answers again")
    assert functions.pod("sleepy-activator").uid != lost.uid


def test_it_scales_with_load_and_back(scaling: Scaling) -> None:
    """From one pod to all three under load, and back to one without; every request is answered."""
    scaling.wait(500)
    counts = [count for _, count in scaling.seen]
    assert (counts[0], max(counts), counts[-1]) == (1, 3, 1)
    assert set(scaling.statuses) == {"200"}, scaling.statuses
