"""Several runs of one measurement, as median, least and most."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median


@dataclass(frozen=True)
class Spread:
    median: float
    least: float
    most: float
    runs: int

    @staticmethod
    def of(values: Sequence[float]) -> "Spread":
        if not values:
            raise ValueError("nothing was measured")
        return Spread(median(values), min(values), max(values), len(values))


def ratios(values: Sequence[float], floors: Sequence[float]) -> list[float]:
    """Each round against the floor of the same round, so that a slow minute slows both."""
    return [value / floor for value, floor in zip(values, floors, strict=True)]


def percentile(values: Sequence[float], percent: float) -> float:
    """The least value that at least so many percent of all do not exceed (nearest rank)."""
    if not values:
        raise ValueError("nothing was measured")
    if not 0 <= percent <= 100:
        raise ValueError(f"a percentile is between 0 and 100, not {percent}")
    ranked = sorted(values)
    return ranked[max(math.ceil(len(ranked) * percent / 100), 1) - 1]
