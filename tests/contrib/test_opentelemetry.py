"""Traces against the real SDK: who is whose parent, what spans say, what survives a retry."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from opentelemetry import baggage, trace
from opentelemetry import context as otel_context
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from taskq import Conflict, JobCancelled, JobFailed, Snooze, TaskQ, current
from taskq.contrib.opentelemetry import Tracing

PATIENCE = 30


class World:
    def __init__(self) -> None:
        self.exporter = InMemorySpanExporter()
        self.provider = TracerProvider()
        self.provider.add_span_processor(SimpleSpanProcessor(self.exporter))
        self.tracer = self.provider.get_tracer("test")
        self.q = TaskQ(middleware=[Tracing(self.provider)])

    def spans(self, name: str) -> list[ReadableSpan]:
        """Ended spans of this name, in the order in which they began."""
        found = [span for span in self.exporter.get_finished_spans() if span.name == name]
        return sorted(found, key=lambda span: (span.attributes or {}).get("taskq.attempt", 0))

    def span(self, name: str) -> ReadableSpan:
        (found,) = self.spans(name)
        return found


@pytest.fixture
async def world() -> AsyncIterator[World]:
    world = World()
    yield world
    world.provider.shutdown()


def parent(span: ReadableSpan) -> int | None:
    return None if span.parent is None else span.parent.span_id


def own(span: ReadableSpan) -> int:
    assert span.context is not None
    return span.context.span_id


def said(span: ReadableSpan) -> dict[str, object]:
    return dict(span.attributes or {})


@pytest.mark.parametrize("kind", ["async", "thread"])
async def test_one_trace_from_the_caller_to_what_the_task_does(world: World, kind: str) -> None:
    def inner() -> str:
        with world.tracer.start_as_current_span("work") as span:
            return format(span.get_span_context().trace_id, "032x")

    if kind == "thread":
        task = world.q.task(name="it", queue="mail")(inner)
    else:

        async def shell() -> str:
            return inner()

        task = world.q.task(name="it", queue="mail")(shell)  # type: ignore[assignment]  # called alike
    async with world.q.embedded():
        with world.tracer.start_as_current_span("request") as request:
            job = await task.submit()
        trace_id = await job.result(timeout=PATIENCE)
    publish, deliver, run = (world.span(f"{verb} mail") for verb in ("publish", "deliver", "run"))
    assert parent(publish) == request.get_span_context().span_id
    assert parent(deliver) == own(publish)
    assert parent(run) == own(deliver)
    assert parent(world.span("work")) == own(run)
    assert trace_id == format(request.get_span_context().trace_id, "032x")
    assert (publish.kind, deliver.kind, run.kind) == (
        SpanKind.PRODUCER,
        SpanKind.CONSUMER,
        SpanKind.CONSUMER,
    )
    common = {"messaging.system": "taskq", "messaging.destination.name": "mail", "taskq.task": "it"}
    for span, verb, type_ in [
        (publish, "publish", "send"),
        (deliver, "deliver", "receive"),
        (run, "run", "process"),
    ]:
        wanted = {"messaging.operation.name": verb, "messaging.operation.type": type_}
        wanted |= {**common, "messaging.message.id": job.id}
        assert wanted.items() <= said(span).items()
    assert said(run)["taskq.attempt"] == 1
    assert run.status.status_code == StatusCode.UNSET


async def test_a_delivery_lasts_from_the_submission_to_the_start(world: World) -> None:
    @world.q.task(name="it")
    async def it() -> None: ...

    async with world.q.embedded():
        await (await it.options(delay=0.05).submit()).result(timeout=PATIENCE)
    publish, deliver, run = (world.span(f"{verb} default") for verb in ("publish", "deliver", "run"))
    assert publish.start_time and deliver.start_time and deliver.end_time and run.start_time
    assert publish.start_time <= deliver.start_time
    assert deliver.end_time == run.start_time
    assert deliver.end_time - deliver.start_time >= 40_000_000


async def test_each_attempt_has_a_run_of_its_own_and_failures_are_recorded(world: World) -> None:
    @world.q.task(name="it", retry=2)
    async def it() -> None:
        raise LookupError("no such thing")

    async with world.q.embedded():
        with pytest.raises(JobFailed):
            await (await it.options(retry=2).submit()).result(timeout=PATIENCE)
    first, second = world.spans("run default")
    assert [said(run)["taskq.attempt"] for run in (first, second)] == [1, 2]
    publish = world.span("publish default")
    assert {parent(deliver) for deliver in world.spans("deliver default")} == {own(publish)}
    for run in (first, second):
        assert run.status.status_code == StatusCode.ERROR
        assert run.status.description == "LookupError: no such thing"
        assert said(run)["error.type"] == "LookupError"
        assert [event.name for event in run.events] == ["exception"]
    again = world.spans("deliver default")[1]
    assert again.start_time == again.end_time, "nobody knows when it became due"


async def test_waiting_for_another_time_is_no_error(world: World) -> None:
    tries = []

    @world.q.task(name="it")
    async def it() -> None:
        tries.append(1)
        if len(tries) == 1:
            raise Snooze(0.001, "not yet")

    async with world.q.embedded():
        await (await it.submit()).result(timeout=PATIENCE)
    runs = world.spans("run default")
    assert len(runs) == 2
    assert {run.status.status_code for run in runs} == {StatusCode.UNSET}
    assert sorted(event.name for run in runs for event in run.events) == ["snoozed"]


async def test_a_cancelled_one_says_so(world: World) -> None:
    began = asyncio.Event()

    @world.q.task(name="it")
    async def it() -> None:
        began.set()
        await asyncio.Event().wait()

    async with world.q.embedded():
        job = await it.submit()
        await began.wait()
        await job.cancel(reason="enough")
        with pytest.raises(JobCancelled):
            await job.result(timeout=PATIENCE)
    run = world.span("run default")
    assert (run.status.status_code, run.status.description) == (StatusCode.ERROR, "enough")
    assert said(run)["error.type"] == "cancelled"


async def test_what_a_job_submits_is_published_under_its_run(world: World) -> None:
    @world.q.task(name="child", queue="children")
    async def child() -> None: ...

    @world.q.task(name="parent")
    async def above() -> None:
        await (await child.submit()).result(timeout=PATIENCE)

    async with world.q.embedded():
        await (await above.submit()).result(timeout=PATIENCE)
    assert parent(world.span("publish children")) == own(world.span("run default"))


async def test_many_at_once_are_one_publish(world: World) -> None:
    @world.q.task(name="it")
    async def it() -> None: ...

    async with world.q.embedded():
        jobs = await world.q.submit_many([it.call(), it.call(), it.options(queue="default").call()])
        await world.q.gather(*jobs)
    publish = world.span("publish default")
    assert said(publish)["messaging.batch.message_count"] == 3
    assert {parent(deliver) for deliver in world.spans("deliver default")} == {own(publish)}
    assert {said(run)["messaging.message.id"] for run in world.spans("run default")} == {
        job.id for job in jobs
    }


async def test_baggage_and_trace_state_travel(world: World) -> None:
    @world.q.task(name="it")
    async def it() -> object:
        return [baggage.get_baggage("tenant"), sorted(current().ext or {})]

    async with world.q.embedded():
        token = otel_context.attach(baggage.set_baggage("tenant", "acme & söhne"))
        try:
            job = await it.submit()
        finally:
            otel_context.detach(token)
        tenant, names = await job.result(timeout=PATIENCE)
    assert tenant == "acme & söhne"
    assert names == ["traceparent", "x-baggage", "x-published"]


async def test_the_context_that_a_worker_was_started_in_is_no_parent(world: World) -> None:
    plain = TaskQ()

    @plain.task(name="it")
    async def submitted_by_one_without_tracing() -> None: ...

    @world.q.task(name="it")
    async def it() -> bool:
        return trace.get_current_span().get_span_context().is_valid

    with world.tracer.start_as_current_span("main"):
        async with world.q.embedded():
            plain._addresses = world.q._addresses
            async with plain:
                assert await (await submitted_by_one_without_tracing.submit()).result(timeout=PATIENCE)
    assert parent(world.span("deliver default")) is None


async def test_a_submission_that_fails_is_recorded(world: World) -> None:
    @world.q.task(name="it")
    async def it() -> None: ...

    async with world.q.embedded():
        first = await it.submit()
        with pytest.raises(Conflict, match="exists"):
            await world.q.task(name="other")(lambda n: n).options(id=first.id).submit(5)
    failed = [span for span in world.spans("publish default") if span.status.status_code == StatusCode.ERROR]
    assert len(failed) == 1
    assert said(failed[0])["error.type"] == "taskq.errors.Conflict"
