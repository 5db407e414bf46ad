"""Compares what is given with what was decided about queues and tasks: nothing that is paused, never one
too many at once, never one too soon. Counts by itself, from what workers hold.
"""

from collections.abc import Iterator
from typing import Final

from taskq.core.effects import Now
from taskq.core.job import READY, Job
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
        self._starts: dict[Setting, list[int]] = {}  # boot ms, since it was decided or the broker restarted

    def on_crashed(self) -> None:
        self._starts = {}

    def on_turn(self, host: BrokerHost, now: Now) -> None:
        settings = host.broker.state.settings.values()
        held = [pair for worker in host.broker.roster.workers.values() for pair in worker.held.items()]
        given = sorted((pair for pair in held if pair[0] > self._newest), key=lambda pair: pair[0])
        if given:
            self._newest = given[-1][0]
        for setting in settings:
            started = [job for _, job in given if concerns(setting, job)]
            if setting.kind == "pause" and started:
                raise Violation("I11", f"{started[0].id.hex()} was given, but {_what(setting)} is paused")
            if setting.kind == "concurrency" and started:
                running = sum(concerns(setting, job) for _, job in held)
                if running > setting.count:
                    raise Violation("I11", f"{running} run of {_what(setting)}; the limit is {setting.count}")
            if setting.kind == "rate":
                self._check_rate(setting, [now.boot_ms] * len(started))
            if setting.until_ms and self._wall_is_steady and now.wall_ms > setting.until_ms + LATE_MS:
                raise Violation(
                    "V1", f"the pause of {_what(setting)} should have ended at {setting.until_ms}"
                )

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
    running = sum(concerns(setting, other) for worker in workers for other in worker.held.values())
    return running >= setting.count


def concerns(setting: Setting, job: Job) -> bool:
    name = job.terms.queue if setting.scope == "queue" else job.terms.task
    return setting.name == name and setting.key in ("", job.key)


def _what(setting: Setting) -> str:
    return f"{setting.scope} {setting.name!r}"
