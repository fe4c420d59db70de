"""What is measured of a server's processes."""

import os
import subprocess
import sys

import psutil
import pytest

from benchmarks.running import cpu_seconds, memory_mb, processes

WAIT = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'input()'])"


@pytest.fixture
def ended() -> psutil.Process:
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    found = psutil.Process(child.pid)
    child.communicate()
    return found


def test_the_processes_of_a_server_are_its_leader_and_all_below_it() -> None:
    with subprocess.Popen([sys.executable, "-c", WAIT], stdin=subprocess.PIPE) as child:
        leader = psutil.Process(child.pid)
        while not leader.children():
            assert child.poll() is None
        assert processes(child.pid) == [leader, *leader.children()]
        child.communicate()
    assert processes(child.pid) == []


def test_processes_that_have_ended_count_nothing(ended: psutil.Process) -> None:
    this = psutil.Process(os.getpid())
    assert cpu_seconds([ended]) == 0
    assert memory_mb([ended]) == 0
    assert cpu_seconds([this, ended]) > 0
    assert 1 < memory_mb([this, ended]) < this.memory_info().rss / 2**20 + 1
