"""Metrics of four programs: a real Prometheus scrapes them, and tells a dead program from silence."""

import base64
import json
import re
import time

import pytest

from dds_patterns.platform.prometheus import CONFIG, RULES
from tests.live.support.adapters import Adapters
from tests.live.support.kube import now
from tests.live.support.waiting import eventually

KINDS = {
    "redis": "redis-metrics",
    "twemproxy": "twemproxy-metrics",
    "nginx": "web-metrics",
    "memcached": "memcached-metrics",
}


@pytest.mark.parametrize("kind", KINDS)
def test_prometheus_scrapes_it_and_the_program_is_up(adapters: Adapters, kind: str) -> None:
    job = KINDS[kind]
    expected = {job: 1.0}
    eventually(lambda: adapters.query(f'up{{job="{job}"}}') == expected, 60, f"{job} is scraped")
    eventually(lambda: adapters.query(f"{kind}_up") == expected, 30, f"{kind} is up")


def test_counted_is_what_was_done(adapters: Adapters) -> None:
    before = eventually(
        lambda: adapters.query("nginx_http_requests_total").get("web-metrics"), 30, "it is scraped"
    )
    assert before is not None
    web = adapters.pod("web")
    loaded = json.loads(adapters.load(web.address, 8080, "/", 4, pause=0.01).output())
    requests = loaded["outcomes"]["status 200"]
    assert requests >= 5, loaded
    assert set(loaded["outcomes"]) == {"status 200"}

    def counted() -> bool:
        # Probes come on top.
        found = adapters.query("nginx_http_requests_total").get("web-metrics", 0.0)
        return bool(found >= before + requests)

    eventually(counted, 40, f"{requests} requests more than {before} are counted")


def test_redis_stopped_is_redis_up_0_while_the_adapter_stays_up(adapters: Adapters) -> None:
    """The proof of the row."""
    pod = adapters.pod("redis")

    def seen() -> tuple[dict[str, float], dict[str, float]]:
        return adapters.query("redis_up"), adapters.query('up{job="redis-metrics"}')

    # Of the same scrape. One that comes too late on a busy machine is not this.
    told_apart = "redis_up == 0 and on (job, instance) up == 1"
    with adapters.nodes.paused(pod, "redis"):
        eventually(
            lambda: adapters.query(told_apart) == {"redis-metrics": 0.0},
            40,
            lambda: f"redis is down and its adapter is up: {seen()}",
        )
        eventually(
            lambda: "RedisDown" in str(adapters.query('ALERTS{alertname="RedisDown"}')),
            40,
            "the alarm is pending",
        )
    eventually(lambda: adapters.query("redis_up") == {"redis-metrics": 1.0}, 30, "it is up again")
    after = adapters.kube.pod(pod.namespace, pod.name)
    assert after is not None
    assert after.restarts == pod.restarts, seen()


def test_configuration_and_rules_pass_promtool(adapters: Adapters) -> None:
    pod = adapters.pod("prometheus")
    checked = adapters.kube.run(pod, "prometheus", ["promtool", "check", "config", CONFIG])
    assert "SUCCESS" in checked
    assert "FAILED" not in checked
    groups = adapters.prometheus("rules")["groups"]
    unhealthy = [r for g in groups for r in g["rules"] if r["health"] == "err"]
    assert unhealthy == []


def test_the_alarms_go_off_when_they_should(adapters: Adapters) -> None:
    """promtool plays an hour in a moment; it fails when an alarm does not come out as expected."""
    pod = adapters.pod("prometheus")
    play = {
        "rule_files": [RULES],
        "evaluation_interval": "10s",
        "tests": [
            {
                "interval": "10s",
                "input_series": [
                    {"series": f'redis_up{{job="redis-metrics",instance="{name}"}}', "values": how}
                    for name, how in (("fine", "1x30"), ("gone", "1x6 0x24"))
                ],
                "alert_rule_test": [
                    {"eval_time": "60s", "alertname": "RedisDown", "exp_alerts": []},
                    {
                        "eval_time": "200s",
                        "alertname": "RedisDown",
                        "exp_alerts": [
                            {
                                "exp_labels": {
                                    "severity": "critical",
                                    "job": "redis-metrics",
                                    "instance": "gone",
                                },
                                "exp_annotations": {
                                    "summary": "Redis at gone does not answer its exporter."
                                },
                            }
                        ],
                    },
                ],
            }
        ],
    }
    text = json.dumps(play)
    command = ["sh", "-c", "head -n 1 > play.yml; TMPDIR=. promtool test rules play.yml"]
    played = adapters.kube.start(pod, "prometheus", command, text).output()
    assert "SUCCESS" in played


def test_every_metric_of_the_dashboards_and_alarms_exists(adapters: Adapters) -> None:
    known = set(adapters.prometheus("label/__name__/values"))
    groups = adapters.prometheus("rules")["groups"]
    expressions = [rule["query"] for group in groups for rule in group["rules"]]
    panels = 0
    for text in adapters.dashboards.values():
        for panel in json.loads(text)["panels"]:
            panels += 1
            expressions += [target["expr"] for target in panel["targets"]]
    assert panels >= 16
    named = {name for e in expressions for name in re.findall(r"\b([a-z]\w*)\{", e)}
    assert len(named) >= 30
    assert named <= known, sorted(named - known)


def test_the_password_is_in_a_file_only(adapters: Adapters) -> None:
    pod = adapters.pod("redis")
    secret = next(
        s for s in adapters.kube.objects("v1", "Secret", adapters.namespace)
        if "passwords.json" in s["data"]
    )  # fmt: skip
    (password,) = set(json.loads(base64.b64decode(secret["data"]["passwords.json"])).values())
    assert len(password) >= 16
    arguments, environment = adapters.process(pod, "redis-metrics")
    assert "-redis.password-file" in arguments
    for text in (arguments, environment, adapters.kube.logs(pod, "redis-metrics")):
        assert password not in text
    # It may look at the server, and at nothing that it holds.
    errors = "redis_exporter_last_scrape_error"
    eventually(lambda: set(adapters.query(errors).values()) == {0.0}, 30, "it scrapes in peace")
    refused = adapters.kube.run(
        pod,
        "redis",
        [
            "sh", "-c",
            'redis-cli --user redis-metrics --pass "$0" --no-auth-warning get hits:x || true',
            password,
        ],
    )  # fmt: skip
    assert "NOPERM" in refused


def test_who_does_not_scrape_is_not_let_in(adapters: Adapters) -> None:
    counter = adapters.pod("counter")
    redis = adapters.pod("redis")
    script = (
        "import socket,sys\n"
        "try: socket.create_connection((sys.argv[1], 9121), timeout=3); print('open')\n"
        "except OSError as error: print('refused', error)"
    )
    said = adapters.kube.run(counter, "counter", ["python3", "-c", script, redis.address])
    assert "refused" in said
    assert adapters.get(redis.address, 9121, "/health")["status"] == 200


def test_adapter_paused_the_application_goes_on_and_the_pod_stays_ready(
    adapters: Adapters,
) -> None:
    pod = adapters.pod("web")
    with adapters.watched(pod) as readiness:
        load = adapters.load(pod.address, 8080, "/", 9)
        time.sleep(1)
        with adapters.nodes.paused(pod, "web-metrics"):
            eventually(
                lambda: adapters.query('up{job="web-metrics"}') == {"web-metrics": 0.0},
                20,
                "the exporter is missed",
            )
            # Its silence is told from that of nginx: that one is not known, not 0.
            assert adapters.query('nginx_up{job="web-metrics"} == 0') == {}
        seen = json.loads(load.output())
    assert set(seen["outcomes"]) == {"status 200"}, seen
    assert [ready for _, ready in readiness.changes] == [True]


def test_adapter_killed_the_application_goes_on_and_the_pod_is_ready_again(
    adapters: Adapters,
) -> None:
    pod = adapters.pod("web")
    with adapters.watched(pod) as readiness:
        load = adapters.load(pod.address, 8080, "/", 6)
        time.sleep(1)
        adapters.nodes.kill(pod, "web-metrics")

        def back() -> bool:
            seen = adapters.kube.pod(pod.namespace, pod.name)
            return bool(
                seen and seen.ready and seen.restarts["web-metrics"] > pod.restarts["web-metrics"]
            )

        eventually(back, 60, "the exporter was started again")
        seen = json.loads(load.output())
    assert set(seen["outcomes"]) == {"status 200"}, seen
    after = adapters.pod("web")
    assert after.uid == pod.uid
    assert after.restarts["web"] == pod.restarts["web"]
    # Kubernetes takes a pod out of its Services while any of its containers is not running.
    assert readiness.unready_seconds(now()) < 60, readiness
