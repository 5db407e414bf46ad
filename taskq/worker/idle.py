"""Those who wait until a worker has nothing left to do."""

import asyncio


class Idle:
    """`wait` for it; `come` is called when it is so."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._waiting: list[asyncio.Future[None]] = []

    @property
    def is_awaited(self) -> bool:
        return bool(self._waiting)

    async def wait(self, timeout: float) -> bool:
        """Whether it was so within so many seconds."""
        idle: asyncio.Future[None] = self._loop.create_future()
        self._waiting.append(idle)
        done, _ = await asyncio.wait([idle], timeout=timeout)
        idle.cancel()
        return bool(done)

    def come(self) -> None:
        for idle in self._waiting:
            if not idle.done():
                idle.set_result(None)
        self._waiting = []
