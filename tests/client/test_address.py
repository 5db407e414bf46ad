"""Addresses and tokens: what can be written, and what is said of the rest."""

from pathlib import Path

import pytest

from taskq.client.address import Address, addresses_of, parse_address, token_of
from taskq.errors import ConfigError


@pytest.mark.parametrize(
    ("text", "address", "again"),
    [
        ("taskq://broker:7000", Address("broker", 7000), "taskq://broker:7000"),
        ("taskq://broker", Address("broker", 7700), "taskq://broker:7700"),
        ("taskq://[::1]:7000", Address("::1", 7000), "taskq://[::1]:7000"),
        ("taskq://h:1/shop", Address("h", 1, namespace="shop"), "taskq://h:1/shop"),
        ("taskq://h:1/", Address("h", 1), "taskq://h:1"),
        ("unix:/run/taskq.sock", Address(path="/run/taskq.sock"), "unix:/run/taskq.sock"),
        ("unix:local.sock", Address(path="local.sock"), "unix:local.sock"),
    ],
)
def test_an_address_is_read_and_written(text: str, address: Address, again: str) -> None:
    assert parse_address(text) == address
    assert str(address) == again
    assert parse_address(again) == address


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "not the address"),
        ("localhost:7700", "not the address"),
        ("http://localhost:7700", "not the address"),
        ("taskq://[::1", "not the address"),
        ("taskq://", "names no host"),
        ("taskq://h:port", "the port must be"),
        ("taskq://h:70000", "the port must be"),
        ("taskq://h:0", "the port must be"),
        ("taskq://:7700", "names no host"),
        ("taskq://me:secret@h:1", "holds no user or token"),
        ("taskq://h:1/a/b", "a namespace is one name"),
        ("taskq://h:1?tls=1", "no .options"),
        ("unix:", "names no socket file"),
    ],
)
def test_what_is_no_address_is_explained(text: str, why: str) -> None:
    with pytest.raises(ConfigError, match=why):
        parse_address(text)


def test_a_secret_in_an_address_is_not_repeated() -> None:
    with pytest.raises(ConfigError) as caught:
        parse_address("taskq://me:hunter2@h:1")
    assert "hunter2" not in str(caught.value)


def test_where_addresses_come_from() -> None:
    default, given = Address("127.0.0.1", 7700), Address("given", 1)
    environ = {"TASKQ_URL": "taskq://env:2, unix:x"}
    assert addresses_of(None, {}) == [default]
    assert addresses_of(None, {"TASKQ_URL": ""}) == [default]
    assert addresses_of(None, environ) == [Address("env", 2), Address(path="x")]
    assert addresses_of("taskq://given:1", environ) == [given]
    assert addresses_of(["taskq://given:1", "taskq://env:2"], {}) == [given, Address("env", 2)]


@pytest.mark.parametrize("url", ["", " , ", []])
def test_no_address_is_an_error(url: str | list[str]) -> None:
    with pytest.raises(ConfigError, match="no address"):
        addresses_of(url, {})


def test_addresses_of_several_namespaces_are_an_error() -> None:
    with pytest.raises(ConfigError, match="a, b"):
        addresses_of("taskq://h:1/a,taskq://h:1/b", {})


def test_where_the_token_comes_from(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("from-file\n")
    assert token_of({}) is None
    assert token_of({"TASKQ_TOKEN": "from-env"}) == "from-env"
    assert token_of({"TASKQ_TOKEN": "from-env", "TASKQ_TOKEN_FILE": str(file)}) == "from-file"
    file.write_text(" \n")
    with pytest.raises(ConfigError, match="is empty"):
        token_of({"TASKQ_TOKEN_FILE": str(file)})
    with pytest.raises(ConfigError, match="cannot be read"):
        token_of({"TASKQ_TOKEN_FILE": str(tmp_path / "none"), "TASKQ_TOKEN": "from-env"})
