"""Parts that several compositions share."""

import textwrap

import pulumi

from dds_patterns import Application, ApplicationArgs, Hosting

NGINX_WRITES = "/tmp"  # noqa: S108
"""The folder that nginx writes to."""

_FILE = "/etc/nginx-page/nginx.conf"
_NGINX = """\
# {title}
worker_processes 1;
pid /tmp/nginx.pid;
error_log stderr warn;
events {{
  worker_connections 1024;
}}
http {{
  access_log off;
  server_tokens off;
  client_body_temp_path /tmp/client_body;
  proxy_temp_path /tmp/proxy;
  fastcgi_temp_path /tmp/fastcgi;
  uwsgi_temp_path /tmp/uwsgi;
  scgi_temp_path /tmp/scgi;
{http}}}
"""
_SERVER = """\
keepalive_requests 1000000;
server {{
  listen 8080;
  location / {{
    default_type text/plain;
    return 200 {answer};
  }}
}}
"""


def nginx_conf(title: str, http: str) -> str:
    """Configuration of an nginx without privileges, which writes to NGINX_WRITES only.

    :param title: its first line, a comment
    :param http: more directives of the block ``http``
    """
    return _NGINX.format(title=title, http=textwrap.indent(http, "  "))


def nginx_command(file: str) -> list[str]:
    """Nginx in the foreground.

    :param file: path of its configuration
    """
    return ["nginx", "-e", "stderr", "-c", file, "-g", "daemon off;"]


def page_conf(title: str, answer: str) -> str:
    """Configuration of a web server that gives everything the same answer, a word."""
    return nginx_conf(title, _SERVER.format(answer=answer))


def page(
    name: str,
    image: pulumi.Input[str],
    opts: pulumi.ResourceOptions,
    *,
    replicas: int = 1,
    drain_seconds: int = 5,
    hosting: Hosting | None = None,
) -> Application:
    """A web server that answers everything with its own name.

    :param image: nginx
    """
    args: ApplicationArgs = {
        "image": image,
        "command": nginx_command(_FILE),
        "files": {_FILE: page_conf(f"Says {name}.", name)},
        "writable": [NGINX_WRITES],
        "ports": [{"name": "http", "port": 8080, "app_protocol": "http"}],
        "replicas": replicas,
        "drain_seconds": drain_seconds,
        "readiness": {"path": "/"},
        "hosting": hosting or {},
    }
    return Application(name, args, opts)
