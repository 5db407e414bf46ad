"""What a broker and its workers would answer, as far as a test of the client needs it."""

import time
from collections.abc import Callable

from taskq.client.payload import pack_value, unpack_call
from taskq.protocol.messages import (
    Bulk,
    BulkReport,
    Cancel,
    Confirm,
    Counted,
    DeadGroups,
    Fault,
    GroupDead,
    Inspect,
    JobLine,
    JobReport,
    JobSpec,
    Message,
    Outcome,
    Outcomes,
    Page,
    Query,
    Receipt,
    Receipts,
    Refusal,
    Status,
    StatusReport,
    Submit,
    Tally,
    Terms,
    Verdict,
    Watch,
)

Work = Callable[[JobSpec, Terms], Outcome | None]


def add_up(job: JobSpec, terms: Terms) -> Outcome | None:
    """Sums numbers; fails on text; never ends on None."""
    args, _ = unpack_call(job.payload)
    if None in args:
        return None
    if any(isinstance(arg, str) for arg in args):
        fault = Fault("builtins.ValueError", "no number", "Traceback ...")
        return Outcome(job.id, "dead", ending="failed", fault=fault, attempts=2)
    return Outcome(job.id, "succeeded", pack_value(sum(args)), attempts=1)


class Desk:
    """Confirms and runs jobs at once. `verdict` may refuse them, `is_silent` keeps back every word."""

    def __init__(self, work: Work = add_up) -> None:
        self.work = work
        self.jobs: dict[bytes, tuple[JobSpec, Terms]] = {}
        self.verdict: Callable[[int, JobSpec], Verdict | None] = lambda seq, job: None
        self.is_silent = False
        self.page_max = 2

    def __call__(self, message: Message) -> list[Message]:
        return [] if self.is_silent else self.answer(message)

    def answer(self, message: Message) -> list[Message]:
        match message:
            case Submit():
                return [self._confirm(message)]
            case Watch():
                outcomes = [self._outcome(id) for id in message.ids]
                return [Outcomes([outcome for outcome in outcomes if outcome is not None])]
            case Cancel():
                receipts = [Receipt(id, "cancelled" if id in self.jobs else "unknown") for id in message.ids]
                return [Receipts(message.request, receipts)]
            case Inspect():
                return [self._report(message)]
            case Query():
                lines = [JobLine(id, terms.task, terms.queue, "ready") for id, (_, terms) in self._sorted()]
                after = [line for line in lines if line.id > message.after]
                page = after[: min(message.limit, self.page_max)]
                return [Page(message.request, page, page[-1].id if len(page) < len(after) else b"")]
            case Tally():
                return [Counted(message.request, len(self.jobs), {"ready": len(self.jobs)})]
            case GroupDead():
                return [DeadGroups(message.request, [])]
            case Bulk():
                done = 0 if message.dry_run else len(self.jobs)
                return [BulkReport(message.request, len(self.jobs), done)]
            case Status():
                return [StatusReport(message.request, "0", 0, 0, 1, "memory:", 0, {}, [], [])]
        return []

    def _sorted(self) -> list[tuple[bytes, tuple[JobSpec, Terms]]]:
        return sorted(self.jobs.items(), key=lambda pair: pair[0])

    def _confirm(self, submit: Submit) -> Confirm:
        verdicts = []
        for seq, job in enumerate(submit.jobs, start=submit.first):
            verdict = self.verdict(seq, job)
            if verdict is None:
                self.jobs[job.id] = (job, submit.terms[job.terms])
            else:
                verdicts.append(verdict)
        return Confirm(submit.first, len(submit.jobs), verdicts)

    def _outcome(self, id: bytes) -> Outcome | None:
        return self.work(*self.jobs[id]) if id in self.jobs else Outcome(id, "unknown")

    def _report(self, inspect: Inspect) -> Message:
        if inspect.id not in self.jobs:
            return Refusal(inspect.request, "not_found", f"there is no job {inspect.id.hex()}")
        _, terms = self.jobs[inspect.id]
        return JobReport(
            inspect.request,
            inspect.id,
            terms.task,
            terms.queue,
            "ready",
            submitted_ms=time.time_ns() // 10**6,
        )
