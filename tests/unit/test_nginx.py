"""nginx's configuration text, and the command that reads it."""

import http.client
import pathlib
import shutil
import subprocess
import time

import pytest

from components.values import nginx
from components.values.endpoint import Endpoint
from components.values.errors import InputError
from tests.ports import free_port
from tests.unit.support.wire import answered, raw_server

SHELL = shutil.which("sh")


def test_statements_become_text_that_reads_well() -> None:
    statements: list[nginx.Statement] = [
        nginx.Comment("first\nsecond"),
        nginx.block(
            "server",
            inside=[
                nginx.directive("listen", "127.0.0.1:8080"),
                nginx.directive("tcp_nodelay", True),
                nginx.block("location", "~", r"^/a{2}", inside=[nginx.directive("return", 204)]),
            ],
        ),
    ]
    assert nginx.text(statements) == (
        "# first\n# second\n"
        "server {\n"
        "  listen 127.0.0.1:8080;\n"
        "  tcp_nodelay on;\n"
        '  location ~ "^/a{2}" {\n'
        "    return 204;\n"
        "  }\n"
        "}\n"
    )


def test_tables_have_data_where_directives_have_a_name() -> None:
    split = nginx.table("split_clients", "$who", "$arm", entries=[("10%", "b"), ("*", "a")])
    assert nginx.text([split]) == "split_clients $who $arm {\n  10% b;\n  * a;\n}\n"
    chosen = nginx.mapping("$http_x", "arm", [("default", "a"), ("has blank", "b")])
    assert nginx.text([chosen]) == 'map $http_x $arm {\n  default a;\n  "has blank" b;\n}\n'


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("plain-1.2", "plain-1.2"),
        ("$uri", "$uri"),
        ("", '""'),
        ("a b", '"a b"'),
        ('a"b\\', '"a\\"b\\\\"'),
        ("a;b", '"a;b"'),
        ("${x}y", '"${x}y"'),
        ("#", '"#"'),
    ],
)
def test_words_are_quoted_where_they_must_be(word: str, expected: str) -> None:
    assert nginx.text([nginx.directive("set", word)]) == f"set {expected};\n"


def test_what_would_end_the_line_is_refused() -> None:
    with pytest.raises(InputError, match="one line"):
        nginx.text([nginx.directive("set", "a\nb")])
    with pytest.raises(InputError, match="name of a directive"):
        nginx.directive("set x; return", "a")


@pytest.mark.parametrize("value", ["", "a$b", "a\nb", None, 1])
def test_a_literal_has_no_variable(value: object) -> None:
    with pytest.raises(InputError, match=r'X "y": key is .*without \$'):
        nginx.literal('X "y"', "key", value)


def test_a_document_writes_to_the_temporary_folder_only() -> None:
    written = nginx.text(nginx.document("For a test.", http=[nginx.block("server", inside=[])]))
    assert written.startswith("# For a test.\nworker_processes 1;\npid /tmp/nginx.pid;\n")
    for stored in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"):
        assert f"  {stored}_temp_path /tmp/{stored};\n" in written
    assert "error_log stderr warn;" in written
    assert "resolver" not in written
    assert "stream" not in written


def test_streams_load_their_module_first() -> None:
    written = nginx.text(nginx.document("S", stream=[nginx.block("server", inside=[])]))
    assert written.splitlines()[1] == "include /etc/nginx/modules-enabled/*-stream.conf;"
    assert "http {" not in written


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("web", "web.$namespace.svc.$cluster_domain"),
        ("web.shop", "web.shop.svc.$cluster_domain"),
        ("web.shop.svc", "web.shop.svc.$cluster_domain"),
        ("www.example.com", "www.example.com"),
        ("example.com.", "example.com"),
        ("10.0.0.7", "10.0.0.7"),
        ("[fd00::7]", "[fd00::7]"),
    ],
)
def test_names_are_completed_as_the_cluster_would(host: str, expected: str) -> None:
    assert nginx.lookup_address(Endpoint(host, 80)) == f"{expected}:80"


@pytest.mark.skipif(shutil.which("awk") is None, reason="awk is not installed")
@pytest.mark.parametrize(
    ("resolv", "expected"),
    [
        (
            (
                "search shop.svc.example.org svc.example.org example.org lan\n"
                "nameserver 10.96.0.10\nnameserver fd00::a%eth0\noptions ndots:5\n"
            ),
            ["resolver 10.96.0.10 [fd00::a] valid=5s;", '"shop"', '"example.org"'],
        ),
        (
            "nameserver 127.0.0.1\n",
            ["resolver 127.0.0.1 valid=5s;", '"default"', '"cluster.local"'],
        ),
    ],
)
def test_the_command_finds_the_pods_name_servers(
    resolv: str, expected: list[str], tmp_path: pathlib.Path
) -> None:
    (tmp_path / "resolv.conf").write_text(resolv)
    command = nginx.command("/etc/x.conf", resolver=True)
    script = command[2].replace("/etc/resolv.conf", str(tmp_path / "resolv.conf"))
    script = script.replace(nginx.RESOLVER_FILE, str(tmp_path / "out"))
    subprocess.run([str(SHELL), "-c", script, "nginx", "true"], check=True)
    written = (tmp_path / "out").read_text()
    for text in expected:
        assert text in written


@pytest.mark.skipif(shutil.which("awk") is None, reason="awk is not installed")
def test_without_a_name_server_the_container_ends(tmp_path: pathlib.Path) -> None:
    (tmp_path / "resolv.conf").write_text("search a.svc.b\n")
    script = nginx.command("/x", resolver=True)[2]
    script = script.replace("/etc/resolv.conf", str(tmp_path / "resolv.conf"))
    script = script.replace(nginx.RESOLVER_FILE, str(tmp_path / "out"))
    done = subprocess.run([str(SHELL), "-c", script, "nginx", "true"], check=False)
    assert done.returncode != 0


def test_the_command_runs_or_checks() -> None:
    assert nginx.command("/a")[-4:] == ["-c", "/a", "-g", "daemon off;"]
    assert nginx.command("/a", check=True) == ["nginx", "-e", "stderr", "-c", "/a", "-t"]
    assert nginx.command("/a", resolver=True)[3:] == ["nginx", *nginx.command("/a")]


NGINX = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")


@pytest.mark.skipif(NGINX is None, reason="nginx is not installed (apt-get install nginx-light)")
def test_headers_pass_as_they_are(tmp_path: pathlib.Path) -> None:
    port = free_port()
    long_answer = [f"Set-Cookie: c{number}={'x' * 1000}" for number in range(20)]
    with raw_server(answered(b"whole", *long_answer)) as server:
        inside = [
            nginx.directive("listen", f"127.0.0.1:{port}"),
            nginx.directive("proxy_set_header", "X-Arm", "ours"),
            *nginx.without_lookalikes(["X-Arm"]),
            nginx.block(
                "location",
                "/",
                inside=[nginx.directive("proxy_pass", f"http://127.0.0.1:{server.port}")],
            ),
        ]
        whole = [*nginx.headers_as_they_are(32), nginx.block("server", inside=inside)]
        text = nginx.text(nginx.document("A test.", http=whole))
        file = tmp_path / "nginx.conf"
        file.write_text(text.replace(nginx.TEMPORARY, str(tmp_path)))
        line = [str(NGINX), "-e", "stderr", "-c", str(file), "-g", "daemon off;"]
        with subprocess.Popen(line, stderr=subprocess.DEVNULL) as process:
            try:
                status, cookies = asked(port)
            finally:
                process.terminate()
        assert (status, len(cookies)) == (200, 20)
        head = server.requests[-1].decode()
        for passed in ("under_score: 1", "with.dot: 2", "Cookie: " + "c" * 20_000, "GET /a%2Fb/"):
            assert passed in head, passed
        assert head.count("ours") == 1
        assert "theirs" not in head


def asked(port: int) -> tuple[int, list[str]]:
    """The status and the cookies of an answer, once nginx is there."""
    headers = {
        "under_score": "1", "with.dot": "2", "Cookie": "c" * 20_000, "X_Arm": "theirs",
        "X-Arm": "theirs",
    }  # fmt: skip
    for _ in range(1000):
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        try:
            connection.request("GET", "/a%2Fb/../c?d=%20", headers=headers)
            answer = connection.getresponse()
            answer.read()
        except ConnectionRefusedError:
            time.sleep(0.02)
        else:
            return answer.status, answer.headers.get_all("Set-Cookie") or []
        finally:
            connection.close()
    raise AssertionError("nginx does not answer")


@pytest.mark.parametrize("kib", [8, 16, 32, 64, 100, 256])
def test_the_buffers_fit_together(kib: int) -> None:
    given = {one.name: one.values for one in nginx.headers_as_they_are(kib)}

    def size(name: str, place: int = 0) -> int:
        return int(given[name][place].removesuffix("k"))

    whole = int(given["proxy_buffers"][0]) * size("proxy_buffers", 1)
    busy = size("proxy_busy_buffers_size")
    assert max(size("proxy_buffer_size"), size("proxy_buffers", 1)) <= busy
    assert busy <= whole - size("proxy_buffers", 1)


def test_no_name_is_left_that_could_be_taken_for_ours() -> None:
    found = {one.values[0] for one in nginx.without_lookalikes(["X-Real-IP", "Forwarded"])}
    assert found == {"X_Real-IP", "X-Real_IP", "X_Real_IP"}
