"""The ports that tests give to the programs that they start."""

import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.ports import free_port, free_ports

_ROOT = Path(__file__).parents[2]
_USUAL = 32768


def test_no_port_is_given_twice_not_even_to_another_process() -> None:
    program = "from tests.ports import free_ports; print(*free_ports(150)); input()"
    command = [sys.executable, "-c", program]
    with subprocess.Popen(
        command, cwd=_ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None
        theirs = [int(port) for port in other.stdout.readline().split()]
        ours = free_ports(150)
        other.communicate("\n", timeout=20)
    assert len(theirs) == 150
    assert len({*theirs, *ours}) == 300


def test_linux_gives_none_of_them_to_an_outgoing_connection() -> None:
    lowest, _ = Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()
    if int(lowest) != _USUAL:
        pytest.skip(f"this machine's range begins at {lowest}")
    assert free_port() < _USUAL


def test_a_port_on_which_somebody_listens_is_left_out() -> None:
    port = next(port for port in iter(free_port, None) if port % 100 < 99)
    with socket.create_server(("127.0.0.1", port + 1)):
        assert free_port() not in (port, port + 1)
