"""A worker as a process for the tests: `worker_main.py SETTINGS LIMITS`, as JSON. Ends as the command would.

LIMITS are limits of ours that a test cannot wait for, by name.
"""

import logging
import os
import sys

import msgspec

from taskq import limits
from taskq.cli.exits import exit_for
from taskq.errors import TaskqError

LIMITS = "TEST_LIMITS"


def set_limits() -> None:
    """Before anything else is imported that reads them."""
    for name, value in msgspec.json.decode(os.environ.get(LIMITS, "{}")).items():
        assert hasattr(limits, name), name
        setattr(limits, name, value)


def main() -> int:
    set_limits()
    from taskq.worker.settings import WorkerSettings
    from taskq.worker.supervisor import run

    logging.basicConfig(level=logging.ERROR)
    try:
        settings = msgspec.json.decode(sys.argv[1], type=WorkerSettings)
        return run(settings, child_module="tests.worker.child_main")
    except TaskqError as error:
        print(error, file=sys.stderr)
        return exit_for(error)


if __name__ == "__main__":
    sys.exit(main())
