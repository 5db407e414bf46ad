"""The fixtures that users get, used as users use them: from a test of their own."""

import pytest

pytest_plugins = ["pytester"]

USERS_TEST = """
import asyncio

from tests.acceptance.tasks import q, add


def test_it(taskq_broker, taskq_worker, monkeypatch):
    [pid] = taskq_worker("tests.acceptance.tasks:q")
    assert pid > 0
    monkeypatch.setattr(q, "_addresses", type(q)(taskq_broker.url)._addresses)

    async def main():
        async with q:
            return await (await add.submit(2, 3)).result(timeout=20)

    assert asyncio.run(main()) == 5
"""


def test_a_broker_and_a_worker_for_one_test(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(USERS_TEST)
    result = pytester.runpytest_inprocess("-o", "asyncio_default_fixture_loop_scope=function")
    result.assert_outcomes(passed=1)
