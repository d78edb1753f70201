"""Every component, its arguments, and the values that pass between components.

They are loaded when they are first used: a program pays for those that it deploys, and what only
one of them needs (such as the Docker SDK) need not be there for the others.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from components.arguments.errors import InputError
    from components.platform.certificates import (
        Authority,
        AuthorityArgs,
        Certificate,
        CertificateArgs,
    )
    from components.platform.cluster import Cluster, ClusterArgs
    from components.platform.existing_secret import ExistingSecret, ExistingSecretArgs
    from components.platform.generated import Password, PasswordArgs, RotationArgs
    from components.platform.images import ImageCatalog, ImageCatalogArgs
    from components.platform.prometheus import Prometheus, PrometheusArgs
    from components.platform.smoke import SmokeTest, SmokeTestArgs
    from components.pods.companion import Companion, Listener, Rule
    from components.pods.hosting import (
        ApplicationHosting,
        CompanionHosting,
        Hosting,
        ObjectHosting,
        PodHosting,
        RolloutArgs,
        SingletonHosting,
        StatefulHosting,
        StorageArgs,
    )
    from components.pods.spread import SpreadArgs
    from components.serving.election import Election, ElectionArgs
    from components.serving.etcd_cluster import EtcdCluster
    from components.serving.etcd_settings import EtcdClusterArgs, EtcdUserArgs
    from components.serving.event_bus import EventBus, EventBusArgs
    from components.serving.function import Function, FunctionArgs
    from components.serving.function_decorator import FunctionDecorator, FunctionDecoratorArgs
    from components.serving.pipeline import Pipeline, PipelineArgs
    from components.serving.shard_router import ShardRouter, ShardRouterArgs
    from components.serving.shard_set import ShardSet, ShardSetArgs
    from components.serving.sharded_redis import ShardedRedis, ShardedRedisArgs
    from components.serving.singleton import Singleton, SingletonArgs
    from components.serving.subscriber import Subscriber, SubscriberArgs
    from components.single_node.config_sync import (
        ConfigSync,
        ConfigSyncArgs,
        GitSourceArgs,
        HttpSourceArgs,
    )
    from components.single_node.exporters import (
        MetricsExporter,
        MetricsExporterArgs,
        RedisExporter,
        RedisExporterArgs,
    )
    from components.single_node.log_adapter import LogAdapter, LogAdapterArgs
    from components.single_node.mysql_health import MySqlHealth, MySqlHealthArgs
    from components.single_node.request_splitter import RequestSplitter
    from components.single_node.service_broker import (
        BreakerArgs,
        BrokerTlsArgs,
        ServiceBroker,
        ServiceBrokerArgs,
    )
    from components.single_node.splitter_settings import RequestSplitterArgs, StickyArgs
    from components.single_node.tls_settings import TlsSidecarArgs
    from components.single_node.tls_sidecar import TlsSidecar
    from components.single_node.topz import Topz, TopzArgs
    from components.single_node.twemproxy import TwemproxyAmbassador, TwemproxyAmbassadorArgs
    from components.values.metrics import Alert, ScrapeJob
    from components.values.peers import NetworkArgs, PeerArgs
    from components.values.reach import Credentials, Reach
    from components.values.topology import Topology
    from components.workloads.application import Application, ApplicationArgs
    from components.workloads.scheduled import ScheduledTask, ScheduledTaskArgs
    from components.workloads.stateful import StatefulApplication, StatefulApplicationArgs
    from components.workloads.task import Task, TaskArgs
    from components.workloads.task_template import TaskTemplate, TaskTemplateArgs

_MODULES = {
    "Alert": "values.metrics",
    "Application": "workloads.application",
    "ApplicationArgs": "workloads.application",
    "ApplicationHosting": "pods.hosting",
    "Authority": "platform.certificates",
    "AuthorityArgs": "platform.certificates",
    "BreakerArgs": "single_node.service_broker",
    "BrokerTlsArgs": "single_node.service_broker",
    "Certificate": "platform.certificates",
    "CertificateArgs": "platform.certificates",
    "Cluster": "platform.cluster",
    "ClusterArgs": "platform.cluster",
    "Companion": "pods.companion",
    "CompanionHosting": "pods.hosting",
    "ConfigSync": "single_node.config_sync",
    "ConfigSyncArgs": "single_node.config_sync",
    "Credentials": "values.reach",
    "Election": "serving.election",
    "ElectionArgs": "serving.election",
    "EtcdCluster": "serving.etcd_cluster",
    "EtcdClusterArgs": "serving.etcd_settings",
    "EtcdUserArgs": "serving.etcd_settings",
    "EventBus": "serving.event_bus",
    "EventBusArgs": "serving.event_bus",
    "ExistingSecret": "platform.existing_secret",
    "ExistingSecretArgs": "platform.existing_secret",
    "Function": "serving.function",
    "FunctionArgs": "serving.function",
    "FunctionDecorator": "serving.function_decorator",
    "FunctionDecoratorArgs": "serving.function_decorator",
    "GitSourceArgs": "single_node.config_sync",
    "Hosting": "pods.hosting",
    "HttpSourceArgs": "single_node.config_sync",
    "ImageCatalog": "platform.images",
    "ImageCatalogArgs": "platform.images",
    "InputError": "arguments.errors",
    "Listener": "pods.companion",
    "LogAdapter": "single_node.log_adapter",
    "LogAdapterArgs": "single_node.log_adapter",
    "MetricsExporter": "single_node.exporters",
    "MetricsExporterArgs": "single_node.exporters",
    "MySqlHealth": "single_node.mysql_health",
    "MySqlHealthArgs": "single_node.mysql_health",
    "NetworkArgs": "values.peers",
    "ObjectHosting": "pods.hosting",
    "Password": "platform.generated",
    "PasswordArgs": "platform.generated",
    "PeerArgs": "values.peers",
    "Pipeline": "serving.pipeline",
    "PipelineArgs": "serving.pipeline",
    "PodHosting": "pods.hosting",
    "Prometheus": "platform.prometheus",
    "PrometheusArgs": "platform.prometheus",
    "Reach": "values.reach",
    "RedisExporter": "single_node.exporters",
    "RedisExporterArgs": "single_node.exporters",
    "RequestSplitter": "single_node.request_splitter",
    "RequestSplitterArgs": "single_node.splitter_settings",
    "RolloutArgs": "pods.hosting",
    "RotationArgs": "platform.generated",
    "Rule": "pods.companion",
    "ScheduledTask": "workloads.scheduled",
    "ScheduledTaskArgs": "workloads.scheduled",
    "ScrapeJob": "values.metrics",
    "ServiceBroker": "single_node.service_broker",
    "ServiceBrokerArgs": "single_node.service_broker",
    "ShardRouter": "serving.shard_router",
    "ShardRouterArgs": "serving.shard_router",
    "ShardSet": "serving.shard_set",
    "ShardSetArgs": "serving.shard_set",
    "ShardedRedis": "serving.sharded_redis",
    "ShardedRedisArgs": "serving.sharded_redis",
    "Singleton": "serving.singleton",
    "SingletonArgs": "serving.singleton",
    "SingletonHosting": "pods.hosting",
    "SmokeTest": "platform.smoke",
    "SmokeTestArgs": "platform.smoke",
    "SpreadArgs": "pods.spread",
    "StatefulApplication": "workloads.stateful",
    "StatefulApplicationArgs": "workloads.stateful",
    "StatefulHosting": "pods.hosting",
    "StickyArgs": "single_node.splitter_settings",
    "StorageArgs": "pods.hosting",
    "Subscriber": "serving.subscriber",
    "SubscriberArgs": "serving.subscriber",
    "Task": "workloads.task",
    "TaskArgs": "workloads.task",
    "TaskTemplate": "workloads.task_template",
    "TaskTemplateArgs": "workloads.task_template",
    "TlsSidecar": "single_node.tls_sidecar",
    "TlsSidecarArgs": "single_node.tls_settings",
    "Topology": "values.topology",
    "Topz": "single_node.topz",
    "TopzArgs": "single_node.topz",
    "TwemproxyAmbassador": "single_node.twemproxy",
    "TwemproxyAmbassadorArgs": "single_node.twemproxy",
}

__all__ = [
    "Alert",
    "Application",
    "ApplicationArgs",
    "ApplicationHosting",
    "Authority",
    "AuthorityArgs",
    "BreakerArgs",
    "BrokerTlsArgs",
    "Certificate",
    "CertificateArgs",
    "Cluster",
    "ClusterArgs",
    "Companion",
    "CompanionHosting",
    "ConfigSync",
    "ConfigSyncArgs",
    "Credentials",
    "Election",
    "ElectionArgs",
    "EtcdCluster",
    "EtcdClusterArgs",
    "EtcdUserArgs",
    "EventBus",
    "EventBusArgs",
    "ExistingSecret",
    "ExistingSecretArgs",
    "Function",
    "FunctionArgs",
    "FunctionDecorator",
    "FunctionDecoratorArgs",
    "GitSourceArgs",
    "Hosting",
    "HttpSourceArgs",
    "ImageCatalog",
    "ImageCatalogArgs",
    "InputError",
    "Listener",
    "LogAdapter",
    "LogAdapterArgs",
    "MetricsExporter",
    "MetricsExporterArgs",
    "MySqlHealth",
    "MySqlHealthArgs",
    "NetworkArgs",
    "ObjectHosting",
    "Password",
    "PasswordArgs",
    "PeerArgs",
    "Pipeline",
    "PipelineArgs",
    "PodHosting",
    "Prometheus",
    "PrometheusArgs",
    "Reach",
    "RedisExporter",
    "RedisExporterArgs",
    "RequestSplitter",
    "RequestSplitterArgs",
    "RolloutArgs",
    "RotationArgs",
    "Rule",
    "ScheduledTask",
    "ScheduledTaskArgs",
    "ScrapeJob",
    "ServiceBroker",
    "ServiceBrokerArgs",
    "ShardRouter",
    "ShardRouterArgs",
    "ShardSet",
    "ShardSetArgs",
    "ShardedRedis",
    "ShardedRedisArgs",
    "Singleton",
    "SingletonArgs",
    "SingletonHosting",
    "SmokeTest",
    "SmokeTestArgs",
    "SpreadArgs",
    "StatefulApplication",
    "StatefulApplicationArgs",
    "StatefulHosting",
    "StickyArgs",
    "StorageArgs",
    "Subscriber",
    "SubscriberArgs",
    "Task",
    "TaskArgs",
    "TaskTemplate",
    "TaskTemplateArgs",
    "TlsSidecar",
    "TlsSidecarArgs",
    "Topology",
    "Topz",
    "TopzArgs",
    "TwemproxyAmbassador",
    "TwemproxyAmbassadorArgs",
]


def __getattr__(name: str) -> Any:
    """Load the module of a name (PEP 562)."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)


def __dir__() -> list[str]:
    """The names, loaded or not."""
    return sorted(__all__)
