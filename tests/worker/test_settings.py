"""What a worker can be started with, and what each refusal says."""

from typing import Any

import pytest

from taskq.errors import ConfigError
from taskq.limits import SLOTS_MAX
from taskq.worker.offer import Offer
from taskq.worker.settings import THREADS_MAX, WorkerSettings, slots_of


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"slots": 0}, "slots must be from 1"),
        ({"slots": SLOTS_MAX + 1}, str(SLOTS_MAX)),
        ({"processes": 0}, "processes must be from 1"),
        ({"grace_ms": -1}, "grace"),
        ({"queues": ("",)}, "1 to"),
        ({"queues": ("high:0",)}, "a weight is from 1"),
        ({"labels": {"": "x"}}, "a label's name"),
        ({"resources": {"gpu": -1}}, "resource 'gpu'"),
        ({"strict": True}, "none is"),
    ],
)
def test_what_cannot_be_used_is_refused_with_what_can(values: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        WorkerSettings(app="tasks:q", **values)


def test_what_is_offered_comes_of_the_settings() -> None:
    settings = WorkerSettings(
        app="tasks:q", queues=("high:3", "default"), labels={"region": "eu"}, resources={"gpu": 2}
    )
    assert settings.offer == Offer(
        queues=("high", "default"), weights=(3, 1), labels={"region": "eu"}, resources={"gpu": 2}
    )


def test_threads_are_bounded() -> None:
    assert slots_of(5, 2) == {"async": 5, "thread": 5, "process": 2}
    assert slots_of(1_000, 2) == {"async": 1_000, "thread": THREADS_MAX, "process": 2}


def test_the_processors_are_shared_between_the_children() -> None:
    alone = WorkerSettings(app="tasks:q").capacity["process"]
    assert alone == slots_of(1)["process"] >= 1
    assert WorkerSettings(app="tasks:q", processes=2).capacity["process"] == max(alone // 2, 1)
    assert WorkerSettings(app="tasks:q", processes=2, process_slots=7).capacity["process"] == 7
