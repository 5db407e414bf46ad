"""The files that deploy taskq name flags, ports and secrets that exist. No engine is needed to see that."""

import re
import shlex
import subprocess
from pathlib import Path
from typing import Any, Final

import click
import pytest
import yaml

from taskq.cli import main

ROOT: Final = Path(__file__).resolve().parent.parent
COMPOSE: Final[dict[str, Any]] = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))
DOCKERFILE: Final = (ROOT / "Dockerfile").read_text(encoding="utf-8")
SERVICES: Final[dict[str, dict[str, Any]]] = COMPOSE["services"]


def parsed(words: list[str]) -> dict[str, Any]:
    """What the command line takes these words for, without running it. Raises click.UsageError."""
    verb, *rest = words
    command = main.load(verb)
    return command.make_context(verb, rest, resilient_parsing=False).params


def instructions(name: str) -> list[str]:
    """The arguments of every such instruction, with continued lines joined."""
    joined = re.sub(r"\\\n\s*", " ", DOCKERFILE)
    return [line.split(maxsplit=1)[1] for line in joined.splitlines() if line.split(maxsplit=1)[:1] == [name]]


@pytest.mark.parametrize("name", list(SERVICES))
def test_each_service_is_started_with_flags_that_exist(name: str) -> None:
    assert parsed(SERVICES[name]["command"])


def test_a_flag_that_does_not_exist_would_be_seen() -> None:
    with pytest.raises(click.UsageError):
        parsed(["broker", "--no-such-flag"])
    with pytest.raises(click.UsageError):
        parsed(["worker", "tasks:q", "--grace=soon"])


def test_the_file_has_a_broker_and_two_workers_and_no_version() -> None:
    assert "version" not in COMPOSE
    assert set(SERVICES) == {"broker", "worker"}
    assert SERVICES["worker"]["deploy"]["replicas"] == 2


def test_ports_are_published_on_loopback_only() -> None:
    published = [port for service in SERVICES.values() for port in service.get("ports", [])]
    assert published
    assert all(port.startswith("127.0.0.1:") for port in published)
    assert {port.rpartition(":")[2] for port in published} <= set(instructions("EXPOSE")[0].split())


def test_the_broker_listens_beyond_loopback_only_with_tokens() -> None:
    settings = parsed(SERVICES["broker"]["command"])
    assert settings["insecure_allow_remote"]
    assert settings["tokens_file"] in {f"/run/secrets/{name}" for name in SERVICES["broker"]["secrets"]}


def test_tokens_come_from_secrets_and_from_nowhere_else() -> None:
    for service in SERVICES.values():
        assert set(service["secrets"]) <= set(COMPOSE["secrets"])
        named = service["environment"]["TASKQ_TOKEN_FILE"]
        assert named in {f"/run/secrets/{name}" for name in service["secrets"]}
        assert "TASKQ_TOKEN" not in service["environment"]
    text = (ROOT / "docker-compose.yml").read_text(encoding="utf-8") + DOCKERFILE
    assert "tq1_" not in text


def test_the_journal_outlives_the_container() -> None:
    settings = parsed(SERVICES["broker"]["command"])
    (volume,) = instructions("VOLUME")
    (mounted,) = SERVICES["broker"]["volumes"]
    name, _, place = mounted.partition(":")
    assert name in COMPOSE["volumes"]
    assert place == volume
    assert settings["journal"].startswith(f"sqlite:{volume}/")


def test_workers_wait_for_a_broker_that_answers() -> None:
    kind, program, *words = SERVICES["broker"]["healthcheck"]["test"]
    assert (kind, program) == ("CMD", "taskq")
    assert words == ["ping"]
    assert parsed(words)
    assert SERVICES["worker"]["depends_on"]["broker"]["condition"] == "service_healthy"
    host, _, port = SERVICES["worker"]["environment"]["TASKQ_URL"].removeprefix("taskq://").partition(":")
    assert host in SERVICES
    assert int(port) == parsed(SERVICES["broker"]["command"])["port"]


def test_stopping_is_given_longer_than_the_grace() -> None:
    grace_ms = parsed(SERVICES["worker"]["command"])["grace"]
    for service in SERVICES.values():
        assert int(service["stop_grace_period"].removesuffix("s")) * 1000 > grace_ms


def test_the_image_is_small_unprivileged_and_stops_on_a_signal() -> None:
    assert [line.split()[0] for line in instructions("FROM")] == ["python:3.13-slim"] * 2
    (user,) = instructions("USER")
    assert user.split(":")[0] == "10001"
    assert instructions("ENTRYPOINT") == ['["taskq"]']
    assert instructions("STOPSIGNAL") == ["SIGTERM"]
    assert parsed(yaml.safe_load(instructions("CMD")[0]))
    labels = shlex.split(instructions("LABEL")[0])
    assert {label.split("=")[0] for label in labels} >= {
        "org.opencontainers.image.title",
        "org.opencontainers.image.description",
        "org.opencontainers.image.licenses",
    }


def test_the_image_sets_settings_that_exist() -> None:
    named = re.findall(r"TASKQ_BROKER_(\w+)=", DOCKERFILE)
    known = {param.name for param in main.load("broker").params}
    assert named
    assert {name.lower() for name in named} <= known


def test_what_the_image_copies_is_not_ignored() -> None:
    kept = {
        line[1:]
        for line in (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
        if line.startswith("!")
    }
    copied = {
        name.removeprefix("./")
        for line in instructions("COPY")
        if not line.startswith("--from")
        for name in line.split()[:-1]
    }
    assert copied <= kept
    assert all((ROOT / name).exists() for name in copied)


def test_the_ci_script_is_runnable_and_sound() -> None:
    script = ROOT / ".ci" / "run"
    assert script.stat().st_mode & 0o111
    assert subprocess.run(["bash", "-n", script], check=False).returncode == 0
    assert "set -euo pipefail" in script.read_text(encoding="utf-8")


def test_the_readme_has_the_two_commands_that_the_ci_script_runs() -> None:
    commands = re.findall(
        r"^python3 -m venv \.venv.*$", (ROOT / "README.md").read_text(encoding="utf-8"), re.MULTILINE
    )
    assert len(commands) == 2
    assert any("taskq demo" in line for line in commands)
    assert any("pytest" in line for line in commands)
