"""Settings from files: `taskq.toml`, else `[tool.taskq]` of `pyproject.toml`, in the current directory.

They become click's defaults, so that a flag wins over TASKQ_*, which wins over the file. What the
verbs do not know is an error that names its place; what they would refuse is refused here.
"""

import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Final

import click

from taskq.errors import ConfigError

FILE_NAME: Final = "taskq.toml"
PROJECT_FILE: Final = "pyproject.toml"
# Said once at the top of the file, it is the default of every verb that takes an address.
SHARED: Final = "url"

Defaults = dict[str, dict[str, Any]]


@dataclass(frozen=True)
class Source:
    """One table of settings and the file that holds it."""

    name: str
    values: Mapping[str, Any]


def find(folder: Path, named: Path | None = None) -> Source | None:
    """The settings that hold in `folder`, or those of the file that was named. Raises ConfigError."""
    if named is not None:
        return _read(named)
    if (folder / FILE_NAME).is_file():
        return _read(folder / FILE_NAME)
    if (folder / PROJECT_FILE).is_file():
        return _read(folder / PROJECT_FILE)
    return None


def defaults(source: Source, verbs: Mapping[str, Callable[[], click.Command]]) -> Defaults:
    """The file's values as click's default_map, each checked by its option. Raises ConfigError.

    Only the verbs that the file names are loaded, and, for a shared address, all of them.
    """
    checked: Defaults = {}
    for key, value in source.values.items():
        if key == SHARED:
            continue
        if key not in verbs:
            raise ConfigError(_unknown(source.name, key, key, [SHARED, *verbs]))
        if not isinstance(value, dict):
            raise ConfigError(f"{source.name}: `{key}` must be a table, [{key}], not {_kind(value)}")
        checked[key] = _table(source.name, key, value, options(verbs[key]()))
    if SHARED in source.values:
        _share(source, verbs, checked)
    return checked


def options(command: click.Command) -> dict[str, click.Parameter]:
    """What a file may set for a verb: its options, and its single arguments too (the APP of a worker)."""
    return {param.name: param for param in command.params if param.name is not None and param.nargs == 1}


def _read(path: Path) -> Source:
    try:
        read = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path.name}: not TOML: {error}") from error
    if path.name != PROJECT_FILE:
        return Source(path.name, read)
    tool = read.get("tool", {}).get("taskq", {})
    if not isinstance(tool, dict):
        raise ConfigError(f"{path.name}: `tool.taskq` must be a table")
    return Source(f"{path.name} [tool.taskq]", tool)


def _share(source: Source, verbs: Mapping[str, Callable[[], click.Command]], checked: Defaults) -> None:
    for verb, load in verbs.items():
        if shared := _shared(source, load()):
            checked[verb] = {**shared, **checked.get(verb, {})}


def _shared(source: Source, command: click.Command) -> dict[str, Any]:
    """The address for a verb, or for each verb of a group."""
    if isinstance(command, click.Group):
        parts = {name: _shared(source, part) for name, part in command.commands.items()}
        return {name: part for name, part in parts.items() if part}
    known = options(command)
    if SHARED not in known:
        return {}
    return {SHARED: _value(source.name, SHARED, source.values[SHARED], known[SHARED])}


def _table(
    name: str, verb: str, table: Mapping[str, Any], known: Mapping[str, click.Parameter]
) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in table.items():
        option = key.replace("-", "_")
        if option not in known:
            raise ConfigError(_unknown(name, f"{verb}.{key}", key, known))
        found[option] = _value(name, f"{verb}.{key}", value, known[option])
    return found


def _value(name: str, path: str, value: Any, param: click.Parameter) -> Any:
    """The value, if its option would take it; as written, for click converts it as it does a flag's."""
    if getattr(param, "multiple", False):
        parts = [f"{key}={each}" for key, each in value.items()] if isinstance(value, dict) else value
        parts = parts if isinstance(parts, list) else [parts]
        return [_single(name, path, part, param) for part in parts]
    return _single(name, path, value, param)


def _single(name: str, path: str, value: Any, param: click.Parameter) -> Any:
    if isinstance(value, bool) is not isinstance(param.type, click.types.BoolParamType):
        wanted = param.type.name
        raise ConfigError(f"{name}: `{path}` must be {wanted}, not {_kind(value)}")
    text = value if isinstance(value, bool) else str(value)
    if isinstance(value, (dict, list)):
        raise ConfigError(f"{name}: `{path}` must be {param.type.name}, not {_kind(value)}")
    try:
        param.type.convert(text, param, None)
    except click.BadParameter as error:
        raise ConfigError(f"{name}: `{path}`: {error.message}") from error
    return text


def _unknown(name: str, path: str, key: str, known: Mapping[str, Any] | list[str]) -> str:
    close = get_close_matches(key.replace("-", "_"), known, n=1)
    hint = f"did you mean `{close[0]}`?" if close else f"known are: {', '.join(known)}"
    return f"{name}: unknown key `{path}`; {hint}"


def _kind(value: Any) -> str:
    names = {bool: "true or false", str: "text", dict: "a table", list: "a list"}
    return names.get(type(value), type(value).__name__)
