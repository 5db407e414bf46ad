"""Jobs that come with an attempt's success: submitted in the same batch as its outcome, or not at all."""

from taskq.core.effects import Now
from taskq.core.intake.arrivals import Arrivals
from taskq.core.intake.intake import Enclosed, Intake
from taskq.core.lines.workers import Worker
from taskq.core.running.attempts import Attempts
from taskq.errors import Refused
from taskq.protocol.messages import Ack, AckAndSubmit, Failure, Fault, Nack, Verdict


class Enclosures:
    """Decides them together. If one of them is refused, the attempt has failed, and says why."""

    def __init__(self, intake: Intake, attempts: Attempts, arrivals: Arrivals) -> None:
        self._intake = intake
        self._attempts = attempts
        self._arrivals = arrivals
        self.refused = 0

    def ack(self, worker: Worker, command: AckAndSubmit, now: Now) -> None:
        """Nothing comes of a success that is not its job's outcome: one that is said again, late or stale."""
        success = command.success
        ack = Ack(command.seq, [success])
        if not self._attempts.counts(worker, ack):
            self._attempts.ack(worker, ack, now)
            return
        decided = self._intake.enclosed(command.terms, command.jobs, success.id, now)
        if isinstance(decided, Enclosed):
            self._attempts.ack(worker, ack, now)
            # Behind the outcome: a job that submits its own successor makes room for it.
            self._arrivals.line_up(self._intake.write_enclosed(decided, now), now)
            return
        self.refused += 1
        failure = Failure(success.id, success.lease, "failed", _fault(command, decided))
        self._attempts.nack(worker, Nack(command.seq, [failure]), now)


def _fault(command: AckAndSubmit, verdict: Verdict) -> Fault:
    error = type(Refused.from_code(verdict.code, verdict.text)).__name__
    job = command.jobs[verdict.seq]
    text = (
        f"{verdict.text}. The attempt had succeeded, but job {job.id.hex()} of its outbox was refused, so "
        f"none of the {len(command.jobs)} in it is submitted"
    )
    return Fault(f"taskq.errors.{error}", text)
