"""What a task raises to say what should happen next."""

from collections.abc import Callable

import pytest

from taskq import Retry, Snooze


@pytest.mark.parametrize("wish", [lambda: Retry(after=-1), lambda: Snooze(-1)])
def test_the_past_cannot_be_asked_for(wish: Callable[[], Exception]) -> None:
    with pytest.raises(ValueError, match="in the past"):
        wish()
