"""What goes wrong: each fault strikes one thing at one moment, drawn from the seed."""

from collections.abc import Callable
from functools import partial
from random import Random
from typing import TYPE_CHECKING, Final

from taskq import limits
from taskq.errors import JournalFailed, JournalFull
from taskq.protocol.messages import Acked, Confirm, Deliver, Outcomes, Receipts, Resumed, Revoke
from tests.simulation.agenda import MS, SECOND
from tests.simulation.workers import SimWorker

if TYPE_CHECKING:
    from tests.simulation.world import World

HOUR_MS: Final = 3_600_000


class Faults:
    """Strikes a world. Which kinds there are is drawn once, so that runs differ in character."""

    def __init__(self, world: "World", rng: Random, *, wall: bool, power: bool) -> None:
        self._world = world
        self._rng = rng
        kinds: list[tuple[Callable[[], None], int]] = [
            (self._cut, 8),
            (self._snip, 8),
            (self._flap, 4),
            (self._vanish, 2),
            (self._low_disk, 3),
            (self._crash_broker, 4),
            (self._doom_broker, 4),
            (self._journal_trouble, 2),
            (self._slow_disk, 1),
            (self._kill_worker, 5),
            (self._freeze_worker, 3),
            (self._freeze_tree, 1),
            (self._kill_tree, 1),
            (self._freeze_supervisor, 1),
            (self._partition, 2),
            (self._stall, 2),
            (self._leave, 2),
            (self._kill_producer, 1),
        ]
        if wall:
            kinds.append((self._jump_wall, 4))
        if power:
            kinds.append((self._cut_power, 4))
        chosen = rng.sample(kinds, rng.randrange(1, len(kinds) + 1))
        self._kinds = [kind for kind, _ in chosen]
        self._weights = [weight for _, weight in chosen]

    def strike(self) -> None:
        """One fault; some do not come alone."""
        if self._world.is_healed:
            return
        self._rng.choices(self._kinds, self._weights)[0]()
        if self._rng.random() < 0.3:
            self._world.agenda.after(self._rng.randrange(self._rng.choice((3 * MS, 2 * SECOND))), self.strike)

    # -- connections ------------------------------------------------------------------------------

    def _cut(self) -> None:
        peers = list(self._world.host.peers.values())
        if peers:
            self._rng.choice(peers).wire.cut(self._learns(), self._learns())

    def _flap(self) -> None:
        """A worker loses its connection, and again just before the broker would judge the first loss."""
        worker = self._worker()
        wire = worker.link.wire if worker is not None else None
        if worker is None or wire is None:
            return

        def again() -> None:
            if worker.link.wire is not None and not self._world.is_healed:
                worker.link.wire.cut(0, self._learns())

        wire.cut(0, self._rng.randrange(20 * MS))
        early_us = self._rng.randrange(1, 300 * MS)
        self._world.agenda.after(limits.VOUCH_WAIT_MS * MS - early_us, again)

    def _snip(self) -> None:
        """What was decided is never heard: the moment that is worst for each promise."""
        said = (Confirm, Acked, Acked, Deliver, Revoke, Resumed, Outcomes, Receipts)
        self._world.host.snip = self._rng.choice(said)

    def _partition(self) -> None:
        """Nobody reaches the broker for a while."""
        host = self._world.host
        host.is_reachable = False
        for peer in list(host.peers.values()):
            peer.wire.cut(self._learns(), self._learns())

        def heal() -> None:
            host.is_reachable = True

        self._world.agenda.after(self._rng.randrange(3 * SECOND), heal)

    def _stall(self) -> None:
        numbers = list(self._world.host.peers)
        if numbers:
            self._world.host.stall(self._rng.choice(numbers), self._rng.randrange(100 * MS, 12 * SECOND))

    def _learns(self) -> int | None:
        return self._rng.choice((None, self._rng.randrange(5 * MS), self._rng.randrange(20 * MS), 2 * SECOND))

    # -- the broker -------------------------------------------------------------------------------

    def _crash_broker(self) -> None:
        self._world.host.crash()

    def _cut_power(self) -> None:
        self._world.host.crash(power=True)

    def _doom_broker(self) -> None:
        self._world.host.doom = self._rng.choice(("before", "after"))

    def _journal_trouble(self) -> None:
        is_full = self._rng.random() < 0.6
        self._world.host.trouble.append(JournalFull("full") if is_full else JournalFailed("failed"))

    def _low_disk(self) -> None:
        """The daemon sees that there is little room: nothing new is accepted for a while. Whoever is
        deaf then does not hear that it was refused, and loses its connection before it could."""
        host = self._world.host
        if not host.is_up:
            return
        intake = host.broker.intake
        intake.closed_because = "the broker's disk is nearly full"
        full_us = self._rng.randrange(SECOND)
        peers = [peer for peer in host.peers.values() if peer.is_welcome and peer.hello.role == "producer"]
        for peer in peers[: self._rng.randrange(3)]:
            peer.wire.down.stall()
            self._world.agenda.after(full_us + self._rng.randrange(SECOND), partial(peer.wire.cut, 0, 0))

        def find_room() -> None:
            intake.closed_because = ""

        self._world.agenda.after(full_us, find_room)

    def _slow_disk(self) -> None:
        self._world.host.slow_commits = self._rng.randrange(1, 5)

    def _jump_wall(self) -> None:
        self._world.agenda.jump_wall(self._rng.choice((-1, 1)) * self._rng.choice((HOUR_MS, 23 * HOUR_MS)))
        self._world.agenda.note("wall clock set", self._world.agenda.wall_offset_ms)
        self._world.history.custody.wall_may_mislead = True

    # -- processes --------------------------------------------------------------------------------

    def _worker(self) -> SimWorker | None:
        alive = [worker for worker in self._world.workers if worker.is_alive]
        return self._rng.choice(alive) if alive else None

    def _kill_worker(self) -> None:
        worker = self._worker()
        if worker is not None:
            worker.kill()

    def _vanish(self) -> None:
        """A machine loses its power."""
        worker = self._worker()
        if worker is None:
            return
        if worker.supervisor is not None:
            for process in (worker.supervisor, *worker.supervisor.children):
                process.vanish()
        else:
            worker.vanish()

    def _freeze_worker(self) -> None:
        """SIGSTOP to one process, or a task that never yields; a supervisor goes on vouching."""
        worker = self._worker()
        if worker is not None:
            worker.freeze(self._rng.randrange(100 * MS, self._rng.choice((2, 14)) * SECOND))

    def _freeze_tree(self) -> None:
        """The machine is suspended."""
        alive = [supervisor for supervisor in self._world.supervisors if supervisor.is_alive]
        if alive:
            supervisor = self._rng.choice(alive)
            us = self._rng.randrange(SECOND, 14 * SECOND)
            for process in (supervisor, *supervisor.children):
                process.freeze(us)

    def _kill_tree(self) -> None:
        alive = [supervisor for supervisor in self._world.supervisors if supervisor.is_alive]
        if alive:
            self._rng.choice(alive).kill()

    def _freeze_supervisor(self) -> None:
        alive = [supervisor for supervisor in self._world.supervisors if supervisor.is_alive]
        if alive:
            self._rng.choice(alive).freeze(self._rng.randrange(500 * MS, 12 * SECOND))

    def _leave(self) -> None:
        worker = self._worker()
        if worker is not None:
            worker.leave(self._rng.randrange(3 * SECOND))

    def _kill_producer(self) -> None:
        alive = [producer for producer in self._world.producers if producer.is_alive]
        if not alive:
            return
        producer = self._rng.choice(alive)
        if self._rng.random() < 0.5:
            producer.link.close()  # it says goodbye
        self._world.lose_producer(producer)
        self._world.add_producer()
