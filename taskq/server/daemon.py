"""`taskq broker`: sockets, the journal and the clock around the engine.

One turn: everything that has arrived is decided, then what may be said is written, one write a
peer. Commits run beside the turns, one at a time, in a task of their own.
"""

import asyncio
import contextlib
import errno
import gc
import logging
import os
import signal
import socket
from collections.abc import Callable, Iterable
from http import HTTPStatus
from random import Random

from taskq import __version__, limits
from taskq.core.broker import Broker, Event
from taskq.core.effects import Batch, Close, Effect
from taskq.errors import ConfigError, JournalError, JournalFailed, JournalFull
from taskq.journal.base import open_journal
from taskq.protocol.messages import Goodbye, Hello, Message
from taskq.server.clock import read_clocks
from taskq.server.engine import Engine
from taskq.server.http import HttpPages
from taskq.server.metrics import metrics_text
from taskq.server.peer import PeerProtocol
from taskq.server.settings import BrokerSettings

log = logging.getLogger("taskq.server")

EXIT_INTERNAL = 70
# How often the disk is looked at, and a commit tried again that found it full.
DISK_LOOK_SECONDS = 1.0
# How long peers get to read what was said last.
GOODBYE_SECONDS = 2.0
# A full collection looks at every job; most objects here die young or never.
GC_THRESHOLDS = (50_000, 50, 1_000)


def run(settings: BrokerSettings) -> int:
    """Run a broker until it is told to stop; returns the exit code. Raises ConfigError, JournalError."""
    settings.check_addresses()
    # A million recovered jobs would make the collector look at all of them again and again.
    gc.disable()
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        return runner.run(_run(settings))


async def _run(settings: BrokerSettings) -> int:
    daemon = Daemon(settings)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, daemon.on_signal, number)
    collector = asyncio.create_task(_tune_collector(daemon))
    try:
        return await daemon.run()
    finally:
        collector.cancel()


async def _tune_collector(daemon: "Daemon") -> None:
    """In a process of the broker's own: leave alone what was recovered, and look seldom."""
    await daemon.serving.wait()
    gc.collect()
    gc.freeze()
    gc.set_threshold(*GC_THRESHOLDS)
    gc.enable()


class Daemon:
    """A broker on sockets."""

    def __init__(self, settings: BrokerSettings) -> None:
        self.tokens = settings.tokens()
        self.cluster = b""
        self.epoch = 0
        self.address: tuple[str, int] = ("", 0)
        self._settings = settings
        self._peers: dict[int, PeerProtocol] = {}
        self._strangers = 0
        self._count = 0
        self._inbox: list[Event] = []
        self._inbox_bytes = 0
        self._uncommitted_bytes = 0  # decided since the last cut, about
        self._paused: list[PeerProtocol] = []
        self._turn_is_due = False
        self._timer: asyncio.TimerHandle | None = None
        self._timer_ms = 0
        self._due_at_ms = 0
        self._late_ms = 0
        self._commits = 0
        self._commit_wanted = asyncio.Event()
        self.serving = asyncio.Event()
        self._stopping = asyncio.Event()
        self._all_left = asyncio.Event()
        self._exit_code = 0
        self._is_ready = False
        self._is_last_batch = False
        self._is_full = False  # the newest append found no room, and is tried again

    # -- life ---------------------------------------------------------------------------------

    async def run(self) -> int:
        """Open, recover, serve, stop."""
        self._loop = asyncio.get_running_loop()
        # The port first: who has it taken should hear so before a large journal is read.
        sockets = self._bind()
        try:
            self._journal = await open_journal(self._settings.journal)
        except BaseException:
            for sock in sockets:
                sock.close()
            raise
        servers: list[asyncio.Server] = []
        try:
            await self._recover()
            servers += [await self._loop.create_server(self._make_peer, sock=sock) for sock in sockets]
            if self._settings.unix is not None:
                servers.append(await self._listen_unix(self._settings.unix))
            http = await self._start_http()
        except BaseException:
            for server in servers:
                server.close()
            for sock in sockets:
                sock.close()
            await self._journal.close()
            raise
        return await self._serve(servers, http)

    def stop(self) -> None:
        """Stop gracefully: decide what has arrived, commit it, say goodbye."""
        self._stopping.set()

    def on_signal(self, number: int) -> None:
        """The first stops gracefully, the second at once."""
        name = signal.Signals(number).name
        if self._stopping.is_set():
            log.warning("%s again: stopping now", name)
            os._exit(128 + number)
        log.info("%s: stopping", name)
        self.stop()

    async def _serve(self, servers: list[asyncio.Server], http: HttpPages | None) -> int:
        committer = asyncio.create_task(self._commit_batches())
        watchman = asyncio.create_task(self._watch())
        self._is_ready = True
        self._schedule_turn()
        host, port = self.address
        self._settings.announce(f"listening on taskq://{host}:{port}")
        self.serving.set()
        log.info("taskq %s, journal %s, epoch %d", __version__, self._journal.url, self.epoch)
        try:
            await self._stopping.wait()
        finally:
            self._is_ready = False
            for server in servers:
                server.close()
            watchman.cancel()
            await self._wind_up(committer)
            await asyncio.gather(watchman, return_exceptions=True)
            if http is not None:
                await http.close()
        return self._exit_code

    async def _wind_up(self, committer: asyncio.Task[None]) -> None:
        """Decide what has arrived, commit it, say it and goodbye; then close."""
        # Nothing more is read: under load there would always be one more batch to commit.
        self._paused.clear()
        for peer in self._peers.values():
            peer.pause_reading()
        if not self._exit_code:
            self._turn()
        self._is_last_batch = True
        self._commit_wanted.set()
        await committer
        if self._timer is not None:
            self._timer.cancel()
        for peer in list(self._peers.values()):
            peer.part(Goodbye("stopping", "the broker stops"))
        if self._peers:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._all_left.wait(), GOODBYE_SECONDS)
        for peer in list(self._peers.values()):
            peer.abort()
        await self._journal.close()

    # -- start --------------------------------------------------------------------------------

    def _bind(self) -> list[socket.socket]:
        host, port = self._settings.host, self._settings.port
        try:
            infos = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        except socket.gaierror as error:
            raise ConfigError(f"--host {host}: {error.strerror}") from None
        sock = socket.socket(infos[0][0], socket.SOCK_STREAM)
        try:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind(infos[0][4])
        except OSError as error:
            sock.close()
            raise ConfigError(_why_not_bound(host, port, error)) from None
        sock.setblocking(False)
        name = sock.getsockname()
        self.address = (host, name[1])
        return [sock]

    async def _listen_unix(self, path: str) -> asyncio.Server:
        # Only its owner may connect: there are no tokens in the way of a local user otherwise.
        old = os.umask(0o177)
        try:
            return await self._loop.create_unix_server(self._make_peer, path)
        except OSError as error:
            raise ConfigError(f"--listen unix:{path}: {error.strerror or error}") from None
        finally:
            os.umask(old)

    async def _recover(self) -> None:
        began = self._loop.time()
        broker = Broker(
            Random(),
            version=__version__,
            journal=self._journal.url,
            outcome_bytes=self._settings.outcome_bytes,
        )
        async for seq, blob in self._journal.read():
            broker.ledger.load(seq, blob)
        broker.ledger.go_on_from(self._journal.last_seq)
        self.epoch = await self._journal.acquire()
        self.cluster = self._journal.cluster
        broker.begin(self.epoch, read_clocks())
        self._engine = Engine(broker)
        if broker.state.jobs or broker.state.outcomes:
            seconds = self._loop.time() - began
            log.info(
                "recovered %d jobs and %d outcomes in %.2f s",
                len(broker.state.jobs),
                len(broker.state.outcomes),
                seconds,
            )

    async def _start_http(self) -> HttpPages | None:
        if self._settings.http is None:
            return None
        pages = HttpPages({"/healthz": self._healthz, "/readyz": self._readyz, "/metrics": self._metrics})
        host, port = self._settings.http
        try:
            host, port = await pages.start(host, port)
        except OSError as error:
            raise ConfigError(_why_not_bound(host, port, error)) from None
        self._settings.announce(f"serving http://{host}:{port}")
        return pages

    # -- what connections call ----------------------------------------------------------------

    def _make_peer(self) -> PeerProtocol:
        self._count += 1
        return PeerProtocol(self, self._count)

    def enter(self, peer: PeerProtocol) -> bool:
        """A connection was made; is there room for it?"""
        if len(self._peers) >= limits.CONNECTIONS_MAX or self._strangers >= limits.STRANGERS_MAX:
            return False
        self._peers[peer.number] = peer
        self._all_left.clear()
        self._strangers += 1
        return True

    def accept(self, hello: Hello) -> tuple[int, int]:
        """Somebody said a valid hello; returns the wall time and its next submit sequence."""
        self._strangers -= 1
        session = self._engine.broker.state.sessions.get(hello.session)
        # A floor that is not committed yet would be a promise; 0 promises nothing.
        is_durable = session is not None and session.seq <= self._engine.committed
        return read_clocks().wall_ms, session.floor if session is not None and is_durable else 0

    def leave(self, peer: PeerProtocol) -> None:
        if self._peers.pop(peer.number, None) is not None and not peer.is_welcome:
            self._strangers -= 1
        if not self._peers:
            self._all_left.set()

    def post(self, events: list[Event], size: int, peer: PeerProtocol) -> None:
        """Something has happened; it is decided in the turn at the end of this round of the loop."""
        self._inbox += events
        self._inbox_bytes += size
        if self._inbox_bytes > limits.INBOX_BYTES_MAX:
            peer.pause_reading()
            self._paused.append(peer)
        self._schedule_turn()

    # -- turns --------------------------------------------------------------------------------

    def _schedule_turn(self) -> None:
        if not self._turn_is_due:
            self._turn_is_due = True
            self._loop.call_soon(self._turn)

    def _turn(self) -> None:
        self._turn_is_due = False
        if self._uncommitted_bytes > limits.COMMIT_BYTES_MAX and self._engine.committing is not None:
            return  # the disk is behind: TCP pushes back until the commit has ended
        events, self._inbox = self._inbox, []
        self._uncommitted_bytes += self._inbox_bytes
        self._inbox_bytes = 0
        now = read_clocks()
        if self._due_at_ms:
            self._late_ms = max(now.boot_ms - self._due_at_ms, 0)
            self._due_at_ms = 0
        try:
            effects = self._engine.turn(events, now)
        except Exception:
            # A broken invariant: what is in memory cannot be trusted any more, what is on the disk can.
            log.exception("a decision failed")
            self._fail("a bug of ours; what was confirmed is in the journal")
            return
        self._speak(effects)
        if self._engine.committing is None and self._engine.broker.ledger.newest > self._engine.committed:
            self._commit_wanted.set()
        for peer in self._paused:
            peer.resume_reading()
        self._paused.clear()
        self._set_timer(now.boot_ms)

    def _speak(self, effects: Iterable[Effect]) -> None:
        """Each peer gets all that it is told in one write."""
        said: dict[int, list[Message]] = {}
        closes: list[Close] = []
        for effect in effects:
            if isinstance(effect, Close):
                closes.append(effect)
            else:
                said.setdefault(effect.peer, []).append(effect.message)
        for number, messages in said.items():
            peer = self._peers.get(number)
            if peer is not None:
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
        self._schedule_turn()

    # -- commits ------------------------------------------------------------------------------

    async def _commit_batches(self) -> None:
        """Append batch after batch; ends when the broker stops and nothing is left, or on failure."""
        engine = self._engine
        while True:
            # After a broken decision nothing more is written: its records may be half of a change.
            batch = engine.next_batch() if not self._exit_code else None
            if batch is None:
                if self._is_last_batch:
                    return
                self._commit_wanted.clear()
                await self._commit_wanted.wait()
                continue
            self._uncommitted_bytes = 0
            try:
                await self._append(batch)
                self._commits += 1
                self._speak(engine.on_committed())
                if self._inbox or self._due_at_ms:
                    self._schedule_turn()
                before = engine.trim_before()
                if before is not None:
                    await self._journal.trim(before)
            except JournalError as error:
                # Whether it was written is not known, and trying again could hide that it was not.
                self._fail(f"the journal failed: {error}")
                return

    async def _append(self, batch: Batch) -> None:
        """Append; a full disk is waited for: nothing was written, and nothing was promised."""
        while True:
            try:
                await self._journal.append(batch.seq, batch.blob, batch.durability)
                self._is_full = False
                return
            except JournalFull as error:
                self._is_full = True
                self._engine.broker.intake.closed_because = "the broker's disk is full"
                log.error("%s; nothing is confirmed until there is room", error)
                if self._stopping.is_set():
                    raise JournalFailed("the disk is full, and the broker was told to stop") from error
                await asyncio.sleep(DISK_LOOK_SECONDS)

    def _fail(self, reason: str) -> None:
        log.critical("this broker stops: %s", reason)
        self._exit_code = EXIT_INTERNAL
        self._is_last_batch = True
        self._commit_wanted.set()
        self._stopping.set()

    async def _watch(self) -> None:
        """Refuse submissions while the disk is nearly full: outcomes must still find room. And notice
        a journal that is gone before somebody's commit does."""
        while True:
            if not await self._journal.renew():
                self._fail("the journal is no longer ours, or its process has ended")
                return
            free = self._journal.free_bytes()
            intake = self._engine.broker.intake
            is_low = self._is_full or (free is not None and free < limits.DISK_RESERVE_BYTES)
            if is_low != bool(intake.closed_because):
                text = f"the broker's disk is nearly full: {(free or 0) >> 20} MiB are left"
                intake.closed_because = text if is_low else ""
                log.warning(text if is_low else "the disk has room again")
            await asyncio.sleep(DISK_LOOK_SECONDS)

    # -- pages --------------------------------------------------------------------------------

    def _healthz(self) -> tuple[HTTPStatus, str]:
        return HTTPStatus.OK, "ok\n"

    def _readyz(self) -> tuple[HTTPStatus, str]:
        because = self._engine.broker.intake.closed_because
        if self._is_ready and not because:
            return HTTPStatus.OK, "ready\n"
        return HTTPStatus.SERVICE_UNAVAILABLE, (because or "starting or stopping") + "\n"

    def _metrics(self) -> tuple[HTTPStatus, str]:
        status = self._engine.broker.status(0, read_clocks())
        return HTTPStatus.OK, metrics_text(
            status, {"commits_total": self._commits, "loop_late_ms": self._late_ms}
        )


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.new_event_loop


def _why_not_bound(host: str, port: int, error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return (
            f"port {port} of {host} is taken by another program; stop it (is it another broker?), "
            "or choose another port with --port (0 picks a free one)"
        )
    if error.errno == errno.EACCES:
        return f"port {port} of {host} needs privileges; choose one above 1023 with --port"
    return f"cannot listen on {host}:{port}: {error.strerror or error}"
