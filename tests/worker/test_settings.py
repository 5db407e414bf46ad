"""What a worker can be started with, and what each refusal says."""

from typing import Any

import pytest

from taskq.errors import ConfigError
from taskq.limits import QUEUES_PER_WORKER_MAX, SLOTS_MAX
from taskq.worker.settings import THREADS_MAX, WorkerSettings, parse_queues, queues_of, slots_of


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"slots": 0}, "slots must be from 1"),
        ({"slots": SLOTS_MAX + 1}, str(SLOTS_MAX)),
        ({"processes": 0}, "processes must be from 1"),
        ({"grace_ms": -1}, "grace"),
        ({"queues": ("",)}, "1 to"),
        ({"queues": ("high:3",)}, "write 'high'"),
        ({"queues": tuple(map(str, range(QUEUES_PER_WORKER_MAX + 1)))}, str(QUEUES_PER_WORKER_MAX)),
    ],
)
def test_what_cannot_be_used_is_refused_with_what_can(values: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        WorkerSettings(app="tasks:q", **values)


def test_queues_are_parsed_in_order_and_once() -> None:
    assert parse_queues("high, default,high") == ("high", "default")
    with pytest.raises(ConfigError, match="no queue"):
        parse_queues(" , ")
    with pytest.raises(ConfigError, match="no weights"):
        parse_queues("high:3,default")


def test_a_colon_alone_is_no_weight() -> None:
    assert parse_queues("mail:eu") == ("mail:eu",)


def test_without_names_a_worker_serves_default_and_what_its_tasks_use() -> None:
    assert queues_of((), ["mail", "default", "mail"]) == ["default", "mail"]
    assert queues_of(("high",), ["mail"]) == ["high"]


def test_threads_are_bounded() -> None:
    assert slots_of(5) == {"async": 5, "thread": 5}
    assert slots_of(1_000) == {"async": 1_000, "thread": THREADS_MAX}
