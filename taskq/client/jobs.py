"""`q.jobs` and `q.dead`: looking for jobs, and doing something to all that are found."""

from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final, TypeVar, Unpack

from msgspec import structs

from taskq.client.filters import FilterFields, filter_of, quoted
from taskq.client.job import JobInfo, moment
from taskq.client.options import reason_of
from taskq.client.payload import unpack_call
from taskq.client.producer import ASK_TIMEOUT
from taskq.client.seconds import Seconds, millis_of
from taskq.client.values.compression import inflated
from taskq.client.values.secrets import holds_secret
from taskq.errors import DecodeError
from taskq.limits import PAGE_MAX
from taskq.protocol.messages import (
    Bulk,
    BulkReport,
    Counted,
    DeadGroups,
    Filter,
    GroupDead,
    JobLine,
    Message,
    Page,
    Query,
    Tally,
    Verb,
)
from taskq.protocol.messages import DeadGroup as WireGroup

if TYPE_CHECKING:
    from taskq.client.app import TaskQ

# A million jobs take the broker seconds, for it looks at them in between everything else.
BULK_TIMEOUT: Final = 600.0

M = TypeVar("M", bound=Message)


@dataclass(frozen=True, slots=True)
class BulkResult:
    """What became of a bulk verb. `skipped` counts those that it was not for, by their state, and
    ids that are `unknown`."""

    matched: int
    done: int
    skipped: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class DeadGroup:
    """Dead jobs of one task that died of one type of error."""

    task: str
    error_type: str
    count: int
    oldest: datetime | None  # when the first of them died
    newest: datetime | None
    sample: str  # the id of one of them
    message: str  # and what it said

    @property
    def query(self) -> str:
        """The filter that means these jobs: `q.dead.retry(group.query)`."""
        return f"{quoted('task', self.task)} {quoted('type', self.error_type)}"

    @staticmethod
    def _of(group: WireGroup) -> "DeadGroup":
        return DeadGroup(
            task=group.task,
            error_type=group.error_type,
            count=group.count,
            oldest=moment(group.oldest_ms),
            newest=moment(group.newest_ms),
            sample=group.sample.hex(),
            message=group.message,
        )


Groups = list[DeadGroup]


class _Found:
    """What both have in common. A filter is text, `state:dead task:send_* older:1h`, keywords, or both."""

    def __init__(self, app: "TaskQ") -> None:
        self._app = app

    def _filter(self, query: str, fields: FilterFields) -> Filter:
        return filter_of(query, fields)

    async def list(
        self, query: str = "", *, limit: int | None = None, **fields: Unpack[FilterFields]
    ) -> AsyncGenerator[JobInfo, None]:
        """The jobs, in the order of their ids, which is that of their submission; at most `limit`.

        Jobs that are there all the while are all in it, each once; what comes or goes meanwhile may be.
        """
        async for line in self._lines(self._filter(query, fields), limit, full=False):
            yield JobInfo._of_line(line)

    async def count(self, query: str = "", **fields: Unpack[FilterFields]) -> int:
        """How many there are."""
        return (await self._tally(self._filter(query, fields))).count

    async def _tally(self, wanted: Filter) -> Counted:
        return await self._ask(lambda number: Tally(number, wanted), Counted)

    async def _lines(self, wanted: Filter, limit: int | None, *, full: bool) -> AsyncGenerator[JobLine, None]:
        if limit is not None and limit < 0:
            raise ValueError(f"limit is 0 or more, or None for all, not {limit}")
        left, after = limit, b""
        while left is None or left > 0:
            size = PAGE_MAX if left is None else min(left, PAGE_MAX)
            page = await self._page(wanted, after, size, full=full)
            for line in page.items:
                yield line
            if not page.next:
                return
            after = page.next
            left = None if left is None else left - len(page.items)

    async def _page(self, wanted: Filter, after: bytes, size: int, *, full: bool) -> Page:
        return await self._ask(lambda number: Query(number, wanted, after, size, full), Page)

    async def _groups(self, wanted: Filter) -> Groups:
        found = await self._ask(lambda number: GroupDead(number, wanted), DeadGroups)
        return [DeadGroup._of(group) for group in found.items]

    async def _bulk(
        self, verb: Verb, wanted: Filter, timeout: Seconds, *, reason: str = "", dry_run: bool
    ) -> BulkResult:
        text = reason_of(reason)
        report = await self._ask(
            lambda number: Bulk(number, verb, wanted, text, dry_run),
            BulkReport,
            millis_of("timeout", timeout) / 1000,
        )
        return BulkResult(report.matched, report.done, report.skipped)

    async def _ask(self, make: Callable[[int], Message], kind: type[M], timeout: float = ASK_TIMEOUT) -> M:
        producer = self._app._producer()
        answer = await producer.ask(lambda on_answer: producer.session.question(make, on_answer), timeout)
        assert isinstance(answer, kind)
        return answer


class Jobs(_Found):
    """All jobs. Verbs are for those that they can be done to; which ones must be said (`task:*`: all).

    After a lost connection a verb is asked again, and its result is that of the last time.
    """

    async def states(self, query: str = "", **fields: Unpack[FilterFields]) -> dict[str, int]:
        """How many there are in each state."""
        return (await self._tally(self._filter(query, fields))).states

    async def cancel(
        self,
        query: str = "",
        *,
        reason: str = "",
        dry_run: bool = False,
        timeout: Seconds = BULK_TIMEOUT,
        **fields: Unpack[FilterFields],
    ) -> BulkResult:
        """None of these will complete. Those that run are told to stop."""
        wanted = self._filter(query, fields)
        return await self._bulk("cancel", wanted, timeout, reason=reason, dry_run=dry_run)

    async def retry(
        self,
        query: str = "",
        *,
        dry_run: bool = False,
        timeout: Seconds = BULK_TIMEOUT,
        **fields: Unpack[FilterFields],
    ) -> BulkResult:
        """Dead jobs begin anew, under their ids, with all their attempts before them."""
        return await self._bulk("retry", self._filter(query, fields), timeout, dry_run=dry_run)

    async def delete(
        self,
        query: str = "",
        *,
        dry_run: bool = False,
        timeout: Seconds = BULK_TIMEOUT,
        **fields: Unpack[FilterFields],
    ) -> BulkResult:
        """Forget the outcomes of jobs that have ended, as if their time were over."""
        return await self._bulk("delete", self._filter(query, fields), timeout, dry_run=dry_run)

    async def groups(self, query: str = "", **fields: Unpack[FilterFields]) -> Groups:
        """Dead jobs by task and type of error, the largest group first."""
        return await self._groups(self._filter(query, fields))


class Dead(_Found):
    """Dead jobs: out of attempts, kept for people."""

    def _filter(self, query: str, fields: FilterFields) -> Filter:
        wanted = filter_of(query, fields)
        if wanted.states not in ([], ["dead"]):
            raise ValueError(f"these are dead jobs, not {' or '.join(wanted.states)}; leave the state out")
        return structs.replace(wanted, states=["dead"])

    async def groups(self, query: str = "", **fields: Unpack[FilterFields]) -> Groups:
        """By task and type of error, the largest group first."""
        return await self._groups(self._filter(query, fields))

    async def retry(
        self,
        query: str = "",
        *,
        dry_run: bool = False,
        timeout: Seconds = BULK_TIMEOUT,
        **fields: Unpack[FilterFields],
    ) -> BulkResult:
        """They begin anew, under their ids, with all their attempts before them."""
        return await self._bulk("retry", filter_of(query, fields), timeout, dry_run=dry_run)

    async def discard(
        self,
        query: str = "",
        *,
        dry_run: bool = False,
        timeout: Seconds = BULK_TIMEOUT,
        **fields: Unpack[FilterFields],
    ) -> BulkResult:
        """They are forgotten, for good."""
        return await self._bulk("discard", filter_of(query, fields), timeout, dry_run=dry_run)

    async def export(
        self, query: str = "", **fields: Unpack[FilterFields]
    ) -> AsyncGenerator[dict[str, Any], None]:
        """Everything that lists have about each of them: JobInfo's fields without `progress`, `why` and
        `history`; `error_type`, arguments and traceback.

        Arguments that cannot be read here are left out; `payload` has them as bytes, whatever they are.
        Where there is a Secret in them it is empty, and `args` and `kwargs` have Secrets.
        """
        async for line in self._lines(self._filter(query, fields), None, full=True):
            yield exported(line)


# Fields of JobInfo that no line of a list carries: empty, they would say that there is nothing.
NOT_IN_LINES: Final = ("progress", "why", "history")


def exported(line: JobLine) -> dict[str, Any]:
    """A line with all that it carries."""
    info = asdict(JobInfo._of_line(line))
    found = {
        **{name: value for name, value in info.items() if name not in NOT_IN_LINES},
        "error_type": line.fault.type if line.fault is not None else line.ending,
        "payload": line.payload,
        "flags": line.flags,
        "ext": line.ext or {},
    }
    with suppress(DecodeError):  # of a client that packs otherwise
        args, kwargs = unpack_call(inflated(line.payload, line.flags))
        found["args"], found["kwargs"] = args, kwargs
        if holds_secret([args, kwargs]):
            found["payload"] = b""
    return found
