"""All gates by what they belong to, who went through them, and what the settings make of them."""

from collections.abc import Iterable, Mapping
from typing import Literal

from taskq.core import records as r
from taskq.core.effects import Now
from taskq.core.lines.gates import Gate, Scope, Spot
from taskq.core.records import SettingKey
from taskq.core.timers import Timers
from taskq.protocol.messages import Limit


class Registry:
    """Answers which gates a job has to go through. A gate is made when somebody first asks for it and a
    setting wants it."""

    def __init__(self, timers: Timers, settings: Mapping[SettingKey, r.Setting]) -> None:
        self.gates: dict[Spot, Gate] = {}
        self.taken: dict[int, tuple[Gate, ...]] = {}  # by lease; only of those that went through any
        self.declared: dict[SettingKey, Limit] = {}  # in code; a setting goes before it
        self._settings = settings
        self._timers = timers
        self._by_number: dict[int, Gate] = {}
        self._count = 0
        self._now_ms = 0  # boot; when somebody last told

    # -- asking -------------------------------------------------------------------------------

    def gate(self, scope: Scope, name: str, key: str = "") -> Gate | None:
        """The gate of this spot; None: nothing is asked of it."""
        spot = Spot(scope, name, key)
        gate = self.gates.get(spot)
        if not self._is_limited(spot):
            if gate is not None and gate.has_waiting:
                return gate  # those that wait at it are let through by and by
            if gate is not None:
                del self.gates[spot], self._by_number[gate.number]
            return None
        if gate is not None:
            return gate
        self._count += 1
        gate = self.gates[spot] = self._by_number[self._count] = Gate(spot, self._count, self._timers)
        self._configure(gate)
        return gate

    def weight(self, queue: str, key: str) -> int:
        """How many jobs this key gives in its turn."""
        setting = self._settings.get(("queue", queue, key, "weight", False))
        return setting.count if setting is not None else 1

    def pause_of(self, spot: Spot) -> r.Setting | None:
        return self._settings.get((spot.scope, spot.name, spot.key, "pause", False))

    def limit_of(self, spot: Spot, kind: Literal["concurrency", "rate"]) -> r.Setting | Limit | None:
        """What was set for this very key, else for each key or for the whole; else what code declares."""
        per_key = bool(spot.key)
        if per_key:
            own = self._settings.get((spot.scope, spot.name, spot.key, kind, False))
            if own is not None:
                return own
        wide = (spot.scope, spot.name, "", kind, per_key)
        return self._settings.get(wide) or self.declared.get(wide)

    # -- going through ------------------------------------------------------------------------

    def enter(self, lease: int, gates: tuple[Gate, ...]) -> None:
        self.taken[lease] = gates
        for gate in gates:
            gate.take()

    def leave(self, lease: int, now_ms: int) -> None:
        self._now_ms = now_ms
        for gate in self.taken.pop(lease, ()):
            gate.give_back(now_ms)

    def move(self, lease: int, gates: tuple[Gate, ...]) -> None:
        """Gates have come or gone: what runs under this lease counts at these now."""
        before = self.taken.pop(lease, ())
        for gate in before:
            gate.running -= 1
        for gate in gates:
            gate.running += 1
        if gates:
            self.taken[lease] = gates

    # -- changes ------------------------------------------------------------------------------

    def changed(self, spot: Spot, now: Now) -> None:
        """Settings of this spot are different now. Whoever may go on is woken."""
        self._now_ms = now.boot_ms
        if spot.key:
            gates = [gate for gate in (self.gates.get(spot),) if gate is not None]
        else:
            gates = [
                each for at, each in self.gates.items() if (at.scope, at.name) == (spot.scope, spot.name)
            ]
        for gate in gates:
            self._configure(gate)
            gate.wake(now.boot_ms)

    def on_timer(self, number: int, now: Now) -> None:
        self._now_ms = now.boot_ms
        gate = self._by_number.get(number)
        if gate is not None:
            gate.on_timer(now.boot_ms)

    def prune(self) -> None:
        """What has nothing to stand for must not stand before gates for ever."""
        for gate in self.gates.values():
            gate.prune()

    def sweep(self, in_use: Iterable[Gate]) -> None:
        """Keys come from peers: gates that nobody stands before and that remember nothing are dropped."""
        used = {gate.number for gate in in_use}
        for spot, gate in list(self.gates.items()):
            if gate.number not in used and gate.is_idle(self._now_ms):
                del self.gates[spot], self._by_number[gate.number]

    # -- parts --------------------------------------------------------------------------------

    def _is_limited(self, spot: Spot) -> bool:
        return (
            self.pause_of(spot) is not None
            or self.limit_of(spot, "concurrency") is not None
            or self.limit_of(spot, "rate") is not None
        )

    def _configure(self, gate: Gate) -> None:
        concurrency = self.limit_of(gate.spot, "concurrency")
        gate.limit(None if concurrency is None else concurrency.count)
        rate = self.limit_of(gate.spot, "rate")
        pace = (0, 0, 0) if rate is None else (rate.count, rate.period_ms, rate.burst)
        gate.pace(*pace, self._now_ms)
        gate.is_paused = self.pause_of(gate.spot) is not None
