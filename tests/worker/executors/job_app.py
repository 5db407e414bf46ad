"""Tasks for processes of their own: these import this module by its name."""

import ctypes
import logging
import os
import subprocess
import sys
import threading
import time
from datetime import UTC, datetime
from pathlib import Path

from taskq import TaskQ, current

q = TaskQ("taskq://127.0.0.1:1")


@q.task(name="add", executor="process")
def add(a: int, b: int) -> int:
    return a + b


@q.task(name="pid", executor="process")
def pid() -> int:
    return os.getpid()


@q.task(name="tell", executor="process")
def tell() -> list[object]:
    context = current()
    context.progress(1, 2, "half")
    logging.getLogger("shop").warning("half of %d done", 2)
    main = threading.current_thread() is threading.main_thread()
    return [context.job_id, context.attempt, context.task, context.cancelled, main]


@q.task(name="outlive", executor="process")
def outlive(more: float, seconds: float) -> float:
    current().extend(more)
    time.sleep(seconds)  # longer than it had before
    deadline = current().deadline
    assert deadline is not None
    return (deadline - datetime.now(UTC)).total_seconds() + seconds


@q.task(name="fail", executor="process")
def fail() -> None:
    raise ValueError("bad luck")


@q.task(name="leave", executor="process")
def leave(code: int) -> None:
    os._exit(code)


@q.task(name="quit", executor="process")
def quit(code: int) -> None:
    sys.exit(code)


@q.task(name="abort", executor="process")
def abort() -> None:
    os.abort()


@q.task(name="stray", executor="process")
def stray() -> None:
    ctypes.string_at(0)


@q.task(name="deep", executor="process")
def deep() -> str:
    nested: list[object] = []
    for _ in range(1_000_000):
        nested = [nested]
    sys.setrecursionlimit(2**30)
    return repr(nested)


@q.task(name="endless", executor="process")
def endless() -> None:
    endless.fn()


@q.task(name="greedy", executor="process")
def greedy() -> int:
    return len(b"x" * 2**62)


@q.task(name="large", executor="process")
def large() -> list[bytes]:
    return [b"x" * 1_000_000] * 100


@q.task(name="hold", executor="process")
def hold(path: str = "") -> None:
    if path:
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(3600)"])
        Path(path + ".part").write_text(f"{os.getpid()} {child.pid}")
        Path(path + ".part").rename(path)
    ctypes.PyDLL(None).sleep(3600)


@q.task(name="close_all", executor="process")
def close_all() -> None:
    os.closerange(3, 1_000)
    time.sleep(3600)  # until it is killed
