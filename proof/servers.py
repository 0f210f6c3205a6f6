"""Servers and a worker, under load, in which every third request forgets a block."""

from __future__ import annotations

import asyncio
import json
import logging
import socket
import threading

from collections import deque
from contextlib import contextmanager
from http.client import HTTPConnection
from itertools import count, pairwise
from time import monotonic, process_time, thread_time
from typing import TYPE_CHECKING, Any, TypeAlias

import uvicorn

from celery import Celery, signals
from celery.contrib.testing.worker import start_worker
from waitress.server import create_server

from aura_context import (
    ContextThreadPoolExecutor,
    active_contexts,
    current_plan_name,
    plan_context,
)
from aura_context.integrations import asgi, wsgi
from aura_context.integrations import celery as carrying
from tables import Cell, Table, Zero


if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable

CLIENTS, PLANS = 4, 97
SPINS = 5_000
PATIENCE = 30.0
Ask: TypeAlias = "Callable[[str, bool], list[str | None]]"
"""Makes a request for a plan, perhaps one that forgets a block; returns the reads."""

forgotten: deque[Any] = deque(maxlen=10_000)  # so that none counts as abandoned
pool = ContextThreadPoolExecutor(2)


class Left:
    """What is open in a server's own threads, outside of all requests."""

    blocks = 0

    @classmethod
    def look(cls, *_: object, **__: object) -> None:
        """Count what is open here, or set."""
        cls.blocks += len(active_contexts()) + (current_plan_name.get() is not None)


def work(forget: bool) -> list[str | None]:  # noqa: FBT001 - as a message says it
    """Read the plan, as an application does here and there."""
    reads = [current_plan_name.get()]
    with plan_context("inner"):
        inner = current_plan_name.get()
    reads += [current_plan_name.get(), pool.submit(current_plan_name.get).result()]
    if inner != "inner":
        reads.append(inner)
    if forget:
        forgotten.append(plan_context("forgotten").__enter__())
    return reads


async def asgi_app(scope: Any, receive: Any, send: Any) -> None:
    del receive
    _, _, forget = scope["path"].split("/")
    reads = [await asyncio.create_task(asyncio.sleep(0, current_plan_name.get()))]
    reads += work(forget == "1")
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": json.dumps(reads).encode()})


def wsgi_app(environ: Any, start_response: Any) -> Iterable[bytes]:
    _, _, forget = environ["PATH_INFO"].split("/")
    start_response("200 OK", [])
    first = current_plan_name.get()
    yield b""
    yield json.dumps([first, *work(forget == "1")]).encode()


@contextmanager
def on_uvicorn() -> Generator[Ask]:
    inner: Any = asgi.ContextMiddleware(
        asgi_app, lambda scope: plan_context(scope["path"].split("/")[1])
    )

    async def outer(scope: Any, receive: Any, send: Any) -> None:
        Left.look()
        await inner(scope, receive, send)
        Left.look()

    config = uvicorn.Config(outer, log_config=None, access_log=False, lifespan="off")
    server = uvicorn.Server(config)
    with socket.create_server(("127.0.0.1", 0), backlog=512) as listener:
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        thread = threading.Thread(target=server.run, args=([listener],))
        thread.start()
        try:
            yield by_http(listener.getsockname()[1])
        finally:
            server.should_exit = True
            thread.join(PATIENCE)


@contextmanager
def on_waitress() -> Generator[Ask]:
    inner: Any = wsgi.ContextMiddleware(
        wsgi_app, lambda environ: plan_context(environ["PATH_INFO"].split("/")[1])
    )

    def outer(environ: Any, start_response: Any) -> Iterable[bytes]:
        Left.look()
        body = inner(environ, start_response)
        Left.look()
        return body  # type: ignore[no-any-return] # of a class of its own

    logging.getLogger("waitress.queue").setLevel(logging.ERROR)
    server: Any = create_server(outer, listen="127.0.0.1:0", threads=CLIENTS)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        yield by_http(server.effective_port)
    finally:
        server.trigger.pull_trigger(server.close)
        thread.join(PATIENCE)
        server.task_dispatcher.shutdown()


def by_http(port: int) -> Ask:
    connections = threading.local()

    def ask(plan: str, forget: bool) -> list[str | None]:  # noqa: FBT001 - see Ask
        if not hasattr(connections, "own"):
            connections.own = HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
        connections.own.request("GET", f"/{plan}/{int(forget)}")
        reads: list[str | None] = json.loads(connections.own.getresponse().read())
        return reads

    return ask


@contextmanager
def on_celery() -> Generator[Ask]:
    """Send tasks to a worker of Celery's that runs them in its own thread."""
    app: Any = Celery("proof", broker="memory://", backend="cache+memory://")
    app.conf.broker_transport_options = {"polling_interval": 0.001}
    carrying.install(app)
    task = app.task(work, name="work")
    signals.task_received.connect(Left.look)

    def ask(plan: str, forget: bool) -> list[str | None]:  # noqa: FBT001 - see Ask
        with plan_context(plan):
            result = task.delay(forget)
        reads: list[str | None] = result.get(timeout=PATIENCE, interval=0.001)
        return reads

    with start_worker(app, pool="solo", perform_ping_check=False, loglevel="ERROR"):
        yield ask


class Load:
    """Clients that ask until the time is over."""

    def __init__(self, ask: Ask, seconds: float) -> None:
        self.ask = ask
        self.end = monotonic() + seconds
        self.numbers = count()
        self.spun = 0.0
        """The processor's time for a loop that is the same after each request."""
        self.times: list[tuple[float, float]] = []
        """After each request: the processor's time for all, and for the loops."""
        self.wrong = self.forgotten = 0
        self.lock = threading.Lock()
        clients = [threading.Thread(target=self.run) for _ in range(CLIENTS)]
        for client in clients:
            client.start()
        for client in clients:
            client.join()

    def run(self) -> None:
        while monotonic() < self.end:
            number = next(self.numbers)
            plan, forget = f"plan-{number % PLANS}", number % 3 == 0
            try:
                reads: Any = self.ask(plan, forget)
            except Exception as error:  # noqa: BLE001 - whatever it is, it is wrong
                reads = [repr(error)]
            start = thread_time()
            for _ in range(SPINS):
                pass
            with self.lock:
                self.spun += thread_time() - start
                self.times.append((process_time(), self.spun))
                self.forgotten += forget
                self.wrong += sum(read != plan for read in reads)

    def cells(self) -> tuple[Cell, ...]:
        tried = len(self.times)
        marks = self.times[:: tried // 20 or 1]
        half = len(marks) // 2
        # In loops, as a machine that does other things slows both alike.
        costs = [
            (later[0] - earlier[0]) / (later[1] - earlier[1])
            for earlier, later in pairwise(marks)
        ]
        growth = min(costs[half:]) / min(costs[:half])
        left, Left.blocks = Left.blocks, 0
        return (
            tried,
            min(PLANS, tried),
            self.forgotten,
            Zero(self.wrong),
            Zero(left),
            f"{growth:.2f}",
        )


def measure(seconds: float, *, peers: bool) -> list[Table]:
    del peers
    rows: dict[str, tuple[Cell, ...]] = {}
    servers = {
        "requests to uvicorn": on_uvicorn,
        "requests to waitress": on_waitress,
        "tasks of Celery": on_celery,
    }
    for title, server in servers.items():
        with server() as ask:
            rows[title] = Load(ask, seconds / len(servers)).cells()
    pool.shutdown()
    columns = (
        *("tried", "plans", "blocks forgotten", "reads wrong", "left in a thread"),
        "time of one, second half to first",
    )
    return [Table("Servers and workers", columns, rows)]
