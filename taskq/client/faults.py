"""Why a value cannot be sent, and where in it: the slow way, once packing it has failed."""

from collections.abc import Iterator, Sized
from typing import Any, NamedTuple

from taskq.client.conversions import NATIVE, conversion
from taskq.client.values.secrets import Sealed
from taskq.limits import PAYLOAD_DEPTH_MAX, PAYLOAD_ITEMS_MAX


class Fault(NamedTuple):
    """Why a value cannot be sent, and where in it: `path` reads like Python, `.user.tags[3]`."""

    path: str
    text: str

    def __str__(self) -> str:
        return f"at {self.path}: {self.text}" if self.path else self.text


def fault_of(value: object) -> Fault | None:
    """What in this value cannot be sent; None when nothing is wrong with it."""
    return _find(value, "", frozenset())


def _find(value: Any, path: str, inside: frozenset[int]) -> Fault | None:
    if id(value) in inside:
        return Fault(path, f"{type(value).__name__} contains itself")
    if len(inside) > PAYLOAD_DEPTH_MAX:
        return Fault(path[:80], f"nested more than {PAYLOAD_DEPTH_MAX} levels deep")
    kind: Any = type(value)
    try:
        if kind in (list, tuple, set, frozenset, dict):
            return _find_inside(value, path, inside | {id(value)})
        if kind not in NATIVE and kind is not int:
            value = conversion(kind)(value)
    except Exception as error:
        told = f"{kind.__name__} cannot be sent"
        text = str(error)
        return Fault(path, text if text.startswith(told) else f"{told}: {type(error).__name__}: {text}")
    if type(value) is Sealed:
        # Where in it and why may already say too much.
        is_bad = _find(value[0], "", inside | {id(value)}) is not None
        return Fault(path, "the value in this Secret cannot be sent") if is_bad else None
    if type(value) is str and not _is_utf8(value):
        return Fault(path, "str with a lone surrogate cannot be sent")
    if type(value) is dict and not issubclass(kind, dict):
        return _find_fields(value, path, inside | {id(value)})
    if type(value) in (list, tuple, set, frozenset, dict):
        return _find(value, path, inside | {id(value)} if type(value) is not kind else inside)
    return None


def _find_inside(box: Any, path: str, inside: frozenset[int]) -> Fault | None:
    if isinstance(box, Sized) and len(box) > PAYLOAD_ITEMS_MAX:
        return Fault(
            path, f"{type(box).__name__} of {len(box)} items; at most {PAYLOAD_ITEMS_MAX} can be sent"
        )
    faults = (_find(item, place, inside) for place, item in _places(box, path))
    return next((fault for fault in faults if fault), None)


def _find_fields(fields: dict[str, object], path: str, inside: frozenset[int]) -> Fault | None:
    faults = (_find(item, f"{path}.{name}", inside) for name, item in fields.items())
    return next((fault for fault in faults if fault), None)


def _places(box: Any, path: str) -> Iterator[tuple[str, object]]:
    if type(box) is dict:
        for key, item in box.items():
            yield f"{path} key {_short(key)}".lstrip(), key
            yield f"{path}[{_short(key)}]", item
    elif type(box) in (list, tuple):
        for index, item in enumerate(box):
            yield f"{path}[{index}]", item
    else:
        for item in box:
            yield f"{path}{{{_short(item)}}}", item


def _short(value: object) -> str:
    text = ascii(value) if isinstance(value, str) else repr(value)
    return text if len(text) <= 40 else f"{text[:37]}..."


def _is_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
