"""Log records tell which job they are of."""

import io
import logging

from taskq import Context, JobFilter
from taskq.client.context import context_var

FORMAT = "%(job)s|%(task)s|%(attempt)s|%(queue)s|%(message)s"


def logged(**extra: object) -> str:
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(logging.Formatter(FORMAT))
    handler.addFilter(JobFilter())
    logger = logging.Logger("users")
    logger.addHandler(handler)
    logger.warning("hello", extra=extra)
    return stream.getvalue().strip()


def test_inside_a_job_its_fields_are_there() -> None:
    token = context_var.set(Context("01ab", "send", "mail", 2))
    try:
        assert logged() == "01ab|send|2|mail|hello"
    finally:
        context_var.reset(token)


def test_outside_of_one_they_are_empty_so_that_formats_work() -> None:
    assert logged() == "||||hello"


def test_what_a_line_says_of_itself_stays() -> None:
    token = context_var.set(Context("01ab", "send", "mail", 2))
    try:
        assert logged(task="mine") == "01ab|mine|2|mail|hello"
    finally:
        context_var.reset(token)
