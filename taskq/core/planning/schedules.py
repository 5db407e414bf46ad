"""Schedules: the broker is the clock. When a tick is due, and what becomes of it.

Each tick is decided once, by one record that moves the schedule on and makes the job: neither a
restart, nor a clock that is set, nor two workers that declare the same schedule makes it run twice.
"""

from bisect import bisect_right, insort
from random import Random

from msgspec import Struct

from taskq import limits
from taskq.core import records as r
from taskq.core.asking.watchers import Watchers
from taskq.core.effects import Now
from taskq.core.intake.intake import Intake
from taskq.core.job import RUNNING, Job
from taskq.core.ledger import Ledger
from taskq.core.planning.schedule import Schedule, tick_id
from taskq.core.running.attempts import Attempts
from taskq.core.running.endings import Endings
from taskq.core.timers import Timers
from taskq.errors import ConfigError
from taskq.protocol.calendar import Calendar, calendar_of, due
from taskq.protocol.messages import JobSpec


class Plan(Struct):
    """What is only in memory of a schedule: when it is due, and what it has to make up for."""

    number: int
    name: str
    calendar: Calendar | None
    trouble: str = ""  # why there is no calendar
    next_ms: int = 0  # wall; the tick its timer waits for; 0: none
    backlog: list[int] = []  # ticks that came due together, newest first


class Schedules:
    """Fires ticks. Who may change schedules, and how, is `timetable`'s."""

    def __init__(
        self,
        ledger: Ledger,
        timers: Timers,
        intake: Intake,
        attempts: Attempts,
        endings: Endings,
        watchers: Watchers,
        rng: Random,
    ) -> None:
        self._ledger = ledger
        self._schedules = ledger.state.schedules
        self._jobs = ledger.state.jobs
        self._timers = timers
        self._intake = intake
        self._attempts = attempts
        self._endings = endings
        self._watchers = watchers
        self._rng = rng
        self._plans: dict[int, Plan] = {}
        self._numbers: dict[str, int] = {}
        self._names: list[str] = []  # sorted
        self._tied: dict[bytes, str] = {}  # a job, and the schedule of which a tick waits for its end
        self._count = 0
        self.made = 0

    def __len__(self) -> int:
        return len(self._plans)

    def begin(self, now: Now) -> None:
        """After recovery."""
        for schedule in list(self._schedules.values()):
            self.plan(schedule, now)
            if schedule.waiting_ms:
                self._wait_for_last(schedule, now)

    # -- what there is ------------------------------------------------------------------------

    def next(self, schedule: Schedule, count: int) -> tuple[list[int], str]:
        """The next ticks of a schedule, none while it is paused; and why it has none, if it is broken."""
        plan = self._plans[self._numbers[schedule.spec.name]]
        times: list[int] = []
        at_ms = plan.next_ms
        while at_ms and len(times) < count and plan.calendar is not None:
            times.append(at_ms)
            at_ms = plan.calendar.after(at_ms)
        return times, plan.trouble

    def page(self, after: str, size: int) -> list[Schedule]:
        """The schedules whose names come after this one, by name."""
        at = bisect_right(self._names, after)
        return [self._schedules[name] for name in self._names[at : at + size]]

    def put(self, record: r.ScheduleSet, now: Now) -> Schedule:
        """A schedule is from now on as this says."""
        self._ledger.set_schedule(record)
        schedule = self._schedules[record.spec.name]
        self.plan(schedule, now)
        return schedule

    def remove(self, schedule: Schedule) -> None:
        name = schedule.spec.name
        self._ledger.remove_schedule(r.ScheduleRemoved(name))
        del self._plans[self._numbers.pop(name)]
        del self._names[bisect_right(self._names, name) - 1]

    def plan(self, schedule: Schedule, now: Now) -> None:
        """Look up when it is due next; its timers of before find that they are not meant any more."""
        name = schedule.spec.name
        old = self._numbers.get(name)
        if old is None:
            insort(self._names, name)
        else:
            del self._plans[old]
        self._count += 1
        spec = schedule.spec
        try:
            calendar = calendar_of(spec.cron, spec.interval_ms, spec.zone, schedule.since_ms)
            plan = Plan(self._count, name, calendar)
        except ConfigError as error:  # this machine does not know its zone any more
            plan = Plan(self._count, name, None, str(error))
        self._numbers[name] = plan.number
        self._plans[plan.number] = plan
        if not schedule.is_paused and plan.calendar is not None:
            self._set_timer(plan, plan.calendar.after(schedule.floor_ms))

    def _set_timer(self, plan: Plan, next_ms: int) -> None:
        plan.next_ms = next_ms
        if next_ms:  # else the calendar has come to its end
            self._timers.at(next_ms, "tick", plan.number, next_ms)

    # -- ticks --------------------------------------------------------------------------------

    def is_wanted(self, number: int, next_ms: int) -> bool:
        """Does this timer still stand for a tick?"""
        plan = self._plans.get(number)
        return plan is not None and plan.next_ms == next_ms

    def fire(self, number: int, next_ms: int, now: Now) -> None:
        """A tick is due, and maybe others with it: the broker was away, or the clock was set forward."""
        plan = self._plans.get(number)
        if plan is None or plan.next_ms != next_ms:
            return
        if self._intake.why_closed:
            self._timers.after(now.boot_ms + limits.TICK_RETRY_MS, "tick", number, next_ms)
            return
        schedule = self._schedules[plan.name]
        calendar = plan.calendar
        assert calendar is not None, f"{plan.name} has no calendar, and a timer"
        if not plan.backlog:
            if now.wall_ms < next_ms:  # the clock was set back while the broker was closed
                self._set_timer(plan, next_ms)
                return
            following_ms = calendar.after(next_ms)
            if following_ms > now.wall_ms and now.wall_ms - next_ms <= limits.TICK_GRACE_MS:
                # Nearly always: it alone, in its time. Looking at a calendar is most of a tick's cost.
                self._tick(schedule, next_ms, now)
                self._set_timer(plan, following_ms)
                return
            plan.backlog = self._due(calendar, schedule, now)
        for _ in range(min(len(plan.backlog), limits.TICKS_PER_TURN)):
            self._tick(schedule, plan.backlog.pop(), now)
        if plan.backlog:
            self._timers.after(now.boot_ms, "tick", number, next_ms)
        else:
            self._set_timer(plan, calendar.after(schedule.floor_ms))

    def _due(self, calendar: Calendar, schedule: Schedule, now: Now) -> list[int]:
        """The ticks to make, newest first."""
        catch_up = schedule.spec.catch_up
        most = limits.CATCH_UP_MAX if catch_up == "all" else 1
        ticks = due(calendar, schedule.floor_ms, now.wall_ms, most)
        if catch_up == "skip" and ticks[-1] < now.wall_ms - limits.TICK_GRACE_MS:
            self._write(schedule, now, floor_ms=ticks[-1])
            return []
        return ticks[::-1]

    def _tick(self, schedule: Schedule, tick_ms: int, now: Now) -> None:
        """Decide one tick."""
        last = self._unfinished(schedule)
        if schedule.waiting_ms and last is None:  # it ended in this very turn
            self._make_waiting(schedule, now)
            last = self._unfinished(schedule)
        overlap = schedule.spec.overlap
        if last is None or overlap == "allow":
            self.make(schedule, tick_ms, now)
        elif overlap == "cancel":
            self.cancel(last, schedule, now)
            self.make(schedule, tick_ms, now)
        elif overlap == "queue" and not schedule.waiting_ms:
            self._write(schedule, now, floor_ms=tick_ms, waiting_ms=tick_ms)
            self._wait_for_last(schedule, now)
        else:
            self._write(schedule, now, floor_ms=tick_ms)

    def _unfinished(self, schedule: Schedule) -> Job | None:
        """Its last job, if that has no outcome yet."""
        return self._jobs.get(schedule.last_job) if schedule.last_job else None

    def cancel(self, job: Job, schedule: Schedule, now: Now) -> None:
        """The next one is due: this one is not to complete."""
        reason = f"the next job of the schedule {schedule.spec.name!r} was due"
        if job.state is RUNNING:
            self._attempts.revoke(job, reason)
        self._endings.cancel([job], reason, now)

    # -- one tick waits for the last job's end --------------------------------------------------

    def _wait_for_last(self, schedule: Schedule, now: Now) -> None:
        if schedule.last_job in self._jobs:
            self._tied[schedule.last_job] = schedule.spec.name
            self._watchers.tie(schedule.last_job)
        else:
            self._make_waiting(schedule, now)

    def ended(self, job_ids: list[bytes], now: Now) -> None:
        """These jobs were tied, and have outcomes now."""
        for job_id in job_ids:
            schedule = self._schedules.get(self._tied.pop(job_id, ""))
            # Meanwhile the tick may have been made, the schedule replaced, or another job be its last.
            if schedule is not None and schedule.waiting_ms:
                self._wait_for_last(schedule, now)

    def _make_waiting(self, schedule: Schedule, now: Now) -> None:
        self.make(schedule, schedule.waiting_ms, now, is_waiting=True)

    # -- what is written ----------------------------------------------------------------------

    def make(
        self, schedule: Schedule, tick_ms: int, now: Now, *, id: bytes = b"", is_waiting: bool = False
    ) -> None:
        """The one place where jobs of schedules are made; with an `id`, not for a tick.

        A job that is there already is that tick's, made before the clock was set back.
        """
        spec = schedule.spec
        job_id = id or tick_id(schedule, tick_ms)
        floor_ms = schedule.floor_ms if id or is_waiting else tick_ms
        waiting_ms = 0 if is_waiting else schedule.waiting_ms
        if job_id in self._jobs or job_id in self._ledger.state.outcomes:
            self._write(schedule, now, floor_ms=floor_ms, waiting_ms=waiting_ms)
            return
        verdict = self._intake.admits(job_id, spec.ext)
        if verdict is not None and verdict.code == "exists":
            # The next tick will be looked at anew.
            self._write(schedule, now, floor_ms=floor_ms, waiting_ms=waiting_ms)
            return
        jitter_ms = self._rng.randrange(spec.jitter_ms + 1) if spec.jitter_ms and not id else 0
        record = r.Ticked(
            name=spec.name,
            floor_ms=floor_ms,
            tick_ms=0 if id else tick_ms,
            waiting_ms=waiting_ms,
            wall_ms=now.wall_ms,
            due_ms=tick_ms + jitter_ms if jitter_ms else 0,
            terms=[spec.terms],
            jobs=[JobSpec(job_id, 0, spec.payload, spec.flags, spec.ext)],
        )
        self.made += 1
        self._attempts.admit(self._ledger.tick(record, spec.terms.durability), now)
        self._intake.claim(spec.ext, now)

    def _write(self, schedule: Schedule, now: Now, *, floor_ms: int, waiting_ms: int | None = None) -> None:
        """Ticks are decided up to here, without a job."""
        waiting_ms = schedule.waiting_ms if waiting_ms is None else waiting_ms
        record = r.Ticked(schedule.spec.name, floor_ms, 0, waiting_ms, now.wall_ms)
        self._ledger.tick(record, schedule.spec.terms.durability)
