"""A script of its own with a worker in it, as users write them; with `unguarded` it starts when imported."""

import asyncio
import os
import sys

from taskq import TaskQ

q = TaskQ()


@q.task(executor="process")
def pid() -> int:
    return os.getpid()


async def main() -> None:
    async with q.embedded(process_slots=1):
        job = await pid.submit()
        print(await job.result() != os.getpid())


if __name__ == "__main__" or os.environ.get("TEST_UNGUARDED"):
    asyncio.run(main())
    sys.stdout.flush()
