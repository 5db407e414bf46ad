"""How jobs are shown in lists."""

import json
import math
from dataclasses import dataclass
from decimal import Decimal
from enum import Enum
from typing import Any
from uuid import UUID

import pytest
from pydantic import SecretStr

from taskq import Secret
from taskq.cli.found import about, as_json_value, row
from taskq.client.job import JobInfo
from taskq.protocol.messages import Fault, JobLine

SLOW = Fault("TimeoutError", "too slow\nby far")


def info(**fields: Any) -> JobInfo:
    return JobInfo._of_line(JobLine(bytes(16), "send", "mail", **{"state": "ready", **fields}))


@pytest.mark.parametrize(
    ("fields", "tries"),
    [
        ({}, "0/3"),
        ({"state": "running", "attempts": 1}, "1/3"),
        ({"state": "succeeded", "attempts": 1}, "1/3"),
        ({"attempts": 1, "failures": 1}, "1/3"),
        ({"attempts": 3, "failures": 1, "crashes": 2}, "1/3 +2 crashes"),
        ({"state": "dead", "attempts": 6, "crashes": 6}, "0/3 +6 crashes"),
        ({"state": "running", "attempts": 2, "crashes": 1}, "1/3 +1 crash"),
    ],
)
def test_crashes_are_beside_the_tries_that_count(fields: dict[str, Any], tries: str) -> None:
    assert row(info(max_attempts=3, **fields))[4] == tries


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"state": "running", "worker": "w1"}, "on w1"),
        ({"state": "running", "worker": "w1", "fault": SLOW}, "on w1, after TimeoutError: too slow"),
        ({"fault": SLOW}, "TimeoutError: too slow"),
        ({"state": "cancelled", "reason": "no need"}, "no need"),
        ({"state": "scheduled", "due_ms": 1_000, "fault": SLOW}, "due 1970-01-01T00:00:01+00:00"),
    ],
)
def test_what_is_said_of_a_job_first(fields: dict[str, Any], text: str) -> None:
    assert about(info(**fields)) == text


def test_whatever_a_value_is_json_can_hold_it() -> None:
    class Color(Enum):
        RED = "red"

    @dataclass
    class Item:
        price: Decimal
        color: Color
        token: Secret[str]

    item = Item(Decimal("1.50"), Color.RED, Secret("hunter2"))
    found = as_json_value(
        {
            (1, 2): item,
            "a": [math.nan, -math.inf, 1.5],
            "b": b"x",
            "c": {UUID(int=1)},
            "d": SecretStr("hunter2"),
        }
    )
    assert found == {
        "(1, 2)": {"price": "1.50", "color": "red", "token": "***"},
        "a": ["nan", "-inf", 1.5],
        "b": "eA==",
        "c": [str(UUID(int=1))],
        "d": "**********",
    }
    assert json.loads(json.dumps(found)) == found
    assert as_json_value(object).startswith("<class")
