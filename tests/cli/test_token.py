"""`taskq token create` writes what the broker reads."""

import pytest

from taskq.cli import token
from taskq.cli.exits import Exit
from taskq.cli.main import run
from taskq.protocol.tokens import COVERS, TokenTable


def test_the_roles_are_those_of_the_broker() -> None:
    assert set(token.ROLES) == set(COVERS)


def test_its_lines_are_a_tokens_file(capsys: pytest.CaptureFixture[str]) -> None:
    for role in token.ROLES:
        assert run(["token", "create", "--role", role]) == Exit.OK
    printed = capsys.readouterr().out
    assert len(TokenTable.from_text(printed)) == len(token.ROLES)


def test_no_two_are_alike(capsys: pytest.CaptureFixture[str]) -> None:
    for _ in range(3):
        assert run(["token", "create", "--role", "worker"]) == Exit.OK
    assert len(set(capsys.readouterr().out.splitlines())) == 3


def test_a_role_is_needed(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["token", "create"]) == Exit.USAGE
    assert "'--role'" in capsys.readouterr().err
