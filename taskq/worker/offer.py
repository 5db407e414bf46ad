"""What a worker offers beside its tasks: the queues that it serves and how they take turns, its labels,
its resources. Checked before anything runs.
"""

import os
import socket
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from msgspec.structs import replace

from taskq import __version__
from taskq.client.values.compression import LABEL, can_compress
from taskq.errors import ConfigError
from taskq.limits import (
    EXT_ITEMS_MAX,
    NAME_CHARS_MAX,
    QUEUES_PER_WORKER_MAX,
    TEXT_CHARS_MAX,
    WEIGHT_MAX,
)
from taskq.protocol.messages import Announce
from taskq.worker.attempts import Definition

RESOURCE_MAX: Final = 2**31


@dataclass(frozen=True, kw_only=True)
class Offer:
    """Without `queues`: "default", and every queue that a task names. `weights` goes by their places;
    without it all weigh 1. `is_strict`: no turns, a later queue only when the earlier ones have nothing.
    """

    queues: tuple[str, ...] = ()
    weights: tuple[int, ...] = ()
    is_strict: bool = False
    labels: dict[str, str] = field(default_factory=dict)
    resources: dict[str, int] = field(default_factory=dict)

    def announce(self, definitions: Iterable[Definition], slots: Mapping[str, int]) -> Announce:
        """What a worker with these tasks says of itself."""
        tasks = list(definitions)
        used = [task.queue for task in tasks]
        return Announce(
            tasks={task.name: task.executor for task in tasks},
            queues=list(self.queues or dict.fromkeys(["default", *used])),
            slots=dict(slots),
            labels=_with_zstd(self.labels),
            resources=self.resources,
            weights=list(self.weights),
            is_strict=self.is_strict,
            declared=[limit for task in tasks for limit in task.declared],
        )


def signed(announce: Announce) -> Announce:
    """With what tells people who says it: the machine, the process, its version, and since when."""
    return replace(
        announce,
        host=socket.gethostname(),
        pid=os.getpid(),
        version=__version__,
        started_ms=time.time_ns() // 1_000_000,
    )


def offer_of(
    queues: Iterable[str] = (),
    *,
    strict: bool = False,
    labels: Mapping[str, Any] | None = None,
    resources: Mapping[str, Any] | None = None,
) -> Offer:
    """From `["high:3", "default"]`, where the number is a weight. Raises ConfigError."""
    if isinstance(queues, str):
        queues = parse_queues(queues)
    weights = _weights(queues)
    if strict and any(weight != 1 for weight in weights.values()):
        heaviest = max(weights, key=lambda name: weights[name])
        raise ConfigError(
            f"queue {heaviest!r} has a weight, and the queues are strict: in strict order queues take no "
            "turns, so weights mean nothing; leave one of the two out"
        )
    if strict and not weights:
        raise ConfigError("strict order is the order in which queues are named, and none is")
    return Offer(
        queues=tuple(weights),
        weights=tuple(weights.values()) if any(weight != 1 for weight in weights.values()) else (),
        is_strict=strict,
        labels=_labels(labels or {}),
        resources=_resources(resources or {}),
    )


def _with_zstd(labels: dict[str, str]) -> dict[str, str]:
    """Compressed jobs go to those that say they can read them."""
    return {**labels, LABEL[0]: LABEL[1]} if can_compress() and len(labels) < EXT_ITEMS_MAX else labels


def parse_queues(text: str) -> tuple[str, ...]:
    """The names in `high:3,default`, weights and all. Raises ConfigError when there are none."""
    queues = tuple(name.strip() for name in text.split(",") if name.strip())
    if not queues:
        raise ConfigError("no queue is named; write high,default, or high:3,default for weights")
    return queues


def _weights(queues: Iterable[str]) -> dict[str, int]:
    """Each queue's weight, in order; named twice, the first one counts."""
    weights: dict[str, int] = {}
    for text in queues:
        if not isinstance(text, str):
            raise ConfigError(f"a queue is a text such as 'default' or 'high:3', not {text!r}")
        name, weight = _queue(text.strip())
        if name in weights and weights[name] != weight:
            raise ConfigError(f"queue {name!r} is named twice, with weights {weights[name]} and {weight}")
        weights[name] = weight
    if len(weights) > QUEUES_PER_WORKER_MAX:
        raise ConfigError(f"{len(weights)} queues; a worker takes at most {QUEUES_PER_WORKER_MAX}")
    return weights


def _queue(text: str) -> tuple[str, int]:
    name, colon, number = text.rpartition(":")
    # `mail:eu` is a name; only a number behind the last colon is a weight.
    if not colon or not number.lstrip("+-").isdecimal():
        name, number = text, "1"
    if not 0 < len(name) <= NAME_CHARS_MAX:
        raise ConfigError(f"a queue's name has 1 to {NAME_CHARS_MAX} characters, this has {len(name)}")
    # Not all that are decimals are digits of ours, and a million of them take long to read.
    weight = int(number) if number.isascii() and len(number) <= len(str(WEIGHT_MAX)) else 0
    if not 1 <= weight <= WEIGHT_MAX:
        raise ConfigError(
            f"queue {name!r}: a weight is from 1 to {WEIGHT_MAX}, as in {name + ':3'!r}, not {number[:20]}"
        )
    return name, weight


def _labels(labels: Mapping[str, Any]) -> dict[str, str]:
    checked = {}
    for name, value in _named("label", labels, "region=eu"):
        text = str(value) if isinstance(value, int) and not isinstance(value, bool) else value
        if not isinstance(text, str) or len(text) > TEXT_CHARS_MAX:
            raise ConfigError(
                f"label {name!r}: a value has at most {TEXT_CHARS_MAX} characters of text; not {value!r:.60}"
            )
        checked[name] = text
    return checked


def _resources(resources: Mapping[str, Any]) -> dict[str, int]:
    checked = {}
    for name, value in _named("resource", resources, "gpu=2"):
        if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= RESOURCE_MAX:
            raise ConfigError(
                f"resource {name!r}: how many there are is a whole number from 0 to {RESOURCE_MAX}, "
                f"not {value!r:.80}"
            )
        checked[name] = value
    return checked


def _named(what: str, pairs: Mapping[str, Any], example: str) -> list[tuple[str, Any]]:
    if len(pairs) > EXT_ITEMS_MAX:
        raise ConfigError(f"{len(pairs)} {what}s; a worker has at most {EXT_ITEMS_MAX}")
    for name in pairs:
        if not isinstance(name, str) or not 0 < len(name) <= NAME_CHARS_MAX:
            raise ConfigError(
                f"a {what}'s name has 1 to {NAME_CHARS_MAX} characters, as in {example}; not {name!r:.80}"
            )
    return list(pairs.items())
