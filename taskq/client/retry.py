"""When and how often a failed job is run again: the user's word for it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from taskq.client.seconds import Seconds, millis_of
from taskq.limits import ATTEMPTS_MAX, CRASHES_MAX
from taskq.protocol.messages import RetryTerms

Jitter = Literal["full", "none"]


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """Run a failed job again, up to `max_attempts` runs in all. Make one with `exponential`.

    Waits are decided by the broker. Which exceptions count is decided by the worker, from the policy
    that the task was declared with.
    """

    terms: RetryTerms
    on: tuple[type[BaseException], ...] = (Exception,)
    give_up_on: tuple[type[BaseException], ...] = ()

    @staticmethod
    def exponential(
        max_attempts: int = 5,
        base: Seconds = 1.0,
        factor: float = 2.0,
        max_delay: Seconds = 300.0,
        jitter: Jitter = "full",
        on: Sequence[type[BaseException]] = (Exception,),
        give_up_on: Sequence[type[BaseException]] = (),
        max_crashes: int = CRASHES_MAX,
    ) -> "RetryPolicy":
        """Wait base * factor**(n-1) before attempt n+1, at most `max_delay`.

        With "full" jitter the wait is a uniformly random part of that, so that jobs which failed
        together do not come back together. Only exceptions of `on` that are not of `give_up_on` are
        tried again. Crashes of workers are counted apart, up to `max_crashes`.
        """
        if not 1 <= max_attempts <= ATTEMPTS_MAX:
            raise ValueError(f"max_attempts is from 1 to {ATTEMPTS_MAX}, not {max_attempts}")
        if not 0 <= max_crashes <= ATTEMPTS_MAX:
            raise ValueError(f"max_crashes is from 0 to {ATTEMPTS_MAX}, not {max_crashes}")
        if not 1.0 <= factor <= 100.0:
            raise ValueError(f"factor is from 1 to 100, not {factor}")
        if jitter not in ("full", "none"):
            raise ValueError(f"jitter is 'full' or 'none', not {jitter!r}")
        terms = RetryTerms(
            max_attempts=max_attempts,
            base_ms=millis_of("base", base),
            factor=float(factor),
            max_delay_ms=millis_of("max_delay", max_delay),
            jitter=jitter == "full",
            max_crashes=max_crashes,
        )
        return RetryPolicy(terms, tuple(on), tuple(give_up_on))

    def is_for(self, error: BaseException) -> bool:
        """Whether this exception is one to try again after."""
        return isinstance(error, self.on) and not isinstance(error, self.give_up_on)


# Without `retry=`: one attempt for failures; crashes are always tried again.
ONCE = RetryPolicy.exponential(max_attempts=1)


def policy_of(retry: RetryPolicy | int | None) -> RetryPolicy:
    """What `retry=` means: a policy, a number of attempts, or None for one attempt."""
    if retry is None:
        return ONCE
    if isinstance(retry, RetryPolicy):
        return retry
    if isinstance(retry, bool) or not isinstance(retry, int):
        raise TypeError(f"retry is a RetryPolicy or a number of attempts, not {retry!r}")
    if not 1 <= retry <= ATTEMPTS_MAX:
        raise ValueError(f"retry is from 1 to {ATTEMPTS_MAX} attempts, not {retry}")
    return RetryPolicy.exponential(max_attempts=retry)
