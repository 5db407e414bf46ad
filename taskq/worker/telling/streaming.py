"""Generator functions as workers run them: what they yield goes out, and they go on when there is room.

An async generator becomes a coroutine function, a plain one a function for a thread. Both return how
many items there were: the job's result.
"""

import asyncio
import threading
from collections.abc import AsyncGenerator, Callable, Coroutine, Generator
from functools import partial
from typing import Any, Final, cast

from taskq.client.context import context_var
from taskq.client.task import Task
from taskq.limits import STREAM_ALONE_MS, STREAM_BREATH
from taskq.worker.telling.outflow import Stream

_ALONE_SECONDS: Final = STREAM_ALONE_MS / 1_000


class Pipe:
    """From a generator to the worker's link. `wake` is for the loop's thread."""

    def __init__(self, loop: asyncio.AbstractEventLoop, stream: Stream, wake: Callable[[], None]) -> None:
        self.stream = stream
        self.wake = wake
        self.loop = loop

    async def room(self) -> None:
        """Until there is room, or nobody wants any more."""
        stream = self.stream
        while not stream.has_room and not stream.is_over:
            news: asyncio.Future[None] = self.loop.create_future()
            stream.on_room = lambda news=news: news.done() or news.set_result(None)  # type: ignore[misc]
            # Should be long over by then: the broker gives up slow consumers itself.
            timer = self.loop.call_later(_ALONE_SECONDS, stream.give_up)
            try:
                await news
            finally:
                timer.cancel()

    def wake_from_thread(self) -> None:
        self.loop.call_soon_threadsafe(self.wake)

    def room_in_thread(self) -> None:
        """The same, for a thread that may wait."""
        stream = self.stream
        has_room = threading.Event()
        stream.on_room = has_room.set
        while not stream.has_room and not stream.is_over:
            if not has_room.wait(_ALONE_SECONDS):
                self.loop.call_soon_threadsafe(stream.give_up)
            has_room.clear()


def runnable(task: Task[..., Any]) -> Callable[..., Any]:
    """What a worker calls for this task."""
    if not task.is_stream:
        return task.fn
    pack = partial(task.signature.encode_result, what="item")
    return _in_loop(task.fn, pack) if task.executor == "async" else _in_thread(task.fn, pack)


def _in_loop(
    fn: Callable[..., AsyncGenerator[Any, None]], pack: Callable[[object], bytes]
) -> Callable[..., Coroutine[Any, Any, int]]:
    async def run(*args: Any, **kwargs: Any) -> int:
        pipe = _pipe()
        stream = pipe.stream
        items = fn(*args, **kwargs)
        try:
            async for item in items:
                if stream.put(pack(item)):
                    pipe.wake()
                if not stream.has_room:
                    await pipe.room()
                elif stream.count % STREAM_BREATH == 0:
                    await asyncio.sleep(0)
                if stream.is_over:  # it swallowed its cancellation, and has been reported
                    break
        finally:
            await items.aclose()
        return stream.count

    run.__qualname__ = fn.__qualname__  # for people, who know it by that
    return run


def _in_thread(
    fn: Callable[..., Generator[Any, None, Any]], pack: Callable[[object], bytes]
) -> Callable[..., int]:
    def run(*args: Any, **kwargs: Any) -> int:
        pipe = _pipe()
        stream = pipe.stream
        items = fn(*args, **kwargs)
        try:
            for item in items:
                if stream.put(pack(item)):
                    pipe.wake_from_thread()
                if not stream.has_room:
                    pipe.room_in_thread()
                if stream.is_over:  # it was told to stop, and has been reported
                    break
        finally:
            items.close()
        return stream.count

    run.__qualname__ = fn.__qualname__
    return run


def _pipe() -> Pipe:
    attempt: Any = context_var.get()
    return cast(Pipe, attempt.host.open_stream(attempt))
