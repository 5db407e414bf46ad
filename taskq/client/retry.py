"""When and how often a failed job is run again: the user's word for it."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal

from taskq.client.seconds import Seconds, millis_of
from taskq.limits import ATTEMPTS_MAX, CRASHES_MAX, NAME_CHARS_MAX
from taskq.protocol.messages import RetryTerms

Jitter = Literal["full", "none"]
# Which errors: those of a class, of the class of this name, or those of which a function says so. A name is
# for classes that cannot be imported where the task is declared: `requests.exceptions.Timeout`.
Which = type[BaseException] | str | Callable[[BaseException], bool]


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """Run a failed job again, up to `max_attempts` runs in all. Make one with `exponential`.

    `on` and `give_up_on` decide about exceptions that are an `Exception`. SystemExit and its like are
    failures whatever `on` says: they are tried again unless `give_up_on` names them.

    Waits are decided by the broker. Which errors are tried again is decided by the worker, from the policy
    that the task was declared with.
    """

    terms: RetryTerms
    on: tuple[Which, ...] = (Exception,)
    give_up_on: tuple[Which, ...] = ()

    @staticmethod
    def exponential(
        max_attempts: int = 5,
        base: Seconds = 1.0,
        factor: float = 2.0,
        max_delay: Seconds = 300.0,
        jitter: Jitter = "full",
        on: Iterable[Which] = (Exception,),
        give_up_on: Iterable[Which] = (),
        max_crashes: int = CRASHES_MAX,
        on_timeout: bool = True,
    ) -> "RetryPolicy":
        """Wait base * factor**(n-1) before attempt n+1, at most `max_delay`.

        With "full" jitter the wait is a uniformly random part of that, so that jobs which failed
        together do not come back together. Only errors of `on` that are not of `give_up_on` are tried
        again, and SystemExit and its like, whatever `on` says. Both take classes, full names of classes,
        and functions that are asked; when such a function raises, the job is tried again, and its error
        has a note of that. An attempt that ran longer than its `timeout` is tried again unless
        `on_timeout` is False. Crashes of workers are counted apart, up to `max_crashes`.
        """
        base_ms, max_delay_ms = millis_of("base", base), millis_of("max_delay", max_delay)
        if max_delay_ms < base_ms:
            raise ValueError(f"max_delay is at least base, which is {base!r}, and not {max_delay!r}")
        return RetryPolicy(
            RetryTerms(
                max_attempts=_whole("max_attempts", max_attempts, 1),
                base_ms=base_ms,
                factor=_factor(factor),
                max_delay_ms=max_delay_ms,
                jitter=_is_full(jitter),
                max_crashes=_whole("max_crashes", max_crashes, 0),
                on_timeout=_flag("on_timeout", on_timeout),
            ),
            _checked("on", on),
            _checked("give_up_on", give_up_on),
        )

    def is_final(self, error: BaseException) -> bool:
        """Whether trying again is of no use after this. Raises what a function of the user's raises."""
        if any(_is(error, which) for which in self.give_up_on):
            return True
        # SystemExit and its like are no Exception, but they are a failure like any other here.
        return isinstance(error, Exception) and not any(_is(error, which) for which in self.on)


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


def _is(error: BaseException, which: Which) -> bool:
    if isinstance(which, type):
        return isinstance(error, which)
    if isinstance(which, str):
        return any(which in _names(cls) for cls in type(error).__mro__)
    return bool(which(error))


def _names(cls: type) -> tuple[str, ...]:
    """`module.qualname`; a builtin's alone will do."""
    full = f"{cls.__module__}.{cls.__qualname__}"
    return (full, cls.__qualname__) if cls.__module__ == "builtins" else (full,)


def _checked(name: str, several: object) -> tuple[Which, ...]:
    if isinstance(several, str) or not isinstance(several, Iterable):
        raise TypeError(f"{name} is a list or tuple, not {several!r}; write ({several!r},) for one")
    return tuple(_which(name, one) for one in several)


def _which(name: str, one: object) -> Which:
    if isinstance(one, type):
        if issubclass(one, BaseException):
            return one
    elif isinstance(one, str):
        if len(one) <= NAME_CHARS_MAX and all(part.isidentifier() for part in one.split(".")):
            return one
        raise ValueError(f"{name}: {one[:60]!r} is no name of a class, such as 'requests.exceptions.Timeout'")
    elif callable(one):
        return one
    raise TypeError(f"{name} takes exception classes, their full names and functions, not {one!r}")


def _whole(name: str, value: int, least: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name} is a whole number, not {value!r}")
    if not least <= value <= ATTEMPTS_MAX:
        raise ValueError(f"{name} is from {least} to {ATTEMPTS_MAX}, not {value}")
    return value


def _flag(name: str, value: object) -> bool:
    if not isinstance(value, bool):
        raise TypeError(f"{name} is True or False, not {value!r:.80}")
    return value


def _factor(factor: float) -> float:
    if isinstance(factor, bool) or not isinstance(factor, int | float):
        raise TypeError(f"factor is a number, not {factor!r:.80}")
    if not 1.0 <= factor <= 100.0:
        raise ValueError(f"factor is from 1 to 100, not {factor}")
    return float(factor)


def _is_full(jitter: Jitter) -> bool:
    if jitter not in ("full", "none"):
        raise ValueError(f"jitter is 'full' or 'none', not {jitter!r}")
    return jitter == "full"


# Without `retry=`: one attempt for failures; crashes are always tried again.
ONCE = RetryPolicy.exponential(max_attempts=1)
