"""What users send, through a real broker and a real worker: types, secrets, mistakes, other packings."""

import asyncio
import gc
import io
import json
import logging
import math
import threading
import traceback
import warnings
from collections.abc import AsyncGenerator, Callable, Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from taskq import EncodeError, Job, JobFailed, Secret, TaskQ, TooLarge
from taskq.cli.found import as_json_object, print_details
from taskq.client.values import compression
from taskq.errors import ConfigError, DecodeError
from taskq.protocol.messages import COMPRESSED

HIDDEN = "hunter2-is-the-secret"


@dataclass
class Login:
    user: str
    password: Secret[str]


async def failure_of(q: TaskQ, job: Any) -> JobFailed:
    with pytest.raises(JobFailed) as caught:
        await job.result(timeout=20)
    return caught.value


# -- secrets ----------------------------------------------------------------------------------


async def test_a_secret_is_nowhere_but_in_the_task(
    caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.DEBUG)
    q = TaskQ()
    seen = []

    @q.task
    async def log_in(token: Secret[str], *, login: Login, more: list[Secret[str]]) -> Secret[str]:
        seen.append((token.reveal(), login.password.reveal(), more[0].reveal()))
        return token

    @q.task
    async def fails(token: Secret[str], login: Login) -> None:
        raise ValueError(f"cannot use {token} of {login!r}")

    @q.task(name="narrow")
    async def narrow(token: Secret[int], login: Secret[dict[str, int]]) -> None: ...

    @q.task(on_dead="tell", name="told")
    async def told(token: Secret[str]) -> None:
        raise ValueError("no")

    got: asyncio.Future[list[Any]] = asyncio.get_running_loop().create_future()

    @q.task(name="tell")
    async def tell(job_id: str, arguments: list[Any], error: str) -> None:
        got.set_result(arguments)

    texts: list[str] = []
    login = Login("ann", Secret(HIDDEN))
    async with q.embedded():
        job = await log_in.submit(Secret(HIDDEN), login=login, more=[Secret(HIDDEN)])
        result = await job.result(timeout=20)
        assert seen == [(HIDDEN, HIDDEN, HIDDEN)]
        assert result == Secret(HIDDEN) and str(result) == "***"
        failed: list[Job[Any]] = [
            await fails.submit(HIDDEN, login),  # type: ignore[arg-type]  # plain, where a Secret belongs
            await narrow.submit(Secret(HIDDEN), Secret({"a": HIDDEN})),  # type: ignore[arg-type,dict-item]  # as above
            await told.submit(Secret(HIDDEN)),
        ]
        for each in failed:
            texts += traceback.format_exception(await failure_of(q, each))
        assert repr(await asyncio.wait_for(got, 20)) == "[[Secret('***')], {}]"
        texts += [repr(await each.info()) for each in [job, *failed]]
        texts += [repr(each) async for each in q.jobs.list()]
        texts += [repr(each) for each in await q.dead.groups()]
        texts += [await each.why() for each in failed]
        exported = [line async for line in q.dead.export()]
        assert [line["payload"] for line in exported] == [b"", b"", b""]
        texts += [json.dumps(as_json_object(line)) for line in exported]
        for line in exported:
            print_details(line)
    texts += [repr(vars(record)) + record.getMessage() for record in caplog.records]
    texts.append(capsys.readouterr().out)
    assert sum("***" in text for text in texts) >= 5
    assert not [text for text in texts if HIDDEN in text or "hunter2" in text]


async def test_what_in_a_secret_cannot_be_sent_is_not_told() -> None:
    q = TaskQ()

    @q.task
    async def log_in(token: Secret[object]) -> None: ...

    with pytest.raises(EncodeError) as caught:
        log_in.call(Secret({HIDDEN: lambda: 0}))
    told = "".join(traceback.format_exception(caught.value))
    assert "argument 'token': the value in this Secret cannot be sent" in told
    assert HIDDEN not in told


# -- what a task returns by mistake -------------------------------------------------------------


async def fetched() -> int:
    return 1


def nameless(fn: Callable[[], Coroutine[Any, Any, int]]) -> Callable[[], Any]:
    def wrapper() -> Any:
        return fn()

    return wrapper


class Odd:
    def __repr__(self) -> str:
        raise RuntimeError("no repr")


def endless() -> Any:
    return (n for n in range(3))


async def yields() -> AsyncGenerator[int, None]:
    yield 1


@pytest.mark.parametrize(
    ("returned", "says"),
    [
        (fetched, "the function returned a coroutine, which nobody awaits"),
        (endless, "the function returned a generator; return a list"),
        (yields, "the function returned a generator; return a list"),
        (Odd, "Odd cannot be sent; send plain data"),
        (lambda: print, "builtin_function_or_method cannot be sent; send a name"),
        (lambda: {"a": [1, {2: threading.Lock()}]}, r"at \['a'\]\[1\]\[2\]: lock cannot be sent"),
        (lambda: "\ud800", "lone surrogate"),
        (lambda: b"x" * 100_000_000, "result: 1000000.* bytes of payload; the limit is 1048576"),
        (lambda: [0] * 200_000, "200000 items; at most 131072"),
    ],
)
@pytest.mark.parametrize("is_async", [True, False])
async def test_a_result_that_cannot_be_sent(returned: Callable[[], Any], says: str, is_async: bool) -> None:
    q = TaskQ()
    if is_async:

        @q.task(name="t")
        async def t() -> Any:
            return returned()
    else:

        @q.task(name="t")
        def t() -> Any:
            return returned()

    @q.task
    async def fine() -> int:
        return 1

    with warnings.catch_warnings():
        warnings.simplefilter("error")  # above all: that a coroutine was never awaited
        async with q.embedded():
            job: Any = await q.tasks["t"].submit()
            error = await failure_of(q, job)
            assert await (await fine.submit()).result(timeout=20) == 1
        gc.collect()
    with pytest.raises(EncodeError, match=rf"(?s)t\(\): .*{says}"):
        raise EncodeError(error.remote_message)
    assert error.remote_type in ("taskq.errors.EncodeError", "taskq.errors.TooLarge")
    assert error.attempts == 1


async def test_odd_numbers_arrive_as_they_are() -> None:
    q = TaskQ()

    @q.task
    async def same(a: float, b: int, c: list[float]) -> list[Any]:
        return [a, b, c]

    async with q.embedded():
        a, b, c = await (await same.submit(math.nan, -(2**200), [math.inf, 1])).result(timeout=20)
    assert math.isnan(a) and b == -(2**200) and c == [math.inf, 1.0]


# -- what a task raises -----------------------------------------------------------------------


class Mute(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no str")

    __repr__ = __str__


class Traceless(Exception):
    @property
    def __traceback__(self) -> Any:  # as nobody should
        raise RuntimeError("no traceback")

    @__traceback__.setter
    def __traceback__(self, value: Any) -> None: ...


def chained() -> None:
    try:
        raise KeyError("the first")
    except KeyError as error:
        raise ValueError("the second") from error


def grouped() -> None:
    raise ExceptionGroup("several", [ValueError("one"), ExceptionGroup("inner", [KeyError("two")])])


def raises(error: BaseException) -> Callable[[], None]:
    def wrapper() -> None:
        raise error

    return wrapper


def deep() -> None:
    deep()


@pytest.mark.parametrize(
    ("act", "type_name", "message", "traces"),
    [
        (raises(Mute()), "Mute", "<str() of this Mute failed>", []),
        (raises(Traceless("x")), "Traceless", "x", []),
        (chained, "ValueError", "the second", ["KeyError: 'the first'", "direct cause", "in chained"]),
        (grouped, "ExceptionGroup", "several", ["ValueError: one", "inner", "KeyError: 'two'"]),
        (raises(ValueError("x" * 50_000_000)), "ValueError", "xxx", []),
        (raises(ValueError("\ud800" * 5_000)), "ValueError", "\\ud800", []),
        (deep, "RecursionError", "maximum recursion depth", ["in deep"]),
        (raises(SystemExit(3)), "SystemExit", "3", []),
    ],
)
@pytest.mark.parametrize("is_async", [True, False])
async def test_whatever_it_raises_is_told_and_the_worker_lives_on(
    act: Callable[[], None], type_name: str, message: str, traces: list[str], is_async: bool
) -> None:
    q = TaskQ()
    if is_async:

        @q.task(name="t")
        async def t() -> None:
            act()
    else:

        @q.task(name="t")
        def t() -> None:
            act()

    @q.task
    async def fine() -> int:
        return 1

    async with q.embedded():
        job: Any = await q.tasks["t"].submit()
        error = await failure_of(q, job)
        assert await (await fine.submit()).result(timeout=20) == 1
    assert error.remote_type.endswith(type_name)
    assert message in error.remote_message and len(error.remote_message) <= 2_000
    assert all(each in error.remote_traceback for each in traces), error.remote_traceback
    assert len(error.remote_traceback) <= 32_000


# -- what is submitted by mistake -----------------------------------------------------------------


async def test_arguments_that_cannot_be_sent_are_named_with_what_to_do(tmp_path: Path) -> None:
    q = TaskQ()

    @q.task
    async def take(a: Any, *, b: Any = None) -> None: ...

    waiting = fetched()
    loop: list[Any] = []
    loop.append(loop)
    with (tmp_path / "x").open("w") as file:
        for value, says in [
            (waiting, r"argument 'b': coroutine cannot be sent; await it first"),
            (lambda: 0, "function cannot be sent; send a name"),
            (file, "TextIOWrapper cannot be sent; send what is in it, or a path"),
            (io.BytesIO(), "BytesIO cannot be sent; send what is in it"),
            (Odd(), "Odd cannot be sent; send plain data, a dataclass"),
            (loop, r"at \[0\]: list contains itself"),
            (iter([1]), "list_iterator cannot be sent"),
            (math, "module cannot be sent; send its name"),
            (int, "type cannot be sent"),
        ]:
            with pytest.raises(EncodeError, match=rf"take\(\): .*{says}"):
                take.call(1, b=value)
    waiting.close()
    with pytest.raises(TooLarge, match=r"take\(\): argument 'b' takes 2000005 of 20\d+ bytes of payload"):
        take.call("x" * 1_000, b="x" * 2_000_000)


async def test_arguments_of_another_version_are_rejected_and_both_are_shown() -> None:
    old, new = TaskQ(), TaskQ()

    @old.task(name="send")
    async def send(user: str, text: str = "") -> None: ...

    @new.task(name="send", retry=5)
    async def changed(user: int, *, body: str = HIDDEN) -> None: ...

    async with new.embedded(), TaskQ(new.urls) as producer:
        send.app = producer
        errors = [
            await failure_of(producer, await send.submit(HIDDEN, text="x")),
            await failure_of(producer, await send.submit(HIDDEN)),
        ]
    assert [each.remote_type for each in errors] == ["TypeError", "taskq.errors.DecodeError"]
    assert [each.attempts for each in errors] == [1, 1]
    assert "submitted was send(str, text=str)" in errors[0].remote_message
    assert "signature is send(user: int, *, body: str = ...)" in errors[0].remote_message
    assert "argument 'user': Expected `int`, got `str`" in errors[1].remote_message
    assert "signature is send(user: int, *, body: str = ...)" in errors[1].remote_message
    assert not [each for each in errors if HIDDEN in str(each)]


# -- packed otherwise -------------------------------------------------------------------------


async def test_pickle_sends_what_messagepack_cannot() -> None:
    q = TaskQ(serializer="pickle")
    got: asyncio.Future[list[Any]] = asyncio.get_running_loop().create_future()

    @q.task(on_dead="tell")
    async def apply(fn: Callable[[int], int], n: int, *, fail: bool = False) -> Callable[[], int]:
        if fail:
            raise ValueError("no")
        value = fn(n)
        return lambda: value

    @q.task(name="tell")
    async def tell(job_id: str, arguments: list[Any], error: str) -> None:
        got.set_result(arguments)

    async with q.embedded():
        made = await (await apply.submit(lambda n: n + 1, 4)).result(timeout=20)
        assert made() == 5
        unique = apply.options(unique="active", delay=60)
        call = unique.call(lambda n: n, 1)
        one, two = await q.submit_many([call, call])
        assert one.id == two.id
        await failure_of(q, await apply.submit(abs, 1, fail=True))
        (fn, n), kwargs = await asyncio.wait_for(got, 20)
        assert (fn, n, kwargs) == (abs, 1, {"fail": True})
        with pytest.raises(EncodeError, match=r"apply\(\): argument 'fn': pickle cannot pack it: TypeError"):
            apply.call(threading.Lock(), 1)  # type: ignore[arg-type]  # by mistake
        # The command line, and clients in other languages, send MessagePack.
        async with TaskQ(q.urls) as other:
            stand_in = other.task(name=apply.name)(lambda *args: None)
            error = await failure_of(other, await stand_in.submit("abs", 1))
            assert "'str' object is not callable" in error.remote_message


async def test_nothing_is_unpickled_by_who_did_not_ask_for_it() -> None:
    class Trap:
        sprung = False

        def __reduce__(self) -> Any:
            return (setattr, (Trap, "sprung", True))

    q, pickles = TaskQ(), TaskQ(serializer="pickle")

    @q.task(name="t")
    async def t(a: Any) -> Any: ...

    async with q.embedded():
        async with TaskQ(q.urls, serializer="pickle") as pickles:
            stand_in = pickles.task(name="t")(lambda a: None)
            error = await failure_of(pickles, await stand_in.submit(Trap()))
        exported = [each async for each in q.dead.export()]
    assert error.remote_type == "taskq.errors.DecodeError"
    assert "packed with the serializer 'pickle', and this app reads 'msgpack' only" in error.remote_message
    assert "args" not in exported[0]
    assert not Trap.sprung


# -- compressed -------------------------------------------------------------------------------


async def test_large_payloads_are_compressed_both_ways() -> None:
    q = TaskQ(compress=True)

    @q.task
    async def double(text: str) -> str:
        return text * 2

    async with q.embedded():
        text = "All work and no play. " * 2_000
        job = await double.submit(text)
        assert await job.result(timeout=20) == text * 2
        assert job._outcome is not None
        assert job._outcome.flags == COMPRESSED and len(job._outcome.result) < 1_000
        (many,) = await q.submit_many([double.call(text)])
        assert await many.result(timeout=20) == text * 2
        tiny = await double.submit("x")
        assert await tiny.result(timeout=20) == "xx"
        assert tiny._outcome is not None and tiny._outcome.flags == 0
        # Who does not compress gets no compressed result, and who does may have it read by others.
        async with TaskQ(q.urls) as plain:
            stand_in = plain.task(name=double.name)(lambda text: "")
            plain_job = await stand_in.submit(text)
            assert len(await plain_job.result(timeout=20)) == len(text) * 2
            assert plain_job._outcome is not None and plain_job._outcome.flags == 0
            assert await plain.job(job.id).result(timeout=20) == text * 2


async def test_a_worker_that_cannot_read_it_does_not_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    q = TaskQ(compress=True)

    @q.task
    async def size(text: str) -> int:
        return len(text)

    text = "x" * 5_000
    has_zstd = compression._zstd
    with monkeypatch.context() as without:
        without.setattr(compression, "_zstd", lambda: None)
        async with q.embedded():
            assert await (await size.submit("x")).result(timeout=20) == 1
            without.setattr(compression, "_zstd", has_zstd)
            job = await size.submit(text)
            assert "taskq.zstd" in await job.why()
            assert await (await size.submit("x")).result(timeout=20) == 1
            async with asyncio.timeout(20):
                until = asyncio.Event()
                worker = asyncio.create_task(q.run_worker(until=until))
                assert await job.result() == 5_000
                until.set()
                await worker


async def test_compressed_dead_jobs_are_exported_as_they_were() -> None:
    q = TaskQ(compress=True)

    @q.task
    async def bad(text: str) -> None:
        raise ValueError("no")

    async with q.embedded():
        await failure_of(q, await bad.submit("x" * 5_000))
        (found,) = [each async for each in q.dead.export()]
    assert (found["flags"], found["args"]) == (COMPRESSED, ["x" * 5_000])


def test_without_zstd_it_cannot_be_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compression, "_zstd", lambda: None)
    with pytest.raises(ConfigError, match=r"pip install 'taskqd\[zstd\]'"):
        TaskQ(compress=True)
    with pytest.raises(DecodeError, match=r"pip install 'taskqd\[zstd\]'"):
        compression.inflated(b"x", COMPRESSED)
