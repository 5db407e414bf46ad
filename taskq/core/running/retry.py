"""Whether and when a job runs again after an attempt that did not succeed."""

from random import Random

from msgspec import Struct

from taskq import limits
from taskq.core.job import Job
from taskq.protocol.messages import Failure, RetryTerms

# These say nothing about the job: the attempt was handed back, or asked to come later.
UNCOUNTED = ("returned", "snoozed")
FINAL = ("discarded", "rejected")


class Verdict(Struct, gc=False, frozen=True):
    """What follows an attempt: dead, or again in `wait_ms` (0: at once)."""

    dead: bool
    wait_ms: int
    failures: int
    crashes: int


def judge(job: Job, failure: Failure, rng: Random) -> Verdict:
    """What becomes of a job whose attempt ended in `failure`."""
    failures, crashes = job.failures, job.crashes
    retry = job.terms.retry
    asked_ms = max(failure.after_ms, failure.hold_ms, 0)
    if failure.ending in UNCOUNTED:
        return Verdict(False, asked_ms, failures, crashes)
    if failure.ending == "crashed":
        crashes += 1
        return Verdict(crashes > retry.max_crashes, crash_backoff_ms(crashes, rng), failures, crashes)
    failures += 1
    is_final = failure.final or failure.ending in FINAL
    is_too_slow = failure.ending == "timed_out" and not retry.on_timeout
    if is_final or is_too_slow or failures >= retry.max_attempts:
        return Verdict(True, 0, failures, crashes)
    wait_ms = failure.after_ms if failure.after_ms >= 0 else backoff_ms(retry, failures, rng)
    return Verdict(False, wait_ms, failures, crashes)


def backoff_ms(retry: RetryTerms, failures: int, rng: Random) -> int:
    """Exponential backoff with full jitter: uniform between 0 and base * factor**(failures - 1).

    Source: "Exponential Backoff And Jitter", AWS Architecture Blog, 2015. Without jitter, what
    failed together comes back together.
    """
    # In floats: an exponent of 100 overflows nothing that min() does not catch.
    step_ms = min(retry.base_ms * retry.factor ** min(failures - 1, limits.ATTEMPTS_MAX), retry.max_delay_ms)
    return int(rng.uniform(0, step_ms)) if retry.jitter else int(step_ms)


def crash_backoff_ms(crashes: int, rng: Random) -> int:
    """The first crash is mostly not the job's fault: at once. Then up to 1 s, 2 s, 4 s ..., and at
    least half of that: a job that kills its worker must not take the fleet down as fast as it can
    restart, and jobs that died together must not meet again, for one of them may be the culprit."""
    if crashes <= 1:
        return 0
    step_ms = min(limits.CRASH_BACKOFF_BASE_MS * 2 ** (crashes - 2), limits.CRASH_BACKOFF_MAX_MS)
    return int(rng.uniform(step_ms / 2, step_ms))
