"""What the daemon is told to do."""

from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path

from taskq import limits
from taskq.errors import ConfigError
from taskq.protocol.tokens import TokenTable


def _silently(_: str) -> None:
    """Say nothing."""


@dataclass(frozen=True, kw_only=True)
class BrokerSettings:
    """`announce` is given the lines for standard output; port 0 picks a free one; `keep_dead` is in ms."""

    host: str = "127.0.0.1"
    port: int = 7700
    journal: str = "sqlite:taskq.db"
    http: tuple[str, int] | None = None
    unix: str | None = None
    tokens_file: str | None = None
    insecure_allow_remote: bool = False
    outcome_bytes: int = limits.OUTCOME_BYTES_BUDGET
    keep_dead: int = limits.KEEP_DEAD_MS
    dead_jobs: int = limits.DEAD_JOBS_MAX
    dead_bytes: int = limits.DEAD_BYTES_BUDGET
    memory: int = 0  # bytes that jobs and outcomes may take; 0: no bound
    debug: bool = False
    announce: Callable[[str], None] = _silently

    def tokens(self) -> TokenTable | None:
        """The tokens that peers must prove; None: anyone who reaches the port may come in."""
        if self.tokens_file is None:
            return None
        path = Path(self.tokens_file)
        try:
            text = path.read_text()
        except OSError as error:
            raise ConfigError(f"tokens file {path}: {error.strerror or error}") from None
        except UnicodeDecodeError:
            raise ConfigError(f"tokens file {path}: not a text file") from None
        try:
            table = TokenTable.from_text(text)
            if not len(table):
                raise ConfigError("there is no token in it; `taskq token create` makes them")
            return table
        except ConfigError as error:
            raise ConfigError(f"tokens file {path}: {error}") from None

    def check_addresses(self) -> None:
        """Another address than loopback is for those who say so literally: nothing here is encrypted."""
        for name, host in (("--host", self.host), ("--http", self.http[0] if self.http else "")):
            if host and not is_loopback(host) and not self.insecure_allow_remote:
                raise ConfigError(
                    f"{name} {host}: only loopback addresses are served without TLS, which this version does "
                    "not have; bind 127.0.0.1 and tunnel, or add --insecure-allow-remote (and --tokens-file) "
                    "if this network is trusted"
                )


def is_loopback(host: str) -> bool:
    """Does this name mean this machine only?"""
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False
