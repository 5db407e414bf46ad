"""What the system says of a process. About amounts of time nothing is said here but what must be so."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from benchmarks.harness.proc import CpuMeter, children, cpu_seconds, is_alive, rss_bytes


@pytest.fixture
def child() -> Iterator[subprocess.Popen[bytes]]:
    """A process that waits until its standard input is closed."""
    process = subprocess.Popen(
        [sys.executable, "-c", "import sys; print('here', flush=True); sys.stdin.read()"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert process.stdout is not None and process.stdin is not None
    try:
        assert process.stdout.readline() == b"here\n"
        yield process
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
        process.stdin.close()


def test_cpu_of_this_process_is_what_python_says() -> None:
    before = time.process_time()
    told = cpu_seconds(os.getpid())
    assert before <= told <= time.process_time()


def test_a_process_that_is_not_there_uses_nothing(child: subprocess.Popen[bytes]) -> None:
    child.kill()
    child.wait()
    assert (cpu_seconds(child.pid), rss_bytes(child.pid), is_alive(child.pid)) == (0.0, 0, False)


def test_children_are_found_until_they_end(child: subprocess.Popen[bytes]) -> None:
    assert child.pid in children(os.getpid())
    child.kill()
    # Ended and not waited for is still in /proc, but no longer of use to anybody.
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert child.pid not in children(os.getpid())
    assert not is_alive(child.pid)


def test_a_child_has_memory_of_its_own(child: subprocess.Popen[bytes]) -> None:
    assert rss_bytes(child.pid) > 1024 * 1024


def test_a_meter_counts_from_its_start_and_group_by_group(child: subprocess.Popen[bytes]) -> None:
    meter = CpuMeter.start({"us": [os.getpid()], "waiting": [child.pid], "nobody": []})
    began = time.process_time()
    while time.process_time() - began < 0.02:
        pass
    read = meter.read()
    assert read["us"] >= 0.02
    assert read["waiting"] < read["us"]
    assert read["nobody"] == 0.0


def test_per_job_is_in_microseconds() -> None:
    meter = CpuMeter({"us": (os.getpid(),)}, {"us": cpu_seconds(os.getpid()) - 2.0})
    assert meter.per_job_us(1_000_000)["us"] == pytest.approx(2.0, abs=0.1)
