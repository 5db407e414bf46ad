"""Jobs in processes of their own, of a worker inside a script."""

import asyncio
import os
import sys
from pathlib import Path

import pytest

PATIENCE = 60.0
SCRIPT = Path(__file__).with_name("job_script.py")


async def _run(script: Path = SCRIPT, **env: str) -> tuple[int | None, str, str]:
    root = str(Path(__file__).parents[2])
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        str(script),
        env={**os.environ, "PYTHONPATH": root, **env},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        out, err = await asyncio.wait_for(process.communicate(), PATIENCE)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return process.returncode, out.decode(), err.decode()


@pytest.mark.asyncio(loop_factories=["asyncio"])
async def test_a_script_runs_its_own_functions_in_processes() -> None:
    assert await _run() == (0, "True\n", "")


@pytest.mark.asyncio(loop_factories=["asyncio"])
async def test_a_script_that_starts_when_it_is_imported_is_told_how_to_do_it() -> None:
    code, _, err = await _run(TEST_UNGUARDED="1")
    assert code == 1
    assert "put the start of the program under if __name__ == '__main__':" in err


@pytest.mark.asyncio(loop_factories=["asyncio"])
async def test_each_process_has_a_lifespan_and_dependencies_of_its_own() -> None:
    assert await _run(SCRIPT.with_name("job_scope.py")) == (0, "(True, 42)\n", "")
