"""How often and how many at once: what may be written, and the texts that say so."""

from typing import Any

import pytest

from taskq import Concurrency, ConfigError, Rate, TaskQ
from taskq.client.bounds import parse_rate
from taskq.protocol.messages import Limit, Terms


@pytest.mark.parametrize(
    ("text", "rate"),
    [
        ("10/s", (10, 1_000)),
        ("5/10s", (5, 10_000)),
        ("100/m", (100, 60_000)),
        ("100/min", (100, 60_000)),
        ("3/h", (3, 3_600_000)),
        (" 1 / 2 d ", (1, 172_800_000)),
        ("1000000/s", (1_000_000, 1_000)),
    ],
)
def test_rates(text: str, rate: tuple[int, int]) -> None:
    assert parse_rate(text) == rate


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("often", "'often' is no rate; a rate is written '10/s'"),
        ("-5/s", "is no rate"),
        ("0.5/s", "is no rate"),
        ("10", "is no rate"),
        ("10/ms", "is no rate"),
        ("10/s/s", "is no rate"),
        ("٣/s", "is no rate"),
        ("9" * 1_000 + "/s", "is no rate"),
        ("0/s", "lets no job start"),
        ("5/0s", "more than nothing"),
        ("1/99999999999d", "at most ten years"),
        ("99999999999/d", "at most 2147483648"),
        ("1000001/s", "over 1,000,000 a second"),
        ("100000000/min", "over 1,000,000 a second"),
    ],
)
def test_what_is_no_rate_is_explained(text: str, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        Rate(text)


@pytest.mark.parametrize(
    ("bound", "kind", "says"),
    [
        (lambda: Concurrency(0), ValueError, "concurrency is from 1"),
        (lambda: Concurrency(-1), ValueError, "not -1"),
        (lambda: Concurrency(2**31 + 1), ValueError, "from 1 to 2147483648"),
        (lambda: Concurrency(True), TypeError, "whole number"),
        (lambda: Concurrency("5"), TypeError, "whole number"),  # type: ignore[arg-type]  # on purpose
        (lambda: Concurrency(5, per="task"), ValueError, "per is 'key'"),  # type: ignore[arg-type]
        (lambda: Rate("1/s", per=["key"]), ValueError, "per is 'key'"),  # type: ignore[arg-type]
        (lambda: Rate("1/s", burst=0), ValueError, "burst is from 1"),
        (lambda: Rate(10), TypeError, "a rate is written"),  # type: ignore[arg-type]
    ],
)
def test_what_is_no_bound_is_explained(bound: Any, kind: type[Exception], says: str) -> None:
    with pytest.raises(kind, match=says):
        bound()


def declared(**options: Any) -> list[Limit]:
    return TaskQ("taskq://127.0.0.1:1").task(name="t", **options)(lambda: None).settings.declared("t")


def test_bounds_become_limits_of_the_task() -> None:
    assert declared() == []
    assert declared(concurrency=5) == [Limit("task", "t", "concurrency", 5)]
    assert declared(rate_limit="100/min") == [Limit("task", "t", "rate", 100, False, 60_000)]
    assert declared(concurrency=Concurrency(1, per="key"), rate_limit=Rate("2/h", burst=4)) == [
        Limit("task", "t", "concurrency", 1, True),
        Limit("task", "t", "rate", 2, False, 3_600_000, 4),
    ]


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"concurrency": "5"}, "concurrency is a whole number or Concurrency"),
        ({"concurrency": True}, "concurrency is a whole number or Concurrency"),
        ({"rate_limit": 10}, "rate_limit is a text such as '10/s'"),
    ],
)
def test_what_is_not_even_like_a_bound(options: dict[str, Any], says: str) -> None:
    with pytest.raises(TypeError, match=says):
        declared(**options)


def terms(**options: Any) -> Terms:
    return TaskQ("taskq://127.0.0.1:1").task(name="t")(lambda: None).options(**options).terms


def test_labels_and_resources_are_in_the_order_of_their_names() -> None:
    found = terms(labels={"zone": "b", "region": "eu", "gpu": 1}, resources={"mem": 2, "gpu": 1})
    assert found.labels == (("gpu", "1"), ("region", "eu"), ("zone", "b"))
    assert found.resources == (("gpu", 1), ("mem", 2))


@pytest.mark.parametrize(
    ("options", "kind", "says"),
    [
        ({"labels": "region=eu"}, TypeError, "labels is a dict such as"),
        ({"labels": {"region": None}}, TypeError, "the value of 'region' is a text"),
        ({"labels": {"region": "x" * 2_001}}, ValueError, "has 2001 characters"),
        ({"labels": {"": "eu"}}, ConfigError, "labels: the name"),
        ({"labels": {str(n): "" for n in range(17)}}, ValueError, "at most 16 names, not 17"),
        ({"resources": {"gpu": 0}}, ValueError, "how much of 'gpu' is from 1"),
        ({"resources": {"gpu": 1.0}}, TypeError, "whole number"),
        ({"resources": {3: 1}}, TypeError, "resources: the name"),
        ({"resources": ["gpu"]}, TypeError, "resources is a dict"),
    ],
)
def test_labels_and_resources_that_cannot_be(
    options: dict[str, Any], kind: type[Exception], says: str
) -> None:
    with pytest.raises(kind, match=says):
        terms(**options)
