"""python -m tests.simulation --seed N [--trace]              one run, with its trace
python -m tests.simulation --seeds COUNT [--first N] [--jobs N]   many, until one fails
"""

import argparse
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from itertools import repeat

from tests.simulation.mutants import MUTANTS, planted
from tests.simulation.running import Failure, first_failure, run_seed

_CHUNK = 25


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--seed", type=int, help="run this one seed")
    parser.add_argument("--trace", action="store_true", help="print all that happens in it")
    parser.add_argument("--seeds", type=int, default=2_000, help="run so many seeds")
    parser.add_argument("--first", type=int, default=0, help="the first of them")
    parser.add_argument("--jobs", type=int, default=2, help="processes to run them in")
    parser.add_argument("--mutant", choices=sorted(MUTANTS), help="with this bug planted")
    args = parser.parse_args()
    if args.seed is not None:
        return _one(args.seed, trace=args.trace, mutant=args.mutant)
    return _many(range(args.first, args.first + args.seeds), args.jobs, args.mutant)


def _one(seed: int, *, trace: bool, mutant: str | None) -> int:
    with planted(mutant):
        digest, failure = run_seed(seed, tell=print if trace else None)
    print(f"seed {seed}: digest {digest:08x}" if failure is None else failure)
    return 0 if failure is None else 1


def _many(seeds: range, jobs: int, mutant: str | None) -> int:
    began = time.monotonic()
    chunks = [seeds[at : at + _CHUNK] for at in range(0, len(seeds), _CHUNK)]
    done = 0
    with ProcessPoolExecutor(jobs) as pool:
        for chunk, failure in zip(chunks, pool.map(_chunk, chunks, repeat(mutant)), strict=True):
            done += len(chunk)
            if failure is not None:
                pool.shutdown(cancel_futures=True)
                print(failure)
                return 1
    seconds = time.monotonic() - began
    print(f"{done} seeds in {seconds:.1f} s, {done / seconds:.0f} a second: all promises kept")
    return 0


def _chunk(seeds: range, mutant: str | None) -> Failure | None:
    with planted(mutant):
        return first_failure(seeds)


if __name__ == "__main__":
    sys.exit(main())
