"""What nginx is given as the TLS sidecar: its configuration, the check of a certificate, and the script
that runs both.
"""

import dataclasses
import shlex

from components.single_node.tls_settings import CIPHERS, CURVES, VERSIONS, TlsSidecarArgs
from components.values import nginx

STATUS_PATH = "/status"
"""Path on the status port, from inside the pod only, of nginx's own counters."""

FOLDER = "/etc/nginx-tls"
"""Where the files are mounted."""
SECRET = "/etc/tls-secret"  # noqa: S105 (a path)
"""Where the Secret is mounted."""
CONFIG_FILE, CHECK_FILE, SCRIPT_FILE = "nginx.conf", "check.conf", "run.sh"
DRAINING = f"{nginx.TEMPORARY}/draining"
"""A file that is there once the pod ends."""

_LOOPBACK = "127.0.0.1"
_CERTIFICATES = f"{nginx.TEMPORARY}/tls"
_CURRENT = f"{_CERTIFICATES}/current"
_CHECK_SOCKET = f"{nginx.TEMPORARY}/check.socket"
_WATCH_SECONDS = 2
_SHUTDOWN_SECONDS = 15
_CONNECTIONS = 4096
# Below what common servers wait before they close an idle connection (5 s).
_UPSTREAM_IDLE_SECONDS = 4
_UPSTREAM_IDLE_CONNECTIONS = 32
# A busy connection lasts minutes and not seconds: a new one costs a handshake.
_KEPT_REQUESTS = 100_000


@dataclasses.dataclass(frozen=True)
class TlsFiles:
    """The files that the sidecar's arguments, checked, make."""

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
        upstream = nginx.block(
            "upstream",
            "application",
            inside=[
                nginx.directive("server", f"{_LOOPBACK}:{self.args['application_port']}"),
                nginx.directive("keepalive", _UPSTREAM_IDLE_CONNECTIONS),
                nginx.directive("keepalive_requests", _KEPT_REQUESTS),
                nginx.directive("keepalive_timeout", f"{_UPSTREAM_IDLE_SECONDS}s"),
            ],
        )
        servers = [self._https(), *self._redirect(), self._status()]
        return nginx.text(
            nginx.document(
                f"HTTPS on port {self.args['port']} for the server on "
                f"{_LOOPBACK}:{self.args['application_port']}. Generated.",
                http=[*self._tls(), *self._proxying(), upstream, *servers],
                top=[nginx.directive("worker_shutdown_timeout", f"{_SHUTDOWN_SECONDS}s")],
                workers=self.args["workers"],
                connections=_CONNECTIONS,
            )
        )

    def _tls(self) -> list[nginx.Statement]:
        versions = VERSIONS[VERSIONS.index(self.args["minimum_version"]) :]
        found: list[nginx.Statement] = [
            nginx.directive("ssl_protocols", *(f"TLSv{version}" for version in versions)),
        ]
        if "1.2" in versions:
            found.append(
                nginx.directive("ssl_ciphers", ":".join(self.args.get("ciphers", CIPHERS)))
            )
        found += [
            # Without it OpenSSL takes X448 and P-521 too, which cost a server much more.
            nginx.directive("ssl_ecdh_curve", ":".join(CURVES)),
            # The client knows what its processor is fast at; all that is offered is sound.
            nginx.directive("ssl_prefer_server_ciphers", False),
            *self._sessions(),
            nginx.directive("ssl_session_tickets", False),
            nginx.Comment(
                "A variable makes nginx read the files at each handshake: a new certificate needs\n"
                "no reload, which would close connections that wait for their next request."
            ),
            nginx.mapping("", "tls_certificate", [("default", f"{_CURRENT}/tls.crt")]),
            nginx.mapping("", "tls_key", [("default", f"{_CURRENT}/tls.key")]),
        ]
        return found

    def _sessions(self) -> list[nginx.Statement]:
        if self.args["client_certificates"] == "none":
            return [nginx.directive("ssl_session_cache", "shared:tls:2m")]
        return [
            nginx.Comment(
                "A session that is resumed brings the client's certificate as it was judged, by the\n"
                "authorities of that time; the cache would outlive their change."
            ),
            nginx.directive("ssl_session_cache", False),
        ]

    def _proxying(self) -> list[nginx.Statement]:
        found: list[nginx.Statement] = [
            nginx.mapping(
                "$http_upgrade", "upstream_connection", [("default", "upgrade"), ("", "")]
            ),
            nginx.directive("keepalive_requests", _KEPT_REQUESTS),
            nginx.directive("proxy_http_version", "1.1"),
            *nginx.passing(self.args["header_kilobytes"]),
            # Of the headers below there are other spellings too.
            nginx.directive("proxy_headers_hash_max_size", 2048),
            nginx.directive("proxy_headers_hash_bucket_size", 128),
            # What is too large, and what waits in memory, is the application's business.
            nginx.directive("client_max_body_size", 0),
            nginx.directive("proxy_request_buffering", False),
            nginx.directive("proxy_max_temp_file_size", 0),
            nginx.directive("proxy_connect_timeout", "5s"),
            nginx.directive("proxy_read_timeout", f"{self.args['timeout_seconds']}s"),
            nginx.directive("proxy_send_timeout", f"{self.args['timeout_seconds']}s"),
        ]
        if self.args["trusted_proxies"]:
            found += [
                nginx.directive("set_real_ip_from", proxy) for proxy in self.args["trusted_proxies"]
            ]
            found += [
                nginx.directive("real_ip_header", "X-Forwarded-For"),
                nginx.directive("real_ip_recursive", True),
            ]
        return found

    def _headers(self) -> list[nginx.Statement]:
        # With trusted proxies the chain is kept; otherwise what a client says of itself is not.
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
            # Empty ones are not sent on, so that no client can invent them.
            "X-Client-Verify": "",
            "X-Client-Subject": "",
            "Forwarded": "",
        }
        if self.args["client_certificates"] != "none":
            headers["X-Client-Verify"] = "$ssl_client_verify"
            headers["X-Client-Subject"] = "$ssl_client_s_dn"
        # To a server after CGI's example X_Real_IP is X-Real-IP, so the client's must not get there.
        confused = {
            other: "" for name in headers for other in _spellings(name) if other not in headers
        }
        return [nginx.directive("proxy_set_header", *pair) for pair in (headers | confused).items()]

    def _https(self) -> nginx.Directive:
        inside: list[nginx.Statement] = [
            nginx.directive("listen", self.args["port"], "ssl"),
            nginx.directive("ssl_certificate", "$tls_certificate"),
            nginx.directive("ssl_certificate_key", "$tls_key"),
        ]
        if self.args["client_certificates"] != "none":
            required = self.args["client_certificates"] == "required"
            inside += [
                nginx.directive("ssl_client_certificate", f"{_CURRENT}/ca.crt"),
                nginx.directive("ssl_verify_client", "on" if required else "optional"),
                nginx.directive("ssl_verify_depth", 3),
            ]
        if self.args["hsts_seconds"]:
            policy = f"max-age={self.args['hsts_seconds']}"
            inside.append(
                nginx.directive("add_header", "Strict-Transport-Security", policy, "always")
            )
        inside += [
            *self._headers(),
            nginx.Comment(
                "While the pod ends, every answer is the last one of its connection, so that no\n"
                "client is left with one to a pod that is gone."
            ),
            nginx.directive("error_page", 418, "=", "@draining"),
            nginx.block(
                "location",
                "/",
                inside=[
                    nginx.block(
                        "if", "(-f", f"{DRAINING})", inside=[nginx.directive("return", 418)]
                    ),
                    nginx.directive("proxy_pass", "http://application"),
                ],
            ),
            nginx.block(
                "location",
                "@draining",
                inside=[
                    nginx.directive("keepalive_timeout", 0),
                    nginx.directive("proxy_pass", "http://application"),
                ],
            ),
        ]
        return nginx.block("server", inside=inside)

    def _redirect(self) -> list[nginx.Statement]:
        if "redirect_port" not in self.args:
            return []
        port = "" if self._public_port == 443 else f":{self._public_port}"  # noqa: PLR2004
        return [
            nginx.block(
                "server",
                inside=[
                    nginx.directive("listen", self.args["redirect_port"]),
                    # Unlike 301, it keeps the method and the body.
                    nginx.directive("return", 308, f"https://$host{port}$request_uri"),
                ],
            )
        ]

    def _status(self) -> nginx.Directive:
        answer = nginx.directive("return", 200, "ok")
        ready: list[nginx.Statement] = [answer]
        if "readiness_path" in self.args:
            ready = [
                nginx.directive("proxy_set_header", "Connection", ""),
                nginx.directive("proxy_pass", f"http://application{self.args['readiness_path']}"),
            ]
        return nginx.block(
            "server",
            inside=[
                nginx.directive("listen", self.args["status_port"]),
                nginx.block("location", "=", "/healthz", inside=[answer]),
                nginx.block("location", "=", "/readyz", inside=ready),
                nginx.block(
                    "location",
                    "=",
                    STATUS_PATH,
                    inside=[
                        nginx.directive("allow", _LOOPBACK),
                        nginx.directive("deny", "all"),
                        nginx.directive("stub_status"),
                    ],
                ),
                nginx.block("location", "/", inside=[nginx.directive("return", 404)]),
            ],
        )

    def check(self) -> str:
        """A configuration that nginx accepts if the certificate and its key are good."""
        inside = [
            nginx.directive("listen", f"unix:{_CHECK_SOCKET}", "ssl"),
            nginx.directive("ssl_certificate", "tls.crt"),
            nginx.directive("ssl_certificate_key", "tls.key"),
        ]
        if self.args["client_certificates"] != "none":
            inside += [
                nginx.directive("ssl_client_certificate", "ca.crt"),
                nginx.directive("ssl_verify_client", "optional"),
            ]
        return nginx.text(
            nginx.document(
                "Only checked, never run: is the certificate beside this file good? Generated.",
                http=[nginx.block("server", inside=inside)],
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
        # nginx reads the authorities of clients only when it starts or is told to.
        return 'cmp -s "$before/ca.crt" "$new/ca.crt" || kill -HUP "$server"'


def _spellings(name: str) -> list[str]:
    """A header's name with each of its hyphens as it is or as an underscore."""
    first, *rest = name.split("-")
    found = [first]
    for part in rest:
        found = [f"{head}{mark}{part}" for head in found for mark in "-_"]
    return found


_SCRIPT = """\
# Runs nginx. When the mounted Secret has changed, and nginx finds what is in it good, the next
# handshake has the new certificate; when it does not, the one before stays.
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

# Takes over what the kubelet has put there, all of it or nothing.
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
