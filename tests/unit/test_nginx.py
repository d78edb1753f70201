"""nginx's configuration text, and the command that reads it."""

import pathlib
import shutil
import subprocess

import pytest

from dds_patterns.arguments.declared import read
from dds_patterns.arguments.engine import resolved_value
from dds_patterns.arguments.errors import InputError
from dds_patterns.arguments.place import Place
from dds_patterns.values import nginx
from dds_patterns.values.endpoint import Endpoint

SHELL = shutil.which("sh")


def test_statements_become_text_that_reads_well() -> None:
    statements: list[nginx.Statement] = [
        nginx.Comment("first\nsecond"),
        nginx.block(
            "server",
            nginx.directive("listen", "127.0.0.1:8080"),
            nginx.directive("tcp_nodelay", True),
            nginx.block("location ~ ^/a{2}", nginx.directive("return", 204)),
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


@pytest.mark.parametrize("value", ["", "a$b", "a\nb", "a" * 257])
def test_a_literal_has_no_variable(value: object) -> None:
    with pytest.raises(InputError, match=r'X "y": key is .*without \$'):
        resolved_value(Place('X "y"', "key"), read(nginx.Literal), value)


def test_a_document_writes_to_the_temporary_folder_only() -> None:
    written = nginx.text(nginx.document("For a test.", http=[nginx.block("server")]))
    assert written.startswith("# For a test.\nworker_processes 1;\npid /tmp/nginx.pid;\n")
    for stored in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"):
        assert f"  {stored}_temp_path /tmp/{stored};\n" in written
    assert "error_log stderr warn;" in written
    assert "resolver" not in written
    assert "stream" not in written


def test_streams_load_their_module_first() -> None:
    written = nginx.text(nginx.document("S", stream=[nginx.block("server")]))
    assert written.splitlines()[1] == "include /etc/nginx/modules-enabled/*-stream.conf;"
    assert "http {" not in written


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("web", "web.$namespace.svc.$cluster_domain"),
        ("web.shop", "web.shop.svc.$cluster_domain"),
        ("web.shop.svc", "web.shop.svc.$cluster_domain"),
        ("web.svc", "web.svc.svc.$cluster_domain"),
        ("www.example.com", "www.example.com"),
        ("example.com.", "example.com"),
        ("10.0.0.7", "10.0.0.7"),
        ("[fd00::7]", "[fd00::7]"),
        ("web.", "web"),
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
