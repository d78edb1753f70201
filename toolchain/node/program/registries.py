"""Translates k3s's `registries.yaml` into containerd's hosts.toml files."""

import json
from collections.abc import Mapping
from typing import Any

import yaml

from toolchain.node.program.config import ConfigError

_TLS = {
    "insecure_skip_verify": "skip_verify",
    "ca_file": "ca",
    "cert_file": "client",
    "key_file": "client",
}


def _table(where: str, value: object, known: tuple[str, ...]) -> Mapping[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise ConfigError(f"registries.yaml: {where} is {value!r}; it must be a mapping")
    for key in value:
        if known and key not in known:
            raise ConfigError(
                f"registries.yaml: {where} has {key!r}; known keys: {', '.join(known)}"
            )
    return value


def _tls_lines(settings: Mapping[str, Any]) -> list[str]:
    lines = []
    if settings.get("insecure_skip_verify"):
        lines.append("  skip_verify = true")
    if settings.get("ca_file"):
        lines.append(f"  ca = {json.dumps([settings['ca_file']])}")
    if settings.get("cert_file"):
        pair = [settings["cert_file"], settings.get("key_file", settings["cert_file"])]
        lines.append(f"  client = {json.dumps([pair])}")
    return lines


def hosts_files(text: str) -> dict[str, str]:
    """Path below containerd's `certs.d` -> content of that hosts.toml, for a registries.yaml.

    Supports `mirrors: {<registry>: {endpoint: [<url>, …]}}` and `configs: {<host>: {tls: {…}}}`; the
    registry `*` is for all others. Any other key raises ConfigError.
    """
    try:
        loaded = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigError(f"registries.yaml is not YAML: {error}") from None
    document = _table("the file", loaded, ("mirrors", "configs"))
    mirrors = _table("mirrors", document.get("mirrors"), ())
    configs = {
        host: _table(
            f"configs.{host}.tls",
            _table(f"configs.{host}", value, ("tls",)).get("tls"),
            tuple(_TLS),
        )
        for host, value in _table("configs", document.get("configs"), ()).items()
    }
    files = {}
    for registry in sorted({*mirrors, *configs}):
        settings = _table(f"mirrors.{registry}", mirrors.get(registry), ("endpoint",))
        endpoints = settings.get("endpoint") or []
        if not isinstance(endpoints, list):
            raise ConfigError(
                f"registries.yaml: mirrors.{registry}.endpoint is {endpoints!r}; it must be a list"
            )
        lines = [] if registry == "*" else [f'server = "{_scheme(registry)}://{registry}"']
        for url in endpoints or ([f"https://{registry}"] if registry in configs else []):
            if "://" not in str(url):
                raise ConfigError(
                    f"registries.yaml: mirrors.{registry}.endpoint has {url!r}; it must be a URL"
                )
            host = str(url).split("://", 1)[1].split("/", 1)[0]
            lines += ["", f"[host.{json.dumps(url)}]", '  capabilities = ["pull", "resolve"]']
            lines += _tls_lines(configs.get(host) or configs.get(registry) or {})
        folder = "_default" if registry == "*" else registry
        files[f"{folder}/hosts.toml"] = "\n".join(lines) + "\n"
    return files


def _scheme(registry: str) -> str:
    host = registry.rsplit(":", 1)[0]
    return "http" if host in ("localhost", "127.0.0.1") else "https"
