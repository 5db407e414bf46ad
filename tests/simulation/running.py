"""Running seeds, one or many, and saying what went wrong so that it can be seen again."""

from collections.abc import Callable, Iterable
from typing import NamedTuple

from tests.simulation.patching import patched, small_limits
from tests.simulation.world import World


class Failure(NamedTuple):
    """A seed that broke something."""

    seed: int
    promise: str
    text: str

    def __str__(self) -> str:
        return f"seed {self.seed} breaks {self.promise}: {self.text}\nto see it: {replay_command(self.seed)}"


def replay_command(seed: int) -> str:
    return f"python -m tests.simulation --seed {seed} --trace"


def run_seed(seed: int, *, tell: Callable[[str], None] | None = None) -> tuple[int, Failure | None]:
    """The digest of the seed's trace, and what it broke. An error of the code under test is a failure
    like any other: a broker that dies of its own mistake has kept no promise."""
    world = World(seed, tell=tell)
    with patched(small_limits if world.plan.small else None):
        try:
            return world.run(), None
        except Exception as error:
            promise = getattr(error, "promise", type(error).__name__)
            return world.agenda.digest, Failure(seed, promise, str(error))


def first_failure(seeds: Iterable[int]) -> Failure | None:
    for seed in seeds:
        _, failure = run_seed(seed)
        if failure is not None:
            return failure
    return None
