"""Compares what is given with what was decided about queues and tasks: nothing that is paused, never one
too many at once, never one too soon. Counts by itself, from what workers hold.
"""

from collections.abc import Iterator
from typing import Final

from taskq.core.effects import Now
from taskq.core.job import READY, Job
from taskq.core.lines.workers import Pool
from taskq.core.records import Setting
from tests.simulation.agenda import Violation
from tests.simulation.host import BrokerHost

# A turn of the broker begins when something happens; a slow commit may hold it up.
LATE_MS: Final = 1_000


class Gatekeeper:
    """Looks at each turn of the broker."""

    def __init__(self, *, wall_is_steady: bool) -> None:
        self._wall_is_steady = wall_is_steady
        self._newest = 0  # lease
        self._turn = 0
        self._starts: dict[Setting, list[int]] = {}  # boot ms, since it was decided or the broker restarted

    def on_crashed(self) -> None:
        self._starts = {}

    def on_turn(self, host: BrokerHost, now: Now) -> None:
        settings = host.broker.state.settings.values()
        workers = host.broker.roster.workers.values()
        held = [pair for worker in workers for pair in worker.held.items()]
        given = sorted((pair for pair in held if pair[0] > self._newest), key=lambda pair: pair[0])
        self._keys_take_turns(host, dict(given))
        if given:
            self._newest = given[-1][0]
        for setting in settings:
            started = [job for _, job in given if concerns(setting, job)]
            if setting.kind == "pause" and started:
                raise Violation("I11", f"{started[0].id.hex()} was given, but {_what(setting)} is paused")
            for job in started if setting.kind == "concurrency" else ():
                running = sum(_are_counted_together(setting, job, other) for _, other in held)
                if running > setting.count:
                    raise Violation("I11", f"{running} run of {_what(setting)}; the limit is {setting.count}")
            if setting.kind == "rate":
                self._check_rate(setting, [now.boot_ms] * len(started))
            if setting.until_ms and self._wall_is_steady and now.wall_ms > setting.until_ms + LATE_MS:
                raise Violation(
                    "V1", f"the pause of {_what(setting)} should have ended at {setting.until_ms}"
                )

    def _keys_take_turns(self, host: BrokerHost, given: dict[int, Job]) -> None:
        """As long as a key waits that could be served, no other of its queue is served twice by workers
        that are alike. What became ready in this very turn may have come when all was given (I10)."""
        before, self._turn = self._turn, host.broker.attempts.turn
        served: dict[tuple[int, str], list[str]] = {}
        pools: dict[int, Pool] = {}
        for worker in host.broker.roster.workers.values():
            for lease in worker.held:
                slots = worker.by_task.get(given[lease].terms.task) if lease in given else None
                if slots is not None:
                    pools[id(slots.pool)] = slots.pool
        for lease, job in given.items():
            pool = _pool_of(host, lease, job)
            if pool is not None:
                served.setdefault((id(pool), job.terms.queue), []).append(job.key)
        for job in host.broker.state.jobs.values():
            if job.state is not READY or job.turn >= before or host.broker.queues.is_aside(job):
                continue
            lane = host.broker.queues.lane(job)
            for (number, queue), keys in served.items():
                if queue == lane.queue and pools[number].sees(lane) and not is_held_up(host, job):
                    _check_turns(keys, job)

    def _check_rate(self, setting: Setting, started: list[int]) -> None:
        starts = self._starts.setdefault(setting, [])
        starts += started
        if not started:
            return
        burst = setting.burst or setting.count
        for at, first in enumerate(starts):
            number, passed_ms = len(starts) - at, starts[-1] - first
            if number * setting.period_ms > burst * setting.period_ms + passed_ms * setting.count:
                raise Violation(
                    "I11", f"{number} of {_what(setting)} were given in {passed_ms} ms: {setting}"
                )

    def at_rest(self, host: BrokerHost) -> None:
        for gate in host.broker.registry.gates.values():
            if gate.running or gate.waiting:
                text = f"{gate.running} run and {gate.waiting} wait at {gate.spot}"
                raise Violation("I11", f"nothing is left, but {text}")


def _pool_of(host: BrokerHost, lease: int, job: Job) -> Pool | None:
    for worker in host.broker.roster.workers.values():
        if lease in worker.held:
            slots = worker.by_task.get(job.terms.task)
            return None if slots is None else slots.pool
    return None


def _check_turns(keys: list[str], waiting: Job) -> None:
    """Between two turns of any key there is one of the key that waits."""
    since: dict[str, None] = {}
    for key in keys:
        if key == waiting.key:
            since = {}
        elif key in since:
            raise Violation(
                "I10",
                f"key {key!r} was served twice, and {waiting.id.hex()} of {waiting.key!r} waits: {keys}",
            )
        else:
            since[key] = None


def is_held_up(host: BrokerHost, job: Job) -> bool:
    """Has somebody decided that this job does not start now, or may a rate say so?"""
    return any(_holds_up(host, setting, job) for setting in _concerning(host, job))


def _concerning(host: BrokerHost, job: Job) -> Iterator[Setting]:
    assert job.state is READY
    return (each for each in host.broker.state.settings.values() if concerns(each, job))


def _holds_up(host: BrokerHost, setting: Setting, job: Job) -> bool:
    if setting.kind != "concurrency":
        return setting.kind in ("pause", "rate")
    workers = host.broker.roster.workers.values()
    held = (other for worker in workers for other in worker.held.values())
    return sum(_are_counted_together(setting, job, other) for other in held) >= setting.count


def concerns(setting: Setting, job: Job) -> bool:
    name = job.terms.queue if setting.scope == "queue" else job.terms.task
    if setting.per_key and not job.key:
        return False
    return setting.name == name and setting.key in ("", job.key)


def _are_counted_together(setting: Setting, job: Job, other: Job) -> bool:
    return concerns(setting, other) and (not setting.per_key or other.key == job.key)


def _what(setting: Setting) -> str:
    return f"{setting.scope} {setting.name!r}"
