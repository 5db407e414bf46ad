"""What the command's exit codes mean, and which error ends in which."""

from enum import IntEnum

from taskq import errors


class Exit(IntEnum):
    """Documented and stable: scripts depend on them. From 64 up they are those of sysexits.h."""

    OK = 0
    FAILED = 1
    USAGE = 2
    PARTLY = 3
    NOT_FOUND = 4
    REFUSED = 5
    NO_BROKER = 69
    INTERNAL = 70
    TIMED_OUT = 75
    CONFIG = 78
    INTERRUPTED = 130


# The first row that fits decides, so the narrow ones stand above the wide ones.
_BY_ERROR: tuple[tuple[type[BaseException], Exit], ...] = (
    (errors.ConnectionLost, Exit.NO_BROKER),
    (errors.ConfirmTimeout, Exit.TIMED_OUT),
    (TimeoutError, Exit.TIMED_OUT),
    (errors.NotFound, Exit.NOT_FOUND),
    (errors.ResultGone, Exit.NOT_FOUND),
    (errors.Refused, Exit.REFUSED),
    (errors.ConfigError, Exit.CONFIG),
    (errors.EncodeError, Exit.USAGE),
    (errors.TaskqError, Exit.FAILED),
    # A port in use, a folder that cannot be written: the machine's fault, not ours.
    (OSError, Exit.FAILED),
    (KeyboardInterrupt, Exit.INTERRUPTED),
)


def exit_for(error: BaseException) -> Exit:
    """The exit code for an error that ended a verb; what nobody foresaw is our own mistake."""
    if isinstance(error, errors.SubmitErrors):
        return Exit.PARTLY if error.accepted else exit_for(error.exceptions[0])
    for kind, code in _BY_ERROR:
        if isinstance(error, kind):
            return code
    return Exit.INTERNAL
