"""What the compositions' nginx answers and logs, with a real one."""

import pathlib
import shutil
import urllib.request

import pytest

from dds_patterns import LogAdapter, Topz
from stacks import adapters, deploy, parts
from stacks.settings import Settings
from tests import ports
from tests.unit.support import listening
from tests.unit.support.companions import program
from toolchain.graph import build

files = program("logs.files")

NGINX = shutil.which("nginx")
needs_nginx = pytest.mark.skipif(NGINX is None, reason="nginx is not installed")


def answer(text: str, folder: pathlib.Path, port: int) -> bytes:
    """What an nginx with this configuration answers at ``port``."""
    file = folder / "nginx.conf"
    file.write_text(text.replace(f"{parts.NGINX_WRITES}/", f"{folder}/"))
    program, *arguments = parts.nginx_command(str(file))
    assert program == "nginx"
    arguments[-1] += " user root;"
    with (
        listening.running([str(NGINX), *arguments], port),
        urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=60) as got,
    ):
        body: bytes = got.read()
    return body


@needs_nginx
def test_a_page_is_the_answer(tmp_path: pathlib.Path) -> None:
    port = ports.free_port()
    text = parts.page_conf("Says hello.", "hello").replace("listen 8080", f"listen {port}")
    assert answer(text, tmp_path, port) == b"hello"


@needs_nginx
def test_the_log_adapter_reads_the_access_log_that_it_recommends(tmp_path: pathlib.Path) -> None:
    port, status = ports.free_port(), ports.free_port()
    text = parts.nginx_conf("A site.", adapters.SITE).replace(LogAdapter.FOLDER, parts.NGINX_WRITES)
    text = text.replace("listen 8080", f"listen {port}").replace(":8081", f":{status}")
    assert answer(text, tmp_path, port) == b"hello"
    [line] = (tmp_path / "access.log").read_bytes().splitlines()
    entry = files.access_entry(line, {"inode": 7, "life": "a1b2", "offset": 100, "before": 0})
    assert entry.attributes.items() >= {"status": 200, "path": "/", "bytes": 5}.items()
    assert entry.duration_ms is not None


def test_topz_in_plain_docker_has_the_component_s_command() -> None:
    graph = build(lambda: deploy(Settings.load()), stack="topz", config={"dds:registry": "r:5000"})
    container = graph.one("Container", "topz").inputs
    assert [*container["entrypoints"], *container["command"]] == Topz.command("0.0.0.0", 8080)
