"""What a task raises to say what should happen next."""

import math
from collections.abc import Callable
from typing import Any

import pytest

from taskq import Retry, Snooze, Throttle

WISHES: list[Callable[[Any], Exception]] = [lambda s: Retry(after=s), Snooze, lambda s: Throttle("ann", s)]


@pytest.mark.parametrize("wish", WISHES)
@pytest.mark.parametrize("seconds", [-1, math.nan, math.inf])
def test_what_never_comes_cannot_be_asked_for(wish: Callable[[Any], Exception], seconds: float) -> None:
    with pytest.raises(ValueError, match="0 or more seconds are allowed"):
        wish(seconds)


@pytest.mark.parametrize("wish", WISHES)
@pytest.mark.parametrize("seconds", ["5m", True])
def test_a_wish_is_for_seconds(wish: Callable[[Any], Exception], seconds: Any) -> None:
    with pytest.raises(TypeError, match="is a number of seconds, not"):
        wish(seconds)


@pytest.mark.parametrize("key", ["", "x" * 1_000_000, "new\nline", "\ud800", None])
def test_what_is_no_key_cannot_be_held(key: str) -> None:
    with pytest.raises(ValueError, match="is no key; 1 to 200 printable"):
        Throttle(key, 1)
