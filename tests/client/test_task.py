"""Declaring tasks: their names, options and executors; and a plain call, which runs here."""

import inspect
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

import taskq
from taskq.client.app import TaskQ
from taskq.client.context import Context, context_var, current
from taskq.errors import ConfigError
from taskq.protocol.messages import RetryTerms, Terms


async def test_a_plain_call_runs_here() -> None:
    q = TaskQ()

    @q.task
    async def add(a: int, b: int = 1) -> int:
        """Adds."""
        return a + b

    @q.task
    def double(a: int) -> int:
        return 2 * a

    assert await add(2, b=3) == 5
    assert double(4) == 8
    assert (vars(add)["__name__"], add.__doc__) == ("add", "Adds.")
    assert list(inspect.signature(add).parameters) == ["a", "b"]
    assert (add.executor, double.executor) == ("async", "thread")


def test_tasks_are_known_by_name() -> None:
    q = TaskQ()

    @q.task(name="mail.send", queue="mail", retry=3, priority=5)
    async def send() -> None: ...

    @q.task
    async def other() -> None: ...

    assert list(q.tasks) == ["mail.send", f"{__name__}.test_tasks_are_known_by_name.<locals>.other"]
    assert q.tasks["mail.send"] is send
    assert send.terms == Terms("mail.send", queue="mail", priority=5, retry=RetryTerms(max_attempts=3))


def test_options_make_another_task_of_the_same_function() -> None:
    q = TaskQ()

    @q.task(queue="mail")
    async def send() -> None: ...

    urgent = send.options(priority=9).options(delay=2)
    assert (urgent.terms.queue, urgent.terms.priority, urgent.terms.delay_ms) == ("mail", 9, 2_000)
    assert (send.terms.priority, send.terms.delay_ms) == (0, 0)
    assert type(urgent) is type(send)
    assert urgent.fn is send.fn
    assert send.terms is send.terms, "jobs share the terms by identity"
    with pytest.raises(TypeError, match="unknown option executor; there are at, bind, confirm_timeout"):
        send.options(executor="thread")  # type: ignore[call-arg]  # the point


def test_one_name_is_one_function() -> None:
    q = TaskQ()

    async def first() -> None: ...

    async def second() -> None: ...

    q.task(name="one")(first)
    q.task(name="one", queue="mail")(first)
    assert q.tasks["one"].terms.queue == "mail"
    with pytest.raises(ConfigError, match="two functions want to be the task 'one'"):
        q.task(name="one")(second)


async def test_generators_are_tasks_that_stream() -> None:
    q = TaskQ()

    @q.task
    async def values() -> AsyncIterator[int]:
        yield 1

    @q.task
    def more_values() -> Iterator[int]:
        yield 2

    assert (values.executor, more_values.executor) == ("async", "thread")
    assert values.is_stream and more_values.is_stream
    assert [value async for value in values()] == [1]
    assert list(more_values()) == [2]


def test_what_cannot_be_a_task() -> None:
    q = TaskQ()

    async def fine() -> None: ...

    with pytest.raises(TypeError, match="decorates a function"):
        q.task(5)  # type: ignore[call-overload]  # the point
    with pytest.raises(ConfigError, match="is an async def: its executor is 'async', not 'thread'"):
        q.task(executor="thread")(fine)
    with pytest.raises(ConfigError, match="the name of the task: '' is no name"):
        q.task(name="")(fine)
    with pytest.raises(TypeError, match="unknown option key; there are concurrency, durability, executor"):
        q.task(key=1)  # type: ignore[call-overload]  # the point
    assert not q.tasks


def test_nothing_is_connected_by_declaring() -> None:
    TaskQ("taskq://nowhere.invalid:1")
    with pytest.raises(ConfigError, match="not the address of a broker"):
        TaskQ("redis://localhost")


SCRIPT = """
from taskq.client.app import TaskQ
q = TaskQ()
@q.task
async def add(): ...
if __name__ == "__main__":
    print(*q.tasks)
"""


@pytest.mark.parametrize(
    ("command", "name"),
    [
        (["shop/tasks.py"], "tasks.add"),
        (["-m", "shop.tasks"], "shop.tasks.add"),
        (["-m", "shop"], "shop.__main__.add"),
    ],
)
def test_a_script_has_the_name_by_which_a_worker_imports_it(
    tmp_path: Path, command: list[str], name: str
) -> None:
    package = tmp_path / "shop"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "tasks.py").write_text(SCRIPT)
    (package / "__main__.py").write_text(SCRIPT)
    root = str(Path(taskq.__file__).parents[1])
    ran = subprocess.run(
        [sys.executable, *command],
        cwd=tmp_path,
        env={"PYTHONPATH": root},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert ran.stdout.split() == [name]


def test_importing_the_client_stays_light() -> None:
    check = (
        "import sys, taskq.client.app; print([n for n in ('uvloop', 'rich', 'click') if n in sys.modules])"
    )
    root = str(Path(taskq.__file__).parents[1])
    ran = subprocess.run(
        [sys.executable, "-c", check],
        env={"PYTHONPATH": root},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert ran.stdout.strip() == "[]"


def test_the_context_of_a_running_task() -> None:
    with pytest.raises(RuntimeError, match="there is no job here"):
        current()
    said: list[object] = []
    context = Context(
        job_id="00",
        task="t",
        attempt=2,
        deadline=datetime.now(UTC),
        on_progress=lambda *words: said.append(words),
        on_extend=lambda timeout_ms: said.append(timeout_ms),
    )
    token = context_var.set(context)
    try:
        assert current() is context
        current().progress(3, total=10, message="x" * 5_000)
        current().extend("5s")
        assert said == [(3, 10, "x" * 2_000), 5_000]
        assert context.deadline is not None and context.deadline > datetime.now(UTC)
        with pytest.raises(ValueError, match="counts from 0"):
            current().progress(-1)
        assert not context.cancelled
        context.cancel("enough")
        assert (current().cancelled, current().reason) == (True, "enough")
    finally:
        context_var.reset(token)


def apart() -> int:
    """At the top of its module, as a process needs it."""
    return 1


class Shelf:
    @staticmethod
    def apart() -> int:
        return 2


def test_a_plain_function_at_the_top_of_a_module_may_have_processes() -> None:
    q = TaskQ()
    task = q.task(executor="process")(apart)
    assert (task.executor, task()) == ("process", 1)
    assert q.task(executor="process")(Shelf.apart).executor == "process"


def test_what_a_process_could_not_import_is_refused_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    q = TaskQ()

    def nested() -> None: ...

    with pytest.raises(ConfigError, match=r"nested is made inside test_what_a_process_could_not_import"):
        q.task(executor="process")(nested)
    with pytest.raises(ConfigError, match="is a lambda, so a process of its own could not import it"):
        q.task(executor="process", name="x")(lambda: None)
    monkeypatch.setattr("taskq.client.callables._main_name", lambda: "__main__")
    monkeypatch.setattr(apart, "__module__", "__main__")
    with pytest.raises(ConfigError, match="apart is in no file"):
        q.task(executor="process", name="y")(apart)
    assert not q.tasks


def test_an_async_def_has_no_processes() -> None:
    async def fine() -> None: ...

    with pytest.raises(ConfigError, match="is an async def: its executor is 'async', not 'process'"):
        TaskQ().task(executor="process")(fine)
