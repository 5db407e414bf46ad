"""A script whose tasks have a lifespan and dependencies, in processes of their own."""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from taskq import Depends, TaskQ, current


@asynccontextmanager
async def lifespan(q: TaskQ) -> AsyncIterator[int]:
    yield os.getpid()


q = TaskQ(lifespan=lifespan)


async def answer() -> int:
    await asyncio.sleep(0)
    return 42


@q.task(executor="process")
def told(given: int = Depends(answer)) -> tuple[bool, int]:
    return current().state == os.getpid(), given


async def main() -> None:
    async with q.embedded(process_slots=1):
        print(await (await told.submit()).result())


if __name__ == "__main__":
    asyncio.run(main())
