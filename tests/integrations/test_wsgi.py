"""Rule I3: the WSGI middleware, in a real server over loopback."""

from __future__ import annotations

import logging
import queue
import threading

from concurrent.futures import ThreadPoolExecutor
from contextvars import Context, copy_context
from io import BytesIO
from typing import TYPE_CHECKING, Any, Self
from wsgiref.util import FileWrapper

import httpx
import pytest

from typing_extensions import override
from waitress.server import create_server

from aura_context import (
    PlanContext,
    Snapshot,
    active_contexts,
    current_plan_name,
    plan_context,
)
from aura_context._stack import stack, walk
from aura_context.integrations.wsgi import ContextMiddleware
from tests.contexts import RunContext, TenantContext, current_tenant

from .servers import PATIENCE, listening, returning


if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Iterator
    from wsgiref.types import StartResponse, WSGIEnvironment


THREADS = 20

heard: queue.SimpleQueue[tuple[str, str | None]] = queue.SimpleQueue()
"""What the server's side has noted: where, and for which plan."""

FORGOTTEN = RunContext(2)
"""Entered and never left."""

barrier = threading.Barrier(THREADS)
"""Where as many requests meet as there are plans, so that all are open at once."""


def note(where: str) -> None:
    heard.put((where, current_plan_name.get()))


def next_heard() -> tuple[str, str | None]:
    return heard.get(timeout=PATIENCE)


def plan() -> bytes:
    return f"{current_plan_name.get()} {current_tenant.get()};".encode()


class Body:
    """An iterable that is closed by the server, as frameworks make them."""

    def __init__(self, count: int = 2) -> None:
        self.count = count

    def __iter__(self) -> Iterator[bytes]:
        for _ in range(self.count):
            yield plan()

    def close(self) -> None:
        note("close")


def steps() -> Generator[bytes]:
    """Hold a block of our own across a yield."""
    try:
        yield plan()
        with TenantContext("inner"):
            yield plan()
            barrier.wait(PATIENCE)
            yield plan()
        yield plan()
    finally:
        note("finally")


def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    start_response("200 OK", [("Content-Type", "text/plain")])
    match environ["PATH_INFO"].split("/")[-1]:
        case "list":
            return [plan()]
        case "steps":
            return steps()
        case "file":
            wrapped: Iterable[bytes] = environ["wsgi.file_wrapper"](BytesIO(plan()))
            return wrapped
        case _:
            return Body()


def by_path(environ: WSGIEnvironment) -> PlanContext | None:
    name = environ["PATH_INFO"].split("/")[1]
    return None if name == "-" else plan_context(name)


@pytest.fixture(autouse=True)
def nothing_unexpected() -> Iterator[None]:
    """Check that a test has expected all that the server's side noted."""
    yield
    assert heard.empty()


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """Serve the application, from a Context that has a plan and a tenant of its own."""
    with plan_context("server"), TenantContext("server"):
        within = copy_context()
    server: Any = within.run(
        create_server,
        ContextMiddleware(app, by_path),
        listen="127.0.0.1:0",
        threads=THREADS,
    )
    thread = threading.Thread(target=within.run, args=(server.run,))
    # It warns of each request that has to wait for a thread, which is no error.
    logging.getLogger("waitress.queue").setLevel(logging.ERROR)
    with listening("waitress"):
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.effective_port}"
        finally:
            server.trigger.pull_trigger(server.close)
            thread.join(PATIENCE)
            server.task_dispatcher.shutdown()
        assert not thread.is_alive()


@pytest.fixture
def client(address: str) -> Iterator[httpx.Client]:
    with httpx.Client(
        base_url=address,
        trust_env=False,
        timeout=PATIENCE,
        headers={"Connection": "close"},
    ) as client:
        yield client


class TestServed:
    def test_list(self, client: httpx.Client) -> None:
        response = client.get("/nightly/list")
        assert response.text == "nightly None;"
        assert response.headers["Content-Length"] == "13"

    def test_body_is_bound_and_closed(self, client: httpx.Client) -> None:
        assert client.get("/nightly/body").text == "nightly None;" * 2
        assert next_heard() == ("close", "nightly")

    def test_body_that_the_server_only_closes(self, client: httpx.Client) -> None:
        assert client.head("/nightly/body").text == ""
        assert next_heard() == ("close", "nightly")

    def test_clean_where_nothing_is_resolved(self, client: httpx.Client) -> None:
        assert client.get("/-/body").text == "None None;" * 2
        assert next_heard() == ("close", None)

    def test_file_wrapper_is_the_servers_own(self, client: httpx.Client) -> None:
        response = client.get("/nightly/file")
        assert response.text == "nightly None;"
        # Which the server knows from its file wrapper alone.
        assert response.headers["Content-Length"] == "13"

    def test_200_for_20_plans(self, client: httpx.Client) -> None:
        plans = [f"plan-{number % 20}" for number in range(200)]
        paths = [f"/{name}/steps" for name in plans]
        with ThreadPoolExecutor(THREADS) as pool:
            answers = [response.text for response in pool.map(client.get, paths)]
        assert answers == [f"{p} None;{p} inner;{p} inner;{p} None;" for p in plans]
        assert sorted(next_heard() for _ in plans) == sorted(
            ("finally", name) for name in plans
        )


def call(body: Any, resolve: Any = by_path, **environ: Any) -> Any:
    """Call an application that returns this body; return what a server gets."""
    bound = ContextMiddleware(lambda _environ, _start: body, resolve)
    unused: Any = None
    return bound({"PATH_INFO": "/nightly/", **environ}, unused)


class TestBody:
    def test_consumer_never_sees_the_value(self) -> None:
        body = call(Body())
        with plan_context("server"):
            for _ in range(2):
                assert next(body) == b"nightly None;"
                assert current_plan_name.get() == "server"
            with pytest.raises(StopIteration):
                next(body)
            assert heard.empty()  # to close it is up to the server
            body.close()
            assert current_plan_name.get() == "server"
        assert next_heard() == ("close", "nightly")
        assert active_contexts() == ()

    def test_ends_once_and_is_closed_once(self) -> None:
        body = call(Body(count=0))
        assert [*body] == [*body] == []
        body.close()
        body.close()
        assert next_heard() == ("close", "nightly")

    def test_each_step_may_be_in_another_context(self) -> None:
        body = call(steps())
        assert Context().run(next, body) == b"nightly None;"
        assert Context().run(next, body) == b"nightly inner;"
        Context().run(body.close)
        assert next_heard() == ("finally", "nightly")

    def test_without_close(self) -> None:
        body = call(iter([b"one", b"two"]))
        assert [*body] == [b"one", b"two"]
        body.close()

    def test_error_in_a_step_and_in_close(self) -> None:
        class Failing(Body):
            def __iter__(self) -> Iterator[bytes]:
                yield b"one"
                raise LookupError

        body = call(Failing())
        assert next(body) == b"one"
        with pytest.raises(LookupError):
            next(body)
        assert next_heard() == ("close", "nightly")
        body.close()

        class Unclosable(Body):
            def close(self) -> None:
                raise LookupError

        with pytest.raises(LookupError):
            call(Unclosable()).close()

    @pytest.mark.parametrize("body", [[b"one"], (b"one", b"two"), []])
    def test_what_has_a_length_is_returned_as_it_is(self, body: Any) -> None:
        assert call(body) is body

    def test_file_wrapper_is_returned_as_it_is(self) -> None:
        wrapped = FileWrapper(BytesIO(b"one"))
        assert call(wrapped, **{"wsgi.file_wrapper": FileWrapper}) is wrapped

    def test_closing_a_file_is_bound(self) -> None:
        class Report(BytesIO):
            @override
            def close(self) -> None:
                note("close")
                FORGOTTEN.__enter__()
                super().close()

        wrapped = FileWrapper(Report(b"one"))
        body = call(wrapped, **{"wsgi.file_wrapper": FileWrapper})
        assert [*body] == [b"one"]
        assert heard.empty()
        body.close()
        assert next_heard() == ("close", "nightly")
        body.close()
        assert active_contexts() == ()

    def test_file_wrapper_that_takes_no_attribute(self) -> None:
        class File:
            """As that of a server in C."""

            __slots__ = ()

            def __iter__(self) -> Iterator[bytes]:
                yield b"one"

        file = File()
        assert call(file, **{"wsgi.file_wrapper": File}) is file

    def test_file_wrapper_that_is_a_function(self) -> None:
        body = call(iter([b"one"]), **{"wsgi.file_wrapper": iter})
        assert [*body] == [b"one"]


def between(app: Any, resolve: Any = by_path) -> tuple[list[bytes], set[Any]]:
    """Serve a request; return the chunks, and what the server has in between."""
    unused: Any = None
    body: Any = ContextMiddleware(app, resolve)({"PATH_INFO": "/nightly/"}, unused)
    chunks: list[bytes] = []
    seen = {(current_plan_name.get(), active_contexts())}
    for chunk in body:
        chunks.append(chunk)
        seen.add((current_plan_name.get(), active_contexts()))
    if hasattr(body, "close"):
        body.close()
    seen.add((current_plan_name.get(), active_contexts()))
    return chunks, seen


NOTHING = {(None, ())}


def forgetful() -> Iterator[bytes]:
    RunContext(1).__enter__()
    yield plan()
    FORGOTTEN.__enter__()
    yield plan()


class TestOneGenerator:
    """The call and the body's steps are steps of one generator."""

    def test_a_block_from_the_call_to_close(self) -> None:
        class Closing(Body):
            def __init__(self, block: TenantContext) -> None:
                super().__init__()
                self.block = block

            def close(self) -> None:
                self.block.__exit__(None, None, None)
                heard.put((str(current_tenant.get()), current_plan_name.get()))

        def app(_environ: Any, _start: Any) -> Any:
            return Closing(TenantContext("acme").__enter__())

        assert between(app) == ([b"nightly acme;"] * 2, NOTHING)
        assert next_heard() == ("None", "nightly")

    def test_what_the_call_and_the_steps_set_raw(self) -> None:
        def app(_environ: Any, _start: Any) -> Any:
            current_plan_name.set("raw")
            current_tenant.set("acme")

            def rows() -> Iterator[bytes]:
                yield plan()
                current_tenant.set("other")
                yield plan()
                yield plan()

            return rows()

        chunks = [b"raw acme;", b"raw other;", b"raw other;"]
        assert between(app) == (chunks, NOTHING)
        assert current_tenant.get() is None

    @pytest.mark.parametrize(
        "body",
        [
            lambda: [plan()],
            lambda: (plan(),),
            lambda: iter([plan()]),
            lambda: map(bytes, [plan()]),
            lambda: Body(1),
            forgetful,
        ],
        ids=["list", "tuple", "iterator", "map", "body", "generator"],
    )
    @pytest.mark.parametrize("kept", [True, False])
    def test_what_is_forgotten(self, body: Any, kept: bool) -> None:
        blocks: list[Any] = []

        def app(_environ: Any, _start: Any) -> Any:
            blocks[:] = [TenantContext("forgotten").__enter__()]
            if not kept:
                blocks.clear()
            return body()

        def requests() -> None:
            empty = [*walk(stack.get())]
            for _ in range(3):
                chunks, seen = between(app)
                assert chunks[0].startswith(b"nightly ")
                assert seen == NOTHING
                assert [*walk(stack.get())] == empty
                assert current_tenant.get() is None

        Context().run(requests)
        while not heard.empty():
            next_heard()

    def test_what_is_forgotten_where_the_call_fails(self) -> None:
        shared = TenantContext("forgotten")

        def app(_environ: Any, _start: Any) -> Any:
            shared.__enter__()
            raise LookupError

        with pytest.raises(LookupError):
            between(app)
        assert active_contexts() == ()
        assert current_tenant.get() is None

    def test_what_resolve_forgets(self) -> None:
        shared = TenantContext("forgotten")

        def resolve(_environ: Any) -> Any:
            return shared.__enter__()

        def app(_environ: Any, _start: Any) -> Any:
            return [plan()]

        assert between(app, resolve) == ([b"None forgotten;"], NOTHING)
        assert current_tenant.get() is None

    @pytest.mark.filterwarnings("ignore::aura_context.ForeignExitWarning")
    def test_no_code_leaves_the_blocks_around_it(self) -> None:
        def leave_all() -> None:
            for context in active_contexts():
                context.__exit__(None, None, None)
            current_tenant.set("raw")

        def resolve(environ: Any) -> PlanContext | None:
            leave_all()
            return by_path(environ)

        def app(_environ: Any, _start: Any) -> Any:
            leave_all()
            yield plan()

        assert between(app, resolve) == ([b"nightly raw;"], NOTHING)
        assert current_tenant.get() is None

    @pytest.mark.filterwarnings("error")
    def test_no_override_runs_for_what_is_forgotten(self) -> None:
        class AuditedContext(TenantContext):
            def __exit__(self, *_: object) -> None:
                raise AssertionError

        shared = AuditedContext("forgotten")

        def app(_environ: Any, _start: Any) -> Any:
            shared.__enter__()
            return Body(1)

        assert between(app) == ([b"nightly forgotten;"], NOTHING)
        assert next_heard() == ("close", "nightly")


class TestResolve:
    def test_may_return_a_snapshot(self) -> None:
        snapshot = Snapshot(plan_context("nightly"), TenantContext("acme"))
        body = call(Body(1), returning(snapshot))
        assert [*body] == [b"nightly acme;"]
        body.close()
        assert next_heard() == ("close", "nightly")

    def test_sees_a_clean_start_itself(self) -> None:
        def resolve(_environ: WSGIEnvironment) -> None:
            note("resolve")

        with plan_context("server"):
            body = call(Body(1), resolve)
            assert [*body] == [b"None None;"]
            body.close()
            assert current_plan_name.get() == "server"
        assert [next_heard(), next_heard()] == [("resolve", None), ("close", None)]

    @pytest.mark.parametrize("resolved", ["nightly", PlanContext, 0, ()])
    def test_anything_else_is_an_error_that_says_so(self, resolved: Any) -> None:
        message = r"must return a context.*Snapshot.*None for nothing; got "
        with pytest.raises(TypeError, match=message):
            call([], returning(resolved))

    def test_a_context_that_cannot_be_bound_to_steps_is_refused_at_once(self) -> None:
        class AuditedContext(PlanContext):
            def __enter__(self) -> Self:
                raise AssertionError

        with pytest.raises(
            TypeError, match=r"AuditedContext overrides __enter__ .* a WSGI request"
        ):
            call([], returning(AuditedContext("nightly")))

    def test_its_error_reaches_the_server(self) -> None:
        def resolve(_environ: WSGIEnvironment) -> None:
            raise LookupError

        with pytest.raises(LookupError):
            call([], resolve)
