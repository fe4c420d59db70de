"""What is measured of a server's processes."""

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
    this = psutil.Process()
    assert cpu_seconds([ended]) == 0
    assert memory_mb([ended]) == 0
    assert cpu_seconds([this, ended]) > 0
    assert memory_mb([this, ended]) > 1


def test_what_a_process_shares_counts_once_whoever_else_has_it() -> None:
    """Two processes with the same libraries, which they write to as little as any program does."""
    command = [sys.executable, "-c", "import numpy; print(flush=True); input()"]
    first, second = (subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) for _ in range(2))
    with first, second:
        assert first.stdout is not None
        assert second.stdout is not None
        first.stdout.readline()
        alone = memory_mb(processes(first.pid))
        second.stdout.readline()
        beside, info = memory_mb(processes(first.pid)), psutil.Process(first.pid).memory_full_info()
        both = memory_mb([*processes(first.pid), *processes(second.pid)])
        first.communicate()
        second.communicate()
    assert beside == pytest.approx(alone, rel=0.02)
    assert info.pss < beside * 2**20 < 1.02 * info.rss
    assert alone + info.uss / 2**20 * 0.9 < both < 1.9 * alone
