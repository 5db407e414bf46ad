"""A secret goes through real processes, and none of them says it."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from taskq import JobFailed, Secret, TaskQ
from taskq.testing.fleet import Fleet
from tests.acceptance import vault

ROOT = Path(__file__).resolve().parents[2]
HIDDEN = "hunter2-is-the-secret"


def said(*words: str) -> str:
    ran = subprocess.run(
        [sys.executable, "-m", "taskq", *words], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    return ran.stdout + ran.stderr


async def test_no_log_list_or_export_says_a_secret(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TASKQ_URL", fleet.url)
    app = vault.q
    monkeypatch.setattr(app, "_addresses", TaskQ(fleet.url)._addresses)
    login = vault.Login("ann", Secret(HIDDEN))
    fleet.start_workers(1, "tests.acceptance.vault:q")
    async with app:
        job = await vault.open_up.submit(Secret(HIDDEN), replace(login))
        assert await job.result(timeout=60) == 2 * len(HIDDEN)
        failed = await vault.fail.submit(Secret(HIDDEN), login=login)
        with pytest.raises(JobFailed, match=r"\*\*\* is not the token of Login"):
            await failed.result(timeout=60)
    texts = [
        said("jobs", "ls", "--json"),
        said("jobs", "show", job.id),
        said("jobs", "show", failed.id, "--json"),
        said("dead", "ls"),
        said("dead", "show", failed.id),
        said("dead", "show", failed.id, "--json"),
        said("dead", "export"),
        said("status", "--json"),
        said(
            "submit",
            "tests.acceptance.vault:fail",
            "--json-args",
            f'{{"token": "{HIDDEN}", "login": 5}}',
            "--wait",
        ),
        *(path.read_text() for path in fleet.folder.glob("*.log")),
    ]
    assert sum("***" in text for text in texts) >= 6
    assert "got `int`" in texts[8]
    assert not [text for text in texts if HIDDEN in text]
