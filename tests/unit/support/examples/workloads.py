"""Workloads, and components that use one."""

from pathlib import Path
from typing import Any

import pulumi

from dds_patterns import (
    Application,
    Function,
    FunctionDecorator,
    Password,
    ScheduledTask,
    ShardSet,
    Singleton,
    SmokeTest,
    StatefulApplication,
    Task,
    TaskTemplate,
)
from dds_patterns.pods.companion import Rule
from dds_patterns.values.reach import Credentials, Reach
from tests.unit.support.examples.example import IMAGE, Example, bus, companion, hosting, reach

# A function with requirements, from which an image is built.
_FOLDER = str(Path(__file__).parents[3] / "live" / "programs" / "functions" / "shouts")
_RESOURCES = {"requests": {"cpu": "50m"}, "limits": {"memory": "256Mi"}}
HANDLER = """
def handler(context):
    return {"got": context.json}


def answer(context, answer):
    return answer
"""


def _everything() -> dict[str, Any]:
    return {
        "image": IMAGE,
        "command": ["/bin/app"],
        "args": ["--verbose"],
        "env": {"MODE": "full", "COLOUR": "green"},
        "files": {"/etc/app/app.conf": "a", "/etc/app/b.conf": "b", "/etc/other/c.conf": "c"},
        "secret_files": {"/etc/secrets/password": pulumi.Output.secret("swordfish")},
        "writable": ["/var/cache/app", "/tmp"],
        "writable_size": "8Mi",
        "user": 20001,
        "group": 20002,
        "companions": [companion()],
        "init_containers": [
            {
                "name": "first",
                "command": ["/bin/first"],
                "resources": {"limits": {"memory": "64Mi"}},
            },
            {"name": "second", "command": ["/bin/second"], "image": "registry.example/second:1"},
        ],
        "reaches": [reach(), Reach.outside("https://api.example.org/", cidrs=["203.0.113.0/24"])],
        "termination_grace_period_seconds": 10,
        "application": "app",
        "component": "part",
        "version": "1.0",
        "volumes": [{"name": "scratch", "empty_dir": {"size_limit": "1Mi"}}],
        "volume_mounts": [{"name": "scratch", "mount_path": "/scratch"}],
        "exceptions": [
            {
                "field": "capabilities",
                "reason": "port 80",
                "container": "app",
                "values": ["NET_BIND_SERVICE"],
            }
        ],
        "rules": [Rule(resources=("configmaps",), verbs=("get",), names=("colours",))],
    }


def _serving() -> dict[str, Any]:
    return {
        **_everything(),
        "ports": [
            {
                "name": "http",
                "port": 8080,
                "service_port": 8080,
                "protocol": "TCP",
                "app_protocol": "http",
            },
            {"name": "admin", "port": 9001, "address": "127.0.0.1"},
            {"name": "metrics", "port": 9002, "clients": [{"namespaces": {"team": "blue"}}]},
        ],
        "expose": ["http"],
        "clients": [
            {"pods": {"role": "client"}},
            {"pods": {}, "namespace": "there"},
            {"cidr": "203.0.113.0/24"},
        ],
        "replicas": 3,
        "drain_seconds": 7,
        "readiness": {"path": "/ready", "port": "http", "period_seconds": 4, "timeout_seconds": 2},
        "liveness": {"command": ["/bin/live"]},
        "startup": {"path": "/ready", "failure_threshold": 30},
    }


def _job() -> dict[str, Any]:
    return {
        **_everything(),
        "timeout_seconds": 60,
        "parallelism": 2,
        "completions": 4,
        "indexed": True,
        "backoff_limit_per_index": 0,
        "max_failed_indexes": 1,
        "success_policy": [
            {"succeeded_indexes": "0-1,3", "succeeded_count": 2},
            {"succeeded_count": 3},
        ],
        "pod_failure_policy": [
            {"action": "fail_job", "exit_codes": [42, 7]},
            {"action": "fail_index", "exit_codes_not_in": [1], "container": "first"},
            {"action": "count", "pod_condition": "DisruptionTarget"},
        ],
        "ttl_seconds_after_finished": 3600,
    }


def _shards(replicas: int) -> dict[str, Any]:
    return {
        **_serving(),
        "shards": 2,
        "replicas": replicas,
        "hash": "md5",
        "hash_tag": "{}",
        "port": "http",
        "shard_variable": "SHARD",
        "credentials": Credentials(pulumi.Output.secret("swordfish-long-enough")),
        "storage_path": "/data",
        "ordered": True,
        "hosting": hosting(ShardSet, resources=_RESOURCES),
    }


def _function() -> dict[str, Any]:
    return {
        "image": IMAGE,
        "concurrency": 4,
        "queue_size": 8,
        "timeout_seconds": 20,
        "min_scale": 2,
        "max_scale": 5,
        "target_cpu_percent": 80,
        "scale_down_seconds": 30,
        "env": {"MODE": "full", "COLOUR": "green"},
        "files": {"/etc/app/app.conf": "a"},
        "secret_files": {"/etc/secrets/password": pulumi.Output.secret("swordfish")},
        "writable": ["/tmp"],
        "companions": [companion()],
        "clients": [{"pods": {"role": "client"}}],
        "metrics_clients": [{"namespaces": {"team": "blue"}}],
        "reaches": [reach("store", 6379), bus()],
        "version": "1.0",
        # Either decides the same of its pods.
        "hosting": hosting(
            Function,
            resources={
                "requests": {"cpu": "50m"},
                "limits": {"cpu": "500m", "memory": "128Mi"},
            },
        ),
    }


def _check() -> dict[str, Any]:
    return {
        "image": IMAGE,
        "script": "#!/usr/bin/env python3\nprint('fine')\n",
        "covers": [pulumi.Output.secret("swordfish-long-enough"), 1, {"a": [1, 2]}],
        "files": {"/etc/check/plan.json": "{}"},
        "secret_files": {"/etc/secrets/password": pulumi.Output.secret("swordfish")},
        "companions": [companion()],
        "env": {"TARGET": "x"},
        "reaches": [reach()],
        "timeout_seconds": 30,
        "backoff_limit": 0,
        "hosting": hosting(SmokeTest),
    }


EXAMPLES = {
    "Application": Example(
        Application,
        "dds:index:Application",
        {"image": IMAGE},
        lambda: {**_serving(), "hosting": hosting(Application, resources=_RESOURCES)},
    ),
    "Application autoscaled": Example(
        Application,
        "dds:index:Application",
        {"image": IMAGE},
        lambda: {
            **_serving(),
            "autoscaled": True,
            "hosting": hosting(Application, resources=_RESOURCES, rollout={"strategy": "recreate"}),
        },
    ),
    "StatefulApplication": Example(
        StatefulApplication,
        "dds:index:StatefulApplication",
        {"image": IMAGE},
        lambda: {
            **_serving(),
            "storage_path": "/data",
            "hosting": hosting(StatefulApplication, resources=_RESOURCES),
            "ordered": True,
        },
    ),
    "ShardSet": Example(
        ShardSet,
        "dds:index:ShardSet",
        {"image": IMAGE, "ports": [{"name": "http", "port": 8080}]},
        lambda: _shards(1),
    ),
    "ShardSet replicated": Example(
        ShardSet,
        "dds:index:ShardSet",
        {"image": IMAGE, "ports": [{"name": "http", "port": 8080}]},
        lambda: _shards(2),
    ),
    "Singleton": Example(
        Singleton,
        "dds:index:Singleton",
        {"image": IMAGE},
        lambda: {
            **{k: v for k, v in _serving().items() if k != "replicas"},
            "storage_path": "/data",
            "hosting": hosting(Singleton, resources={"limits": {"cpu": "none"}}),
        },
        # There is no other pod to which clients could go meanwhile; it may use what is idle.
        frozenset({"one: no drain", "app: no limits for cpu"}),
    ),
    "Task": Example(
        Task,
        "dds:index:Task",
        {"image": IMAGE},
        lambda: {
            **_everything(),
            "timeout_seconds": 60,
            "backoff_limit": 0,
            "parallelism": 2,
            "completions": 4,
            "hosting": hosting(Task, resources=_RESOURCES),
        },
    ),
    "Task with indexes": Example(
        Task,
        "dds:index:Task",
        {"image": IMAGE},
        lambda: {**_job(), "hosting": hosting(Task, resources=_RESOURCES)},
    ),
    "ScheduledTask": Example(
        ScheduledTask,
        "dds:index:ScheduledTask",
        {"image": IMAGE, "schedule": "17 3 * * *"},
        lambda: {
            **_job(),
            "schedule": "*/5 0-6 * JAN MON-FRI",
            "hosting": hosting(ScheduledTask, resources=_RESOURCES),
        },
    ),
    "ScheduledTask without indexes": Example(
        ScheduledTask,
        "dds:index:ScheduledTask",
        {"image": IMAGE, "schedule": "17 3 * * *"},
        lambda: {
            **_everything(),
            "schedule": "17 3 * * *",
            "backoff_limit": 0,
            "hosting": hosting(ScheduledTask),
        },
    ),
    "TaskTemplate": Example(
        TaskTemplate,
        "dds:index:TaskTemplate",
        {"image": IMAGE},
        lambda: {**_job(), "hosting": hosting(TaskTemplate, resources=_RESOURCES)},
    ),
    "TaskTemplate without indexes": Example(
        TaskTemplate,
        "dds:index:TaskTemplate",
        {"image": IMAGE},
        lambda: {**_everything(), "backoff_limit": 0, "hosting": hosting(TaskTemplate)},
    ),
    "SmokeTest": Example(
        SmokeTest, "dds:index:SmokeTest", {"image": IMAGE, "script": "exit 0"}, _check
    ),
    "Function": Example(
        Function,
        "dds:index:Function",
        {"image": IMAGE, "code": HANDLER},
        lambda: {
            **_function(),
            "code": HANDLER,
            "target": "handler",
            "signature": "http",
            "registry": "localhost:5000",
        },
    ),
    "Function to zero": Example(
        Function,
        "dds:index:Function",
        {"image": IMAGE, "code": HANDLER},
        lambda: {
            **_function(),
            "code": HANDLER,
            "min_scale": 0,
            "idle_seconds": 30,
            "activator_queue_size": 20,
            "activator_timeout_seconds": 40,
        },
    ),
    "Function of a folder": Example(
        Function,
        "dds:index:Function",
        {"image": IMAGE, "code": HANDLER},
        lambda: {
            **_function(),
            "source": _FOLDER,
            "file": "main.py",
            "registry": "localhost:5000",
        },
    ),
    "FunctionDecorator": Example(
        FunctionDecorator,
        "dds:index:FunctionDecorator",
        {"image": IMAGE, "upstream": reach()},
        lambda: {
            **_function(),
            "code": HANDLER,
            "target": "handler",
            "response": "answer",
            "on_failure": "open",
            "upstream": reach(
                endpoints=(pulumi.Output.from_input("api.there.svc:80"),), ports=(8080,)
            ),
        },
    ),
    "FunctionDecorator of a folder, to zero": Example(
        FunctionDecorator,
        "dds:index:FunctionDecorator",
        {"image": IMAGE, "upstream": reach()},
        lambda: {
            **_function(),
            "source": _FOLDER,
            "file": "main.py",
            "registry": "localhost:5000",
            "min_scale": 0,
            "idle_seconds": 30,
            "activator_queue_size": 20,
            "activator_timeout_seconds": 40,
            "upstream": reach(),
        },
    ),
    "Password": Example(
        Password,
        "pulumi-python:dynamic:Password",
        {},
        lambda: {"length": 20, "keepers": {"year": "2026"}, "generation": 3},
    ),
}
