"""TASKQ_* variables that nobody reads: a typing error there would go unnoticed."""

from collections.abc import Callable, Iterator, Mapping
from difflib import get_close_matches
from typing import Final

import click

PREFIX: Final = "TASKQ_"
# Those that are no option of a verb.
SHARED: Final = (
    *("TASKQ_URL", "TASKQ_TOKEN", "TASKQ_TOKEN_FILE"),
    *("TASKQ_DEBUG", "TASKQ_CONFIG", "TASKQ_LOG_FORMAT"),
)
# More are not told one by one: somebody has a product of this name.
_TOLD_MAX: Final = 5


def warnings(
    environment: Mapping[str, str], verbs: Mapping[str, Callable[[], click.Command]]
) -> Iterator[str]:
    """A sentence for each variable that is not known, with the nearest that is.

    Only the verbs that the variables name are loaded, and, for a variable that is not known, all of them.
    """
    asked = sorted(name for name in environment if name.startswith(PREFIX) and name not in SHARED)
    named = {
        verb: load for verb, load in verbs.items() if any(name.startswith(_stem(verb)) for name in asked)
    }
    known = _known(named)
    unknown = [name for name in asked if name not in known]
    if not unknown:
        return
    known = _known(verbs)
    for name in unknown[:_TOLD_MAX]:
        # Without what all of them have in common, which would make all of them alike.
        rests = [other.removeprefix(PREFIX) for other in known]
        close = get_close_matches(name.removeprefix(PREFIX), rests, n=1)
        hint = f"did you mean {PREFIX}{close[0]}?" if close else f"what is read is {PREFIX}VERB_OPTION"
        yield f"{name} is in the environment, and nothing reads it; {hint}"
    if len(unknown) > _TOLD_MAX:
        yield f"nor does anything read {len(unknown) - _TOLD_MAX} more {PREFIX}* variables"


def _known(verbs: Mapping[str, Callable[[], click.Command]]) -> list[str]:
    return [*SHARED, *(name for verb, load in verbs.items() for name in _of_verb(verb, load()))]


def _of_verb(verb: str, command: click.Command) -> Iterator[str]:
    """The variables that click reads for this verb, and for those below it."""
    for param in command.params:
        if param.name is not None:
            yield _stem(verb) + param.name.upper()
    if isinstance(command, click.Group):
        for name, below in command.commands.items():
            yield from _of_verb(f"{verb}_{name}", below)


def _stem(verb: str) -> str:
    return f"{PREFIX}{verb.replace('-', '_').upper()}_"
