"""Which jobs a filter means. Nothing here can be slow by design: a glob is plain pieces, not a pattern."""

from typing import Final

from msgspec import structs

from taskq import limits
from taskq.core.effects import Now
from taskq.core.job import CANCELLED, DEAD, EXPIRED, READY, RUNNING, SCHEDULED, SUCCEEDED, Job
from taskq.core.records import SuccessItem
from taskq.core.state import Kept
from taskq.protocol.messages import Ext, Fault, Filter, JobStateName, Verb

UNFINISHED: Final[tuple[JobStateName, ...]] = (SCHEDULED, "blocked", READY, RUNNING)
OUTCOMES: Final[tuple[JobStateName, ...]] = (SUCCEEDED, CANCELLED, EXPIRED, DEAD)
# What each verb is for. A filter without states and ids means these, one with others is refused.
STATES_FOR: Final[dict[Verb, tuple[JobStateName, ...]]] = {
    "cancel": UNFINISHED,
    "retry": (DEAD,),
    "delete": OUTCOMES,
    "discard": (DEAD,),
}
NOTHING: Final = Filter()


def flaw_in(wanted: Filter) -> str:
    """Why this filter means nothing, and what would be allowed; empty if it means something."""
    if wanted.older_ms and wanted.younger_ms and wanted.older_ms >= wanted.younger_ms:
        return (
            f"no job is older than {_seconds(wanted.older_ms)} and younger than "
            f"{_seconds(wanted.younger_ms)}; `older` must be less than `younger`"
        )
    if (wanted.error or wanted.error_type) and not _may_have(wanted, (*UNFINISHED, DEAD)):
        return f"jobs that are {_or(wanted.states)} have no error; dead ones do"
    return ""


def flaw_for(verb: Verb, wanted: Filter) -> str:
    """Why this cannot be done to these jobs; empty if it can."""
    if wanted == NOTHING:
        return f"{verb} wants to be told which jobs; `task:*` means all"
    others = [state for state in wanted.states if state not in STATES_FOR[verb]]
    if others:
        return f"{verb} is for jobs that are {_or(STATES_FOR[verb])}, not {_or(others)}"
    return flaw_in(wanted)


def narrowed(wanted: Filter, verb: Verb) -> Filter:
    """The filter, of the jobs that the verb is for. Jobs named by id stay: what is not done is told."""
    if wanted.states or wanted.ids:
        return wanted
    return structs.replace(wanted, states=list(STATES_FOR[verb]))


class Glob:
    """`*` stands for any characters, all else for itself. Found piece by piece, which cannot explode."""

    def __init__(self, text: str) -> None:
        self._first, *middle = text.split("*")
        self._last = middle.pop() if middle else None
        self._middle = [piece for piece in middle if piece]

    def fits(self, name: str) -> bool:
        if self._last is None:
            return name == self._first
        end = len(name) - len(self._last)
        at = len(self._first)
        if at > end or not name.startswith(self._first) or not name.endswith(self._last):
            return False
        for piece in self._middle:
            found = name.find(piece, at, end)
            if found < 0:
                return False
            at = found + len(piece)
        return True


class Matcher:
    """A filter made ready for a million jobs. Ages are those at the time it was made."""

    def __init__(self, wanted: Filter, now: Now) -> None:
        self.ids = list(dict.fromkeys(wanted.ids))
        self.wants_jobs = _may_have(wanted, UNFINISHED)
        self.wants_outcomes = _may_have(wanted, OUTCOMES)
        self._states = tuple(wanted.states)
        self._glob = Glob(wanted.task) if wanted.task.strip("*") else None
        self._queue = wanted.queue
        self._key = wanted.key
        self._until_ms = now.wall_ms - wanted.older_ms if wanted.older_ms else 0
        self._since_ms = now.wall_ms - wanted.younger_ms if wanted.younger_ms else 0
        self._error = wanted.error.casefold()
        self._error_type = wanted.error_type
        self._task = ("", False)  # the last one asked about: jobs in a row mostly share theirs

    def fits(self, job: Job | Kept) -> bool:
        if self._states and job.state not in self._states:
            return False
        terms = job.terms
        if self._queue and terms.queue != self._queue:
            return False
        if self._glob is not None and not self._fits_task(self._glob, terms.task):
            return False
        if self._until_ms or self._since_ms:
            submitted_ms = job.submitted_ms if isinstance(job, Job) else job.item.submitted_ms
            if self._until_ms and submitted_ms > self._until_ms:
                return False
            if submitted_ms < self._since_ms:
                return False
        if self._key and key_of(job) != self._key:
            return False
        return not (self._error or self._error_type) or self._fits_error(job)

    def _fits_task(self, glob: Glob, task: str) -> bool:
        last, fits = self._task
        if task is not last:
            fits = glob.fits(task)
            self._task = (task, fits)
        return fits

    def _fits_error(self, job: Job | Kept) -> bool:
        fault = fault_of(job)
        if self._error_type and error_type_of(job) != self._error_type:
            return False
        if not self._error:
            return True
        return fault is not None and (
            self._error in fault.type.casefold() or self._error in fault.message.casefold()
        )


def fault_of(job: Job | Kept) -> Fault | None:
    """The last error of a job; of one that is tried again, what its story tells of it."""
    if isinstance(job, Job):
        return _told(job)
    return None if isinstance(job.item, SuccessItem) else job.item.fault


def _told(job: Job) -> Fault | None:
    error = job.story[-1].error if job.story else ""
    kind, _, message = error.partition(": ")
    return Fault(kind[: limits.NAME_CHARS_MAX], message) if error else None


def error_type_of(job: Job | Kept) -> str:
    """What kind of error it was: the type of what was raised, or else how a dead job's attempt ended."""
    fault = fault_of(job)
    if fault is not None:
        return fault.type
    return "" if isinstance(job, Job) or isinstance(job.item, SuccessItem) else job.item.ending


def ext_of(job: Job | Kept) -> Ext | None:
    """The rare things of a job; of outcomes, only dead ones keep them."""
    if isinstance(job, Job):
        return job.ext
    return None if isinstance(job.item, SuccessItem) else job.item.ext


def key_of(job: Job | Kept) -> str:
    """The key that a job takes turns by; empty without one."""
    ext = ext_of(job)
    return ext.get("key", b"").decode(errors="replace") if ext else ""


def _may_have(wanted: Filter, states: tuple[JobStateName, ...]) -> bool:
    return not wanted.states or any(state in states for state in wanted.states)


def _or(words: list[JobStateName] | tuple[JobStateName, ...]) -> str:
    *most, last = words
    return f"{', '.join(most)} or {last}" if most else last


def _seconds(ms: int) -> str:
    return f"{ms / 1000:g} s"
