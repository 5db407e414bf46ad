"""Steering: what people decide about queues, tasks and keys while all runs. Each decision is a record,
with its reason and whose it was.
"""

from typing import Final

from msgspec import structs

from taskq import limits
from taskq.core import records as r
from taskq.core.effects import Now
from taskq.core.job import Job
from taskq.core.ledger import Ledger
from taskq.core.lines.gates import Gate, Spot
from taskq.core.lines.queues import Queues
from taskq.core.lines.registry import Registry
from taskq.core.lines.workers import Roster
from taskq.core.records import SettingKey
from taskq.core.timers import Timers
from taskq.protocol.messages import (
    Announce,
    AskSettings,
    Limit,
    Refusal,
    SettingReport,
    Settings,
    Steer,
    Steered,
    Steering,
)

# What runs counts for these; a pause or a weight does not ask who runs.
COUNTING: Final = ("concurrency", "rate")


class Controls:
    """Turns decisions into settings, and lets the gates follow."""

    def __init__(
        self, ledger: Ledger, registry: Registry, queues: Queues, roster: Roster, timers: Timers
    ) -> None:
        self._ledger = ledger
        self._settings = ledger.state.settings
        self._registry = registry
        self._queues = queues
        self._roster = roster
        self._timers = timers
        self._ending: dict[int, r.Setting] = {}  # pauses with an end, by the number of their timer
        self._numbers: dict[SettingKey, int] = {}  # of the one that is meant
        self._count = 0

    def begin(self, now: Now) -> None:
        """After recovery: everything that was decided holds on."""
        for setting in self._settings.values():
            self._set_end(setting, now)
        # No job is in line yet: all that can count are those that run.
        for worker in self._roster.workers.values():
            for lease, job in worker.held.items():
                self._registry.move(lease, self._queues.lane(job).gates)

    # -- deciding -----------------------------------------------------------------------------

    def steer(self, by: str, steer: Steer, now: Now) -> Steered | Refusal:
        """All of it or nothing."""
        for item in steer.items:
            problem = _problem(item)
            if problem:
                return Refusal(steer.request, "invalid", problem)
        if len(self._settings) + len(steer.items) > limits.SETTINGS_MAX:
            text = f"{len(self._settings)} settings; the limit is {limits.SETTINGS_MAX}"
            return Refusal(steer.request, "busy", text)
        made = [_setting(item, steer.reason, by, now) for item in steer.items]
        news = [setting for setting in made if self._is_news(setting)]
        self._set(news, now)
        return Steered(steer.request, len(news))

    def hold_key(self, job: Job, key: str, for_ms: int, reason: str, now: Now) -> None:
        """A task asks that the jobs of a key in its queue wait: `raise Throttle(key, seconds)`. It never
        shortens what was decided before, nor adds one setting too many: then only its own job waits."""
        item = Steering("queue", job.terms.queue, "pause", key=key, for_ms=for_ms)
        setting = _setting(item, reason, f"job {job.id.hex()}", now)
        there = self._settings.get(r.key_of(setting))
        is_held = there is not None and (not there.until_ms or there.until_ms >= setting.until_ms)
        if for_ms and not is_held and (there is not None or len(self._settings) < limits.SETTINGS_MAX):
            self._set([setting], now)

    def declare(self, announce: Announce, now: Now) -> None:
        """The limits that a worker's code has for its tasks; the latest word holds."""
        declared = self._registry.declared
        wanted: dict[SettingKey, Limit] = {_key_of(limit): limit for limit in announce.declared}
        if len(declared) > limits.TASKS_PER_WORKER_MAX:
            self._forget_limits()
        changed: dict[Spot, None] = {}
        for key, limit in list(declared.items()):
            if limit.name in announce.tasks and wanted.get(key) != limit:
                del declared[key]
                changed[Spot(limit.scope, limit.name)] = None
        for key, limit in wanted.items():
            if declared.get(key) != limit:
                declared[key] = limit
                changed[Spot(limit.scope, limit.name)] = None
        for spot in changed:
            self._look_again(spot, now)

    def is_ending(self, number: int) -> bool:
        """Does this timer still end a pause?"""
        return number in self._ending

    def end_pause(self, number: int, now: Now) -> None:
        """The time of a pause is over; called by its timer."""
        setting = self._ending.pop(number, None)
        # Another may have been decided meanwhile, for longer.
        if setting is not None and self._settings.get(r.key_of(setting)) == setting:
            self._set([structs.replace(setting, is_set=False, wall_ms=now.wall_ms)], now)

    # -- telling ------------------------------------------------------------------------------

    def report(self, question: AskSettings) -> Settings:
        items = [
            SettingReport(
                setting.scope,
                setting.name,
                setting.kind,
                setting.key,
                setting.per_key,
                setting.count,
                setting.period_ms,
                setting.burst,
                setting.until_ms,
                setting.reason,
                setting.by,
                setting.wall_ms,
            )
            for setting in self._settings.values()
            if question.name in ("", setting.name)
        ]
        items += [
            SettingReport(
                limit.scope,
                limit.name,
                limit.kind,
                "",
                limit.per_key,
                limit.count,
                limit.period_ms,
                limit.burst,
                is_declared=True,
            )
            for limit in self._registry.declared.values()
            if question.name in ("", limit.name)
        ]
        return Settings(question.request, items[: limits.BATCH_MAX])

    # -- parts --------------------------------------------------------------------------------

    def _is_news(self, setting: r.Setting) -> bool:
        return setting.is_set or r.key_of(setting) in self._settings

    def _set(self, settings: list[r.Setting], now: Now) -> None:
        spots = [Spot(setting.scope, setting.name, setting.key) for setting in settings]
        # As they are before anything is decided: to look for one spot makes and drops gates of others.
        before = {spot: self._registry.gates.get(spot) for spot in spots}
        for setting in settings:
            self._ledger.set(setting)
            self._set_end(setting, now)
        for setting, spot in zip(settings, spots, strict=True):
            if setting.kind in COUNTING or setting.kind == "weight":
                self._look_again(spot, now)
            else:
                self._open_or_shut(spot, before[spot], now)

    def _set_end(self, setting: r.Setting, now: Now) -> None:
        if setting.kind == "pause":
            self._ending.pop(self._numbers.pop(r.key_of(setting), 0), None)  # the one before has no say
        if setting.is_set and setting.until_ms:
            # In no more time than it was to take: somebody may have set the clock back meanwhile.
            wait_ms = min(max(setting.until_ms - now.wall_ms, 0), setting.until_ms - setting.wall_ms)
            self._count += 1
            self._ending[self._count] = setting
            self._numbers[r.key_of(setting)] = self._count
            self._timers.after(now.boot_ms + wait_ms, "pause", self._count)

    def _open_or_shut(self, spot: Spot, before: Gate | None, now: Now) -> None:
        """A pause does not ask who runs, and where there is a gate already, nobody has to look for it."""
        # Where there was none, one may have been dropped before which some stand still.
        if before is None or self._registry.gate(*spot) is not before:
            self._queues.regate(spot)
        self._registry.changed(spot, now)

    def _look_again(self, spot: Spot, now: Now) -> None:
        """Gates may have to come or go before lanes, what runs is counted at them, and they may open."""
        self._queues.regate(spot)
        for worker in self._roster.workers.values():
            for lease, job in worker.held.items():
                if spot.covers(job.terms.queue, job.terms.task, job.key):
                    self._registry.move(lease, self._queues.lane(job).gates)
        self._registry.changed(spot, now)

    def _forget_limits(self) -> None:
        """Names come from workers: limits of tasks that none of them has any more must not pile up."""
        known = {task: None for worker in self._roster.workers.values() for task in worker.by_task}
        declared = self._registry.declared
        for key in [
            key for key, limit in declared.items() if limit.scope == "task" and limit.name not in known
        ]:
            del declared[key]


def _key_of(limit: Limit) -> SettingKey:
    return (limit.scope, limit.name, "", limit.kind, limit.per_key)


def _problem(item: Steering) -> str:
    """What is wrong with a decision; empty: nothing."""
    what = f"{item.kind} of {Spot(item.scope, item.name, item.key)}"
    if not item.is_set:
        return ""
    if item.kind == "rate" and not (item.count and item.period_ms):
        return f"{what}: a rate is at least 1 in a period of at least 1 ms; pause it to let nothing start"
    if item.kind == "weight" and not (1 <= item.count <= limits.WEIGHT_MAX and item.scope == "queue"):
        return f"{what}: a key of a queue weighs from 1 to {limits.WEIGHT_MAX}"
    if item.kind == "closed" and (item.key or item.scope != "queue"):
        return f"{what}: whole queues are closed, nothing else"
    if item.for_ms and item.kind != "pause":
        return f"{what}: only a pause ends by itself"
    if item.per_key and (item.key or item.kind not in ("concurrency", "rate")):
        return f"{what}: per_key goes with a limit of a whole queue or task"
    return ""


def _setting(item: Steering, reason: str, by: str, now: Now) -> r.Setting:
    return r.Setting(
        scope=item.scope,
        name=item.name,
        key=item.key,
        kind=item.kind,
        per_key=item.per_key,
        count=item.count,
        period_ms=item.period_ms,
        burst=item.burst,
        until_ms=now.wall_ms + item.for_ms if item.for_ms else 0,
        reason=reason,
        by=by,
        wall_ms=now.wall_ms,
        is_set=item.is_set,
    )
