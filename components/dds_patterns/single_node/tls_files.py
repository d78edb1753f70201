"""The TLS sidecar's files: nginx's configuration, the check of a certificate, and the script that
runs both.
"""

import dataclasses
import shlex

from dds_patterns.pods.companion import LOOPBACK
from dds_patterns.single_node.tls_settings import CIPHERS, CURVES, VERSIONS, TlsSidecarArgs
from dds_patterns.values import nginx
from dds_patterns.values.nginx import Statement, block, directive

STATUS_PATH = "/status"
"""Path of nginx's own counters on the status port, from inside the pod only."""

FOLDER = "/etc/nginx-tls"
"""Where the files are mounted."""
SECRET = "/etc/tls-secret"  # noqa: S105 (a path)
"""Where the Secret is mounted."""
CONFIG_FILE, CHECK_FILE, SCRIPT_FILE = "nginx.conf", "check.conf", "run.sh"
DRAINING = f"{nginx.TEMPORARY}/draining"
"""A file that exists once the pod is terminating."""

_CERTIFICATES = f"{nginx.TEMPORARY}/tls"
_CURRENT = f"{_CERTIFICATES}/current"
_CHECK_SOCKET = f"{nginx.TEMPORARY}/check.socket"
_WATCH_SECONDS = 2
_SHUTDOWN_SECONDS = 15
_CONNECTIONS = 4096
# Below the keep-alive timeout of common servers (5 s).
_UPSTREAM_IDLE_SECONDS = 4
_UPSTREAM_IDLE_CONNECTIONS = 32
# A busy connection is kept for minutes, since a new one costs a handshake.
_KEPT_REQUESTS = 100_000


@dataclasses.dataclass(frozen=True)
class TlsFiles:
    """The files for the sidecar's checked arguments."""

    args: TlsSidecarArgs

    def all(self) -> dict[str, str]:
        """Every file by its path."""
        return {
            f"{FOLDER}/{CONFIG_FILE}": self.configuration(),
            f"{FOLDER}/{CHECK_FILE}": self.check(),
            f"{FOLDER}/{SCRIPT_FILE}": self.script(),
        }

    @property
    def keys(self) -> tuple[str, ...]:
        """Keys of the Secret that are used."""
        authority = () if self.args["client_certificates"] == "none" else ("ca.crt",)
        return ("tls.crt", "tls.key", *authority)

    @property
    def _public_port(self) -> int:
        return self.args.get("public_port", self.args["port"])

    def configuration(self) -> str:
        """Nginx's configuration file."""
        application = f"{LOOPBACK}:{self.args['application_port']}"
        upstream = block(
            "upstream application",
            directive("server", application),
            directive("keepalive", _UPSTREAM_IDLE_CONNECTIONS),
            directive("keepalive_requests", _KEPT_REQUESTS),
            directive("keepalive_timeout", f"{_UPSTREAM_IDLE_SECONDS}s"),
        )
        servers = [self._https(), *self._redirect(), self._status()]
        return nginx.text(
            nginx.document(
                f"HTTPS on port {self.args['port']} for the server on {application}. Generated.",
                http=[*self._tls(), *self._proxying(), upstream, *servers],
                top=[directive("worker_shutdown_timeout", f"{_SHUTDOWN_SECONDS}s")],
                workers=self.args["workers"],
                connections=_CONNECTIONS,
            )
        )

    def _tls(self) -> list[Statement]:
        versions = VERSIONS[VERSIONS.index(self.args["minimum_version"]) :]
        found: list[Statement] = [
            directive("ssl_protocols", *(f"TLSv{version}" for version in versions))
        ]
        if "1.2" in versions:
            found.append(directive("ssl_ciphers", ":".join(self.args.get("ciphers", CIPHERS))))
        found += [
            # Without it OpenSSL accepts X448 and P-521 too, which cost a server much more.
            directive("ssl_ecdh_curve", ":".join(CURVES)),
            # The client knows which cipher is fast on its processor; all that are offered are
            # secure.
            directive("ssl_prefer_server_ciphers", False),
            *self._sessions(),
            directive("ssl_session_tickets", False),
            nginx.Comment(
                "A variable makes nginx read the files at each handshake: a new certificate needs\n"
                "no reload, which would close idle keep-alive connections."
            ),
            nginx.mapping("", "tls_certificate", [("default", f"{_CURRENT}/tls.crt")]),
            nginx.mapping("", "tls_key", [("default", f"{_CURRENT}/tls.key")]),
        ]
        return found

    def _sessions(self) -> list[Statement]:
        if self.args["client_certificates"] == "none":
            return [directive("ssl_session_cache", "shared:tls:2m")]
        return [
            nginx.Comment(
                "A resumed session keeps the former verification of the client's certificate, so a\n"
                "session cache would outlive a change of the authorities."
            ),
            directive("ssl_session_cache", False),
        ]

    def _proxying(self) -> list[Statement]:
        timeout, proxies = f"{self.args['timeout_seconds']}s", self.args["trusted_proxies"]
        found: list[Statement] = [
            nginx.mapping(
                "$http_upgrade", "upstream_connection", [("default", "upgrade"), ("", "")]
            ),
            directive("keepalive_requests", _KEPT_REQUESTS),
            directive("proxy_http_version", "1.1"),
            *nginx.passing(self.args["header_kib"]),
            # The headers below are set in several spellings.
            directive("proxy_headers_hash_max_size", 2048),
            directive("proxy_headers_hash_bucket_size", 128),
            # Size limits and buffering of bodies are up to the application.
            directive("client_max_body_size", 0),
            directive("proxy_request_buffering", False),
            directive("proxy_max_temp_file_size", 0),
            directive("proxy_connect_timeout", "5s"),
            directive("proxy_read_timeout", timeout),
            directive("proxy_send_timeout", timeout),
        ]
        if proxies:
            found += [directive("set_real_ip_from", proxy) for proxy in proxies]
            found.append(directive("real_ip_header", "X-Forwarded-For"))
            found.append(directive("real_ip_recursive", True))
        return found

    def _headers(self) -> list[Statement]:
        # The chain is kept with trusted proxies only: otherwise a client could forge it.
        chain = "$proxy_add_x_forwarded_for" if self.args["trusted_proxies"] else "$remote_addr"
        headers = {
            "Host": "$http_host",
            "Connection": "$upstream_connection",
            "Upgrade": "$http_upgrade",
            "X-Real-IP": "$remote_addr",
            "X-Forwarded-For": chain,
            "X-Forwarded-Proto": "https",
            "X-Forwarded-Host": "$http_host",
            "X-Forwarded-Port": str(self._public_port),
            # Empty ones are not forwarded, so that no client can forge them.
            "X-Client-Verify": "",
            "X-Client-Subject": "",
            "Forwarded": "",
        }
        if self.args["client_certificates"] != "none":
            headers["X-Client-Verify"] = "$ssl_client_verify"
            headers["X-Client-Subject"] = "$ssl_client_s_dn"
        # CGI-like servers read X_Real_IP as X-Real-IP, so the client's must not be forwarded.
        confused = {
            other: "" for name in headers for other in _spellings(name) if other not in headers
        }
        return [directive("proxy_set_header", *pair) for pair in (headers | confused).items()]

    def _https(self) -> nginx.Directive:
        clients, hsts = self.args["client_certificates"], self.args["hsts_seconds"]
        inside: list[Statement] = [
            directive("listen", self.args["port"], "ssl"),
            directive("ssl_certificate", "$tls_certificate"),
            directive("ssl_certificate_key", "$tls_key"),
        ]
        if clients != "none":
            inside += [
                directive("ssl_client_certificate", f"{_CURRENT}/ca.crt"),
                directive("ssl_verify_client", "on" if clients == "required" else "optional"),
                directive("ssl_verify_depth", 3),
            ]
        if hsts:
            inside.append(
                directive("add_header", "Strict-Transport-Security", f"max-age={hsts}", "always")
            )
        proxied = directive("proxy_pass", "http://application")
        return block(
            "server",
            *inside,
            *self._headers(),
            nginx.Comment(
                "While the pod terminates, each response closes its keep-alive connection, so that no\n"
                "client keeps one to a pod that is gone."
            ),
            directive("error_page", 418, "=", "@draining"),
            block("location /", block(f"if (-f {DRAINING})", directive("return", 418)), proxied),
            block("location @draining", directive("keepalive_timeout", 0), proxied),
        )

    def _redirect(self) -> list[Statement]:
        if "redirect_port" not in self.args:
            return []
        port = "" if self._public_port == 443 else f":{self._public_port}"  # noqa: PLR2004
        return [
            block(
                "server",
                directive("listen", self.args["redirect_port"]),
                # Unlike 301, it keeps the method and the body.
                directive("return", 308, f"https://$host{port}$request_uri"),
            )
        ]

    def _status(self) -> nginx.Directive:
        ready = answer = [directive("return", 200, "ok")]
        if "readiness_path" in self.args:
            ready = [
                directive("proxy_set_header", "Connection", ""),
                directive("proxy_pass", f"http://application{self.args['readiness_path']}"),
            ]
        return block(
            "server",
            directive("listen", self.args["status_port"]),
            block("location = /healthz", *answer),
            block("location = /readyz", *ready),
            block(
                f"location = {STATUS_PATH}",
                directive("allow", LOOPBACK),
                directive("deny", "all"),
                directive("stub_status"),
            ),
            block("location /", directive("return", 404)),
        )

    def check(self) -> str:
        """A configuration that nginx accepts if the certificate and its key are valid."""
        inside = [
            directive("listen", f"unix:{_CHECK_SOCKET}", "ssl"),
            directive("ssl_certificate", "tls.crt"),
            directive("ssl_certificate_key", "tls.key"),
        ]
        if self.args["client_certificates"] != "none":
            inside += [
                directive("ssl_client_certificate", "ca.crt"),
                directive("ssl_verify_client", "optional"),
            ]
        return nginx.text(
            nginx.document(
                "For nginx -t only, never run: is the certificate beside this file valid? Generated.",
                http=[block("server", *inside)],
            )
        )

    def script(self) -> str:
        """What runs in the container: nginx, and the watch on the mounted Secret."""
        return _SCRIPT.format(
            folder=FOLDER,
            secret=SECRET,
            certificates=_CERTIFICATES,
            current=_CURRENT,
            draining=DRAINING,
            socket=_CHECK_SOCKET,
            files=" ".join(self.keys),
            seconds=_WATCH_SECONDS,
            nginx=shlex.join(nginx.command(f"{FOLDER}/{CONFIG_FILE}")),
            check="nginx -e stderr -t -q",
            reload=self._reload(),
        )

    def _reload(self) -> str:
        if self.args["client_certificates"] == "none":
            return ":"
        # nginx reads the authorities of clients only when it starts or reloads.
        return 'cmp -s "$before/ca.crt" "$new/ca.crt" || kill -HUP "$server"'


def _spellings(name: str) -> list[str]:
    """A header's name with each of its hyphens as it is or as an underscore."""
    first, *rest = name.split("-")
    found = [first]
    for part in rest:
        found = [f"{head}{mark}{part}" for head in found for mark in "-_"]
    return found


_SCRIPT = """\
# Runs nginx. When the mounted Secret has changed and nginx accepts its content, the next
# handshake uses the new certificate; otherwise the former one stays in use.
set -u
umask 077
secret={secret}
number=0
seen=
before=/nowhere
server=

# The checked configuration names the files beside it.
accepted() {{
  cp {folder}/check.conf "$1/" && rm -f {socket} && {check} -c "$1/check.conf"
}}

# Loads the mounted Secret atomically: all of its files or none.
load() {{
  now=$(readlink "$secret/..data") || return 1
  [ "$now" != "$seen" ] || return 0
  seen=$now
  number=$((number + 1))
  new={certificates}/$number
  mkdir -p "$new" || return 1
  for file in {files}; do
    cat "$secret/$now/$file" > "$new/$file" || return 1
  done
  if ! accepted "$new"; then
    echo "tls: the Secret as of $now is refused, what was before stays" >&2
    rm -rf "$new"
    return 1
  fi
  ln -s "$new" "{certificates}/next" && mv -T "{certificates}/next" "{current}" || return 1
  echo "tls: the Secret as of $now is in use" >&2
  [ -z "$server" ] || {reload}
  rm -rf "$before"
  before=$new
}}

stop() {{
  trap '' TERM QUIT INT
  kill -QUIT "$server"
  wait "$server"
  exit $?
}}

rm -rf {certificates} {draining}
mkdir -p {certificates}
load || exit 1
{nginx} &
server=$!
trap stop TERM QUIT INT
while kill -0 "$server" 2> /dev/null; do
  # In the background, so that a signal need not wait for it.
  sleep {seconds} &
  wait $!
  load || :
done
wait "$server"
exit $?
"""
