"""nginx's configuration as request splitter: the choice of an arm, and the connections to it."""

import dataclasses

from dds_patterns.pods.companion import LOOPBACK
from dds_patterns.single_node.splitter_settings import (
    ARMS,
    CONTROL,
    EXPERIMENT,
    KEYS,
    RequestSplitterArgs,
)
from dds_patterns.values import nginx
from dds_patterns.values.endpoint import Endpoint
from dds_patterns.values.nginx import Statement, block, directive

# Idle keep-alive connections to each arm; their idle timeout; and their maximum age, which is less
# than the drain of Applications (5 s).
_KEPT, _IDLE_SECONDS, _KEPT_SECONDS = 64, 1, 2
_WHOLE = 100
# Some proxies add the port, which differs for each connection of a user.
_ADDRESSES = (
    (r"~^\s*\[(?<bracketed>[^],]+)\]", "$bracketed"),
    (r"~^\s*(?<before_port>[^:,\s]+)(:[^:,\s]*)?\s*(,|$)", "$before_port"),
    (r"~^\s*(?<first_address>[^,\s]+)", "$first_address"),
)


@dataclasses.dataclass(frozen=True)
class SplitterFile:
    """The configuration for a splitter's checked arguments."""

    args: RequestSplitterArgs
    control: Endpoint
    experiment: Endpoint

    def configuration(self) -> str:
        """The configuration file of nginx."""
        if self.args["policy"] == "seed":
            return nginx.text(self._seed())
        title = (
            f"{self.args['percent']:g} % of the users to {self.experiment}, the others to "
            f"{self.control}, for the containers of this pod. Generated."
        )
        http = [
            *nginx.passing(self.args["header_kib"]),
            *self._choice(),
            *self._arms(),
            nginx.Comment(
                "One UDP datagram for each request, so that nginx never waits for the counter."
            ),
            directive(
                "log_format", "arms", "arm=$arm how=$how status=$status seconds=$request_time"
            ),
            self._server(),
            self._status(),
        ]
        # A request takes four connections: from the application, to and from the socket, to the
        # arm.
        return nginx.text(
            nginx.document(
                title, http=http, stream=self._connections(), connections=8192, resolver=True
            )
        )

    def _choice(self) -> list[Statement]:
        """Set ``$arm`` for a request, and ``$how`` for the reason."""
        found: list[Statement] = [
            nginx.Comment(
                "The force header chooses the arm, else the user's hash; without a user the default."
            )
        ]
        sticky = self.args["sticky"]
        by, key = sticky["by"], sticky.get("name", KEYS[sticky["by"]])
        user = _variable("cookie" if by == "cookie" else "http", key)
        if by == "address":
            # Each proxy on the way adds the address it sees; the first is the user's.
            found.append(nginx.mapping(user, "user", [("default", ""), *_ADDRESSES]))
            user = "$user"
        found.append(self._hashed(f"{self.args['salt']}:{user}", "by_user"))
        without = CONTROL
        if sticky["without"] == "random":
            found.append(self._hashed("$request_id", "by_chance"))
            without = "$by_chance"
        forced = _variable("http", self.args["force_header"])
        found += [
            nginx.mapping(user, "unforced", [("", without), ("default", "$by_user")]),
            nginx.mapping(forced, "arm", [("default", "$unforced"), *zip(ARMS, ARMS, strict=True)]),
            nginx.mapping(user, "unforced_how", [("", "keyless"), ("default", "user")]),
            nginx.mapping(
                forced, "how", [("default", "$unforced_how"), *((arm, "forced") for arm in ARMS)]
            ),
        ]
        return found

    def _hashed(self, source: str, variable: str) -> nginx.Directive:
        # nginx accepts no entries of 0 % and 100 %.
        percent = self.args["percent"]
        entries = [("*", EXPERIMENT if percent == _WHOLE else CONTROL)]
        if 0 < percent < _WHOLE:
            entries.insert(0, (f"{percent:.2f}%", EXPERIMENT))
        return nginx.table("split_clients", source, f"${variable}", entries=entries)

    def _arms(self) -> list[Statement]:
        """The upstreams: a Unix socket for each arm, with keep-alive connections."""
        hosts = [("default", str(self.control)), (EXPERIMENT, str(self.experiment))]
        return [
            nginx.Comment(
                "Keep-alive connections are short-lived: an arm may close idle ones, and its pods must\n"
                "have none left when they terminate."
            ),
            *(
                block(
                    f"upstream {arm}",
                    directive("server", f"unix:{_socket(arm)}"),
                    directive("keepalive", _KEPT),
                    directive("keepalive_timeout", f"{_IDLE_SECONDS}s"),
                    directive("keepalive_time", f"{_KEPT_SECONDS}s"),
                    directive("keepalive_requests", 100_000),
                )
                for arm in ARMS
            ),
            nginx.mapping("$arm", "arm_host", hosts),
            nginx.mapping("$http_upgrade", "arm_connection", [("default", "upgrade"), ("", "")]),
        ]

    def _connections(self) -> list[Statement]:
        """The proxy from each arm's socket to the arm."""
        return [
            nginx.Comment(
                "Names are resolved for each connection, so that nginx starts and serves the other arm\n"
                "if one does not exist. In the http block, each request would need a connection then."
            ),
            nginx.Comment("A lost DNS query is retried after 5 s."),
            directive("resolver_timeout", "12s"),
            *(
                block(
                    "server",
                    directive("listen", f"unix:{_socket(arm)}"),
                    directive("set", "$address", nginx.lookup_address(endpoint)),
                    directive("proxy_pass", "$address"),
                    directive("proxy_connect_timeout", f"{self.args['connect_timeout_ms']}ms"),
                    # The timeouts of the http block expire first.
                    directive("proxy_timeout", f"{self.args['timeout_seconds'] + 5}s"),
                )
                for arm, endpoint in zip(ARMS, (self.control, self.experiment), strict=True)
            ),
        ]

    def _server(self) -> nginx.Directive:
        force_header, timeout = self.args["force_header"], f"{self.args['timeout_seconds']}s"
        receiver = f"syslog:server={LOOPBACK}:{self.args['line_port']},nohostname,tag=splitter"
        return block(
            "server",
            directive("listen", f"{LOOPBACK}:{self.args['listen_port']}"),
            directive("access_log", receiver, "arms"),
            # Size limits and buffering of bodies are up to the arms.
            directive("client_max_body_size", 0),
            directive("keepalive_requests", 100_000),
            directive("add_header", force_header, "$arm", "always"),
            block(
                "location /",
                directive("proxy_pass", "http://$arm"),
                directive("proxy_http_version", "1.1"),
                directive("proxy_set_header", "Host", "$arm_host"),
                directive("proxy_set_header", "Connection", "$arm_connection"),
                directive("proxy_set_header", "Upgrade", "$http_upgrade"),
                directive("proxy_set_header", force_header, "$arm"),
                directive("proxy_hide_header", force_header),
                directive("proxy_request_buffering", False),
                directive("proxy_max_temp_file_size", 0),
                directive("proxy_read_timeout", timeout),
                directive("proxy_send_timeout", timeout),
            ),
        )

    def _status(self) -> nginx.Directive:
        return block(
            "server",
            directive("listen", self.args["status_port"]),
            block("location = /readyz", directive("return", 200, "ok")),
            block("location = /livez", directive("return", 200, "ok")),
            block("location /", directive("return", 404)),
        )

    def _seed(self) -> list[Statement]:
        backend = block(
            "upstream backend",
            directive("ip_hash"),
            directive("server", self.control, "weight=9"),
            directive("server", self.experiment),
        )
        server = block(
            "server",
            # Where localhost has an IPv6 address too, Debian's nginx reads it as 127.0.0.1 twice.
            directive("listen", f"{LOOPBACK}:{self.args['listen_port']}"),
            block("location /", directive("proxy_pass", "http://backend")),
        )
        return nginx.document(
            "What the book prints; a port that needs no privilege, and a server for the probes.",
            top=[directive("worker_rlimit_nofile", 8192)],
            http=[backend, server, self._status()],
            workers=5,
            connections=1024,
        )


def _socket(arm: str) -> str:
    return f"{nginx.TEMPORARY}/{arm}{nginx.SOCKET}"


def _variable(kind: str, name: str) -> str:
    return f"${kind}_{name.lower().replace('-', '_')}"
