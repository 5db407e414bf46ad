"""OpenTelemetry: one trace from the submission of a job to each of its attempts. Needs `taskqd[otel]`.

    q = TaskQ(middleware=[Tracing()])

Spans: `publish` in the producer; in the worker `deliver`, its child, from the submission to the moment at
which the attempt begins, and `run`, whose parent is `deliver`. What is submitted inside of an attempt
is published under its `run`. The trace travels as W3C `traceparent` and `tracestate` in the job's ext,
and what other propagators write, such as baggage, as `x-baggage`.
"""

import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final

from taskq import __version__
from taskq.client.context import Context
from taskq.client.middleware import Middleware, Outgoing
from taskq.errors import Snooze, Throttle

try:
    from opentelemetry import context as otel_context
    from opentelemetry import propagate, trace
    from opentelemetry.propagators.textmap import TextMapPropagator
    from opentelemetry.trace import SpanKind, Status, StatusCode
except ImportError as error:
    raise ImportError("this needs opentelemetry-api: pip install taskqd[otel]") from error

# These go under their own names: the protocol has them. The rest of what propagators write is ours.
_W3C: Final = ("traceparent", "tracestate")
_OURS: Final = "x-"
# When the job was submitted, by the producer's clock: ns since 1970, 8 bytes big-endian.
_PUBLISHED: Final = "x-published"
_PUBLISHED_BYTES: Final = 8


class Tracing(Middleware):
    """Without providers, those that OpenTelemetry has globally are used, at the time of each span."""

    def __init__(
        self,
        tracer_provider: trace.TracerProvider | None = None,
        propagator: TextMapPropagator | None = None,
    ) -> None:
        self._provider = tracer_provider
        self._propagator = propagator

    async def submit(self, jobs: Sequence[Outgoing], call_next: Callable[[], Awaitable[None]]) -> None:
        with self._tracer().start_as_current_span(
            _named("publish", {job.queue for job in jobs}),
            kind=SpanKind.PRODUCER,
            attributes=_published(jobs),
        ) as span:
            carrier: dict[str, str] = {}
            self._inject(carrier)
            ext = {_ext_name(name): text.encode() for name, text in carrier.items()}
            ext[_PUBLISHED] = time.time_ns().to_bytes(_PUBLISHED_BYTES, "big")
            for job in jobs:
                job.ext.update(ext)
            try:
                await call_next()
            except BaseException as error:
                span.set_attribute("error.type", _type_name(error))
                raise

    async def run(self, context: Context, call_next: Callable[[], Awaitable[Any]]) -> Any:
        carried = context.ext or {}
        outer = otel_context.attach(self._extract(carried))
        try:
            return await self._run(context, carried, call_next)
        finally:
            otel_context.detach(outer)

    async def _run(
        self, context: Context, carried: Mapping[str, bytes], call_next: Callable[[], Awaitable[Any]]
    ) -> Any:
        tracer = self._tracer()
        begins = time.time_ns()
        deliver = tracer.start_span(
            _named("deliver", {context.queue}),
            kind=SpanKind.CONSUMER,
            attributes=_attempted(context, "deliver", "receive"),
            start_time=_submitted_at(context, carried, begins),
        )
        deliver.end(begins)
        with tracer.start_as_current_span(
            _named("run", {context.queue}),
            context=trace.set_span_in_context(deliver),
            kind=SpanKind.CONSUMER,
            attributes=_attempted(context, "run", "process"),
            start_time=begins,
            record_exception=False,
            set_status_on_exception=False,
        ) as span:
            try:
                return await call_next()
            except BaseException as error:
                _note(span, context, error)
                raise

    def _tracer(self) -> trace.Tracer:
        return trace.get_tracer("taskq", __version__, self._provider)

    def _inject(self, carrier: dict[str, str]) -> None:
        (self._propagator or propagate.get_global_textmap()).inject(carrier)

    def _extract(self, carried: Mapping[str, bytes]) -> otel_context.Context:
        carrier = {
            name if name in _W3C else name.removeprefix(_OURS): data.decode(errors="replace")
            for name, data in carried.items()
            if name in _W3C or (name.startswith(_OURS) and name != _PUBLISHED)
        }
        # Not the context that is here: what the worker itself was started in is no parent of its jobs.
        return (self._propagator or propagate.get_global_textmap()).extract(carrier, otel_context.Context())


def _named(operation: str, queues: set[str]) -> str:
    return f"{operation} {queues.pop()}" if len(queues) == 1 else operation


def _ext_name(name: str) -> str:
    return name if name in _W3C else _OURS + name


def _published(jobs: Sequence[Outgoing]) -> dict[str, str | int]:
    attributes: dict[str, str | int] = {
        "messaging.system": "taskq",
        "messaging.operation.name": "publish",
        "messaging.operation.type": "send",
    }
    # What a batch does not have in common, it has not.
    if len({job.queue for job in jobs}) == 1:
        attributes["messaging.destination.name"] = jobs[0].queue
    if len({job.task for job in jobs}) == 1:
        attributes["taskq.task"] = jobs[0].task
    if len(jobs) == 1:
        attributes["messaging.message.id"] = jobs[0].job_id
    else:
        attributes["messaging.batch.message_count"] = len(jobs)
    return attributes


def _attempted(context: Context, operation: str, kind: str) -> dict[str, str | int]:
    return {
        "messaging.system": "taskq",
        "messaging.operation.name": operation,
        "messaging.operation.type": kind,
        "messaging.destination.name": context.queue,
        "messaging.message.id": context.job_id,
        "taskq.task": context.task,
        "taskq.attempt": context.attempt,
    }


def _submitted_at(context: Context, carried: Mapping[str, bytes], now: int) -> int:
    """When the first attempt's delivery began. Nobody tells a worker when a later one became due: those,
    and jobs whose producer's clock is ahead of ours, are delivered in no time. (After a snooze the attempt
    has the same number: its delivery covers what was before.)"""
    data = carried.get(_PUBLISHED, b"")
    if context.attempt != 1 or len(data) != _PUBLISHED_BYTES:
        return now
    return min(int.from_bytes(data, "big"), now)


def _note(span: trace.Span, context: Context, error: BaseException) -> None:
    """How the attempt failed. Waiting for another time is no failure."""
    if isinstance(error, Snooze | Throttle):
        span.add_event("snoozed", {"seconds": error.seconds, "reason": error.reason})
        return
    if context.cancelled:
        span.set_attribute("error.type", "cancelled")
        span.set_status(Status(StatusCode.ERROR, context.reason))
        return
    span.record_exception(error)
    span.set_attribute("error.type", _type_name(error))
    span.set_status(Status(StatusCode.ERROR, f"{type(error).__name__}: {error}"))


def _type_name(error: BaseException) -> str:
    kind = type(error)
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
