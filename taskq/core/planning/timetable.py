"""What people and code say about schedules: made, declared, paused, run, dropped, listed."""

from typing import Final

from msgspec import Struct, structs

from taskq import limits
from taskq.core import records as r
from taskq.core.effects import Now
from taskq.core.intake.intake import Intake
from taskq.core.job import ext_bytes
from taskq.core.lines.workers import Roster, Worker
from taskq.core.outbox import Outbox
from taskq.core.peers import Peer
from taskq.core.planning.schedule import Schedule, record_of, with_slot
from taskq.core.planning.schedules import Schedules
from taskq.core.state import State
from taskq.errors import ConfigError
from taskq.protocol.calendar import calendar_of
from taskq.protocol.ext import BIND, fault_in
from taskq.protocol.ids import job_slot
from taskq.protocol.messages import (
    Announce,
    DropSchedule,
    ListSchedules,
    PauseSchedule,
    Refusal,
    ResumeSchedule,
    RunSchedule,
    ScheduleList,
    ScheduleReport,
    ScheduleSpec,
    SetSchedule,
)

Change = PauseSchedule | ResumeSchedule | DropSchedule | RunSchedule
Fault = tuple[str, str]  # code, text


class Declared(Struct):
    """What a worker's session declares."""

    app: str
    specs: dict[str, ScheduleSpec]
    troubles: list[str]


class Timetable:
    """Answers, and tells `schedules` what is to be from now on."""

    def __init__(
        self, state: State, schedules: Schedules, intake: Intake, roster: Roster, out: Outbox
    ) -> None:
        self._state = state
        self._schedules = schedules
        self._intake = intake
        self._roster = roster
        self._out = out
        self._declared: dict[bytes, Declared] = {}  # by session

    @property
    def warnings(self) -> list[str]:
        """What workers declare and cannot be."""
        return [text for declared in self._declared.values() for text in declared.troubles][:_WARNINGS_MAX]

    # -- made at run time -----------------------------------------------------------------------

    def set(self, peer: Peer, command: SetSchedule, now: Now) -> None:
        spec = command.spec
        old = self._state.schedules.get(spec.name)
        fault = self._fault(spec)
        if fault is None and old is not None and old.app:
            text = f"the schedule {spec.name!r} is declared in the code of {old.app}; change it there"
            fault = ("conflict", text)
        if fault is not None:
            self._out.say(peer.number, Refusal(command.request, *fault))
            return
        schedule = self._put(spec, "", peer.hello.namespace, now)
        self._out.say(peer.number, ScheduleList(command.request, [self._report(schedule, 1)]))

    def change(self, peer: Peer, command: Change, now: Now) -> None:
        schedule = self._state.schedules.get(command.name)
        if schedule is None:
            self._refuse_unknown(peer, command.request, command.name)
            return
        report = self._report(schedule, 1)
        fault = self._change(schedule, command, now)
        if fault is not None:
            self._out.say(peer.number, Refusal(command.request, *fault))
            return
        if command.name in self._state.schedules:  # else: as it was
            report = self._report(self._state.schedules[command.name], 1)
        self._out.say(peer.number, ScheduleList(command.request, [report]))

    def _change(self, schedule: Schedule, command: Change, now: Now) -> Fault | None:
        record = record_of(schedule)
        match command:
            case PauseSchedule():
                self._schedules.put(structs.replace(record, is_paused=True, reason=command.reason), now)
            case ResumeSchedule():
                # What was not wanted then is not made up for.
                if schedule.is_paused:
                    floor_ms = max(record.floor_ms, now.wall_ms)
                    changes = structs.replace(record, is_paused=False, reason="", floor_ms=floor_ms)
                    self._schedules.put(changes, now)
            case DropSchedule():
                if self._who_declares(schedule):
                    text = (
                        f"a connected worker of {schedule.app} declares it, so it would come back; pause it"
                    )
                    return "conflict", text
                self._schedules.remove(schedule)
            case RunSchedule():
                return self._run(schedule, command, now)
        return None

    def _run(self, schedule: Schedule, command: RunSchedule, now: Now) -> Fault | None:
        job_id = with_slot(command.id, schedule.slot)
        if job_id in schedule.runs or job_id in self._state.jobs or job_id in self._state.outcomes:
            return None  # asked again, because our answer was lost
        last = self._state.jobs.get(schedule.last_job)
        overlap = schedule.spec.overlap
        verdict = self._intake.admits(job_id, schedule.spec.ext)
        if verdict is not None:
            return verdict.code, verdict.text
        if last is not None and overlap in ("skip", "queue"):
            text = f"its last job, {last.id.hex()}, has no outcome yet, and its overlap is {overlap!r}"
            return "conflict", text
        if last is not None and overlap == "cancel":
            self._schedules.cancel(last, schedule, now)
        self._schedules.make(schedule, 0, now, id=job_id)
        return None

    # -- declared in code -----------------------------------------------------------------------

    def announce(self, worker: Worker, announce: Announce, namespace: str, now: Now) -> None:
        """A worker declares schedules. Of two that differ, the one that says something new is heard."""
        if announce.schedules is None:
            return
        app = announce.app or _NAMELESS
        specs = {spec.name: spec for spec in announce.schedules}
        known = self._declared.get(worker.session)
        if known is not None and (known.app, known.specs) == (app, specs):
            return
        here = self._roster.workers
        self._declared = {session: said for session, said in self._declared.items() if session in here}
        declared = self._declared[worker.session] = Declared(app, specs, [])
        for spec in specs.values():
            fault = self._fault(spec)
            if fault is None:
                self._put(spec, app, namespace, now)
            else:
                declared.troubles.append(f"the schedule {spec.name!r} of {app}: {fault[1]}")

    def _who_declares(self, schedule: Schedule) -> bool | None:
        """Does a connected worker of its app declare it? None: there is no worker of that app."""
        found = None
        for session, declared in self._declared.items():
            worker = self._roster.workers.get(session)
            if worker is not None and worker.peer and declared.app == schedule.app:
                if schedule.spec.name in declared.specs:
                    return True
                found = False
        return found

    # -- both -----------------------------------------------------------------------------------

    def _fault(self, spec: ScheduleSpec) -> Fault | None:
        """Why there cannot be such a schedule."""
        terms = spec.terms
        try:
            calendar_of(spec.cron, spec.interval_ms, spec.zone, 0)
        except ConfigError as error:
            return "invalid", str(error)
        if terms.delay_ms or terms.at_ms:
            return (
                "invalid",
                "the schedule says when its jobs are due: a delay or a time of their own cannot be",
            )
        if len(spec.payload) > limits.SCHEDULE_PAYLOAD_BYTES_MAX:
            most = limits.SCHEDULE_PAYLOAD_BYTES_MAX
            return "too_large", f"{len(spec.payload)} bytes of arguments; of a schedule at most {most}"
        if ext_bytes(spec.ext) > limits.EXT_BYTES_MAX:
            return "too_large", f"ext is over its limit of {limits.EXT_BYTES_MAX} bytes"
        text = fault_in(spec.ext) if spec.ext else ""
        if text or (spec.ext and BIND in spec.ext):
            return "invalid", text or "the jobs of a schedule are bound to nobody"
        if spec.name not in self._state.schedules and len(self._schedules) >= limits.SCHEDULES_MAX:
            return "busy", f"there are {limits.SCHEDULES_MAX} schedules, which is the limit; drop some"
        return None

    def _put(self, spec: ScheduleSpec, app: str, namespace: str, now: Now) -> Schedule:
        """New, changed or as it was. What was decided of its ticks stays decided, a pause stays."""
        old = self._state.schedules.get(spec.name)
        slot = job_slot(namespace, spec.terms.queue)
        if old is None:
            wall_ms = now.wall_ms
            record = r.ScheduleSet(spec, app, slot, wall_ms, wall_ms, wall_ms, 0, b"", [], 0, False, "")
            return self._schedules.put(record, now)
        if (old.spec, old.app, old.slot) == (spec, app, slot):
            return old
        record = structs.replace(record_of(old), spec=spec, app=app, slot=slot)
        if _when(spec) != _when(old.spec):
            # From now on: in the past the new one was not there, and nothing of it was missed.
            floor_ms = max(old.floor_ms, now.wall_ms)
            record = structs.replace(record, since_ms=now.wall_ms, floor_ms=floor_ms)
        return self._schedules.put(record, now)

    # -- answers --------------------------------------------------------------------------------

    def list(self, peer: Peer, question: ListSchedules) -> None:
        if question.name:
            schedule = self._state.schedules.get(question.name)
            if schedule is None:
                self._refuse_unknown(peer, question.request, question.name)
                return
            items, more = [self._report(schedule, question.ticks)], False
        else:
            page = self._schedules.page(question.after, limits.BATCH_MAX + 1)
            items = [self._report(schedule, 1) for schedule in page[: limits.BATCH_MAX]]
            more = len(page) > len(items)
        self._out.say(peer.number, ScheduleList(question.request, items, more))

    def _refuse_unknown(self, peer: Peer, request: int, name: str) -> None:
        self._out.say(peer.number, Refusal(request, "not_found", f"there is no schedule {name!r}"))

    def _report(self, schedule: Schedule, ticks: int) -> ScheduleReport:
        spec = schedule.spec
        next_ms, trouble = self._schedules.next(schedule, ticks)
        return ScheduleReport(
            name=spec.name,
            task=spec.terms.task,
            queue=spec.terms.queue,
            cron=spec.cron,
            interval_ms=spec.interval_ms,
            zone=spec.zone,
            catch_up=spec.catch_up,
            overlap=spec.overlap,
            jitter_ms=spec.jitter_ms,
            app=schedule.app,
            is_declared=self._who_declares(schedule) is not False,
            is_paused=schedule.is_paused,
            reason=schedule.reason,
            created_ms=schedule.created_ms,
            last_ms=schedule.last_ms,
            last_job=schedule.last_job,
            is_waiting=bool(schedule.waiting_ms),
            next_ms=next_ms,
            trouble=trouble,
        )


_WARNINGS_MAX: Final = 20
# A worker that does not say whose code it runs.
_NAMELESS: Final = "an app without a name"


def _when(spec: ScheduleSpec) -> tuple[str, int, str]:
    return spec.cron, spec.interval_ms, spec.zone
