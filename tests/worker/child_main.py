"""A worker's child for the tests, with limits of theirs."""

import sys

from tests.worker.worker_main import set_limits

if __name__ == "__main__":
    set_limits()
    from taskq.worker.child import main

    sys.exit(main(int(sys.argv[1]), int(sys.argv[2])))
