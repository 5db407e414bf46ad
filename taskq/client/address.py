"""Where the broker is, and the token for it: from arguments or the environment."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, NamedTuple
from urllib.parse import urlsplit

from taskq.errors import ConfigError
from taskq.limits import NAME_CHARS_MAX

DEFAULT_URL: Final = "taskq://127.0.0.1:7700"
DEFAULT_PORT: Final = 7700

_FORMS: Final = "write taskq://HOST:PORT, taskq://HOST:PORT/NAMESPACE or unix:PATH"


class Address(NamedTuple):
    """One place where a broker listens: a TCP port, or a socket file when `path` is set."""

    host: str = ""
    port: int = 0
    path: str = ""
    namespace: str = "default"

    def __str__(self) -> str:
        if self.path:
            return f"unix:{self.path}"
        host = f"[{self.host}]" if ":" in self.host else self.host
        tail = "" if self.namespace == "default" else f"/{self.namespace}"
        return f"taskq://{host}:{self.port}{tail}"


def parse_address(text: str) -> Address:
    """One address. Raises ConfigError, which says what can be written."""
    scheme, _, rest = text.strip().partition(":")
    if scheme == "unix":
        if not rest:
            raise ConfigError(f"{text!r} names no socket file; {_FORMS}")
        return Address(path=rest)
    if scheme != "taskq" or not rest.startswith("//"):
        raise ConfigError(f"{text!r} is not the address of a broker; {_FORMS}")
    return _parse_tcp(text)


def addresses_of(url: str | Sequence[str] | None, environ: Mapping[str, str] | None = None) -> list[Address]:
    """The addresses to try, in order: what is given, else $TASKQ_URL, else 127.0.0.1:7700.

    A text may hold several, separated by commas. All must name the same namespace.
    """
    environ = os.environ if environ is None else environ
    if url is None:
        url = environ.get("TASKQ_URL") or DEFAULT_URL
    texts = url.split(",") if isinstance(url, str) else list(url)
    addresses = [parse_address(text) for text in texts if text.strip()]
    if not addresses:
        raise ConfigError(f"no address of a broker is given; {_FORMS}")
    namespaces = {address.namespace for address in addresses}
    if len(namespaces) > 1:
        raise ConfigError(f"the addresses name different namespaces: {', '.join(sorted(namespaces))}")
    return addresses


def token_of(environ: Mapping[str, str] | None = None) -> str | None:
    """The token in the file that $TASKQ_TOKEN_FILE names, else $TASKQ_TOKEN, else None."""
    environ = os.environ if environ is None else environ
    name = environ.get("TASKQ_TOKEN_FILE")
    if not name:
        return environ.get("TASKQ_TOKEN") or None
    try:
        text = Path(name).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"TASKQ_TOKEN_FILE: {name} cannot be read: {error}") from error
    if not text:
        raise ConfigError(f"TASKQ_TOKEN_FILE: {name} is empty")
    return text


def _parse_tcp(text: str) -> Address:
    try:
        parts = urlsplit(text.strip())
    except ValueError as error:  # brackets that nothing closes
        raise ConfigError(f"{text!r} is not the address of a broker; {_FORMS}") from error
    try:
        port = DEFAULT_PORT if parts.port is None else parts.port
    except ValueError as error:
        raise ConfigError(f"{text!r}: the port must be a number from 1 to 65535") from error
    if parts.username is not None or parts.password is not None or "@" in parts.netloc:
        raise ConfigError("an address holds no user or token; set TASKQ_TOKEN_FILE or TASKQ_TOKEN")
    if parts.query or parts.fragment:
        raise ConfigError(f"{text!r}: an address has no ?options and no #fragment; {_FORMS}")
    if not parts.hostname:
        raise ConfigError(f"{text!r} names no host; {_FORMS}")
    if port == 0:
        raise ConfigError(f"{text!r}: the port must be a number from 1 to 65535")
    return Address(host=parts.hostname, port=port, namespace=_namespace(text, parts.path))


def _namespace(text: str, path: str) -> str:
    name = path.strip("/")
    if not name:
        return "default"
    if "/" in name or len(name) > NAME_CHARS_MAX:
        raise ConfigError(f"{text!r}: a namespace is one name of at most {NAME_CHARS_MAX} characters")
    return name
