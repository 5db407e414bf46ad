"""Connections, and which of them are alive: silence, not reading, and who vouches for whom."""

from msgspec import Struct

from taskq import limits
from taskq.core.effects import Now
from taskq.core.timers import Timers
from taskq.protocol.messages import Hello

SILENCE_MS = limits.BEAT_MS * limits.SILENT_BEATS


class Peer(Struct, eq=False):
    """One welcome connection."""

    number: int
    hello: Hello
    heard_ms: int  # boot
    look_ms: int = 0  # boot; when its silence is looked at next
    blocked_ms: int = 0  # boot; since when it does not read; 0: it reads


class Vouching(Struct, eq=False):
    """A supervisor's word for one of its processes."""

    supervisor: int
    at_ms: int  # boot


class Peers:
    """All connections. Never decides what becomes of jobs: it answers who is alive."""

    def __init__(self, timers: Timers) -> None:
        self.peers: dict[int, Peer] = {}
        self._vouched: dict[bytes, Vouching] = {}
        self._timers = timers

    def __len__(self) -> int:
        return len(self.peers)

    def add(self, number: int, hello: Hello, now: Now) -> Peer:
        peer = self.peers[number] = Peer(number, hello, now.boot_ms)
        self.watch_silence(peer)
        return peer

    def remove(self, number: int) -> list[bytes]:
        """Forget a connection; the sessions that it vouched for and now nobody does."""
        self.peers.pop(number, None)
        orphans = [session for session, word in self._vouched.items() if word.supervisor == number]
        for session in orphans:
            del self._vouched[session]
        return orphans

    def is_silent(self, peer: Peer, now: Now) -> bool:
        """Has it been silent for too long? If not, look again when it could have been."""
        if now.boot_ms - peer.heard_ms >= SILENCE_MS:
            return True
        self.watch_silence(peer)
        return False

    def watch_silence(self, peer: Peer) -> None:
        """Look again when it will have been silent for too long."""
        self._look(peer, peer.heard_ms + SILENCE_MS)

    def watch_again(self, peer: Peer, now: Now) -> None:
        """It is silent, but that is no reason yet: look again later."""
        self._look(peer, now.boot_ms + SILENCE_MS)

    def _look(self, peer: Peer, boot_ms: int) -> None:
        # The look replaces the one before, whose timer then finds that it is not the one any more.
        peer.look_ms = boot_ms
        self._timers.after(boot_ms, "silent", peer.number, boot_ms)

    # -- supervisors --------------------------------------------------------------------------

    def vouch(self, supervisor: int, sessions: list[bytes], now: Now) -> list[bytes]:
        """The supervisor's processes are now these, all alive; returns those that it no longer counts."""
        mine = dict.fromkeys(sessions)
        dropped = [
            session
            for session, word in self._vouched.items()
            if word.supervisor == supervisor and session not in mine
        ]
        for session in dropped:
            del self._vouched[session]
        for session in mine:
            self._vouched[session] = Vouching(supervisor, now.boot_ms)
        return dropped

    def unvouch(self, session: bytes) -> None:
        self._vouched.pop(session, None)

    def is_vouched(self, session: bytes) -> bool:
        """Is there a connected supervisor that counts this session among its processes?"""
        return session in self._vouched

    def supervisor_of(self, session: bytes) -> Peer | None:
        """Who counts it among its processes, and is connected."""
        word = self._vouched.get(session)
        return self.peers.get(word.supervisor) if word is not None else None

    def vouched_since(self, session: bytes, boot_ms: int) -> bool:
        """Has its supervisor vouched for it after that time?"""
        word = self._vouched.get(session)
        return word is not None and word.at_ms > boot_ms
