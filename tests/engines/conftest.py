from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time

from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from aiohttp import ClientSession, ClientTimeout, TCPConnector


if TYPE_CHECKING:
    from collections.abc import (
        AsyncGenerator,
        Callable,
        Generator,
        Iterable,
        Iterator,
        Sequence,
    )


HERE = Path(__file__).parent
EXAMPLES = HERE.parents[1] / "docs" / "examples"

PATIENCE = 60


def wait_until(condition: Callable[[], bool], what: str, seconds: float = 60) -> None:
    """Wait, and not for ever."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds} s: {what}"
        time.sleep(0.05)


def children() -> set[str]:
    """Return the processes that this one has started, and theirs, that still run.

    But for multiprocessing's resource tracker, which serves until the very end.
    """
    found = subprocess.run(
        ["ps", "-ww", "-A", "-o", "pid=,ppid=,stat=,args="],  # noqa: S607 - wherever it is
        capture_output=True,
        encoding="utf-8",
        check=True,
    )
    rows = [line.split(None, 3) for line in found.stdout.splitlines()]
    family = {str(os.getpid())}
    for _generation in range(9):
        family |= {pid for pid, parent, *_ in rows if parent in family}
    return {
        f"{pid} {command}"
        for pid, _parent, state, command in rows
        if pid in family
        and state[0] != "Z"
        and "resource_tracker" not in command
        and not command.startswith("ps -ww ")
    }


def wait_for_the_end(before: set[str]) -> None:
    """Wait until all that was started since has ended."""
    try:
        wait_until(lambda: children() <= before, "the end of the workers", 30)
    except AssertionError as error:
        error.add_note(f"left: {children() - before}")
        raise


def members(group: int) -> list[str]:
    """Return the processes of a group that still run."""
    found = subprocess.run(
        ["ps", "-ww", "-A", "-o", "pgid=,pid=,stat=,args="],  # noqa: S607 - wherever it is
        capture_output=True,
        encoding="utf-8",
        check=True,
    )
    rows = [line.split(None, 3) for line in found.stdout.splitlines()]
    return [row[3] for row in rows if row[0] == str(group) and row[2][0] != "Z"]


@contextmanager
def running(
    command: Sequence[str | Path], log: Path, environ: dict[str, str] | None = None
) -> Generator[subprocess.Popen[bytes]]:
    """Run a server, stop it, and see that nothing is left of it."""
    with log.open("wb") as out:
        process = subprocess.Popen(  # noqa: S603 - our own programs
            command,
            cwd=log.parent,
            env={**os.environ, **(environ or {})},
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # a group of its own
        )
    try:
        yield process
    except BaseException:
        sys.stderr.write(log.read_text("utf-8", "replace"))
        raise
    finally:
        process.terminate()
        try:
            with suppress(subprocess.TimeoutExpired):
                process.wait(20)
        finally:
            # Some of them do not end by themselves: nothing of them may stay.
            if members(process.pid):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait(10)
            wait_until(lambda: not members(process.pid), f"the end of {command}", 10)


def free_port() -> int:
    """Return a port of the loopback that nothing listens to."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
    return port


def answers(port: int) -> bool:
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0


@contextmanager
def serving(
    command: Sequence[str | Path],
    port: int,
    log: Path,
    environ: dict[str, str] | None = None,
) -> Generator[None]:
    """Run a server, and wait until it answers."""
    with running(command, log, environ) as process:
        wait_until(lambda: process.poll() is not None or answers(port), "the server")
        assert process.poll() is None, log.read_text("utf-8")
        yield


@asynccontextmanager
async def session() -> AsyncGenerator[ClientSession]:
    """Return a client that opens as many connections as it has requests."""
    async with ClientSession(
        connector=TCPConnector(limit=0, force_close=True),
        timeout=ClientTimeout(PATIENCE),
    ) as client:
        yield client


def ask(port: int, paths: Iterable[str]) -> list[str]:
    """Send all requests at once; return what they are answered."""

    async def main() -> list[str]:
        async def get(path: str) -> str:
            async with client.get(f"http://127.0.0.1:{port}{path}") as response:
                return await response.text()

        async with session() as client:
            return await asyncio.gather(*map(get, paths))

    return asyncio.run(main())


def disconnect(port: int, paths: Iterable[str]) -> None:
    """Send all requests at once, and hang up as soon as an answer begins."""

    async def main() -> None:
        async def begin(path: str) -> None:
            async with client.get(f"http://127.0.0.1:{port}{path}") as response:
                await response.content.readany()
                response.close()

        async with session() as client:
            await asyncio.gather(*map(begin, paths))

    asyncio.run(main())


def look_into(port: int) -> dict[str, Any]:
    """Return the state of a server's process, once its requests are over."""
    state: dict[str, Any] = json.loads(ask(port, ["/state"])[0])
    return state


@pytest.fixture(scope="session")
def redis_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Start a Redis server of our own, on a free port of the loopback."""
    server = shutil.which("redis-server")
    if server is None:
        pytest.skip("redis-server is missing: apt-get install redis-server")
    port = free_port()
    folder = tmp_path_factory.mktemp("redis")
    command: list[str] = [server, "--port", str(port), "--bind", "127.0.0.1"]
    command += ["--save", "", "--appendonly", "no"]
    with serving(command, port, folder / "log"):
        yield f"redis://127.0.0.1:{port}/0"


@pytest.fixture(scope="session")
def broker(redis_url: str) -> dict[str, str]:
    """Where messages go, as Celery reads it from the environment."""
    return {"CELERY_BROKER_URL": redis_url, "CELERY_RESULT_BACKEND": redis_url}
