"""The worker's process under `--reload`: `taskq worker` that ends when whoever reloads it has ended."""

import os
import signal
import sys
from threading import Thread

from taskq.cli import logs, output
from taskq.cli.exits import exit_for
from taskq.errors import TaskqError
from taskq.server.http import HttpPages
from taskq.worker import supervisor
from taskq.worker.reloading import read_start


def main() -> int:
    line = sys.stdin.buffer.readline()
    if not line:
        return 1
    start = read_start(line)
    logs.configure(debug=start.debug)
    Thread(target=_end_with_parent, name="taskq parent", daemon=True).start()
    try:
        return supervisor.run(start.settings, child_module="taskq.cli.worker_child", make_pages=HttpPages)
    except TaskqError as error:
        output.say(f"taskq: error: {error}")
        return exit_for(error)


def _end_with_parent() -> None:
    os.read(0, 1)  # nothing is ever said: this is its end
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    sys.exit(main())
