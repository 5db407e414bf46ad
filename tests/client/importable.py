"""Functions that are no tasks, for the tests of executors: they can be found by their names."""

import os  # noqa: F401  # something that can be reached through this module, and must not be


def mul(x: int, y: int) -> int:
    return x * y


def a_set(number: int) -> set[int]:
    return {number}


def fail(text: str) -> None:
    raise LookupError(text)


async def later() -> None: ...


class Shop:
    @staticmethod
    def price(apples: int) -> int:
        return apples * 3

    def method(self) -> None: ...


shop = Shop()
