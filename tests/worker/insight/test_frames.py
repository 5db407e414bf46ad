"""Which frame is meant, of all that there are."""

import inspect
import json
import sys
import threading

from taskq.worker.executors import calling, coroutines
from taskq.worker.insight import frames as frames_module
from taskq.worker.insight.frames import awaited_frames, culprit, outward, place, stack_lines, thread_frames


def test_the_innermost_line_that_is_not_a_librarys_is_the_one_to_blame() -> None:
    seen = []

    class Spy(dict[str, int]):
        def items(self):  # type: ignore[no-untyped-def]
            seen.append(culprit(outward(sys._getframe(1))))
            return super().items()

    json.dumps(Spy(a=1), indent=1)
    (frame,) = seen
    assert frame is not None
    assert frame.f_code.co_name == "test_the_innermost_line_that_is_not_a_librarys_is_the_one_to_blame"
    assert place(frame).startswith(__file__)


def test_where_all_is_a_librarys_it_is_where_it_began() -> None:
    frames = outward(sys._getframe())
    libraries = [frame for frame in frames if "site-packages" in frame.f_code.co_filename]
    assert culprit(libraries) is libraries[-1]
    assert culprit([]) is None


def test_a_chain_of_awaits_is_followed_to_its_end() -> None:
    class Pause:
        def __await__(self):  # type: ignore[no-untyped-def]
            yield

    async def inner() -> None:
        await Pause()

    async def outer() -> None:
        await inner()

    waiting = outer()
    waiting.send(None)
    names = [frame.f_code.co_name for frame in awaited_frames(waiting)]
    assert names == ["__await__", "inner", "outer"]
    waiting.close()
    assert awaited_frames(waiting) == []


def test_a_thread_that_has_ended_has_no_frames() -> None:
    thread = threading.Thread(target=int)
    thread.start()
    thread.join()
    assert thread.ident is not None
    assert thread.ident in sys._current_frames() or thread_frames(thread.ident) == []


def test_of_a_deep_stack_the_outer_part_is_left_out() -> None:
    def dive(depth: int) -> list[str]:
        frame = inspect.currentframe()
        return dive(depth - 1) if depth else stack_lines(outward(frame), 3)

    lines = dive(10)
    assert lines[0].endswith("frames above")
    assert sum(line.startswith("  File") for line in lines) <= 3


def test_every_step_that_is_looked_for_is_there() -> None:
    """Renamed, they would be found no more, and all would be code that is not a task."""
    for step in (coroutines._first_step, coroutines._next_step, calling._call):
        assert step.__name__ in frames_module._STEPS
        assert "attempt" in inspect.signature(step).parameters
    assert len(frames_module._STEPS) == 3
