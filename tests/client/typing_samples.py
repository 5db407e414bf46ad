"""Checked by mypy, never run: each line marked `E` has a planted mistake, and no other line has one."""

import functools
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, ParamSpec, TypeVar

from taskq import Context, Depends, Middleware, Outgoing
from taskq.client.app import TaskQ
from taskq.client.context import current
from taskq.client.following import Missed, Restarted
from taskq.client.retry import RetryPolicy
from taskq.client.values.secrets import Secret

q = TaskQ()


@q.task
async def add(a: int, b: int = 0) -> int:
    return a + b


@q.task
def double(text: str) -> str:
    return text * 2


@q.task(name="mail", queue="mail", retry=RetryPolicy.exponential(3), timeout="5m", executor="async")
async def mail(to: str, *, copies: int = 1) -> list[str]:
    return [to] * copies


@q.task(priority=5)
def plain(number: float) -> bytes:
    return bytes(int(number))


@q.task
async def words(n: int) -> AsyncIterator[str]:
    yield "x" * n


@q.task(queue="slow")
def pages(n: int) -> Iterator[bytes]:
    yield b"x" * n


async def streams() -> None:
    async for item in (await words.submit(3)).stream():
        if isinstance(item, str):
            text: str = item
            print(text)
        elif isinstance(item, Restarted):
            attempt: int = item.attempt
            print(attempt)
        else:
            missed: int | None = item.count
            print(missed)
    async for page in (await pages.submit(3)).stream():
        wrong: str = page  # E
        print(wrong)
    count: int = await (await words.submit(3)).result()
    for word in words.submit_sync(3).stream():
        right: str | Restarted | Missed = word
        print(right, count)
    await words.submit("3")  # E
    async for event in (await words.submit(3)).events():
        print(event.state)  # E


@q.task(queu="mail")  # E
async def misspelt() -> None: ...


@q.task(priority="high")  # E
async def loud() -> None: ...


async def calls() -> None:
    number: int = await add(1, 2)
    text: str = double("x")
    names: list[str] = await mail("ann", copies=2)
    raw: bytes = plain(1.5)
    wrong_call: int = await add("x")  # E
    wrong_text: int = double("x")  # E
    print(number, text, names, raw, wrong_call, wrong_text)


async def submits() -> None:
    await add.submit(1)
    await add.submit(1, b=2)
    await mail.submit("ann", copies=3)
    await add.submit("x")  # E
    await add.submit(1, 2, 3)  # E
    await add.submit()  # E
    await add.submit(1, c=2)  # E
    await mail.submit("ann", 3)  # E
    await double.submit(5)  # E
    add.submit_sync("x")  # E
    add.call(None)  # E


async def results() -> None:
    number: int = await (await add.submit(1)).result()
    also: int = await (await add.submit(1))
    text: str = await (await double.submit("x")).result(timeout=5)
    names: list[str] = await (await mail.submit("x")).result("5s")
    blocking: int = add.submit_sync(1).result()
    wrong: str = await (await add.submit(1)).result()  # E
    wrong_plain: int = await (await double.submit("x"))  # E
    wrong_blocking: str = add.submit_sync(1).result()  # E
    print(number, also, text, names, blocking, wrong, wrong_plain, wrong_blocking)


async def options() -> None:
    later = add.options(delay=timedelta(minutes=5), priority=3, retry=5)
    job = await later.submit(1)
    await later.options(at=datetime.now(UTC), keep_result=False, durability="os").submit(1, 2)
    number: int = await job
    called: int = await later(1)
    await later.submit("x")  # E
    add.options(key=7)  # E
    add.options(unique=[5])  # E
    await add.options(key="x", unique="active", replace=True, bind=True, meta={"by": "x"}).submit(1)
    add.options(durability="paper")  # E
    add.options(delay=[5])  # E
    print(number, called)


async def many() -> None:
    jobs = await q.submit_many([add.call(1), add.call(2)])
    numbers: list[int] = await q.gather(*jobs)
    mixed: list[int | BaseException] = await q.gather(*jobs, return_exceptions=True)
    wrong: list[str] = await q.gather(*jobs)  # E
    async for job in q.as_completed(jobs, timeout=5):
        number: int = await job
        wrong_number: str = await job  # E
        print(number, wrong_number)
    blocking: list[int] = q.sync.gather(*q.sync.submit_many([add.call(1)]))
    print(numbers, mixed, wrong, blocking)


@q.cron("30 2 * * *", tz="Europe/Berlin", overlap="skip")
async def nightly(day: str = "today") -> int:
    return len(day)


@q.every("5m", catch_up="last", jitter=5)
@q.task(queue="mail")
def clean() -> str:
    return ""


@q.cron("30 2 * * *", overlap="never")  # E
def odd() -> None: ...


async def schedules() -> None:
    size: int = await (await nightly.submit("x")).result()
    text: str = clean()
    await nightly.submit(5)  # E
    await q.schedules.create("a", add.call(1), cron="@daily")
    await q.schedules.create("b", clean, every=timedelta(hours=1))
    await q.schedules.create("c", add.call(1), every=5, overlap="never")  # E
    wrong: str = await q.schedules.next("a")  # E
    print(size, text, wrong)


async def maps() -> None:
    async for number in add.map([1, 2], concurrency=10):
        good: int = number
        bad: str = number  # E
        print(good, bad)
    async for text in double.map(name for name in ("x", "y")):
        also: str = text
        print(also)
    async for either in add.map([1], return_exceptions=True):
        one: int | BaseException = either
        print(one)
    names = mail.map(["x"])
    add.map(["x"])  # E
    add.map(5)  # E
    double.map([1])  # E
    add.map([1], concurrency="10")  # E
    numbers: list[int] = list(add.map_sync(range(10)))
    wrong: list[str] = list(add.map_sync(range(10)))  # E
    double.map_sync([1])  # E
    count: int = await q.cancel_all([await add.submit(1)], reason="enough")
    await q.cancel_all([add])  # E
    print(names, numbers, wrong, count)


async def inside() -> None:
    context = current()
    page: int = context.checkpointed(0)
    context.checkpoint({"page": page})
    await context.checkpoint(page)
    context.checkpoint(page).wait(timeout="5s")
    context.checkpoint(page).wait("soon", 1)  # E
    context.checkpoint()  # E
    with context.outbox() as box:
        job = await add.submit(1)
        number: int = await job
        print(number, len(box))
    async with context.outbox():
        await add.submit("x")  # E


# -- what is injected --------------------------------------------------------------------------------


class Pool:
    size = 1


async def a_coroutine() -> Pool:
    return Pool()


async def an_async_generator() -> AsyncIterator[Pool]:
    yield Pool()


def a_generator() -> Iterator[Pool]:
    yield Pool()


@asynccontextmanager
async def a_manager() -> AsyncIterator[Pool]:
    yield Pool()


@contextmanager
def a_plain_manager() -> Iterator[Pool]:
    yield Pool()


def nested(pool: Pool = Depends(a_coroutine, scope="worker")) -> int:
    return pool.size


@q.task
async def send(
    user: int,
    one: Pool = Depends(Pool),
    two: Pool = Depends(a_coroutine),
    three: Pool = Depends(an_async_generator, scope="worker"),
    four: Pool = Depends(a_generator),
    five: Pool = Depends(a_manager),
    six: Pool = Depends(a_plain_manager),
    seven: int = Depends(nested),
    *,
    copies: int = 1,
) -> str:
    return str(user)


@q.task
async def wrong_pool(user: int, pool: Pool = Depends(nested)) -> None: ...  # E


@q.task
async def wrong_scope(user: int, pool: Pool = Depends(Pool, scope="request")) -> None: ...  # E


@q.task
async def annotated(user: int, pool: Annotated[Pool, Depends(a_generator)]) -> None: ...


async def injected() -> None:
    await send.submit(7)
    text: str = await (await send.submit(7, copies=2)).result()
    await send.submit("x")  # E
    await annotated.submit(7)  # E
    print(text)


# -- lifespan and middleware --------------------------------------------------------------------------------


@asynccontextmanager
async def lifespan(app: TaskQ) -> AsyncIterator[Pool]:
    yield Pool()


async def not_one(app: TaskQ) -> None: ...


class Noting(Middleware):
    async def submit(self, jobs: Sequence[Outgoing], call_next: Callable[[], Awaitable[None]]) -> None:
        for job in jobs:
            job.meta["by"] = "me"
            job.meta["size"] = 5  # E
        await call_next()

    async def after(self, context: Context, result: object) -> None:
        number: str = context.attempt  # E
        print(number)


class WrongHook(Middleware):
    async def before(self, context: str) -> None: ...  # E


full = TaskQ(lifespan=lifespan, middleware=[Noting()])
wrong_lifespan = TaskQ(lifespan=not_one)  # E
wrong_middleware = TaskQ(middleware=[Noting])  # E


def executors() -> None:
    with q.executor(queue="default") as executor:
        number: int = executor.submit(add, 1).result()
        text: str = executor.submit(double, "x").result()
        raw: bytes = executor.submit(bytes, [1]).result()
        numbers: list[int] = list(executor.map(add, [1, 2]))
        texts: list[str] = list(executor.map(double, ["x"]))
        wrong: str = executor.submit(add, 1).result()  # E
        executor.submit(add, "x")  # E
        executor.submit(double)  # E
        print(number, text, raw, numbers, texts, wrong, executor.submit("add", 1).result())
    q.executor(queu="mail")  # E


# -- functions of every kind --------------------------------------------------------------------

P = ParamSpec("P")
T = TypeVar("T")


def timed(fn: Callable[P, Awaitable[T]]) -> Callable[P, Coroutine[Any, Any, T]]:
    @functools.wraps(fn)
    async def wrapper(*args: P.args, **kwargs: P.kwargs) -> T:
        return await fn(*args, **kwargs)

    return wrapper


def logged(fn: Callable[P, T]) -> Callable[P, T]:
    @functools.wraps(fn)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> T:
        return fn(*args, **kwargs)

    return wrapper


@q.task
@timed
async def fetch(url: str, *, tries: int = 3) -> bytes:
    return url.encode() * tries


@q.task(queue="x")
@logged
def parse(text: str, /, base: int = 10) -> int:
    return int(text, base)


@q.task
async def many_of(first: int, *rest: int, **more: str) -> dict[str, int]:
    return {str(first): len(rest) + len(more)}


@q.task
async def same(value: list[T]) -> T:
    return value[0]


class Machine:
    def run(self, n: int) -> str:
        return str(n)

    async def wait(self, n: int) -> str:
        return str(n)

    def __call__(self, n: int) -> str:
        return str(n)

    @staticmethod
    @q.task
    async def turn(n: int) -> float:
        return n / 2


run = q.task(Machine().run)
wait = q.task(name="wait")(Machine().wait)
called = q.task(name="called")(Machine())
partly = q.task(name="partly")(functools.partial(int, base=2))


@q.task
async def log_in(token: Secret[str], pin: Secret[int] | None = None) -> Secret[str]:
    length: int = len(token.reveal())
    wrong: int = token.reveal()  # E
    print(length, wrong, pin)
    return token


async def kinds() -> None:
    raw: bytes = await (await fetch.submit("x", tries=1)).result()
    number: int = await (await parse.submit("ff", base=16)).result()
    counts: dict[str, int] = await (await many_of.submit(1, 2, 3, a="x")).result()
    text: str = await (await same.submit(["x"])).result()
    ran: str = await (await run.submit(1)).result()
    waited: str = await (await wait.submit(n=1)).result()
    half: float = await (await Machine.turn.submit(1)).result()
    again: str = await (await called.submit(1)).result()
    two: int = await (await partly.submit("10")).result()
    secret: str = (await (await log_in.submit(Secret("x"), Secret(1))).result()).reveal()
    await fetch.submit("x", 3)  # E
    await fetch.submit(5)  # E
    await parse.submit(text="ff")  # E
    await parse.options(priority=1).submit("ff", "16")  # E
    await many_of.submit(1, "2")  # E
    await many_of.submit(1, a=2)  # E
    await same.submit("x", 5)  # E
    await run.submit("x")  # E
    wait.submit_sync()  # E
    Machine.turn.call("x")  # E
    called.call("x")  # E
    await log_in.submit("x")  # E
    await log_in.submit(Secret(5))  # E
    wrong: int = await (await wait.submit(1)).result()  # E
    late: str = add.options(key="x").submit_sync(1).result()  # E
    print(raw, number, counts, text, ran, waited, half, again, two, secret, wrong, late)


class Json:
    name = "json"
    keeps_types = False

    def dumps(self, value: Any, /) -> bytes:
        return repr(value).encode()

    def loads(self, data: bytes, /) -> Any:
        return data


class Half:
    name = "half"


TaskQ(serializer="pickle", compress=True)
TaskQ(serializer=Json())
TaskQ(serializer=Half())  # E
TaskQ(serializer="json")  # E
TaskQ(compress="zstd")  # E
