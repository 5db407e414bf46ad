"""A worker's child process as `taskq worker` runs it: it logs like the command, with the job's fields."""

import sys

from taskq.cli import logs
from taskq.worker import child

if __name__ == "__main__":
    logs.configure(debug=False)
    sys.exit(child.main(int(sys.argv[1]), int(sys.argv[2]), on_app=logs.adopt))
