"""A worker as a process for the tests: `worker_main.py SETTINGS`, as JSON. Ends as the command would."""

import logging
import sys

import msgspec

from taskq.cli.exits import exit_for
from taskq.errors import TaskqError
from taskq.worker.settings import WorkerSettings
from taskq.worker.supervisor import run


def main() -> int:
    logging.basicConfig(level=logging.ERROR)
    try:
        return run(msgspec.json.decode(sys.argv[1], type=WorkerSettings))
    except TaskqError as error:
        print(error, file=sys.stderr)
        return exit_for(error)


if __name__ == "__main__":
    sys.exit(main())
