"""Every component, its arguments, and the values that pass between components: the one list."""

from .arguments.errors import InputError as InputError
from .platform.certificates import (
    Authority as Authority,
)
from .platform.certificates import (
    AuthorityArgs as AuthorityArgs,
)
from .platform.certificates import (
    Certificate as Certificate,
)
from .platform.certificates import (
    CertificateArgs as CertificateArgs,
)
from .platform.cluster import (
    Cluster as Cluster,
)
from .platform.cluster import (
    ClusterArgs as ClusterArgs,
)
from .platform.existing_secret import (
    ExistingSecret as ExistingSecret,
)
from .platform.existing_secret import (
    ExistingSecretArgs as ExistingSecretArgs,
)
from .platform.generated import (
    Password as Password,
)
from .platform.generated import (
    PasswordArgs as PasswordArgs,
)
from .platform.generated import (
    RotationArgs as RotationArgs,
)
from .platform.images import (
    ImageCatalog as ImageCatalog,
)
from .platform.images import (
    ImageCatalogArgs as ImageCatalogArgs,
)
from .platform.prometheus import (
    Prometheus as Prometheus,
)
from .platform.prometheus import (
    PrometheusArgs as PrometheusArgs,
)
from .platform.smoke import (
    SmokeTest as SmokeTest,
)
from .platform.smoke import (
    SmokeTestArgs as SmokeTestArgs,
)
from .pods.companion import (
    Companion as Companion,
)
from .pods.companion import (
    Listener as Listener,
)
from .pods.companion import (
    Rule as Rule,
)
from .pods.hardening import ExceptionArgs as ExceptionArgs
from .pods.hosting import (
    ApplicationHosting as ApplicationHosting,
)
from .pods.hosting import (
    CompanionHosting as CompanionHosting,
)
from .pods.hosting import (
    Hosting as Hosting,
)
from .pods.hosting import (
    ObjectHosting as ObjectHosting,
)
from .pods.hosting import (
    PodHosting as PodHosting,
)
from .pods.hosting import (
    RolloutArgs as RolloutArgs,
)
from .pods.hosting import (
    SingletonHosting as SingletonHosting,
)
from .pods.hosting import (
    StatefulHosting as StatefulHosting,
)
from .pods.hosting import (
    StorageArgs as StorageArgs,
)
from .pods.on_change import OnChangeArgs as OnChangeArgs
from .pods.probes import ProbeArgs as ProbeArgs
from .pods.spread import SpreadArgs as SpreadArgs
from .serving.election import (
    Election as Election,
)
from .serving.election import (
    ElectionArgs as ElectionArgs,
)
from .serving.etcd_cluster import EtcdCluster as EtcdCluster
from .serving.etcd_settings import (
    DefragmentationArgs as DefragmentationArgs,
)
from .serving.etcd_settings import (
    EtcdClusterArgs as EtcdClusterArgs,
)
from .serving.etcd_settings import (
    EtcdUserArgs as EtcdUserArgs,
)
from .serving.etcd_settings import (
    RestoreArgs as RestoreArgs,
)
from .serving.etcd_settings import (
    SnapshotsArgs as SnapshotsArgs,
)
from .serving.event_bus import (
    BucketArgs as BucketArgs,
)
from .serving.event_bus import (
    EventBus as EventBus,
)
from .serving.event_bus import (
    EventBusArgs as EventBusArgs,
)
from .serving.function import (
    Function as Function,
)
from .serving.function import (
    FunctionArgs as FunctionArgs,
)
from .serving.function_decorator import (
    FunctionDecorator as FunctionDecorator,
)
from .serving.function_decorator import (
    FunctionDecoratorArgs as FunctionDecoratorArgs,
)
from .serving.pipeline import (
    Pipeline as Pipeline,
)
from .serving.pipeline import (
    PipelineArgs as PipelineArgs,
)
from .serving.shard_router import (
    ShardRouter as ShardRouter,
)
from .serving.shard_router import (
    ShardRouterArgs as ShardRouterArgs,
)
from .serving.shard_set import (
    ShardSet as ShardSet,
)
from .serving.shard_set import (
    ShardSetArgs as ShardSetArgs,
)
from .serving.sharded_redis import (
    ShardedRedis as ShardedRedis,
)
from .serving.sharded_redis import (
    ShardedRedisArgs as ShardedRedisArgs,
)
from .serving.singleton import (
    Singleton as Singleton,
)
from .serving.singleton import (
    SingletonArgs as SingletonArgs,
)
from .serving.subscriber import (
    DeliveryArgs as DeliveryArgs,
)
from .serving.subscriber import (
    Subscriber as Subscriber,
)
from .serving.subscriber import (
    SubscriberArgs as SubscriberArgs,
)
from .serving.subscriber import (
    SubscriptionArgs as SubscriptionArgs,
)
from .single_node.config_sync import (
    ConfigSync as ConfigSync,
)
from .single_node.config_sync import (
    ConfigSyncArgs as ConfigSyncArgs,
)
from .single_node.config_sync import (
    GitSourceArgs as GitSourceArgs,
)
from .single_node.config_sync import (
    HttpSourceArgs as HttpSourceArgs,
)
from .single_node.exporters import (
    MetricsExporter as MetricsExporter,
)
from .single_node.exporters import (
    MetricsExporterArgs as MetricsExporterArgs,
)
from .single_node.exporters import (
    RedisExporter as RedisExporter,
)
from .single_node.exporters import (
    RedisExporterArgs as RedisExporterArgs,
)
from .single_node.log_adapter import (
    LogAdapter as LogAdapter,
)
from .single_node.log_adapter import (
    LogAdapterArgs as LogAdapterArgs,
)
from .single_node.log_adapter import (
    LogSourceArgs as LogSourceArgs,
)
from .single_node.mysql_health import (
    HealthQueryArgs as HealthQueryArgs,
)
from .single_node.mysql_health import (
    MySqlHealth as MySqlHealth,
)
from .single_node.mysql_health import (
    MySqlHealthArgs as MySqlHealthArgs,
)
from .single_node.request_splitter import RequestSplitter as RequestSplitter
from .single_node.service_broker import (
    BreakerArgs as BreakerArgs,
)
from .single_node.service_broker import (
    BrokerTlsArgs as BrokerTlsArgs,
)
from .single_node.service_broker import (
    ServiceBroker as ServiceBroker,
)
from .single_node.service_broker import (
    ServiceBrokerArgs as ServiceBrokerArgs,
)
from .single_node.splitter_settings import (
    RequestSplitterArgs as RequestSplitterArgs,
)
from .single_node.splitter_settings import (
    StickyArgs as StickyArgs,
)
from .single_node.tls_settings import TlsSidecarArgs as TlsSidecarArgs
from .single_node.tls_sidecar import TlsSidecar as TlsSidecar
from .single_node.topz import (
    Topz as Topz,
)
from .single_node.topz import (
    TopzArgs as TopzArgs,
)
from .single_node.twemproxy import (
    TwemproxyAmbassador as TwemproxyAmbassador,
)
from .single_node.twemproxy import (
    TwemproxyAmbassadorArgs as TwemproxyAmbassadorArgs,
)
from .values.flow import (
    Flow as Flow,
)
from .values.flow import (
    Next as Next,
)
from .values.metrics import (
    Alert as Alert,
)
from .values.metrics import (
    ScrapeJob as ScrapeJob,
)
from .values.peers import (
    NetworkArgs as NetworkArgs,
)
from .values.peers import (
    PeerArgs as PeerArgs,
)
from .values.reach import (
    Credentials as Credentials,
)
from .values.reach import (
    Reach as Reach,
)
from .values.redis_user import RedisUser as RedisUser
from .values.ring.ketama import Ring as Ring
from .values.ring.plan import RingPlan as RingPlan
from .values.topology import Topology as Topology
from .workloads.application import (
    Application as Application,
)
from .workloads.application import (
    ApplicationArgs as ApplicationArgs,
)
from .workloads.arguments import (
    InitContainerArgs as InitContainerArgs,
)
from .workloads.arguments import (
    PortArgs as PortArgs,
)
from .workloads.job_arguments import (
    FailureRuleArgs as FailureRuleArgs,
)
from .workloads.job_arguments import (
    SuccessRuleArgs as SuccessRuleArgs,
)
from .workloads.scheduled import (
    ScheduledTask as ScheduledTask,
)
from .workloads.scheduled import (
    ScheduledTaskArgs as ScheduledTaskArgs,
)
from .workloads.stateful import (
    StatefulApplication as StatefulApplication,
)
from .workloads.stateful import (
    StatefulApplicationArgs as StatefulApplicationArgs,
)
from .workloads.task import (
    Task as Task,
)
from .workloads.task import (
    TaskArgs as TaskArgs,
)
from .workloads.task_template import (
    TaskTemplate as TaskTemplate,
)
from .workloads.task_template import (
    TaskTemplateArgs as TaskTemplateArgs,
)

__all__: list[str]
