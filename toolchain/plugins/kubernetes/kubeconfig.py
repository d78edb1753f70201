"""Reads a kubeconfig: which server, how to trust it and how to log on.

Done here and not with the ``kubernetes`` package because importing that takes longer than a whole
preview, and because it leaves private keys in temporary files when the process is killed.
"""

from __future__ import annotations

import base64
import dataclasses
import json
import os
import ssl
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import yaml
from urllib3.util.ssl_ import ALPN_PROTOCOLS

from toolchain.plugins.provider.errors import ProviderError

_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_EXEC_SECONDS = 60
_RENEW_BEFORE_SECONDS = 60.0
_SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")


class KubeconfigError(ProviderError):
    """The kubeconfig cannot be used; says which part of it."""


@dataclasses.dataclass(frozen=True)
class Access:
    """One context of a kubeconfig.

    :param base: what relative paths in it start from
    """

    server: str
    namespace: str
    cluster: Mapping[str, Any]
    user: Mapping[str, Any]
    base: Path

    def ssl_context(self, credential: Credential) -> ssl.SSLContext:
        """Whom to trust and the client's certificate, if there is one."""
        context = _SharedContext(ssl.PROTOCOL_TLS_CLIENT)
        if self.cluster.get("insecure-skip-tls-verify"):
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        else:
            authority = self._content(self.cluster, "certificate-authority")
            if authority:
                context.load_verify_locations(cadata=authority.decode())
            else:
                context.load_default_certs()
        certificate = credential.certificate or self._content(self.user, "client-certificate")
        key = credential.key or self._content(self.user, "client-key")
        if certificate and key:
            # The library reads files only. They live for one call, for this user alone.
            with tempfile.NamedTemporaryFile() as file:
                file.write(certificate + b"\n" + key)
                file.flush()
                context.load_cert_chain(file.name)
        return context

    def _content(self, part: Mapping[str, Any], key: str) -> bytes:
        data = part.get(f"{key}-data")
        if data:
            return base64.b64decode(data)
        path = part.get(key)
        return (self.base / path).read_bytes() if path else b""


class _SharedContext(ssl.SSLContext):
    """A context from which several threads open connections at once.

    urllib3 sets the protocols anew for each connection. That frees the list which another thread's
    handshake may be copying, without the interpreter's lock, at that moment: the server then gets
    rubbish and answers with the alert "decode error". So they are set once, before it is shared.
    """

    def __new__(cls, *arguments: Any) -> _SharedContext:
        context = super().__new__(cls, *arguments)
        ssl.SSLContext.set_alpn_protocols(context, list(ALPN_PROTOCOLS))
        return context

    def set_alpn_protocols(self, alpn_protocols: Iterable[str]) -> None:
        """Refuses another list; the same one is set already."""
        if list(alpn_protocols) != list(ALPN_PROTOCOLS):
            raise ValueError(f"the protocols of a shared context are {ALPN_PROTOCOLS}")


@dataclasses.dataclass(frozen=True)
class Credential:
    """What a request carries to say who asks."""

    headers: Mapping[str, str] = dataclasses.field(default_factory=dict)
    certificate: bytes = b""
    key: bytes = b""
    expires: float = float("inf")


class Login:
    """Gives the current credential; runs the kubeconfig's login program when one has expired."""

    def __init__(self, access: Access) -> None:
        self._access = access
        self._lock = threading.Lock()
        self._credential: Credential | None = None

    def credential(self) -> Credential:
        """The credential for the next request."""
        with self._lock:
            known = self._credential
            if known is None or known.expires - _RENEW_BEFORE_SECONDS < time.time():
                known = self._credential = self._obtain()
            return known

    def forget(self) -> None:
        """Asks again next time: the server refused the credential."""
        with self._lock:
            self._credential = None

    def _obtain(self) -> Credential:
        user = self._access.user
        if user.get("auth-provider"):
            raise KubeconfigError(
                "the kubeconfig's auth-provider is not supported by this plugin; use exec"
            )
        if user.get("exec"):
            return _run_login(user["exec"], self._access.base)
        if user.get("tokenFile"):
            token = (self._access.base / user["tokenFile"]).read_text().strip()
            return Credential(_bearer(token), expires=time.time() + 2 * _RENEW_BEFORE_SECONDS)
        if user.get("token"):
            return Credential(_bearer(user["token"]))
        if user.get("username"):
            pair = f"{user['username']}:{user.get('password', '')}".encode()
            return Credential({"Authorization": f"Basic {base64.b64encode(pair).decode()}"})
        return Credential()


def _bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def _run_login(settings: Mapping[str, Any], base: Path) -> Credential:
    command = [settings["command"], *(settings.get("args") or ())]
    environment = {item["name"]: item["value"] for item in settings.get("env") or ()}
    request = {"apiVersion": settings["apiVersion"], "kind": "ExecCredential", "spec": {}}
    environment["KUBERNETES_EXEC_INFO"] = json.dumps(request)
    try:
        done = subprocess.run(
            command,
            env={**os.environ, **environment},
            cwd=base,
            capture_output=True,
            text=True,
            timeout=_EXEC_SECONDS,
            check=True,
        )
        status = json.loads(done.stdout)["status"]
    except subprocess.CalledProcessError as error:
        raise KubeconfigError(f"login with {command[0]} failed: {error.stderr.strip()}") from error
    except (OSError, subprocess.TimeoutExpired, ValueError, KeyError) as error:
        raise KubeconfigError(f"login with {command[0]} failed: {error}") from error
    expires = float("inf")
    if status.get("expirationTimestamp"):
        expires = datetime.fromisoformat(status["expirationTimestamp"]).timestamp()
    return Credential(
        _bearer(status["token"]) if status.get("token") else {},
        certificate=status.get("clientCertificateData", "").encode(),
        key=status.get("clientKeyData", "").encode(),
        expires=expires,
    )


def load(source: str | None, context: str | None = None, cluster: str | None = None) -> Access:
    """Finds the server and the user.

    Args:
        source: A kubeconfig's contents, its path, or several paths as in ``KUBECONFIG``; None: the
            variable ``KUBECONFIG``, then ``~/.kube/config``, then a pod's own service account.
        context: Name of the context; default: the kubeconfig's current one.
        cluster: Name of the cluster; default: the context's.

    Raises:
        KubeconfigError: It cannot be read or lacks the context, cluster or user.
    """
    document, base = _document(source)
    if document is None:
        return _of_service_account()
    name = context or document.get("current-context")
    if not name:
        raise KubeconfigError("the kubeconfig has no current-context and none was named")
    chosen = _named(document, "contexts", "context", name)
    cluster_name = cluster or chosen.get("cluster") or ""
    target = _named(document, "clusters", "cluster", cluster_name)
    if not target.get("server"):
        raise KubeconfigError(f"the kubeconfig's cluster {cluster_name!r} has no server")
    user = _named(document, "users", "user", chosen["user"]) if chosen.get("user") else {}
    return Access(
        target["server"].rstrip("/"), chosen.get("namespace") or "default", target, user, base
    )


def _named(document: Mapping[str, Any], plural: str, singular: str, name: str) -> dict[str, Any]:
    items = document.get(plural) or []
    for item in items:
        if item.get("name") == name:
            return dict(item.get(singular) or {})
    known = ", ".join(str(item.get("name")) for item in items) or "none"
    raise KubeconfigError(f"the kubeconfig has no {singular} {name!r}; it has {known}")


def _document(source: str | None) -> tuple[dict[str, Any] | None, Path]:
    text = source or os.environ.get("KUBECONFIG") or ""
    if "\n" in text or text.lstrip().startswith("{"):
        return _parsed(text, "the provider's kubeconfig"), Path.cwd()
    if not text:
        default = Path.home() / ".kube" / "config"
        if not default.exists():
            return None, Path.cwd()
        text = str(default)
    paths = [Path(part).expanduser() for part in text.split(os.pathsep) if part]
    present = [path for path in paths if path.exists()]
    if not present:
        raise KubeconfigError(f"the kubeconfig {text} does not exist")
    documents = [_parsed(path.read_text(), str(path)) for path in present]
    merged = documents[0]
    for document in documents[1:]:
        for plural in ("contexts", "clusters", "users"):
            merged[plural] = [*(merged.get(plural) or ()), *(document.get(plural) or ())]
        merged.setdefault("current-context", document.get("current-context"))
    return merged, present[0].resolve().parent


def _parsed(text: str, where: str) -> dict[str, Any]:
    try:
        document = yaml.load(text, Loader=_LOADER)  # noqa: S506 - a safe loader in C
    except yaml.YAMLError as error:
        # Without the text around the fault: a kubeconfig holds keys.
        mark = getattr(error, "problem_mark", None)
        line = f" in line {mark.line + 1}" if mark else ""
        raise KubeconfigError(f"{where} is not YAML{line}") from None
    if not isinstance(document, dict):
        raise KubeconfigError(f"{where} is neither a kubeconfig nor the path of one")
    return document


def _of_service_account() -> Access:
    host = os.environ.get("KUBERNETES_SERVICE_HOST")
    if not host or not (_SERVICE_ACCOUNT / "token").exists():
        raise KubeconfigError(
            "no cluster: set the provider's kubeconfig or the variable KUBECONFIG"
        )
    port = os.environ.get("KUBERNETES_SERVICE_PORT", "443")
    return Access(
        f"https://{host}:{port}",
        (_SERVICE_ACCOUNT / "namespace").read_text().strip() or "default",
        {"certificate-authority": "ca.crt"},
        {"tokenFile": "token"},
        _SERVICE_ACCOUNT,
    )
