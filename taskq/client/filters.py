"""Which jobs: as text, `state:dead task:send_* older:1h`, or as keywords. One reader for both.

field:value     all must apply; a value with spaces goes in quotes: error:"timed out"
*               anything, in the task; in other values it goes in quotes, and means itself
state task queue key older younger error type id
"""

import re
from collections.abc import Callable, Iterable, Sequence
from difflib import get_close_matches
from typing import Any, Final, TypedDict, get_args
from uuid import UUID

from taskq.client.options import id_of
from taskq.client.seconds import Seconds, millis_of
from taskq.limits import BATCH_MAX, NAME_CHARS_MAX, TEXT_CHARS_MAX
from taskq.protocol.messages import Filter, JobStateName

QUERY_CHARS_MAX: Final = 100_000
STATES: Final[tuple[str, ...]] = get_args(JobStateName)
# A field, a colon, and a value: quoted, or up to the next space.
_TERM: Final = re.compile(r"""\s*([A-Za-z_]+):("[^"]*"|'[^']*'|[^\s"']+)(?=\s|$)""")
_BARE_ID: Final = re.compile(r"\s*([0-9a-fA-F]{8}-?(?:[0-9a-fA-F]{4}-?){3}[0-9a-fA-F]{12})(?=\s|$)")


class FilterFields(TypedDict, total=False):
    """The fields of a filter as keywords; texts and lists of texts mean the same as in its text form."""

    state: str | Sequence[str]
    task: str
    queue: str
    key: str
    older: Seconds
    younger: Seconds
    error: str
    type: str
    id: str | UUID | Sequence[str | UUID]


def filter_of(query: str = "", fields: FilterFields | None = None) -> Filter:
    """The filter that a text and keywords mean together; nothing means all jobs.

    Raises ValueError or TypeError, which say what is wrong and what can be written.
    """
    given: dict[str, list[Any]] = {}
    for name, value in (*_terms(query), *(fields or {}).items()):
        if name not in _READERS:
            raise ValueError(_no_such_field(name))
        given.setdefault(name, []).append(value)
    read: dict[str, Any] = {}
    for name, values in given.items():
        target, many, reader = _READERS[name]
        if many:
            read[target] = list(dict.fromkeys(reader(name, value) for value in _spread(values)))
        elif len(values) > 1:
            raise ValueError(f"{name} is said twice; a job has one, so say it once")
        else:
            read[target] = reader(name, values[0])
    if len(read.get("ids", ())) > BATCH_MAX:
        raise ValueError(f"{len(read['ids'])} ids; at most {BATCH_MAX} can be named at once")
    return Filter(**read)


def quoted(name: str, value: str) -> str:
    """A term of the text form. ValueError when there is no way to write it."""
    special = r"""[\s"']""" if name == "task" else r"""[\s"'*]"""
    if value and not re.search(special, value):
        return f"{name}:{value}"
    for mark in ('"', "'"):
        if mark not in value:
            return f"{name}:{mark}{value}{mark}"
    raise ValueError(f"{value!r} has both kinds of quotes; give it as a keyword")


def _terms(query: str) -> Iterable[tuple[str, str]]:
    if not isinstance(query, str):
        raise TypeError(f"a filter is text such as 'state:dead task:send_*', not {query!r}")
    if len(query) > QUERY_CHARS_MAX:
        raise ValueError(f"a filter of {len(query)} characters; the limit is {QUERY_CHARS_MAX}")
    at = 0
    query = query.rstrip()
    while at < len(query):
        if found := _BARE_ID.match(query, at):
            yield "id", found[1]
        elif found := _TERM.match(query, at):
            name, text = found[1], found[2]
            is_quoted = text[0] in "\"'"
            if "*" in text and name != "task" and name in _READERS and not is_quoted:
                raise ValueError(_no_star(name, text))
            yield name, text[1:-1] if is_quoted else text
        else:
            raise ValueError(_unreadable(query[at:].split(maxsplit=1)[0]))
        at = found.end()


def _unreadable(word: str) -> str:
    name, colon, value = word.partition(":")
    if colon and name not in _READERS:
        return _no_such_field(name)
    if colon and not value:
        return f"{word[:40]!r} has no value; leave it out to mean any"
    if colon:
        return f"{word[:40]!r}: a quote that is not closed, or in the middle of a value"
    return f'{word[:40]!r} is no field:value; say task:{word[:40]}, or error:"a text with spaces"'


def _no_star(name: str, text: str) -> str:
    if name in ("queue", "key", "type"):
        return (
            f"{name}:{text[:40]}: * stands for anything in the task only; {name} is a whole name, and one "
            f'that has a * goes in quotes: {name}:"a*b"'
        )
    if name == "error":
        return (
            f"error:{text[:40]}: * stands for anything in the task only; error is found anywhere in the "
            'text, so leave the * out, or mean a * with quotes: error:"2 * 3"'
        )
    return f"{name}:{text[:40]}: * stands for anything in the task only"


def _no_such_field(name: str) -> str:
    close = get_close_matches(name, _READERS, n=1)
    known = ", ".join(_READERS)
    if close:
        return f"there is no field {name[:40]!r}; did you mean {close[0]!r}? There are: {known}"
    return f"there is no field {name[:40]!r}; there are: {known}"


def _spread(values: list[Any]) -> Iterable[Any]:
    """Values of a field that takes many: `state:dead,expired`, a list, or said again."""
    for value in values:
        if isinstance(value, str):
            yield from value.split(",")
        elif isinstance(value, Sequence):
            yield from value
        else:
            yield value


def _state(name: str, value: object) -> str:
    if isinstance(value, str) and value in STATES:
        return value
    raise ValueError(f"there is no state {value!r}; there are: {', '.join(STATES)}")


def _text(chars_max: int) -> Callable[[str, object], str]:
    def read(name: str, value: object) -> str:
        if not isinstance(value, str):
            raise TypeError(f"{name} is text, not {value!r}")
        if not value:
            raise ValueError(f"{name} is empty; leave it out to mean any")
        if len(value) > chars_max:
            raise ValueError(f"{name} has {len(value)} characters; at most {chars_max} can be looked for")
        return value

    return read


def _age(name: str, value: Any) -> int:
    millis = millis_of(name, value)
    if not millis:
        raise ValueError(f"{name} is more than 0; leave it out to mean any age")
    return millis


def _id(name: str, value: object) -> bytes:
    return id_of(value)


# Field -> the wire's name for it, whether it takes several values, and who reads one.
_READERS: Final[dict[str, tuple[str, bool, Callable[[str, Any], Any]]]] = {
    "state": ("states", True, _state),
    "task": ("task", False, _text(NAME_CHARS_MAX)),
    "queue": ("queue", False, _text(NAME_CHARS_MAX)),
    "key": ("key", False, _text(TEXT_CHARS_MAX)),
    "older": ("older_ms", False, _age),
    "younger": ("younger_ms", False, _age),
    "error": ("error", False, _text(NAME_CHARS_MAX)),
    "type": ("error_type", False, _text(NAME_CHARS_MAX)),
    "id": ("ids", True, _id),
}
