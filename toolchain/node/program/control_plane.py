"""etcd, the API server, the controller manager and the scheduler."""

from toolchain.node.program import pki
from toolchain.node.program.config import API_PORT, POD_RANGE, SERVICE_RANGE, STATE, NodeConfig
from toolchain.node.program.supervisor import Supervisor

ETCD = "https://127.0.0.1:2379"
_PEER = "https://127.0.0.1:2380"


def _flags(**values: object) -> list[str]:
    return [f"--{name.replace('_', '-')}={value}" for name, value in values.items()]


def _extra(values: tuple[str, ...]) -> list[str]:
    return [f"--{value}" for value in values]


def start_etcd(supervisor: Supervisor) -> None:
    """Starts etcd, which listens on loopback."""
    tls = pki.FOLDER / "etcd"
    flags = _flags(
        name="default",
        data_dir=STATE / "server" / "etcd",
        listen_client_urls=ETCD,
        advertise_client_urls=ETCD,
        listen_peer_urls=_PEER,
        initial_advertise_peer_urls=_PEER,
        initial_cluster=f"default={_PEER}",
        cert_file=tls / "server.crt",
        key_file=tls / "server.key",
        client_cert_auth="true",
        trusted_ca_file=tls / "ca.crt",
        peer_cert_file=tls / "peer.crt",
        peer_key_file=tls / "peer.key",
        peer_client_cert_auth="true",
        peer_trusted_ca_file=tls / "ca.crt",
        # Without compaction the database would grow for ever.
        auto_compaction_mode="periodic",
        auto_compaction_retention="1h",
        log_level="warn",
    )
    supervisor.start("etcd", ["etcd", *flags])


def start_api_server(supervisor: Supervisor, config: NodeConfig, node_ip: str) -> None:
    """Starts the API server on port 6443 of all addresses."""
    tls = pki.FOLDER
    flags = _flags(
        advertise_address=node_ip,
        secure_port=API_PORT,
        allow_privileged="true",
        authorization_mode="Node,RBAC",
        enable_admission_plugins="NodeRestriction",
        client_ca_file=tls / "ca.crt",
        tls_cert_file=tls / "apiserver.crt",
        tls_private_key_file=tls / "apiserver.key",
        etcd_servers=ETCD,
        etcd_cafile=tls / "etcd" / "ca.crt",
        etcd_certfile=tls / "apiserver-etcd-client.crt",
        etcd_keyfile=tls / "apiserver-etcd-client.key",
        kubelet_client_certificate=tls / "apiserver-kubelet-client.crt",
        kubelet_client_key=tls / "apiserver-kubelet-client.key",
        kubelet_preferred_address_types="InternalIP,ExternalIP,Hostname",
        proxy_client_cert_file=tls / "front-proxy-client.crt",
        proxy_client_key_file=tls / "front-proxy-client.key",
        requestheader_client_ca_file=tls / "front-proxy-ca.crt",
        requestheader_allowed_names="front-proxy-client",
        requestheader_extra_headers_prefix="X-Remote-Extra-",
        requestheader_group_headers="X-Remote-Group",
        requestheader_username_headers="X-Remote-User",
        service_account_issuer="https://kubernetes.default.svc.cluster.local",
        service_account_key_file=tls / "sa.pub",
        service_account_signing_key_file=tls / "sa.key",
        service_cluster_ip_range=SERVICE_RANGE,
    )
    flags.append("--enable-bootstrap-token-auth")
    supervisor.start("kube-apiserver", ["kube-apiserver", *flags, *_extra(config.apiserver_args)])


def start_controllers(supervisor: Supervisor, config: NodeConfig) -> None:
    """Starts the controller manager and the scheduler, without leader election: there is one of each."""
    tls = pki.FOLDER
    manager = _flags(
        kubeconfig=pki.CONTROLLER_MANAGER,
        authentication_kubeconfig=pki.CONTROLLER_MANAGER,
        authorization_kubeconfig=pki.CONTROLLER_MANAGER,
        bind_address="127.0.0.1",
        allocate_node_cidrs="true",
        cluster_cidr=POD_RANGE,
        service_cluster_ip_range=SERVICE_RANGE,
        client_ca_file=tls / "ca.crt",
        root_ca_file=tls / "ca.crt",
        requestheader_client_ca_file=tls / "front-proxy-ca.crt",
        cluster_signing_cert_file=tls / "ca.crt",
        cluster_signing_key_file=tls / "ca.key",
        service_account_private_key_file=tls / "sa.key",
        controllers="*,bootstrapsigner,tokencleaner",
        use_service_account_credentials="true",
        leader_elect="false",
    )
    supervisor.start(
        "kube-controller-manager",
        ["kube-controller-manager", *manager, *_extra(config.controller_manager_args)],
    )
    scheduler = _flags(
        kubeconfig=pki.SCHEDULER,
        authentication_kubeconfig=pki.SCHEDULER,
        authorization_kubeconfig=pki.SCHEDULER,
        bind_address="127.0.0.1",
        leader_elect="false",
    )
    supervisor.start(
        "kube-scheduler", ["kube-scheduler", *scheduler, *_extra(config.scheduler_args)]
    )
