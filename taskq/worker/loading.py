"""Finds the user's TaskQ from `module:object`, and says in one line why it cannot."""

import importlib
import sys
import traceback
from difflib import get_close_matches
from pathlib import Path
from types import ModuleType
from typing import Final

from taskq.client.app import TaskQ
from taskq.errors import ConfigError
from taskq.limits import SCHEDULES_PER_WORKER_MAX, TASKS_PER_WORKER_MAX
from taskq.protocol.messages import ScheduleSpec
from taskq.worker.attempts import Definition
from taskq.worker.faults import fault

# Frames of ours are not where the user's mistake is.
_OURS: Final = str(Path(__file__).resolve().parents[1])


def load_app(target: str) -> TaskQ:
    """The TaskQ that `module:object` names; the current directory is importable. Raises ConfigError."""
    name, _, path = target.partition(":")
    if not name or not path:
        raise ConfigError(f"APP is written module:object, for example tasks:q; this is {target!r}")
    folder = str(Path.cwd())
    if folder not in sys.path:
        sys.path.insert(0, folder)
    found: object = _import(name)
    for part in path.split("."):
        found = _attribute(name, found, part)
    if not isinstance(found, TaskQ):
        raise ConfigError(f"{target} is a {type(found).__name__}, not a TaskQ")
    return found


def definitions_of(app: TaskQ) -> list[Definition]:
    """All tasks of the app. Raises ConfigError when there are none, or too many."""
    if not app.tasks:
        raise ConfigError("the app has no tasks; import the modules that declare them where it is made")
    if len(app.tasks) > TASKS_PER_WORKER_MAX:
        raise ConfigError(f"{len(app.tasks)} tasks; a worker announces at most {TASKS_PER_WORKER_MAX}")
    return [Definition(task) for task in app.tasks.values()]


def schedules_of(app: TaskQ) -> list[ScheduleSpec]:
    """All schedules that the app's code declares. Raises ConfigError when there are too many."""
    declared = app.schedules.declared
    if len(declared) > SCHEDULES_PER_WORKER_MAX:
        raise ConfigError(f"{len(declared)} schedules; a worker announces at most {SCHEDULES_PER_WORKER_MAX}")
    return list(declared.values())


def _import(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        # Only when it is the module itself, or a package around it: what the user's module fails
        # to import is the user's module's fault.
        if error.name and (name == error.name or name.startswith(f"{error.name}.")):
            raise ConfigError(f"no module named {error.name!r} here ({Path.cwd()}) or installed") from error
        raise ConfigError(_failed(name, error)) from error
    except (Exception, SystemExit) as error:
        raise ConfigError(_failed(name, error)) from error


def _failed(name: str, error: BaseException) -> str:
    what = fault(error)
    message = " ".join(what.message.split())
    return f"importing {name!r} failed{place_of(error)}: {what.type}: {message}"


def place_of(error: BaseException) -> str:
    """` at FILE:LINE`, of the user's code; empty when it was none of that."""
    if isinstance(error, SyntaxError) and error.filename:
        return f" at {error.filename}:{error.lineno}"
    frames = traceback.extract_tb(error.__traceback__)
    users = [
        frame
        for frame in frames
        if not frame.filename.startswith(_OURS) and "importlib" not in frame.filename
    ]
    return f" at {users[-1].filename}:{users[-1].lineno}" if users else ""


def _attribute(module: str, holder: object, name: str) -> object:
    if hasattr(holder, name):
        return getattr(holder, name)
    near = get_close_matches(name, dir(holder), n=3)
    apps = (
        [key for key, value in vars(holder).items() if isinstance(value, TaskQ)]
        if hasattr(holder, "__dict__")
        else []
    )
    known = list(dict.fromkeys(apps + near))
    hint = f"; did you mean {' or '.join(known)}?" if known else "; it holds no TaskQ"
    raise ConfigError(f"{module!r} has no {name!r}{hint}")
