"""What a task raises to say what should happen next."""

from collections.abc import Callable

import pytest

from taskq import Retry, Snooze, Throttle


@pytest.mark.parametrize("wish", [lambda: Retry(after=-1), lambda: Snooze(-1), lambda: Throttle("ann", -1)])
def test_the_past_cannot_be_asked_for(wish: Callable[[], Exception]) -> None:
    with pytest.raises(ValueError, match="in the past"):
        wish()


@pytest.mark.parametrize("key", ["", "x" * 1_000_000, "new\nline", "\ud800", None])
def test_what_is_no_key_cannot_be_held(key: str) -> None:
    with pytest.raises(ValueError, match="is no key; 1 to 200 printable"):
        Throttle(key, 1)
