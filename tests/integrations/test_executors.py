"""Rule S6: jobs in a copy of the Context, with libraries that keep things there."""

from __future__ import annotations

import asyncio

from concurrent.futures import Executor, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest
import structlog

from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from structlog.contextvars import (
    bind_contextvars,
    bound_contextvars,
    get_contextvars,
)

from aura_context import (
    ContextExecutor,
    ContextThreadPoolExecutor,
    current_plan_name,
    plan_context,
)
from aura_context.integrations.opentelemetry import ContextSpanProcessor
from aura_context.integrations.structlog import ContextProcessor


if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from opentelemetry.sdk.trace import ReadableSpan


def wrapped(*, copy_context: bool) -> Executor:
    return ContextExecutor(ThreadPoolExecutor(1), copy_context=copy_context)


def threads(*, copy_context: bool) -> Executor:
    return ContextThreadPoolExecutor(1, copy_context=copy_context)


@pytest.fixture(params=[wrapped, threads])
def make(request: pytest.FixtureRequest) -> Callable[..., Executor]:
    """Return what makes an executor, whose worker starts where nothing is bound."""

    def make(*, copy_context: bool) -> Executor:
        executor: Executor = request.param(copy_context=copy_context)
        assert executor.submit(get_contextvars).result() == {}
        return executor

    return make


class Traces:
    """A tracer, and the spans that have ended."""

    def __init__(self) -> None:
        self._exporter = InMemorySpanExporter()
        self.provider = TracerProvider(shutdown_on_exit=False)
        self.provider.add_span_processor(ContextSpanProcessor())
        self.provider.add_span_processor(SimpleSpanProcessor(self._exporter))
        self.tracer = self.provider.get_tracer("test")

    def span(self, name: str) -> ReadableSpan:
        """Return the only one of that name."""
        (span,) = (
            each for each in self._exporter.get_finished_spans() if each.name == name
        )
        return span

    def parents(self, name: str) -> tuple[str | None, Any]:
        """Return of a span its parent's name, and its plan."""
        span = self.span(name)
        ids = {
            each.context.span_id: each.name
            for each in self._exporter.get_finished_spans()
            if each.context
        }
        parent = ids[span.parent.span_id] if span.parent else None
        return parent, (span.attributes or {}).get("aura.plan_name")


@pytest.fixture
def traces() -> Iterator[Traces]:
    traces = Traces()
    yield traces
    traces.provider.shutdown()


class TestS6OpenTelemetry:
    @pytest.mark.parametrize("copying", [True, False])
    def test_the_span_of_a_job_is_a_child(
        self, make: Callable[..., Executor], traces: Traces, copying: bool
    ) -> None:
        def job(name: str) -> None:
            with traces.tracer.start_as_current_span(name):
                pass

        with make(copy_context=copying) as executor, plan_context("p"):
            with traces.tracer.start_as_current_span("request"):
                executor.submit(job, "submitted").result()
                assert [*executor.map(job, ["mapped"])] == [None]
            executor.submit(job, "later").result()
        parent = "request" if copying else None
        assert traces.parents("submitted") == (parent, "p")
        assert traces.parents("mapped") == (parent, "p")
        assert traces.parents("later") == (None, "p")

    def test_a_span_that_a_job_leaves_current_is_gone_with_it(
        self, make: Callable[..., Executor], traces: Traces
    ) -> None:
        def leave() -> None:
            traces.tracer.start_as_current_span("left").__enter__()

        def job() -> None:
            traces.tracer.start_span("next").end()

        with make(copy_context=True) as executor:
            executor.submit(leave).result()
            executor.submit(job).result()
        assert traces.span("next").parent is None


class TestS6Structlog:
    @pytest.mark.parametrize("copying", [True, False])
    def test_the_keys_of_the_caller_are_in_the_events_of_a_job(
        self, make: Callable[..., Executor], copying: bool
    ) -> None:
        logger = structlog.testing.CapturingLogger()
        log = structlog.wrap_logger(
            logger,
            processors=[structlog.contextvars.merge_contextvars, ContextProcessor()],
        )
        with make(copy_context=copying) as executor:
            with plan_context("p"), bound_contextvars(request="r"):
                executor.submit(log.info, "stored").result()
            executor.submit(log.info, "idle").result()
        key = {"request": "r"} if copying else {}
        assert [call.kwargs for call in logger.calls] == [
            {"event": "stored", "plan_name": "p", **key},
            {"event": "idle"},
        ]

    def test_what_a_job_binds_is_gone_with_it(
        self, make: Callable[..., Executor]
    ) -> None:
        with make(copy_context=True) as executor, bound_contextvars(request="r"):
            executor.submit(bind_contextvars, request="other", job=1).result()
            assert get_contextvars() == {"request": "r"}
            assert executor.submit(get_contextvars).result() == {"request": "r"}


class TestAsyncS6DefaultExecutor:
    def test_run_in_executor(self, traces: Traces) -> None:
        """Many plans at once, each with a span and keys, as in one service."""

        def handler(number: int) -> tuple[str | None, object]:
            with traces.tracer.start_as_current_span(f"handler {number}"):
                return current_plan_name.get(), get_contextvars()

        async def serve(number: int, together: asyncio.Barrier) -> None:
            loop = asyncio.get_running_loop()
            with (
                traces.tracer.start_as_current_span(f"request {number}"),
                bound_contextvars(request=number),
            ):
                async with plan_context(f"plan {number}"):
                    await together.wait()
                    found = await loop.run_in_executor(None, handler, number)
            assert found == (f"plan {number}", {"request": number})

        async def main() -> None:
            loop = asyncio.get_running_loop()
            loop.set_default_executor(ContextThreadPoolExecutor(2, copy_context=True))
            together = asyncio.Barrier(5)
            await asyncio.gather(*(serve(number, together) for number in range(5)))

        asyncio.run(main())
        for number in range(5):
            found = traces.parents(f"handler {number}")
            assert found == (f"request {number}", f"plan {number}")

    def test_to_thread_and_back_to_the_loop(self, traces: Traces) -> None:
        async def back() -> None:
            traces.tracer.start_span("back").end()

        def handler(loop: asyncio.AbstractEventLoop) -> None:
            asyncio.run_coroutine_threadsafe(back(), loop).result()

        async def main() -> None:
            loop = asyncio.get_running_loop()
            loop.set_default_executor(ContextThreadPoolExecutor(1, copy_context=True))
            with traces.tracer.start_as_current_span("request"), plan_context("p"):
                await loop.run_in_executor(None, handler, loop)
            with traces.tracer.start_as_current_span("second"), plan_context("q"):
                await asyncio.to_thread(lambda: traces.tracer.start_span("own").end())

        asyncio.run(main())
        assert traces.parents("back") == ("request", "p")
        assert traces.parents("own") == ("second", "q")
