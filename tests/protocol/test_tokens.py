"""Tokens: read, proved, covered; and never quoted."""

import hashlib
import hmac
from typing import get_args

import pytest

from taskq.errors import ConfigError
from taskq.protocol.messages import Hello, Role
from taskq.protocol.tokens import COVERS, Token, TokenTable, proof

SECRET = "Zm9vYmFy_-" + "x" * 33
WORKER = Token("abcd1234", SECRET)
VIEWER = Token("view0000", "v" * 43)
NONCE = b"n" * 32


def hello(token: Token, role: Role = "worker", nonce: bytes = NONCE, version: int = 1) -> Hello:
    return Hello(1, b"s" * 16, role, token_id=token.id, proof=proof(token, nonce, role, version))


def table() -> TokenTable:
    return TokenTable.from_text(f"worker {WORKER.text}\nviewer {VIEWER.text}\n")


def test_a_token_is_its_text() -> None:
    assert Token.parse(WORKER.text) == WORKER
    assert Token.parse(f"  {WORKER.text}\n") == WORKER


def test_a_token_does_not_show_its_secret() -> None:
    assert SECRET not in repr(WORKER)


@pytest.mark.parametrize(
    "text",
    [
        "hunter2",
        f"tq2_abcd1234_{SECRET}",
        f"tq1_ABCD1234_{SECRET}",
        f"tq1_abcd1234_{SECRET}x",
        "tq1_abcd1234_" + "+" * 43,
    ],
)
def test_what_is_not_a_token_is_refused_without_quoting_it(text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Token.parse(text)
    assert text not in str(caught.value)


def test_the_proof_is_the_one_in_the_manual() -> None:
    said = NONCE + b"worker" + bytes([0, 0, 0, 0, 0, 0, 0, 1])
    assert proof(WORKER, NONCE, "worker", 1) == hmac.new(SECRET.encode(), said, hashlib.sha256).digest()


def test_a_known_token_is_let_in() -> None:
    assert table().check(hello(WORKER), NONCE)


@pytest.mark.parametrize(
    "wrong",
    [
        hello(Token("abcd1234", "y" * 43)),
        hello(Token("unknown0", SECRET)),
        hello(WORKER, nonce=b"m" * 32),
        hello(WORKER, version=2),
        hello(WORKER, role="admin"),
        hello(VIEWER, role="worker"),
        Hello(1, b"s" * 16, "worker", token_id=WORKER.id),
        Hello(1, b"s" * 16, "worker", token_id=WORKER.id, proof=proof(WORKER, NONCE, "producer", 1)),
        Hello(1, b"s" * 16, "worker"),
        # The one that unknown ids are checked against: its secret is in the source.
        hello(Token("nobody00", "A" * 43)),
    ],
)
def test_others_are_not(wrong: Hello) -> None:
    assert not table().check(wrong, NONCE)


@pytest.mark.parametrize("role", get_args(Role))
@pytest.mark.parametrize("token_role", COVERS)
def test_a_role_covers_what_the_table_says(token_role: str, role: Role) -> None:
    expected = {
        "admin": {"producer", "worker", "supervisor", "viewer", "operator", "admin"},
        "operator": {"operator", "viewer", "producer"},
        "worker": {"worker", "supervisor", "producer", "viewer"},
        "producer": {"producer", "viewer"},
        "viewer": {"viewer"},
    }
    tokens = TokenTable.from_text(f"{token_role} {WORKER.text}")
    assert tokens.check(hello(WORKER, role), NONCE) == (role in expected[token_role])


def test_a_file_may_have_comments_and_empty_lines() -> None:
    text = f"# who may come\n\nworker {WORKER.text}  # the fleet\n   \nviewer\t{VIEWER.text}"
    assert len(TokenTable.from_text(text)) == 2
    assert len(TokenTable.from_text("# nobody\n")) == 0


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (WORKER.text, 1),
        (f"\nworker {WORKER.text} extra", 2),
        (f"# one\n{WORKER.text} worker", 2),
        (f"supervisor {WORKER.text}", 1),
        (f"worker tq1_{SECRET}", 1),
        (f"worker {WORKER.text}\nviewer tq1_abcd1234_{'z' * 43}", 2),
    ],
)
def test_a_wrong_line_is_named_and_not_quoted(text: str, line: int) -> None:
    with pytest.raises(ConfigError, match=f"^line {line}: ") as caught:
        TokenTable.from_text(text)
    assert SECRET not in str(caught.value)
    assert "zzz" not in str(caught.value)
