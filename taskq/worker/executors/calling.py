"""Calls a plain function for an attempt, in the thread that it is to run in."""

from taskq.client.context import context_var
from taskq.protocol.messages import Failure
from taskq.worker.attempts import CALLING, PACKING, READING, Attempt, failure, stop_failure


def call(attempt: Attempt) -> bytes | Failure:
    """The result, packed, or what to report instead. In a context of its own, with the variables that the
    lifespan has set. Never raises."""
    if attempt.stopped:  # before a thread came to it
        return stop_failure(attempt, attempt.stopped)
    return attempt.host.scope.variables.copy().run(_call, attempt)


def _call(attempt: Attempt) -> bytes | Failure:
    definition = attempt.definition
    step = READING
    try:
        context_var.set(attempt)
        args, kwargs = definition.read(attempt.delivery.payload)
        step = CALLING
        value = definition.function(*args, **kwargs)
        step = PACKING
        return definition.pack(value)
    except BaseException as error:
        return failure(attempt, error, step)
