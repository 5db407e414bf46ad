"""Drain, decide, commit, speak: the engine on a real loop with a real journal.

One turn decides everything that has arrived, then says what may be said, one write a peer. Commits
run beside the turns, one at a time, in `commit_batches`.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping

from taskq import limits
from taskq.core.broker import Event
from taskq.core.effects import Batch, Close, Effect
from taskq.errors import JournalError, JournalFailed, JournalFull
from taskq.journal.base import Journal
from taskq.protocol.messages import Deliver, Message, Outcomes
from taskq.server.clock import read_clocks
from taskq.server.engine import Engine
from taskq.server.inbox import Inbox
from taskq.server.peer import PeerProtocol

log = logging.getLogger("taskq.server")

# Of a job's way through, these are on the critical path: a write takes 10 us, and the others can wait.
AWAITED = (Deliver, Outcomes)
A_BUG = "a bug of ours; what was confirmed is in the journal"
# A turn decides about so much. With larger ones, producers, broker and workers work by turns on one
# great heap of jobs, and all but one core wait; with smaller ones, commits and writes are not shared.
TURN_BYTES = 32 * 1024
# How long until a commit is tried again that found the disk full.
FULL_WAIT_SECONDS = 1.0


class Turns:
    """What has arrived, until it is decided; what is decided, until it is committed and said."""

    def __init__(
        self,
        engine: Engine,
        journal: Journal,
        peers: Mapping[int, PeerProtocol],
        on_failure: Callable[[str], None],
    ) -> None:
        self.is_full = False  # the newest append found no room, and is tried again
        self.late_ms = 0
        self.commits = 0
        self._loop = asyncio.get_running_loop()
        self._engine = engine
        self._journal = journal
        self._peers = peers
        self._on_failure = on_failure
        self._inbox = Inbox()
        self._uncommitted_bytes = 0  # decided since the last cut, about
        self._is_due = False
        self._timer: asyncio.TimerHandle | None = None
        self._timer_ms = 0
        self._due_at_ms = 0
        self._commit: tuple[Batch, Awaitable[object]] | None = None  # begun, and not yet seen to
        self._commit_wanted = asyncio.Event()
        self._has_failed = False
        self._is_last = False
        self._is_over = False

    def post(self, events: list[Event], size: int, peer: PeerProtocol) -> None:
        """Something has happened; it is decided in the turn at the end of this round of the loop."""
        self._inbox.post(events, size, peer)
        self.schedule()

    def schedule(self) -> None:
        """Take a turn in this round of the loop."""
        if not self._is_due:
            self._is_due = True
            self._loop.call_soon(self._turn)

    async def finish(self, committer: "asyncio.Task[None]") -> None:
        """Decide what has arrived, commit it and say it. Nothing must be posted after this began."""
        self._inbox.forget_pauses()
        self._turn()
        # What the disk has no room for now was promised to nobody: it will be said to the next broker.
        while self._inbox and not self._has_failed and not self._is_disk_behind:
            self._turn()
        self._is_last = True
        self._commit_wanted.set()
        await committer
        self._is_over = True
        if self._timer is not None:
            self._timer.cancel()

    def fail(self, reason: str) -> None:
        """Nothing more is decided, committed or said."""
        self._has_failed = True
        self._is_last = True
        self._commit_wanted.set()
        self._on_failure(reason)

    # -- turns --------------------------------------------------------------------------------

    def _turn(self) -> None:
        self._is_due = False
        if self._has_failed or self._is_over:
            return
        if self._is_disk_behind:
            return  # TCP pushes back until the commit has ended
        events, size = self._inbox.take(TURN_BYTES)
        self._uncommitted_bytes += size
        now = read_clocks()
        if self._due_at_ms:
            self.late_ms = max(now.boot_ms - self._due_at_ms, 0)
            self._due_at_ms = 0
        try:
            self._speak(self._engine.turn(events, now))
        except Exception:
            # A broken invariant: what is in memory cannot be trusted any more, what is on the disk can.
            log.exception("a decision failed")
            self.fail(A_BUG)
            return
        self._begin_commit()
        if self._inbox:
            self.schedule()
        self._set_timer(now.boot_ms)

    @property
    def _is_disk_behind(self) -> bool:
        return self._uncommitted_bytes > limits.COMMIT_BYTES_MAX and self._engine.committing is not None

    def _speak(self, effects: Iterable[Effect]) -> None:
        """Each peer gets all that it is told in one write; those first that somebody waits for."""
        said: dict[int, list[Message]] = {}
        awaited: dict[int, None] = {}
        closes: list[Close] = []
        for effect in effects:
            if isinstance(effect, Close):
                closes.append(effect)
            else:
                said.setdefault(effect.peer, []).append(effect.message)
                if type(effect.message) in AWAITED:
                    awaited[effect.peer] = None
        for number in (*awaited, *said):
            peer = self._peers.get(number)
            messages = said.pop(number, None)
            if peer is not None and messages is not None:
                peer.say(messages)
        for close in closes:
            peer = self._peers.get(close.peer)
            if peer is not None:
                log.warning("%s: %s; closing", peer.name, close.goodbye.text)
                peer.part(close.goodbye)

    def _set_timer(self, boot_ms: int) -> None:
        """One timer for all that waits for a time."""
        deadline_ms = self._engine.broker.next_deadline(read_clocks())
        if deadline_ms is None or (self._timer is not None and self._timer_ms <= deadline_ms):
            return
        if self._timer is not None:
            self._timer.cancel()
        self._timer_ms = deadline_ms
        self._timer = self._loop.call_later(max(deadline_ms - boot_ms, 0) / 1000, self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        self._due_at_ms = self._timer_ms
        self.schedule()

    # -- commits ------------------------------------------------------------------------------

    def _begin_commit(self) -> None:
        """Hand the next batch to the journal, unless one is on its way."""
        # After a broken decision nothing more is written: its records may be half of a change.
        batch = self._engine.next_batch() if not self._has_failed else None
        if batch is None:
            return
        self._uncommitted_bytes = 0
        try:
            going = asyncio.ensure_future(self._journal.append(batch.seq, batch.blob, batch.durability))
        except JournalError as error:
            going = asyncio.ensure_future(_failed(error))
        self._commit = (batch, going)
        self._commit_wanted.set()

    async def commit_batches(self) -> None:
        """See to batch after batch; ends after `finish` when nothing is left, or on failure."""
        while True:
            if self._commit is None:
                if self._is_last:
                    return
                self._commit_wanted.clear()
                await self._commit_wanted.wait()
                continue
            batch, going = self._commit
            self._commit = None
            try:
                await self._until_committed(batch, going)
                self.commits += 1
                self._speak(self._engine.on_committed())
                self._begin_commit()
                if self._inbox or self._due_at_ms:
                    self.schedule()
                before = self._engine.trim_before()
                if before is not None:
                    await self._journal.trim(before)
            except JournalError as error:
                # Whether it was written is not known, and trying again could hide that it was not.
                self.fail(f"the journal failed: {error}")
                return
            except Exception:
                log.exception("seeing to a commit failed")
                self.fail(A_BUG)
                return

    async def _until_committed(self, batch: Batch, going: Awaitable[object]) -> None:
        """A full disk is waited for: nothing was written, and nothing was promised."""
        while True:
            try:
                await going
                self.is_full = False
                return
            except JournalFull as error:
                self.is_full = True
                self._engine.broker.intake.closed_because = "the broker's disk is full"
                log.error("%s; nothing is confirmed until there is room", error)
                if self._is_last:
                    raise JournalFailed("the disk is full, and the broker was told to stop") from error
                await asyncio.sleep(FULL_WAIT_SECONDS)
                going = self._journal.append(batch.seq, batch.blob, batch.durability)


async def _failed(error: JournalError) -> None:
    raise error
