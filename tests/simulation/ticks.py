"""What the journal says of schedules, read by somebody who knows the calendar and the manual, and nothing
of how ticks are fired: each at most once (T1), none lost (T2), as it was asked for (T3)."""

from collections.abc import Callable
from hashlib import blake2b

from taskq import limits
from taskq.core import records as r
from taskq.protocol.calendar import Calendar, calendar_of, due
from tests.simulation.agenda import Violation

# A turn begins at most some milliseconds after what it was set for.
_LATE_MS = 50


class Course:
    """One schedule in the journal."""

    def __init__(self, record: r.ScheduleSet) -> None:
        self.record = record
        self.decided_ms = record.floor_ms
        self.waiting_ms = record.waiting_ms
        self.last_job = record.last_job
        self.calendar: Calendar = calendar_of(
            record.spec.cron, record.spec.interval_ms, record.spec.zone, record.since_ms
        )


class Ticks:
    """All schedules there are, and all ticks there were."""

    def __init__(self, *, wall_is_steady: bool) -> None:
        self.courses: dict[str, Course] = {}
        self._made: dict[tuple[str, int], bytes] = {}
        self._wall_is_steady = wall_is_steady
        # Wall time until which the broker could make no jobs: it was down, or accepted none.
        self.was_unable_ms = 0

    def forget(self) -> None:
        """The power failed: what is read from now on is all there is."""
        self.courses = {}
        self._made = {}

    # -- one method a record ------------------------------------------------------------------

    def set(self, record: r.ScheduleSet) -> None:
        name = record.spec.name
        old = self.courses.get(name)
        if old is not None:
            is_resumed = old.record.is_paused and not record.is_paused
            if record.floor_ms < old.decided_ms:
                raise Violation("T1", f"{name} went back from {old.decided_ms} to {record.floor_ms}")
            if record.floor_ms != old.decided_ms and _when(record) == _when(old.record) and not is_resumed:
                raise Violation("T2", f"{name} jumped from {old.decided_ms} to {record.floor_ms}")
            if (record.waiting_ms, record.last_job) != (old.waiting_ms, old.last_job):
                raise Violation("T2", f"{name} forgot what waits, or its last job: {record}")
        self.courses[name] = Course(record)

    def removed(self, record: r.ScheduleRemoved) -> None:
        del self.courses[record.name]
        # Another of this name is another: with the clock set back, its times may come again.
        self._made = {pair: made for pair, made in self._made.items() if pair[0] != record.name}

    def ticked(self, record: r.Ticked, state_of: Callable[[bytes], str]) -> None:
        course = self.courses.get(record.name)
        if course is None:
            raise Violation("T3", f"{record.name} ticked, and there is no such schedule")
        if record.floor_ms < course.decided_ms:
            raise Violation("T1", f"{record.name} went back from {course.decided_ms} to {record.floor_ms}")
        if record.jobs:
            self._is_as_asked(course, record)
            if record.tick_ms:
                self._is_a_tick(course, record)
            if course.record.spec.overlap != "allow" and course.last_job and not state_of(course.last_job):
                raise Violation("T3", f"{record.name} made a job beside {course.last_job.hex()}")
            course.last_job = record.jobs[0].id
        if record.floor_ms > course.decided_ms:
            self._none_is_lost(course, record)
        course.decided_ms = record.floor_ms
        course.waiting_ms = record.waiting_ms

    # -- what is to hold ------------------------------------------------------------------------

    def _is_as_asked(self, course: Course, record: r.Ticked) -> None:
        spec, job, terms = course.record.spec, record.jobs[0], record.terms[0]
        is_due = not record.due_ms or 0 < record.due_ms - record.tick_ms <= spec.jitter_ms
        if not is_due or terms != spec.terms or job.payload != spec.payload:
            raise Violation("T3", f"{record.name} made {job} with {terms}, and is {spec}")

    def _is_a_tick(self, course: Course, record: r.Ticked) -> None:
        name, tick_ms = record.name, record.tick_ms
        is_waiting = tick_ms == course.waiting_ms
        if (name, tick_ms) in self._made or not (is_waiting or tick_ms > course.decided_ms):
            raise Violation("T1", f"the tick {tick_ms} of {name} was made twice")
        self._made[name, tick_ms] = record.jobs[0].id
        if record.jobs[0].id != _id(name, tick_ms, course.record.slot):
            raise Violation("T1", f"{record.jobs[0].id.hex()} is not the id of the tick {tick_ms} of {name}")
        if is_waiting:
            return
        if course.record.is_paused:
            raise Violation("T3", f"{name} ticked while it was paused")
        if record.floor_ms != tick_ms or tick_ms > record.wall_ms:
            raise Violation("T3", f"{name} was to decide {tick_ms}, and wrote {record}")
        if course.calendar.after(tick_ms - 1) != tick_ms:
            raise Violation("T3", f"{tick_ms} is no tick of {name}, {course.record.spec}")
        newer_ms = course.calendar.after(tick_ms)
        if course.record.spec.catch_up != "all" and newer_ms <= record.wall_ms:
            raise Violation("T3", f"{name} made up for {tick_ms}, though {newer_ms} was due as well")

    def _none_is_lost(self, course: Course, record: r.Ticked) -> None:
        spec = course.record.spec
        ticks = due(course.calendar, course.decided_ms, record.floor_ms, limits.CATCH_UP_MAX + 1)
        *missed, last = ticks
        if last != record.floor_ms:
            raise Violation("T3", f"{record.floor_ms} is no tick of {record.name}, {spec}")
        if spec.catch_up == "all" and missed and len(ticks) <= limits.CATCH_UP_MAX:
            raise Violation("T2", f"{record.name} did not make up for {missed}")
        able_ms = self.was_unable_ms + limits.TICK_RETRY_MS  # it looks again so often
        if self._wall_is_steady and missed and missed[-1] > able_ms:
            raise Violation("T2", f"the tick {missed[-1]} of {record.name} was lost")
        if self._wall_is_steady and record.wall_ms - last > _LATE_MS and last > able_ms:
            raise Violation("T2", f"the tick {last} of {record.name} was decided at {record.wall_ms}")
        if record.jobs or record.waiting_ms == last:
            return
        # Passed over: because of the one before, or because it is too late.
        is_late = record.wall_ms - last > limits.TICK_GRACE_MS and spec.catch_up == "skip"
        if spec.overlap not in ("skip", "queue") and not is_late:
            raise Violation("T2", f"the tick {last} of {record.name} was passed over")


def _id(name: str, tick_ms: int, slot: int) -> bytes:
    """As the manual has it."""
    digest = int.from_bytes(blake2b(f"{name}\0{tick_ms}".encode(), digest_size=8).digest(), "big")
    return (tick_ms << 80 | 7 << 76 | slot << 64 | 2 << 62 | digest >> 2).to_bytes(16, "big")


def _when(record: r.ScheduleSet) -> tuple[str, int, str]:
    return record.spec.cron, record.spec.interval_ms, record.spec.zone
