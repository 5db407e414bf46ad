"""The text form of a filter: what can be written, and what is refused with what can."""

from contextlib import suppress
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskq.client.filters import FilterFields, filter_of, quoted
from taskq.limits import BATCH_MAX
from taskq.protocol.messages import Filter

HEX = "019b76daa80075118123456789abcdef"
ID = bytes.fromhex(HEX)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("", Filter()),
        ("  ", Filter()),
        ("state:dead", Filter(states=["dead"])),
        ("state:dead,expired state:dead", Filter(states=["dead", "expired"])),
        ("task:send_* queue:mail", Filter(task="send_*", queue="mail")),
        ("key:acme:eu", Filter(key="acme:eu")),
        ('error:"timed out: 5 s"', Filter(error="timed out: 5 s")),
        ("error:'say \"no\"'", Filter(error='say "no"')),
        ("type:builtins.ValueError", Filter(error_type="builtins.ValueError")),
        ("older:1h younger:2d", Filter(older_ms=3_600_000, younger_ms=172_800_000)),
        ("older:90", Filter(older_ms=90_000)),
        (f"id:{HEX}", Filter(ids=[ID])),
        (f"id:{HEX},{UUID(HEX)}", Filter(ids=[ID])),
        (HEX, Filter(ids=[ID])),
        (f"{UUID(HEX)} state:dead", Filter(ids=[ID], states=["dead"])),
        ("task:a,b", Filter(task="a,b")),
        ('queue:"ma*"', Filter(queue="ma*")),
        ('error:"2 * 3"', Filter(error="2 * 3")),
        ("\ttask:a\n queue:b ", Filter(task="a", queue="b")),
    ],
)
def test_what_can_be_written(text: str, wanted: Filter) -> None:
    assert filter_of(text) == wanted


@pytest.mark.parametrize(
    ("fields", "wanted"),
    [
        ({"state": "dead"}, Filter(states=["dead"])),
        ({"state": ["dead", "expired"]}, Filter(states=["dead", "expired"])),
        ({"older": timedelta(hours=1)}, Filter(older_ms=3_600_000)),
        ({"younger": 1.5}, Filter(younger_ms=1_500)),
        ({"id": UUID(HEX)}, Filter(ids=[ID])),
        ({"id": [HEX, UUID(HEX)]}, Filter(ids=[ID])),
        ({"error": "both \" and '"}, Filter(error="both \" and '")),
    ],
)
def test_keywords_mean_the_same(fields: FilterFields, wanted: Filter) -> None:
    assert filter_of("", fields) == wanted


def test_text_and_keywords_together() -> None:
    assert filter_of("state:dead task:a", {"state": "expired"}) == Filter(["dead", "expired"], "a")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("stat:dead", "there is no field 'stat'; did you mean 'state'? There are: state, task, queue, key"),
        ("xyz:1", "there is no field 'xyz'; there are: state, task"),
        ("state:done", "there is no state 'done'; there are: scheduled, blocked, ready"),
        ("state:dead,", "there is no state ''"),
        ("task:a task:b", "task is said twice"),
        ("task:", "'task:' has no value; leave it out to mean any"),
        ('task:""', "task is empty; leave it out to mean any"),
        ("send_mail", "'send_mail' is no field:value; say task:send_mail"),
        ("error:timed out", "'out' is no field:value"),
        ('error:"timed', "a quote that is not closed"),
        ('error:a"b"', "a quote that is not closed, or in the middle of a value"),
        ('error:"a"b', "a quote that is not closed, or in the middle of a value"),
        ("older:soon", "older: 'soon' is no span of time; write '250ms'"),
        ("older:0", "older is more than 0"),
        ("older:20000w", "older is from 0 to ten years"),
        ("queue:ma*", "queue:ma*: * stands for anything in the task only; queue is a whole name"),
        ("key:*", "* stands for anything in the task only; key is a whole name"),
        ("type:app.*", "* stands for anything in the task only; type is a whole name"),
        ("error:time*", "error is found anywhere in the text, so leave the * out"),
        ("state:*", "* stands for anything in the task only"),
        ("id:xyz", "a job's id is 32 hex digits, not 'xyz'"),
        (f"task:{'x' * 201}", "task has 201 characters; at most 200"),
        (f"task:{'x' * 200_000}", "the limit is 100000"),
    ],
)
def test_what_cannot_is_refused_with_what_can(text: str, said: str) -> None:
    with pytest.raises(ValueError, match=r".") as caught:
        filter_of(text)
    assert said in str(caught.value)
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize("fields", [{"task": 5}, {"queue": None}, {"older": "x"}, {"nothing": 1}, {"id": 5}])
def test_so_is_a_wrong_keyword(fields: Any) -> None:
    with pytest.raises((ValueError, TypeError)):
        filter_of("", fields)


def test_there_is_an_end_to_ids() -> None:
    with pytest.raises(ValueError, match="2001 ids; at most 2000"):
        filter_of("", {"id": [UUID(int=number) for number in range(BATCH_MAX + 1)]})


@given(st.text(max_size=50))
def test_any_text_is_read_or_refused(text: str) -> None:
    with suppress(ValueError):
        filter_of(text)


@given(st.text(min_size=1, max_size=50))
def test_what_is_quoted_is_read_back(value: str) -> None:
    try:
        text = quoted("error", value)
    except ValueError:
        assert '"' in value
        assert "'" in value
    else:
        assert filter_of(text) == Filter(error=value)
