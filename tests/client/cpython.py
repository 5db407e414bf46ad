"""CPython's own tests of executors, wherever this machine has them; many builds of Python leave them out."""

import importlib.util
import os
import sys
from importlib import import_module
from pathlib import Path
from types import ModuleType

NAME = "test.test_concurrent_futures"
# Since 3.12 they are a package.
PARTS = ("util", "executor", "test_shutdown", "test_wait", "test_as_completed", "test_future")


def executor_tests() -> list[ModuleType]:
    """The modules with their mixins; none if this machine does not have them.

    They are this interpreter's, or in the folder that $CPYTHON_TESTS names, or those of the system's Python
    of this version (on Debian the package libpythonX.Y-testsuite).
    """
    if importlib.util.find_spec("test") is None or importlib.util.find_spec("test.support") is None:
        return []
    if importlib.util.find_spec(NAME) is None and not _load():
        return []
    package = import_module(NAME)
    if not hasattr(package, "__path__"):
        return [package]
    return [import_module(f"{NAME}.{part}") for part in PARTS]


def _load() -> bool:
    version = "{}.{}".format(*sys.version_info)
    named = os.environ.get("CPYTHON_TESTS")
    folders = [Path(named)] if named else []
    for folder in [*folders, Path(f"/usr/lib/python{version}/test")]:
        path = folder / "test_concurrent_futures.py"
        if path.is_file():
            spec = importlib.util.spec_from_file_location(NAME, path)
            assert spec is not None and spec.loader is not None
            module = importlib.util.module_from_spec(spec)
            sys.modules[NAME] = module
            spec.loader.exec_module(module)
            return True
    return False
