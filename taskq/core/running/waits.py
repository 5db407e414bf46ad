"""What jobs wait for: their time, their expiry, and the end of an attempt that takes too long."""

from taskq import limits
from taskq.core.effects import Now
from taskq.core.job import OVERDUE, RUNNING, SCHEDULED, Job
from taskq.core.running.attempts import Attempts
from taskq.core.running.endings import Endings
from taskq.core.timers import Timers


class Waits:
    """Sets the timers of jobs that were recovered, and answers those of all jobs."""

    def __init__(self, timers: Timers, attempts: Attempts, endings: Endings) -> None:
        self._timers = timers
        self._attempts = attempts
        self._endings = endings

    def recover(self, job: Job, now: Now) -> None:
        """After a restart: waits go on from the wall times that the records hold, and take no longer
        than they would have in all: somebody may have set the clock back meanwhile."""
        if job.state == SCHEDULED:
            self._recover_due(job, now)
        if job.expires_at_ms:
            wait_ms = min(max(job.expires_at_ms - now.wall_ms, 0), job.terms.expires_ms)
            self._timers.after(now.boot_ms + wait_ms, "expires", job.id, job.expires_at_ms)
        if job.state == RUNNING and job.terms.timeout_ms:
            timeout_ms = job.terms.timeout_ms
            left_ms = min(max(job.started_ms + timeout_ms - now.wall_ms, 0), timeout_ms)
            deadline_ms = now.boot_ms + left_ms + limits.TIMEOUT_BACKSTOP_MS
            self._timers.after(deadline_ms, "timeout", job.id, job.lease)

    def _recover_due(self, job: Job, now: Now) -> None:
        if job.due_ms == job.terms.at_ms:
            self._timers.at(job.due_ms, "due", job.id, job.due_ms)
            return
        wait_ms = min(max(job.due_ms - now.wall_ms, 0), job.due_ms - _began_ms(job))
        self._timers.after(now.boot_ms + wait_ms, "due", job.id, job.due_ms)

    def fire(self, job: Job, kind: str, mark: int, now: Now) -> None:
        """A timer of this job is due. One whose reason has gone does nothing."""
        if kind == "due" and job.state is SCHEDULED and job.due_ms == mark:
            self._attempts.due(job, now)
        elif kind == "expires" and job.expires_at_ms == mark:
            if job.state is RUNNING:  # the attempt may go on, but there will be no other
                job.turn = OVERDUE
            else:
                self._endings.expire([job], now)
        elif kind == "timeout":
            self._attempts.time_out(job, mark, now)


def is_wanted(job: Job, kind: str, mark: int) -> bool:
    """Could this timer of the job still do something? A lease that was lost may be taken up again."""
    return job.lease == mark if kind == "timeout" else mark in (job.due_ms, job.expires_at_ms)


def _began_ms(job: Job) -> int:
    """The wall time from which it waits: when its last attempt ended, else when it was submitted. Not when
    that attempt started: the clock may have been set between the two."""
    return job.story[-1].ended_ms if job.story else job.submitted_ms
