"""What may be said of a job beside its arguments: names, bounds, and how it becomes terms on the wire."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import lru_cache
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, Literal, Protocol, TypedDict, runtime_checkable
from uuid import UUID

import msgspec

from taskq import limits
from taskq.client.bounds import Concurrency, Rate, concurrency_of, rate_of
from taskq.client.extras import PLAIN, Extras, UniqueScope, flag_of, key_of, meta_of, unique_of
from taskq.client.retry import ONCE, RetryPolicy, policy_of
from taskq.client.seconds import Seconds, millis_of
from taskq.errors import ConfigError
from taskq.protocol.messages import FSYNC, MEMORY, OS, Callback, Durability, Limit, Terms

if TYPE_CHECKING:
    from taskq.client.task import Task

DurabilityName = Literal["fsync", "os", "memory"]
ExecutorName = Literal["async", "thread", "process"]

_DURABILITIES: Final[dict[str, Durability]] = {"fsync": FSYNC, "os": OS, "memory": MEMORY}
_YEAR_10000_S: Final = 253_402_300_800
_RESOURCE_MAX: Final = 2**31


class SubmitOptions(TypedDict, total=False):
    """The options of `Task.options`. Spans are seconds, a timedelta, or text like "5m"."""

    queue: str
    priority: int  # larger first
    delay: Seconds  # not before so much from now
    at: datetime | float  # not before then: an aware datetime, or seconds since 1970
    expires: Seconds  # not run when it has waited longer
    timeout: Seconds  # how long one attempt may run
    retry: RetryPolicy | int
    on_failure: "Task[..., Any] | str"  # submitted by the broker after each attempt that failed
    on_dead: "Task[..., Any] | str"  # and when the job is dead: called with job_id, arguments, error
    keep_result: bool | Seconds  # how long the outcome is kept; False: only for those who wait already
    durability: DurabilityName
    key: str  # jobs of one queue take turns between their keys
    unique: UniqueScope | Seconds  # while another waits, is active, or so long: that one is returned
    replace: bool  # with unique: what waits becomes this call
    bind: bool  # cancelled when this client goes away
    meta: dict[str, str]  # a few words for people
    id: str | UUID  # of the job; a repeated submit with it is the same job
    confirm_timeout: Seconds  # how long `submit` waits for the broker's word
    labels: Mapping[str, str | int]  # only on workers that have these
    resources: Mapping[str, int]  # so much of what a worker says it has, for as long as it runs


class DeclareOptions(TypedDict, total=False):
    """The options of the `task` decorator."""

    name: str  # default: the function's module and qualified name
    executor: ExecutorName  # default: async for coroutine functions, thread for plain ones
    queue: str
    priority: int
    retry: RetryPolicy | int
    on_failure: "Task[..., Any] | str"
    on_dead: "Task[..., Any] | str"
    timeout: Seconds
    expires: Seconds
    keep_result: bool | Seconds
    durability: DurabilityName
    unique: UniqueScope | Seconds
    replace: bool
    labels: Mapping[str, str | int]
    resources: Mapping[str, int]
    concurrency: int | Concurrency  # how many run at once, over all workers
    rate_limit: str | Rate  # how many start in a while, over all workers


class WorkerOptions(TypedDict, total=False):
    """What `run_worker` and `embedded` say of their worker."""

    concurrency: int  # how many jobs it runs at once
    process_slots: int  # processes for tasks with executor="process"
    queues: Iterable[str]  # those it serves, with weights as in "high:3"; default: those of its tasks
    strict: bool  # a later queue only when the earlier ones have nothing
    labels: Mapping[str, str]
    resources: Mapping[str, int]
    job_logs: str  # what is logged inside jobs is kept from this level on: "info"; "off": nothing
    slow_callback: float  # seconds: warn of tasks that keep the loop from turning for so long; 0: never


@runtime_checkable
class Declared(Protocol):
    """A declared task, as far as options know it."""

    name: str
    settings: "TaskOptions"


_NOBODY: Final[Mapping[str, Declared]] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class TaskOptions:
    """Options, checked. Times are in ms, as on the wire."""

    queue: str = "default"
    priority: int = 0
    delay_ms: int = 0
    at_ms: int = 0
    expires_ms: int = 0
    timeout_ms: int = 0
    keep_ms: int = limits.KEEP_RESULT_MS
    durability: Durability = FSYNC
    retry: RetryPolicy = field(default=ONCE)
    extras: Extras = field(default=PLAIN)
    id: bytes = b""
    confirm_timeout_ms: int = limits.CONFIRM_TIMEOUT_MS
    labels: tuple[tuple[str, str], ...] = ()
    resources: tuple[tuple[str, int], ...] = ()
    concurrency: Concurrency | None = None
    rate: Rate | None = None
    # One that is given by its name may be declared later.
    on_failure: Callback | str | None = None
    on_dead: Callback | str | None = None

    def changed(self, options: Mapping[str, Any], allowed: Mapping[str, object]) -> "TaskOptions":
        """With these options instead. TypeError and ValueError name the option and what it may be."""
        unknown = sorted(options.keys() - allowed.keys())
        if unknown:
            raise TypeError(f"unknown option {', '.join(unknown)}; there are {', '.join(sorted(allowed))}")
        if "delay" in options and "at" in options:
            raise ValueError("delay and at exclude each other: give one")
        known = {name: value for name, value in options.items() if name in _CHECKS}
        changes = dict(_CHECKS[name](value) for name, value in known.items())
        # The later word on when to run replaces the earlier one, in whichever form that was.
        if "delay" in options:
            changes["at_ms"] = 0
        elif "at" in options:
            changes["delay_ms"] = 0
        rare = {name: check(options[name]) for name, check in _RARE.items() if name in options}
        if "unique" in rare:
            rare["scope"], rare["window_ms"] = rare.pop("unique")
        if rare:
            changes["extras"] = extras = replace(self.extras, **_renamed(rare))
            if extras.is_replacing and extras.scope < 0:
                raise ValueError("replace=True goes with unique=: it says what is replaced")
        return replace(self, **changes)

    def terms(self, task: str, declared: Mapping[str, Declared] = _NOBODY) -> Terms:
        """As jobs of this task carry them. `declared`: the tasks that callbacks may be names of."""
        return Terms(
            task=task,
            queue=self.queue,
            priority=self.priority,
            delay_ms=self.delay_ms,
            at_ms=self.at_ms,
            expires_ms=self.expires_ms,
            timeout_ms=self.timeout_ms,
            keep_ms=self.keep_ms,
            durability=self.durability,
            retry=self.retry.terms,
            labels=self.labels,
            resources=self.resources,
            on_failure=self._callback(self.on_failure, declared),
            on_dead=self._callback(self.on_dead, declared),
        )

    def declared(self, task: str) -> list[Limit]:
        """The limits that a worker with this task announces; they hold over all workers."""
        return [bound.limit(task) for bound in (self.concurrency, self.rate) if bound is not None]

    def _callback(self, callback: Callback | str | None, declared: Mapping[str, Declared]) -> Callback | None:
        if not isinstance(callback, str):
            return callback
        task = declared.get(callback)
        # Of one that is declared elsewhere only the name is known: whoever serves our queue may have it.
        return callback_to(task) if task is not None else Callback(callback, self.queue)


def _renamed(rare: dict[str, Any]) -> dict[str, Any]:
    return {_FIELDS.get(name, name): value for name, value in rare.items()}


def checked_name(what: str, name: object) -> str:
    """A name of a task or queue: shown to people, so without what cannot be printed."""
    if not isinstance(name, str):
        raise TypeError(f"{what} is a text, not {name!r}")
    if not 1 <= len(name) <= limits.NAME_CHARS_MAX or not name.isprintable():
        raise ConfigError(
            f"{what}: {name[:60]!r} is no name; 1 to {limits.NAME_CHARS_MAX} printable characters are"
        )
    if "," in name:
        raise ConfigError(f"{what}: {name[:60]!r} has a comma, which separates names on the command line")
    return name


def reason_of(value: object) -> str:
    """A reason for people; what is too long is cut."""
    if not isinstance(value, str):
        raise TypeError(f"reason is a text, not {value!r:.80}")
    return value[: limits.TEXT_CHARS_MAX]


def callback_to(task: Declared) -> Callback:
    """What the broker has to know to submit this task itself."""
    settings = task.settings
    return Callback(
        task=task.name,
        queue=settings.queue,
        priority=settings.priority,
        timeout_ms=settings.timeout_ms,
        retry=settings.retry.terms,
    )


def edits(*, queue: str | None, priority: int | None, expires: Seconds | None) -> dict[str, Any]:
    """The fields of an Edit that these mean; None is none."""
    found: dict[str, Any] = {}
    if queue is not None:
        found["queue"] = checked_name("queue", queue)
    if priority is not None:
        found["priority"] = _priority(priority)
    if expires is not None:
        found["expires_ms"] = millis_of("expires", expires)
    return found


def durability_of(name: object) -> Durability:
    if not isinstance(name, str) or name not in _DURABILITIES:
        raise ValueError(f"durability is 'fsync', 'os' or 'memory', not {name!r}")
    return _DURABILITIES[name]


def id_of(value: object) -> bytes:
    """A job's id from its text (32 hex digits, with or without dashes) or a UUID."""
    if isinstance(value, UUID):
        return value.bytes
    if isinstance(value, str):
        try:
            return UUID(value).bytes
        except ValueError:
            pass
    raise ValueError(f"a job's id is 32 hex digits, not {value!r}")


def _priority(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"priority is a whole number, not {value!r}")
    if not -limits.PRIORITY_MAX <= value <= limits.PRIORITY_MAX:
        raise ValueError(f"priority is from -{limits.PRIORITY_MAX} to {limits.PRIORITY_MAX}, not {value}")
    return value


def moment_ms(value: object) -> int:
    """The wall time of the option `at`."""
    if isinstance(value, datetime):
        if value.tzinfo is None or value.utcoffset() is None:
            raise ValueError(
                f"at: {value.isoformat()} has no time zone, so it names no moment; "
                "write datetime(..., tzinfo=ZoneInfo('Europe/Berlin')), or datetime.now(UTC) + ..."
            )
        value = value.astimezone(UTC).timestamp()
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"at is an aware datetime or seconds since 1970, not {value!r}")
    if not 0 <= value < _YEAR_10000_S:
        raise ValueError(f"at is a moment after 1970 and before the year 10000, not {value!r}")
    return math.ceil(round(value * 1000, 3))


def _positive_ms(name: str, value: Seconds) -> int:
    millis = millis_of(name, value)
    if not millis:
        raise ValueError(f"{name} is more than 0; leave it out for no bound")
    return millis


def _labels(value: object) -> tuple[tuple[str, str], ...]:
    return tuple((name, _label(name, text)) for name, text in _by_name("labels", value, "{'region': 'eu'}"))


def _label(name: str, value: object) -> str:
    text = str(value) if isinstance(value, int) and not isinstance(value, bool) else value
    if not isinstance(text, str):
        raise TypeError(f"labels: the value of {name!r} is a text, not {value!r}")
    if len(text) > limits.TEXT_CHARS_MAX:
        raise ValueError(
            f"labels: the value of {name!r} has {len(text)} characters; at most {limits.TEXT_CHARS_MAX}"
        )
    return text


def _resources(value: object) -> tuple[tuple[str, int], ...]:
    pairs = _by_name("resources", value, "{'gpu': 1}")
    for name, count in pairs:
        if isinstance(count, bool) or not isinstance(count, int):
            raise TypeError(f"resources: how much of {name!r} is a whole number, not {count!r}")
        if not 1 <= count <= _RESOURCE_MAX:
            raise ValueError(f"resources: how much of {name!r} is from 1 to {_RESOURCE_MAX}, not {count}")
    return tuple(pairs)


def _by_name(what: str, value: object, example: str) -> list[tuple[str, Any]]:
    """The pairs of a mapping in the order of their names, so that equal ones are equal on the wire."""
    if not isinstance(value, Mapping):
        raise TypeError(f"{what} is a dict such as {example}, not {value!r}")
    if len(value) > limits.EXT_ITEMS_MAX:
        raise ValueError(f"{what} has at most {limits.EXT_ITEMS_MAX} names, not {len(value)}")
    return sorted((checked_name(f"{what}: the name", name), each) for name, each in value.items())


def _callback(name: str, value: object) -> Callback | str:
    if isinstance(value, str):
        return checked_name(name, value)
    if isinstance(value, Declared):
        return callback_to(value)
    raise TypeError(f"{name} is a task or the name of one, not {value!r}")


def _keep_ms(value: bool | Seconds) -> int:
    if isinstance(value, bool):
        return limits.KEEP_RESULT_MS if value else 0
    return millis_of("keep_result", value)


# Those that are not terms, but the job's own.
_RARE: Final[dict[str, Any]] = {
    "key": key_of,
    "unique": unique_of,
    "replace": lambda value: flag_of("replace", value),
    "bind": lambda value: flag_of("bind", value),
    "meta": meta_of,
}
_FIELDS: Final = {"replace": "is_replacing", "bind": "is_bound"}
# They leave the terms as they are.
NO_TERMS: Final = frozenset({*_RARE, "id", "confirm_timeout"})

_CHECKS: Final[dict[str, Any]] = {
    "queue": lambda value: ("queue", checked_name("queue", value)),
    "priority": lambda value: ("priority", _priority(value)),
    "delay": lambda value: ("delay_ms", millis_of("delay", value)),
    "at": lambda value: ("at_ms", moment_ms(value)),
    "expires": lambda value: ("expires_ms", _positive_ms("expires", value)),
    "timeout": lambda value: ("timeout_ms", _positive_ms("timeout", value)),
    "retry": lambda value: ("retry", policy_of(value)),
    "on_failure": lambda value: ("on_failure", _callback("on_failure", value)),
    "on_dead": lambda value: ("on_dead", _callback("on_dead", value)),
    "keep_result": lambda value: ("keep_ms", _keep_ms(value)),
    "durability": lambda value: ("durability", durability_of(value)),
    "id": lambda value: ("id", id_of(value)),
    "labels": lambda value: ("labels", _labels(value)),
    "resources": lambda value: ("resources", _resources(value)),
    "concurrency": lambda value: ("concurrency", concurrency_of(value)),
    "rate_limit": lambda value: ("rate", rate_of(value)),
    "confirm_timeout": lambda value: ("confirm_timeout_ms", _positive_ms("confirm_timeout", value)),
}


@lru_cache(maxsize=256)
def with_durability(terms: Terms, durability: Durability) -> Terms:
    """One object for all jobs with these terms, so that they share it on the wire."""
    return msgspec.structs.replace(terms, durability=durability)
