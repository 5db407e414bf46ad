"""Which machine it was."""

import os
import platform
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path


@dataclass(frozen=True)
class Machine:
    cpu: str
    cores: int
    python: str
    kernel: str
    libraries: str

    def __str__(self) -> str:
        return f"{self.cpu}, {self.cores} cores; {self.python}, {self.libraries}; {self.kernel}"


def this_machine() -> Machine:
    return Machine(
        cpu=_cpu_model(),
        cores=len(os.sched_getaffinity(0)),
        python=f"{platform.python_implementation()} {platform.python_version()}",
        kernel=f"{platform.system()} {platform.release()}",
        libraries=", ".join(filter(None, map(_library, ("uvloop", "msgspec", "msgpack")))),
    )


def load() -> float:
    """How many processes wanted to run in the last minute: on an idle machine near 0."""
    return os.getloadavg()[0]


def _cpu_model() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        name, _, value = line.partition(":")
        if name.strip() in ("model name", "Model"):
            return " ".join(value.split())
    return platform.machine()


def _library(name: str) -> str:
    try:
        return f"{name} {version(name)}"
    except PackageNotFoundError:
        return ""
