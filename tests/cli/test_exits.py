"""Exit codes are promised to scripts: each error has one."""

import pytest

from taskq import errors
from taskq.cli.exits import Exit, exit_for


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.ConnectionLost("gone"), 69),
        (errors.Refused("no"), 5),
        (errors.Unauthorized("who?"), 5),
        (errors.QueueFull("full"), 5),
        (errors.VersionMismatch("1 and 2"), 5),
        (errors.NotFound("no such job"), 4),
        (errors.ResultGone("dropped"), 4),
        (TimeoutError(), 75),
        (errors.ConfirmTimeout("0" * 32, 30), 75),
        (errors.ConfigError("port"), 78),
        (errors.EncodeError("argument"), 2),
        (errors.JobFailed("0" * 32, "ValueError", "no"), 1),
        (errors.JobCancelled("0" * 32), 1),
        (errors.JournalLocked("held"), 1),
        (OSError("address in use"), 1),
        (KeyboardInterrupt(), 130),
        (RuntimeError("ours"), 70),
        (AssertionError(), 70),
    ],
)
def test_each_error_has_its_code(error: BaseException, code: int) -> None:
    assert exit_for(error) == code


def test_the_codes_are_those_of_the_manual() -> None:
    assert sorted(map(int, Exit)) == [0, 1, 2, 3, 4, 5, 69, 70, 75, 78, 130]
