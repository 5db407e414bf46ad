"""What /proc says of a process."""

import os
import subprocess
import sys

import pytest

from taskq.worker.tree.vitals import Vitals

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="there is no /proc")


def test_a_process_that_runs_does_not_stand_still() -> None:
    vitals = Vitals(os.getpid())
    seen = vitals.look()
    assert seen is not None
    assert (seen.is_still, seen.switches) == (False, b"")
    assert 1_000_000 < seen.resident_bytes < 100_000_000_000
    vitals.close()
    assert vitals.look() is None


def test_of_a_process_that_is_gone_nothing_is_known() -> None:
    assert Vitals(2**22 + 1).look() is None
    process = subprocess.Popen([sys.executable, "-c", ""])
    vitals = Vitals(process.pid)
    process.wait()
    assert vitals.look() is None
    vitals.close()
