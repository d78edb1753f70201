"""How an agent verifies its server with the token.

The server publishes its CA in the ConfigMap `cluster-info`, signed with the bootstrap token. The
signature needs the token, so the agent can read the CA over an unverified connection, and verifies
every later connection with it.
"""

import base64
import hashlib
import hmac
import http.client
import json
import ssl
import string
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any
from urllib.parse import urlsplit

import yaml

from toolchain.node.program.api import whole
from toolchain.node.program.config import ConfigError, ca_hash, password

_ALPHABET = string.digits + string.ascii_lowercase
_SIGNATURE = "jws-kubeconfig-"
_CLUSTER_INFO = "/api/v1/namespaces/kube-public/configmaps/cluster-info"
# Limits of size and time, because the server is not verified yet.
_MOST_BYTES = 1 << 20
_WHOLE_SECONDS = 10.0


def _characters(purpose: str, secret: str, length: int) -> str:
    number = int.from_bytes(hashlib.sha256(f"{purpose}\0{secret}".encode()).digest(), "big")
    found = ""
    for _ in range(length):
        number, rest = divmod(number, len(_ALPHABET))
        found += _ALPHABET[rest]
    return found


def bootstrap_token(token: str) -> tuple[str, str]:
    """The id (6 characters, public) and secret (16 characters) of the bootstrap token for K3S_TOKEN."""
    secret = password(token)
    return _characters("id", secret, 6), _characters("secret", secret, 16)


def _encoded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def signed(signature: str, content: str, secret: str) -> bool:
    """Whether a detached JWS (HS256, `<header>..<mac>`) over `content` was made with `secret`."""
    encoded, detached, mac = signature.partition("..")
    if not detached or "." in mac:
        return False
    try:
        header = json.loads(base64.urlsafe_b64decode(encoded + "=" * (-len(encoded) % 4)))
    except (ValueError, RecursionError):
        return False
    if not isinstance(header, dict) or header.get("alg") != "HS256":
        return False
    text = f"{encoded}.{_encoded(content.encode())}"
    own = hmac.new(secret.encode(), text.encode(), hashlib.sha256).digest()
    return hmac.compare_digest(_encoded(own).encode(), mac.encode())


def verified_ca(data: Mapping[str, str], token: str) -> str:
    """The cluster's CA (PEM) from the data of `cluster-info`.

    Raises LookupError while the server has not signed it yet, ConfigError if the signature or the hash in
    a `K10…` token does not match.
    """
    token_id, secret = bootstrap_token(token)
    if any(key.startswith(_SIGNATURE) for key in data) and _SIGNATURE + token_id not in data:
        raise ConfigError("the server has a different token (K3S_TOKEN)")
    signature = data[_SIGNATURE + token_id]
    content = data["kubeconfig"]
    if not signed(signature, content, secret):
        raise ConfigError("the server's cluster-info is not signed with this token (K3S_TOKEN)")
    cluster = yaml.safe_load(content)["clusters"][0]["cluster"]
    ca = base64.b64decode(cluster["certificate-authority-data"]).decode()
    wanted = ca_hash(token)
    if wanted and hashlib.sha256(ca.encode()).hexdigest() != wanted:
        raise ConfigError("the server's CA does not match the hash in the token (K3S_TOKEN)")
    return ca


def discover(url: str, token: str) -> str:
    """Reads the CA of the server at `url` and verifies it with the token.

    OSError and LookupError: the server is unavailable or not ready yet, or another server responds;
    ConfigError as in `verified_ca`.
    """
    where = urlsplit(url)
    # The content is verified by its signature.
    unverified = ssl.create_default_context()
    unverified.check_hostname = False
    unverified.verify_mode = ssl.CERT_NONE
    connection = http.client.HTTPSConnection(
        where.hostname or "", where.port or 443, timeout=5, context=unverified
    )
    try:
        connection.request("GET", _CLUSTER_INFO)
        response = connection.getresponse()
        body = whole(response, _MOST_BYTES, _WHOLE_SECONDS)
    except http.client.HTTPException as error:
        raise OSError(str(error)) from error
    finally:
        connection.close()
    if response.status != HTTPStatus.OK:
        raise LookupError(f"{url}{_CLUSTER_INFO}: {response.status} {response.reason}")
    return verified_ca(_data(url, body), token)


def _data(url: str, body: bytes) -> dict[str, str]:
    try:
        found: Any = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise LookupError(f"{url}{_CLUSTER_INFO}: invalid JSON: {error}") from error
    data = found.get("data") if isinstance(found, dict) else None
    if not isinstance(data, dict) or not all(isinstance(text, str) for text in data.values()):
        raise LookupError(f"{url}{_CLUSTER_INFO}: not a ConfigMap")
    return data


def bootstrap_kubeconfig(url: str, ca: str, token: str) -> str:
    """The kubeconfig with which a kubelet requests its certificate."""
    return kubeconfig(url, ca, {"token": ".".join(bootstrap_token(token))})


def kubeconfig(url: str, ca: str, user: Mapping[str, str]) -> str:
    """A kubeconfig with one cluster, one user and one context, all named `default`."""
    data = base64.b64encode(ca.encode()).decode()
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [
            {"name": "default", "cluster": {"server": url, "certificate-authority-data": data}}
        ],
        "users": [{"name": "default", "user": dict(user)}],
        "contexts": [{"name": "default", "context": {"cluster": "default", "user": "default"}}],
        "current-context": "default",
    }
    return yaml.safe_dump(document, sort_keys=False)
