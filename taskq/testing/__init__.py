"""For users' own tests: `Embedded`, a broker and a worker in virtual time; and real ones, that start on
free ports and are gone afterwards.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from taskq.testing.env import Embedded, SyncEmbedded
    from taskq.testing.pacing import Stuck
    from taskq.testing.submitted import Submitted

__all__ = ["Embedded", "Stuck", "Submitted", "SyncEmbedded"]

_HOMES = {"Embedded": "env", "SyncEmbedded": "env", "Stuck": "pacing", "Submitted": "submitted"}


def __getattr__(name: str) -> Any:
    # pytest imports this package for its plugin, whatever the tests are about: what is heavy waits.
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
