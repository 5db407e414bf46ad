"""`taskq broker`: opens the journal and the port, serves, and stops without losing a word."""

import asyncio
import contextlib
import gc
import logging
import os
import signal
import time
from collections.abc import Callable
from http import HTTPStatus
from random import Random

from taskq import __version__, limits
from taskq.core.broker import Broker, Event
from taskq.core.retention import DeadBounds
from taskq.errors import ConfigError
from taskq.journal.base import open_journal
from taskq.protocol.messages import Goodbye, Hello
from taskq.server.clock import read_clocks
from taskq.server.engine import Engine
from taskq.server.http import HttpPages
from taskq.server.listen import bind, listen_unix, stop_listening, why_not_bound
from taskq.server.metrics import metrics_text
from taskq.server.peer import PeerProtocol
from taskq.server.settings import BrokerSettings
from taskq.server.turns import Turns

log = logging.getLogger("taskq.server")

EXIT_INTERNAL = 70
# How often the disk is looked at, and a commit tried again that found it full.
DISK_LOOK_SECONDS = 1.0
# How long peers get to read what was said last.
GOODBYE_SECONDS = 2.0
# A fleet that reconnects at once must not find the door shut: a refused SYN is tried again after 1 s.
BACKLOG = 1_024
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
        self.serving = asyncio.Event()
        self._stopping = asyncio.Event()
        self._all_left = asyncio.Event()
        self._exit_code = 0
        self._is_ready = False

    # -- life ---------------------------------------------------------------------------------

    async def run(self) -> int:
        """Open, recover, serve, stop."""
        # The port first: who has it taken should hear so before a large journal is read.
        host, port = self._settings.host, self._settings.port
        sock = bind(host, port)
        self.address = (host, sock.getsockname()[1])
        try:
            self._journal = await open_journal(self._settings.journal)
        except BaseException:
            sock.close()
            raise
        servers: list[asyncio.Server] = []
        try:
            await self._recover()
            servers.append(
                await asyncio.get_running_loop().create_server(self._make_peer, sock=sock, backlog=BACKLOG)
            )
            if self._settings.unix is not None:
                servers.append(await listen_unix(self._make_peer, self._settings.unix))
            http = await self._start_http()
        except BaseException:
            for server in servers:
                server.close()
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
        committer = asyncio.create_task(self._turns.commit_batches())
        watchman = asyncio.create_task(self._watch())
        self._is_ready = True
        self._turns.schedule()
        host, port = self.address
        self._settings.announce(f"listening on taskq://{f'[{host}]' if ':' in host else host}:{port}")
        self.serving.set()
        log.info("taskq %s, journal %s, epoch %d", __version__, self._journal.url, self.epoch)
        try:
            await self._stopping.wait()
        finally:
            self._is_ready = False
            await stop_listening(*servers)
            watchman.cancel()
            await self._wind_up(committer)
            await asyncio.gather(watchman, return_exceptions=True)
            if http is not None:
                await http.close()
        return self._exit_code

    async def _wind_up(self, committer: asyncio.Task[None]) -> None:
        """Decide what has arrived, commit it, say it and goodbye; then close."""
        # Nothing more is read: under load there would always be one more batch to commit.
        for peer in self._peers.values():
            peer.pause_reading()
        await self._turns.finish(committer)
        for peer in list(self._peers.values()):
            peer.part(Goodbye("stopping", "the broker stops"))
        if self._peers:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._all_left.wait(), GOODBYE_SECONDS)
        for peer in list(self._peers.values()):
            peer.abort()
        await self._journal.close()

    # -- start --------------------------------------------------------------------------------

    async def _recover(self) -> None:
        began = time.monotonic()
        broker = Broker(
            Random(),
            version=__version__,
            journal=self._journal.url,
            outcome_bytes=self._settings.outcome_bytes,
            dead=DeadBounds(self._settings.keep_dead, self._settings.dead_jobs, self._settings.dead_bytes),
            memory_bytes=self._settings.memory,
        )
        async for seq, blob in self._journal.read():
            broker.ledger.load(seq, blob)
        broker.ledger.go_on_from(self._journal.last_seq)
        self.epoch = await self._journal.acquire()
        self.cluster = self._journal.cluster
        broker.begin(self.epoch, read_clocks())
        self._engine = Engine(broker)
        self._turns = Turns(self._engine, self._journal, self._peers, self._fail)
        if broker.state.jobs or broker.state.outcomes:
            seconds = time.monotonic() - began
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
            raise ConfigError(why_not_bound(host, port, error)) from None
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
        """Something has happened on a connection."""
        self._turns.post(events, size, peer)

    def _fail(self, reason: str) -> None:
        log.critical("this broker stops: %s", reason)
        self._exit_code = EXIT_INTERNAL
        self._stopping.set()

    async def _watch(self) -> None:
        """Refuse submissions while the disk is nearly full: outcomes must still find room. And notice
        a journal that is gone before somebody's commit does."""
        while True:
            if not await self._journal.renew():
                self._turns.fail("the journal is no longer there or no longer ours, or its process has ended")
                return
            free = self._journal.free_bytes()
            intake = self._engine.broker.intake
            is_low = self._turns.is_full or (free is not None and free < limits.DISK_RESERVE_BYTES)
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
            status, {"commits_total": self._turns.commits, "loop_late_ms": self._turns.late_ms}
        )


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.new_event_loop
