"""Tokens: who may connect, proved without sending the secret. Pure: makes no randomness, reads no file.

A token is text, `tq1_<id>_<secret>`. The id is public and names the row; the secret keys an HMAC
over the broker's nonce, so that what crosses the wire is good for one connection only.
"""

import hashlib
import hmac
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, get_args

from taskq.errors import ConfigError
from taskq.protocol.messages import Hello, Role

# A token's role, and the hello roles that it may take.
COVERS: Final[Mapping[str, frozenset[str]]] = {
    "admin": frozenset(get_args(Role)),
    "operator": frozenset({"operator", "viewer", "producer"}),
    "worker": frozenset({"worker", "supervisor", "producer", "viewer"}),
    "producer": frozenset({"producer", "viewer"}),
    "viewer": frozenset({"viewer"}),
}

_TOKEN: Final = re.compile(r"tq1_([a-z0-9]{8})_([A-Za-z0-9_-]{43})")


@dataclass(frozen=True, slots=True)
class Token:
    """A public id (8 characters) and a secret (256 bits as 43 characters of url-safe base64)."""

    id: str
    # Not in the repr: reprs end up in logs.
    secret: str = field(repr=False)

    @staticmethod
    def parse(text: str) -> "Token":
        """The token that this text is. Raises ConfigError, whose text does not quote it."""
        match = _TOKEN.fullmatch(text.strip())
        if match is None:
            raise ConfigError(
                "not a token: a token is tq1_<id>_<secret>, with 8 characters of id and 43 of secret; "
                "`taskq token create` makes one"
            )
        return Token(id=match[1], secret=match[2])

    @property
    def text(self) -> str:
        return f"tq1_{self.id}_{self.secret}"


def proof(token: Token, nonce: bytes, role: str, version: int) -> bytes:
    """HMAC-SHA256 over nonce, role and version (8 bytes, big-endian); its key is the secret, as ASCII."""
    said = nonce + role.encode() + version.to_bytes(8, "big")
    return hmac.digest(token.secret.encode(), said, hashlib.sha256)


# An unknown id is checked against this one, so that it takes as long as a known one.
_NOBODY: Final = Token(id="nobody00", secret="A" * 43)


class TokenTable:
    """The tokens that a broker lets in, by id. An empty table lets nobody in."""

    def __init__(self, tokens: Mapping[str, tuple[str, Token]]) -> None:
        self._tokens = dict(tokens)

    @staticmethod
    def from_text(text: str) -> "TokenTable":
        """The table in a token file: lines `role token`, `#` begins a comment.

        Raises ConfigError naming the line; never what stands in it, for that may be a secret.
        """
        tokens: dict[str, tuple[str, Token]] = {}
        for number, line in enumerate(text.splitlines(), start=1):
            words = line.partition("#")[0].split()
            if not words:
                continue
            role, token = _row(words, number)
            if token.id in tokens:
                raise ConfigError(f"line {number}: a token with this id stands above already")
            tokens[token.id] = (role, token)
        return TokenTable(tokens)

    def __len__(self) -> int:
        return len(self._tokens)

    def check(self, hello: Hello, nonce: bytes) -> bool:
        """Whether the hello proves a known token whose role covers the hello's role."""
        role, token = self._tokens.get(hello.token_id, ("", _NOBODY))
        proved = hmac.compare_digest(proof(token, nonce, hello.role, hello.version), hello.proof)
        covered = hello.role in COVERS.get(role, frozenset())
        return proved and covered


def _row(words: list[str], number: int) -> tuple[str, Token]:
    if len(words) != 2 or words[0] not in COVERS:
        raise ConfigError(f"line {number}: must be a role and a token; roles are {', '.join(COVERS)}")
    try:
        return words[0], Token.parse(words[1])
    except ConfigError as error:
        raise ConfigError(f"line {number}: {error}") from None
