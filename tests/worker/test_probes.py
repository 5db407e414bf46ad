"""Probes hear whether a worker takes jobs, and why not."""

from http import HTTPStatus

import pytest

from taskq.worker.probes import Standing, pages_of

WELL = Standing(processes=2, wanted=2, restarts=3, is_connected=True, is_held=False, is_stopping=False)


@pytest.mark.parametrize(
    ("standing", "trouble"),
    [
        (WELL, ""),
        (Standing(1, 2, 0, True, False, False), ""),
        (Standing(0, 2, 0, True, False, False), "no process runs"),
        (Standing(2, 2, 0, False, False, False), "not connected to the broker"),
        (Standing(2, 2, 0, True, True, False), "drained"),
        (Standing(2, 2, 0, True, False, True), "stopping"),
    ],
)
def test_ready_is_who_takes_jobs(standing: Standing, trouble: str) -> None:
    status, text = pages_of(lambda: standing)["/readyz"]()
    assert (status, text) == (
        (HTTPStatus.SERVICE_UNAVAILABLE, f"{trouble}\n") if trouble else (HTTPStatus.OK, "ready\n")
    )


def test_alive_is_who_answers() -> None:
    assert pages_of(lambda: Standing(0, 2, 0, False, False, True))["/healthz"]()[0] is HTTPStatus.OK


def test_its_numbers_can_be_scraped() -> None:
    status, text = pages_of(lambda: WELL)["/metrics"]()
    assert status is HTTPStatus.OK
    samples = dict(line.split(" ") for line in text.splitlines() if not line.startswith("#"))
    assert samples == {
        "taskq_worker_processes": "2",
        "taskq_worker_processes_wanted": "2",
        "taskq_worker_restarts_total": "3",
        "taskq_worker_connected": "1",
        "taskq_worker_drained": "0",
    }
