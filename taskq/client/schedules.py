"""Schedules as users make them: in code by decorators, or at run time through `q.schedules`."""

from collections.abc import AsyncGenerator, Callable, Coroutine, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, Protocol, TypedDict, TypeVar, Unpack, cast, get_args, overload

from taskq import limits
from taskq.client.options import checked_name, reason_of
from taskq.client.producer import ASK_TIMEOUT
from taskq.client.seconds import Seconds, millis_of
from taskq.client.task import AsyncTask, Call, P, PlainTask, R, Task
from taskq.errors import ConfigError
from taskq.protocol.messages import (
    CatchUp,
    DropSchedule,
    ListSchedules,
    Message,
    Overlap,
    PauseSchedule,
    ResumeSchedule,
    RunSchedule,
    ScheduleList,
    ScheduleReport,
    ScheduleSpec,
    SetSchedule,
)

if TYPE_CHECKING:
    from taskq.client.app import TaskQ

AnyTask = TypeVar("AnyTask", bound=Task[..., Any])

NEXT: Final = 5


class ScheduleOptions(TypedDict, total=False):
    """When, and what becomes of ticks that meet a difficulty; see `TaskQ.cron`. One of cron and every."""

    cron: str
    every: Seconds
    tz: str
    catch_up: CatchUp
    overlap: Overlap
    jitter: Seconds


@dataclass(frozen=True, slots=True)
class ScheduleInfo:
    """What the broker knew of a schedule when it was asked. Times are aware, in its own zone."""

    name: str
    cron: str  # empty: by an interval
    every: timedelta | None
    tz: str
    task: str
    queue: str
    catch_up: CatchUp
    overlap: Overlap
    jitter: timedelta
    app: str  # whose code declares it; empty: it was created at run time
    is_declared: bool  # False: workers of its app are connected, and none of them declares it any more
    is_paused: bool
    reason: str  # why it is paused
    created_at: datetime
    last_at: datetime | None  # for which time the last job was made
    last_job: str  # its id
    is_waiting: bool  # a job waits for the end of the last one
    next_at: tuple[datetime, ...]  # none while it is paused
    trouble: str  # why it is never due, if it is broken

    @staticmethod
    def of(report: ScheduleReport) -> "ScheduleInfo":
        zone = _zone_of(report.zone)

        def moment(wall_ms: int) -> datetime:
            return datetime.fromtimestamp(wall_ms / 1000, UTC).astimezone(zone)

        return ScheduleInfo(
            name=report.name,
            cron=report.cron,
            every=timedelta(milliseconds=report.interval_ms) if report.interval_ms else None,
            tz=report.zone,
            task=report.task,
            queue=report.queue,
            catch_up=cast(CatchUp, report.catch_up),
            overlap=cast(Overlap, report.overlap),
            jitter=timedelta(milliseconds=report.jitter_ms),
            app=report.app,
            is_declared=report.is_declared,
            is_paused=report.is_paused,
            reason=report.reason,
            created_at=moment(report.created_ms),
            last_at=moment(report.last_ms) if report.last_ms else None,
            last_job=report.last_job.hex(),
            is_waiting=report.is_waiting,
            next_at=tuple(moment(wall_ms) for wall_ms in report.next_ms),
            trouble=report.trouble,
        )


class Schedules:
    """`q.schedules`: what the decorators have declared, and the broker's schedules.

    All verbs raise NotFound when there is no schedule of that name.
    """

    def __init__(self, app: "TaskQ") -> None:
        self._app = app
        self._declared: dict[str, ScheduleSpec] = {}

    @property
    def declared(self) -> Mapping[str, ScheduleSpec]:
        """What the code declares: workers of this app announce it."""
        return MappingProxyType(self._declared)

    def declare(self, task: AnyTask, spec: ScheduleSpec) -> AnyTask:
        """Remember a schedule of this app. ConfigError when another one has its name."""
        if task.app is not self._app:
            raise ConfigError(f"the task {task.name!r} is of another app; declare its schedule there")
        if self._declared.setdefault(spec.name, spec) != spec:
            raise ConfigError(f"two schedules want to be {spec.name!r}; give one of them another name=")
        return task

    async def create(
        self, name: str, call: Call[Any] | Task[[], Any], **options: Unpack[ScheduleOptions]
    ) -> ScheduleInfo:
        """A job of this call at the times of `cron=` or `every=`; replaces one that was created so.

        `call` is what `task.call(...)` makes, or a task without arguments. ConfigError when that
        cannot be; Conflict when a schedule of that name is declared in code.
        """
        if isinstance(call, Task):
            call = call.call()
        if not isinstance(call, Call):
            raise TypeError(
                f"a schedule makes calls, as task.call(...) makes them, not {type(call).__name__}"
            )
        spec = spec_of(name, call, options)
        return await self._one(lambda number: SetSchedule(number, spec))

    async def next(self, name: str, n: int = NEXT) -> list[datetime]:
        """Its next times, in its own zone; none while it is paused."""
        if isinstance(n, bool) or not isinstance(n, int):
            raise TypeError(f"n is a whole number, not {n!r:.80}")
        if not 1 <= n <= limits.NEXT_TICKS_MAX:
            raise ValueError(f"n is from 1 to {limits.NEXT_TICKS_MAX}, not {n}")
        info = await self._one(lambda number: ListSchedules(number, name, ticks=n))
        return list(info.next_at)

    async def list(self) -> list[ScheduleInfo]:
        """All schedules, by name."""
        return [info async for info in self.pages()]

    async def pages(self) -> AsyncGenerator[ScheduleInfo, None]:
        """The same, without ever having all of them."""
        after, more = "", True
        while more:
            page = await self._ask(lambda number: ListSchedules(number, after=after))  # noqa: B023  # awaited
            for item in page.items:
                yield ScheduleInfo.of(item)
                after = item.name
            more = page.more

    async def pause(self, name: str, reason: str = "") -> ScheduleInfo:
        """No more jobs of it, until it is resumed; what runs goes on."""
        text = reason_of(reason)
        return await self._one(lambda number: PauseSchedule(number, name, text))

    async def resume(self, name: str) -> ScheduleInfo:
        """Go on, with the next tick from now: what was not wanted meanwhile is not made up for."""
        return await self._one(lambda number: ResumeSchedule(number, name))

    async def delete(self, name: str) -> None:
        """There is no such schedule any more; its jobs stay. Conflict while a worker declares it."""
        await self._one(lambda number: DropSchedule(number, name))

    async def run(self, name: str) -> ScheduleInfo:
        """One job of it now, also while it is paused; `last_job` is its id.

        Conflict when the last one has no outcome yet and the overlap is "skip" or "queue".
        """
        id = self._app._producer().ids.new_id(0)  # the broker puts it where the schedule's jobs are
        return await self._one(lambda number: RunSchedule(number, name, id))

    async def _one(self, question: Callable[[int], Message]) -> ScheduleInfo:
        (item,) = (await self._ask(question)).items
        return ScheduleInfo.of(item)

    async def _ask(self, question: Callable[[int], Message]) -> ScheduleList:
        producer = self._app._producer()
        session = producer.session
        answer = await producer.ask(lambda on_answer: session.question(question, on_answer), ASK_TIMEOUT)
        assert isinstance(answer, ScheduleList)
        return answer


class Scheduled(Protocol):
    """What `q.cron(...)` and `q.every(...)` return: the decorator."""

    @overload  # the first that fits is meant, as with `q.task`
    def __call__(self, task: AnyTask, /) -> AnyTask: ...  # type: ignore[overload-overlap]  # as above
    @overload
    def __call__(  # type: ignore[overload-overlap]  # as above
        self, fn: Callable[P, Coroutine[Any, Any, R]], /
    ) -> AsyncTask[P, R]: ...
    @overload
    def __call__(self, fn: Callable[P, R], /) -> PlainTask[P, R]: ...


def scheduled(app: "TaskQ", name: str | None, options: ScheduleOptions) -> Scheduled:
    """The decorator for a function or a task of this app."""

    def decorate(fn: Any) -> Any:
        task: Task[..., Any] = fn if isinstance(fn, Task) else app.task(fn)
        try:
            call = task.call()
        except TypeError as error:
            raise ConfigError(f"a schedule calls its task without arguments: {error}") from None
        spec = spec_of(task.name if name is None else name, call, options)
        return app.schedules.declare(task, spec)

    return cast(Scheduled, decorate)


def spec_of(name: str, call: Call[Any], options: ScheduleOptions) -> ScheduleSpec:
    """The schedule as it goes over the wire. ConfigError says what is allowed."""
    from taskq.protocol.calendar import calendar_of  # brings time zones: only who needs them pays

    unknown = sorted(options.keys() - ScheduleOptions.__annotations__)
    if unknown:
        known = ", ".join(ScheduleOptions.__annotations__)
        raise TypeError(f"unknown option {', '.join(unknown)}; there are {known}")
    cron, tz, every = options.get("cron", ""), options.get("tz", "UTC"), options.get("every")
    catch_up, overlap = options.get("catch_up", "skip"), options.get("overlap", "allow")
    jitter = options.get("jitter", 0)
    _check_text("cron", cron, "'30 2 * * *' or '@daily'")
    _check_text("tz", tz, "'Europe/Berlin'")
    settings, terms = call.task.settings, call.task.terms
    if terms.delay_ms or terms.at_ms or settings.id:
        raise ConfigError(f"schedule {name!r}: it says when its jobs are due; delay, at and id cannot be")
    for what, value, allowed in (("catch_up", catch_up, CatchUp), ("overlap", overlap, Overlap)):
        if value not in get_args(allowed):
            raise ConfigError(f"{what} is one of {', '.join(get_args(allowed))}, not {value!r}")
    jitter_ms = _millis("jitter", jitter)
    if jitter_ms > limits.JITTER_MAX_MS:
        raise ConfigError(f"jitter is at most {limits.JITTER_MAX_MS // 3_600_000} hours, not {jitter!r}")
    if len(call.payload) > limits.SCHEDULE_PAYLOAD_BYTES_MAX:
        most = limits.SCHEDULE_PAYLOAD_BYTES_MAX
        raise ConfigError(f"{len(call.payload)} bytes of arguments; of a schedule at most {most}")
    if every is not None and cron:
        raise ConfigError("give one of cron= and every=")
    interval_ms = 0 if every is None else _millis("an interval", every)
    if every is not None and interval_ms < limits.INTERVAL_MIN_MS:
        raise ConfigError(
            f"schedule {name!r}: an interval is from {limits.INTERVAL_MIN_MS / 1000:g} s to ten years, "
            f"not {every!r}"
        )
    try:
        calendar_of(cron, interval_ms, tz, 0)
    except ConfigError as error:
        raise ConfigError(f"schedule {name!r}: {error}") from None
    return ScheduleSpec(
        name=checked_name("the name of the schedule", name),
        terms=terms,
        payload=call.payload,
        cron=cron,
        interval_ms=interval_ms,
        zone=tz,
        catch_up=catch_up,
        overlap=overlap,
        jitter_ms=jitter_ms,
    )


def _check_text(name: str, value: object, example: str) -> None:
    if not isinstance(value, str):
        raise TypeError(f"{name} is a text such as {example}, not {value!r:.80}")


def _millis(name: str, value: Seconds) -> int:
    try:
        return millis_of(name, value)
    except ValueError as error:
        raise ConfigError(str(error)) from None


def _zone_of(name: str) -> Any:
    from taskq.protocol.calendar import zone_of

    try:
        return zone_of(name)
    except ConfigError:  # the broker's machine knows it, this one does not
        return UTC
