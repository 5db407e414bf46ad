"""What the daemon refuses to be told, and how it says so."""

from pathlib import Path

import pytest

from taskq.errors import ConfigError
from taskq.server.settings import BrokerSettings, is_loopback

TOKEN = "tq1_abcdefgh_" + "x" * 43


@pytest.mark.parametrize("host", ["127.0.0.1", "127.1.2.3", "::1", "localhost"])
def test_loopback_is_served(host: str) -> None:
    assert is_loopback(host)
    BrokerSettings(host=host, http=(host, 0)).check_addresses()


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.5", "example.org", "", "localhost.example.org"])
def test_nothing_else_is_loopback(host: str) -> None:
    assert not is_loopback(host)


@pytest.mark.parametrize("settings", [{"host": "0.0.0.0"}, {"http": ("0.0.0.0", 7701)}])
def test_other_addresses_need_the_literal_flag(settings: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match="--insecure-allow-remote"):
        BrokerSettings(**settings).check_addresses()  # type: ignore[arg-type] # as given
    BrokerSettings(insecure_allow_remote=True, **settings).check_addresses()  # type: ignore[arg-type] # as given


def test_without_a_tokens_file_there_are_no_tokens() -> None:
    assert BrokerSettings().tokens() is None


def test_tokens_are_read(tmp_path: Path) -> None:
    path = tmp_path / "tokens"
    path.write_text(f"# ours\nproducer {TOKEN}\n")
    assert BrokerSettings(tokens_file=str(path)).tokens() is not None


def test_a_tokens_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="nowhere"):
        BrokerSettings(tokens_file=str(tmp_path / "nowhere")).tokens()


@pytest.mark.parametrize("content", [b"producer nonsense\n", b"\xff\xfe", f"king {TOKEN}\n".encode()])
def test_a_bad_tokens_file_is_named_and_its_tokens_are_not(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "tokens"
    path.write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        BrokerSettings(tokens_file=str(path)).tokens()
    assert str(path) in str(caught.value)
    assert TOKEN not in str(caught.value)
