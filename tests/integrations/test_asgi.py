"""Rule I3: the ASGI middleware, in a real server over loopback."""

from __future__ import annotations

import asyncio
import queue
import socket
import threading

from contextlib import asynccontextmanager
from contextvars import Context, copy_context
from typing import TYPE_CHECKING, Annotated, Any, Self

import anyio.lowlevel
import httpx
import pytest
import uvicorn

from fastapi import APIRouter, BackgroundTasks, Depends, FastAPI, WebSocket
from fastapi.responses import StreamingResponse
from websockets.sync.client import connect

from aura_context import (
    PlanContext,
    Snapshot,
    active_contexts,
    current_plan_name,
    plan_context,
)
from aura_context.integrations.asgi import ContextMiddleware
from tests.contexts import TenantContext, current_tenant

from .servers import PATIENCE, listening, returning


if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Generator, Iterator
    from types import TracebackType


# What the older uvicorns used of websockets.
pytestmark = pytest.mark.filterwarnings(
    "ignore:websockets.* is deprecated:DeprecationWarning",
    "ignore:remove second argument of ws_handler:DeprecationWarning",
)

heard: queue.SimpleQueue[tuple[str, str | None]] = queue.SimpleQueue()
"""What the server's side has noted: where, and for which plan."""


def note(where: str) -> None:
    heard.put((where, current_plan_name.get()))


def next_heard() -> tuple[str, str | None]:
    return heard.get(timeout=PATIENCE)


@asynccontextmanager
async def lifespan(_app: FastAPI) -> AsyncGenerator[None]:
    note("startup")
    yield
    note("shutdown")


router = APIRouter(prefix="/{plan}")


@router.get("/plain")
async def plain() -> list[str | None]:
    await asyncio.sleep(0)
    return [current_plan_name.get(), current_tenant.get()]


@router.get("/sync")
def in_the_thread_pool() -> list[str | None]:
    return [current_plan_name.get(), current_tenant.get()]


@router.get("/stream")
async def stream() -> StreamingResponse:
    async def body() -> AsyncGenerator[str]:
        for _ in range(3):
            async with plan_context("inner"):
                yield f"{current_plan_name.get()} "
            yield f"{current_plan_name.get()} "

    return StreamingResponse(body())


@router.get("/stream-sync")
def stream_sync() -> StreamingResponse:
    def body() -> Generator[str]:
        for _ in range(3):
            yield f"{current_plan_name.get()} "

    return StreamingResponse(body())


@router.get("/endless")
async def endless() -> StreamingResponse:
    async def body() -> AsyncGenerator[str]:
        try:
            yield "begun"
            await asyncio.Event().wait()
        finally:
            note("disconnected")

    return StreamingResponse(body())


@router.get("/background")
async def background(tasks: BackgroundTasks) -> None:
    async def later() -> None:
        await asyncio.sleep(0)
        note("async")

    tasks.add_task(later)
    tasks.add_task(note, "sync")


async def async_dependency() -> AsyncGenerator[str | None]:
    async with TenantContext("async"):
        note("async setup")
        yield current_tenant.get()
        note("async teardown")


def sync_dependency() -> Generator[str | None]:
    with TenantContext("sync"):
        note("sync setup")
        yield current_tenant.get()
        note("sync teardown")


@router.get("/depends")
async def depends(
    by_async: Annotated[str, Depends(async_dependency)],
    by_sync: Annotated[str, Depends(sync_dependency)],
) -> list[str | None]:
    return [current_plan_name.get(), current_tenant.get(), by_async, by_sync]


@router.websocket("/socket")
async def talk(websocket: WebSocket) -> None:
    await websocket.accept()
    async for message in websocket.iter_text():
        await websocket.send_text(f"{message} {current_plan_name.get()}")
    note("closed")


class Meeting:
    """Where as many requests meet as are expected, so that all are open at once."""

    expected = 200

    def __init__(self) -> None:
        self.arrived = 0
        self.complete = asyncio.Event()

    async def meet(self) -> None:
        self.arrived += 1
        if self.arrived == self.expected:
            self.complete.set()
        async with asyncio.timeout(PATIENCE):
            await self.complete.wait()


meeting = Meeting()


@router.get("/meet")
async def meet() -> list[str | None]:
    before = current_plan_name.get()
    await meeting.meet()
    inside = await asyncio.to_thread(current_plan_name.get)
    return [before, inside, current_plan_name.get()]


app = FastAPI(lifespan=lifespan)
app.include_router(router)


def by_path(scope: Any) -> PlanContext | None:
    plan = scope["path"].split("/")[1]
    return None if plan == "-" else plan_context(plan)


class Server(uvicorn.Server):
    """One that tells when it is up."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.up = threading.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.up.set()


@pytest.fixture(autouse=True)
def nothing_unexpected() -> Iterator[None]:
    """Check that a test has expected all that the server's side noted."""
    yield
    assert heard.empty()


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """Serve the application, from a Context that has a plan and a tenant of its own."""
    config = uvicorn.Config(
        ContextMiddleware(app, by_path),
        # With uvloop, the older ones change the policy of the whole process, for good.
        loop="asyncio",
        log_config=None,
        lifespan="on",
        access_log=False,
    )
    server = Server(config)
    with (
        socket.create_server(("127.0.0.1", 0), backlog=512) as listener,
        listening("uvicorn"),
    ):
        with plan_context("server"), TenantContext("server"):
            thread = threading.Thread(
                target=copy_context().run, args=(server.run, [listener])
            )
        thread.start()
        try:
            assert server.up.wait(PATIENCE)
            assert next_heard() == ("startup", "server")
            yield "{}:{}".format(*listener.getsockname())
        finally:
            server.should_exit = True
            thread.join(PATIENCE)
        assert not thread.is_alive()
        assert next_heard() == ("shutdown", "server")


@pytest.fixture
def client(address: str) -> Iterator[httpx.Client]:
    with httpx.Client(
        base_url=f"http://{address}", trust_env=False, timeout=PATIENCE
    ) as client:
        yield client


class TestServed:
    @pytest.mark.parametrize("path", ["plain", "sync"])
    def test_plain(self, client: httpx.Client, path: str) -> None:
        assert client.get(f"/nightly/{path}").json() == ["nightly", None]

    @pytest.mark.parametrize("path", ["plain", "sync"])
    def test_clean_where_nothing_is_resolved(
        self, client: httpx.Client, path: str
    ) -> None:
        assert client.get(f"/-/{path}").json() == [None, None]

    def test_streaming(self, client: httpx.Client) -> None:
        assert client.get("/nightly/stream").text == "inner nightly " * 3
        assert client.get("/nightly/stream-sync").text == "nightly " * 3

    def test_background_work(self, client: httpx.Client) -> None:
        assert client.get("/nightly/background").is_success
        assert next_heard() == ("async", "nightly")
        assert next_heard() == ("sync", "nightly")

    # A sync dependency is closed in another Context than the one it began in.
    @pytest.mark.filterwarnings("ignore::aura_context.ForeignExitWarning")
    def test_dependencies_with_yield(self, client: httpx.Client) -> None:
        response = client.get("/nightly/depends")
        assert response.json() == ["nightly", "async", "async", "sync"]
        assert sorted(next_heard() for _ in range(4)) == [
            ("async setup", "nightly"),
            ("async teardown", "nightly"),
            ("sync setup", "nightly"),
            ("sync teardown", "nightly"),
        ]

    def test_websocket(self, address: str) -> None:
        with (
            connect(f"ws://{address}/nightly/socket", proxy=None) as one,
            connect(f"ws://{address}/hourly/socket", proxy=None) as other,
        ):
            for websocket, plan in (
                (one, "nightly"),
                (other, "hourly"),
                (one, "nightly"),
            ):
                websocket.send("hello")
                assert websocket.recv(PATIENCE) == f"hello {plan}"
        assert sorted(next_heard() for _ in range(2)) == [
            ("closed", "hourly"),
            ("closed", "nightly"),
        ]

    def test_client_that_disconnects_in_the_middle(self, client: httpx.Client) -> None:
        with client.stream("GET", "/nightly/endless") as response:
            assert next(response.iter_text()) == "begun"
        assert next_heard() == ("disconnected", "nightly")
        assert client.get("/-/plain").json() == [None, None]

    def test_200_at_once_for_20_plans(self, address: str) -> None:
        plans = [f"plan-{number % 20}" for number in range(Meeting.expected)]

        async def main() -> list[httpx.Response]:
            limits = httpx.Limits(max_connections=None)
            async with httpx.AsyncClient(
                base_url=f"http://{address}",
                trust_env=False,
                timeout=PATIENCE,
                limits=limits,
            ) as client:
                return await asyncio.gather(
                    *(client.get(f"/{plan}/meet") for plan in plans)
                )

        answers = [response.json() for response in asyncio.run(main())]
        assert answers == [[plan] * 3 for plan in plans]


async def call(app: ContextMiddleware, kind: str = "http") -> None:
    """Call the application as a server would, in this very task."""

    async def unused(*_args: object) -> Any:
        raise AssertionError

    await app({"type": kind, "path": "/nightly/"}, unused, unused)


async def noting(_scope: Any, _receive: Any, _send: Any) -> None:
    await anyio.lowlevel.checkpoint()
    note("app")


def hooked(name: str) -> type[PlanContext]:
    """Return a class that overrides this method alone, and notes the call."""

    def hook(self: PlanContext, *args: Any) -> Any:
        note(name)
        return getattr(PlanContext, name)(self, *args)

    return type("HookedContext", (PlanContext,), {name: hook})


@pytest.mark.anyio
class TestResolve:
    async def test_may_be_async(self) -> None:
        async def resolve(scope: Any) -> PlanContext | None:
            await anyio.lowlevel.checkpoint()
            return by_path(scope)

        await call(ContextMiddleware(noting, resolve))
        assert next_heard() == ("app", "nightly")

    async def test_may_return_a_snapshot(self) -> None:
        snapshot = Snapshot(plan_context("nightly"))
        await call(ContextMiddleware(noting, returning(snapshot)))
        assert next_heard() == ("app", "nightly")

    async def test_sees_a_clean_start_itself(self) -> None:
        def resolve(_scope: Any) -> None:
            note("resolve")

        with plan_context("server"):
            await call(ContextMiddleware(noting, resolve))
            assert current_plan_name.get() == "server"
        assert [next_heard(), next_heard()] == [("resolve", None), ("app", None)]
        assert active_contexts() == ()

    async def test_may_return_a_context_that_awaits(self) -> None:
        class LedgerContext(PlanContext):
            async def __aenter__(self) -> Self:
                await anyio.lowlevel.checkpoint()
                return await super().__aenter__()

            async def __aexit__(self, *exc: Any) -> None:  # noqa: PYI036 - passed on
                await anyio.lowlevel.checkpoint()
                note("exit")
                await super().__aexit__(*exc)

        await call(ContextMiddleware(noting, returning(LedgerContext("nightly"))))
        assert [next_heard(), next_heard()] == [("app", "nightly"), ("exit", "nightly")]

    @pytest.mark.parametrize("name", ["__enter__", "__aenter__"])
    async def test_may_return_a_context_that_enters_in_its_own_way(
        self, name: str
    ) -> None:
        await call(ContextMiddleware(noting, returning(hooked(name)("nightly"))))
        assert [next_heard(), next_heard()] == [(name, None), ("app", "nightly")]

    @pytest.mark.parametrize("name", ["__exit__", "__aexit__"])
    async def test_may_return_a_context_that_exits_in_its_own_way(
        self, name: str
    ) -> None:
        await call(ContextMiddleware(noting, returning(hooked(name)("nightly"))))
        assert [next_heard(), next_heard()] == [("app", "nightly"), (name, "nightly")]

    @pytest.mark.parametrize("kind", ["http", "websocket"])
    async def test_anything_else_is_an_error_that_says_so(self, kind: str) -> None:
        resolve = returning("nightly")
        with pytest.raises(TypeError) as error:
            await call(ContextMiddleware(noting, resolve), kind)
        assert str(error.value) == (
            "resolve must return a context, such as plan_context('nightly'), "
            "a Snapshot, or None for nothing; got an object of type str"
        )

    async def test_its_error_reaches_the_server(self) -> None:
        def resolve(_scope: Any) -> None:
            raise LookupError

        with pytest.raises(LookupError):
            await call(ContextMiddleware(noting, resolve))

    @pytest.mark.parametrize("kind", ["lifespan", "new"])
    async def test_is_not_asked_about_other_scopes(self, kind: str) -> None:
        resolve: Any = None
        with plan_context("server"):
            await call(ContextMiddleware(noting, resolve), kind)
        assert next_heard() == ("app", "server")

    async def test_error_of_the_application_passes(self) -> None:
        async def fails(*_args: object) -> None:
            await anyio.lowlevel.checkpoint()
            raise LookupError

        with pytest.raises(LookupError):
            await call(ContextMiddleware(fails, by_path))
        assert current_plan_name.get() is None


class TestReturn:
    @pytest.mark.parametrize("kind", ["http", "websocket", "lifespan"])
    def test_what_the_application_returns_is_handed_on(self, kind: str) -> None:
        result = object()

        async def app(_scope: Any, _receive: Any, _send: Any) -> object:
            return result

        bound: Any = ContextMiddleware(app, lambda _: plan_context("p"))
        assert asyncio.run(bound({"type": kind}, None, None)) is result


class TestLeftovers:
    def test_nothing_of_a_request_is_left_in_the_task(self) -> None:
        shared = plan_context("left open")

        async def app(_scope: Any, _receive: Any, _send: Any) -> None:
            shared.__enter__()

        def resolve(_scope: Any) -> PlanContext:
            shared.__enter__()
            return plan_context("p")

        async def three_requests() -> None:
            bound = ContextMiddleware(app, resolve)
            for _ in range(3):
                await bound({"type": "http"}, Any, Any)  # type: ignore[arg-type] # pyright: ignore[reportArgumentType] - not used
                assert active_contexts() == ()
                assert current_plan_name.get() is None

        asyncio.run(three_requests())

    def test_an_override_of_the_exit_sees_its_own_plan(self) -> None:
        """Not that of a block which the application has forgotten."""
        seen: list[str | None] = []

        class Audited(PlanContext):
            async def __aexit__(
                self,
                kind: type[BaseException] | None,
                error: BaseException | None,
                traceback: TracebackType | None,
            ) -> Any:
                seen.append(current_plan_name.get())
                return await super().__aexit__(kind, error, traceback)

        async def app(_scope: Any, _receive: Any, _send: Any) -> None:
            forgotten.__enter__()

        forgotten = plan_context("forgotten")
        bound: Any = ContextMiddleware(app, lambda _: Audited("p"))
        asyncio.run(bound({"type": "http"}, None, None))
        assert seen == ["p"]

    @pytest.mark.filterwarnings("ignore::aura_context.ForeignExitWarning")
    def test_nor_of_one_that_leaves_every_block_it_finds(self) -> None:
        async def app(_scope: Any, _receive: Any, _send: Any) -> str | None:
            for context in active_contexts():
                context.__exit__(None, None, None)
            found = current_plan_name.get()
            current_plan_name.set("raw")
            return found

        async def request() -> None:
            assert await bound({"type": "http"}, None, None) == "p"
            assert current_plan_name.get() is None

        bound: Any = ContextMiddleware(app, lambda _: plan_context("p"))
        asyncio.run(request())

    def test_one_that_is_dropped_in_another_context_does_not_warn(self) -> None:
        class Wait:
            def __await__(self) -> Generator[None]:
                yield

        async def app(_scope: Any, _receive: Any, _send: Any) -> None:
            await Wait()

        bound: Any = ContextMiddleware(app, lambda _: plan_context("p"))
        request = bound({"type": "http"}, None, None)
        Context().run(request.send, None)
        Context().run(request.close)  # if it warned, the test would fail
        assert active_contexts() == ()
