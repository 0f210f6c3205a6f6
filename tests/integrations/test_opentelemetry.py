"""Rule I2: what is bound, in the spans and log records of OpenTelemetry."""

from __future__ import annotations

import asyncio
import logging
import logging.handlers
import queue
import threading

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest

from opentelemetry import trace
from opentelemetry._logs import SeverityNumber
from opentelemetry.instrumentation.logging.handler import (  # pyright: ignore[reportMissingTypeStubs]
    LoggingHandler,
)
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import (
    BatchLogRecordProcessor,
    InMemoryLogRecordExporter,
    SimpleLogRecordProcessor,
)
from opentelemetry.sdk.trace import SpanLimits, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from typing_extensions import override

from aura_context import PlanContext, carry, plan_context
from aura_context.integrations import logging as integration
from aura_context.integrations.opentelemetry import (
    ContextLogRecordProcessor,
    ContextSpanProcessor,
)
from tests.contexts import RunContext, TenantContext


if TYPE_CHECKING:
    from collections.abc import Iterator

    from opentelemetry.sdk._logs import ReadWriteLogRecord


class Traces:
    """A provider of its own, and what it exported."""

    def __init__(self, processor: ContextSpanProcessor) -> None:
        self._exporter = InMemorySpanExporter()
        self.provider = TracerProvider(shutdown_on_exit=False)
        self.provider.add_span_processor(processor)
        self.provider.add_span_processor(SimpleSpanProcessor(self._exporter))
        self.tracer = self.provider.get_tracer("test")

    @property
    def spans(self) -> dict[str, dict[str, Any]]:
        """The attributes of each span, by its name."""
        finished = self._exporter.get_finished_spans()
        return {span.name: dict(span.attributes or {}) for span in finished}


@pytest.fixture
def traces() -> Iterator[Traces]:
    made = Traces(ContextSpanProcessor())
    yield made
    made.provider.shutdown()


class TestRoom:
    def test_a_full_span_keeps_what_it_has(self) -> None:
        traces = Traces(ContextSpanProcessor({"aura.a": PlanContext, "b": RunContext}))
        for number in (126, 127, 128, 200):
            own = {f"own.{each}": each for each in range(number)}
            with plan_context("p"), RunContext(7):
                traces.tracer.start_span(f"{number}", attributes=own).end()
            kept = traces.spans[f"{number}"]
            expected = {**dict([*own.items()][-128:]), "aura.a": "p", "b": 7}
            assert kept == dict([*expected.items()][:128])
        traces.provider.shutdown()

    def test_a_span_that_gets_full_later_keeps_the_applications_own(self) -> None:
        traces = Traces(ContextSpanProcessor({"aura.a": PlanContext, "b": RunContext}))
        own = {f"own.{each}": each for each in range(128)}
        for number in (0, 1, 100):
            first = dict([*own.items()][:number])
            with plan_context("p"), RunContext(7):
                span = traces.tracer.start_span(f"{number}", attributes=first)
            for name in own.keys() - first.keys():
                span.set_attribute(name, own[name])
            span.end()
            assert traces.spans[f"{number}"] == own
        traces.provider.shutdown()

    def test_a_span_with_room_for_a_single_attribute(self) -> None:
        provider = TracerProvider(
            span_limits=SpanLimits(max_span_attributes=1), shutdown_on_exit=False
        )
        contexts = {"aura.a": PlanContext, "b": RunContext}
        provider.add_span_processor(ContextSpanProcessor(contexts))
        with plan_context("p"), RunContext(7):
            span: Any = provider.get_tracer("test").start_span("s")
        assert (dict(span.attributes), span.dropped_attributes) == ({"aura.a": "p"}, 0)

    def test_a_span_without_limit_has_room(self) -> None:
        limits = SpanLimits(max_span_attributes=SpanLimits.UNSET)
        provider = TracerProvider(span_limits=limits, shutdown_on_exit=False)
        provider.add_span_processor(ContextSpanProcessor())
        own = {f"own.{each}": each for each in range(500)}
        with plan_context("p"):
            span: Any = provider.get_tracer("test").start_span("s", attributes=own)
        assert dict(span.attributes) == {**own, "aura.plan_name": "p"}

    def test_a_full_log_record_keeps_what_it_has(self) -> None:
        exporter = InMemoryLogRecordExporter()  # type: ignore[no-untyped-call]
        provider = LoggerProvider(shutdown_on_exit=False)
        provider.add_log_record_processor(ContextLogRecordProcessor())
        provider.add_log_record_processor(SimpleLogRecordProcessor(exporter))
        own = {f"own.{each}": each for each in range(128)}
        with plan_context("p"):
            provider.get_logger("test").emit(body="m", attributes=own)
        (exported,) = exporter.get_finished_logs()
        assert dict(exported.log_record.attributes or {}) == own
        provider.shutdown()

    @pytest.mark.parametrize("value", [2**63, 2**70, -(2**63) - 1])
    def test_a_number_beyond_64_bits_becomes_text(self, value: int) -> None:
        traces = Traces(ContextSpanProcessor({"run": RunContext}))
        with RunContext(value):
            traces.tracer.start_span("s").end()
        assert traces.spans == {"s": {"run": str(value)}}
        traces.provider.shutdown()


class TestSpans:
    def test_inside_and_outside_of_blocks(self, traces: Traces) -> None:
        with traces.tracer.start_as_current_span("before"):
            pass
        with plan_context("p"), traces.tracer.start_as_current_span("inside"):
            pass
        with traces.tracer.start_as_current_span("after"):
            pass
        assert traces.spans == {
            "before": {},
            "inside": {"aura.plan_name": "p"},
            "after": {},
        }

    def test_children(self, traces: Traces) -> None:
        start = traces.tracer.start_as_current_span
        with start("root"), plan_context("outer"), start("parent"):
            with start("child"), plan_context("inner"), start("grandchild"):
                pass
            with start("second child"):
                pass
        assert traces.spans == {
            "root": {},
            "parent": {"aura.plan_name": "outer"},
            "child": {"aura.plan_name": "outer"},
            "grandchild": {"aura.plan_name": "inner"},
            "second child": {"aura.plan_name": "outer"},
        }

    def test_it_is_the_start_that_counts(self, traces: Traces) -> None:
        with plan_context("p"):
            span = traces.tracer.start_span("s")
        with plan_context("other"):
            span.set_attribute("rows", 3)
            span.end()
        assert traces.spans == {"s": {"aura.plan_name": "p", "rows": 3}}

    def test_a_parent_that_is_given(self, traces: Traces) -> None:
        with plan_context("outer"):
            parent = traces.tracer.start_span("parent")
        with plan_context("inner"):
            context = trace.set_span_in_context(parent)
            traces.tracer.start_span("child", context).end()
        parent.end()
        assert traces.spans == {
            "parent": {"aura.plan_name": "outer"},
            "child": {"aura.plan_name": "inner"},
        }

    def test_what_was_named_and_nothing_else(self) -> None:
        names = {"run": RunContext, "p": PlanContext}
        traces = Traces(ContextSpanProcessor(names))
        with plan_context("p"), RunContext(7), TenantContext("secret"):
            traces.tracer.start_span("s").end()
        assert traces.spans == {"s": {"run": 7, "p": "p"}}

    def test_the_applications_own_value_wins(self, traces: Traces) -> None:
        own: dict[str, Any] = {"aura.plan_name": "own", "rows": 3}
        with plan_context("ours"):
            traces.tracer.start_span("given", attributes=own).end()
            span = traces.tracer.start_span("set")
            span.set_attribute("aura.plan_name", "own")
            span.end()
        assert traces.spans == {"given": own, "set": {"aura.plan_name": "own"}}

    def test_decorated_functions(self, traces: Traces) -> None:
        @plan_context("p")
        @traces.tracer.start_as_current_span("s")
        def work() -> None: ...

        work()
        assert traces.spans == {"s": {"aura.plan_name": "p"}}

    def test_flush_and_shutdown(self, traces: Traces) -> None:
        assert traces.provider.force_flush()
        traces.provider.shutdown()


class TestWhoStarts:
    def test_tasks(self, traces: Traces) -> None:
        async def work(number: int, turn: asyncio.Barrier) -> None:
            async with plan_context(f"p{number}"):
                with traces.tracer.start_as_current_span(f"p{number}"):
                    await turn.wait()
                    with traces.tracer.start_as_current_span(f"p{number} child"):
                        await turn.wait()

        async def main() -> None:
            turn = asyncio.Barrier(3)
            await asyncio.gather(*(work(number, turn) for number in range(3)))

        asyncio.run(main())
        assert len(traces.spans) == 6
        for name, attributes in traces.spans.items():
            assert attributes == {"aura.plan_name": name.split()[0]}

    def test_threads(self, traces: Traces) -> None:
        def work(name: str) -> None:
            traces.tracer.start_span(name).end()

        with ThreadPoolExecutor(1) as pool:
            pool.submit(work, "first")  # which makes the thread
            with plan_context("p"):
                pool.submit(carry(work), "carried")
                pool.submit(work, "bare")
        assert traces.spans == {
            "first": {},
            "carried": {"aura.plan_name": "p"},
            "bare": {},
        }


class Logs:
    """A provider of its own, a logger that writes to it, and what it exported."""

    def __init__(self, processor: ContextLogRecordProcessor, exporting: Any) -> None:
        self._exporter = InMemoryLogRecordExporter()  # type: ignore[no-untyped-call]
        self.provider = LoggerProvider(shutdown_on_exit=False)
        self.provider.add_log_record_processor(processor)
        self.provider.add_log_record_processor(exporting(self._exporter))
        self.handler = LoggingHandler(logger_provider=self.provider)
        self.log = logging.getLogger("test.opentelemetry")
        self.log.handlers, self.log.propagate = [self.handler], False

    @property
    def records(self) -> dict[object, dict[str, Any]]:
        """The attributes of each record, by its body."""
        self.provider.force_flush()
        finished = [each.log_record for each in self._exporter.get_finished_logs()]
        return {record.body: dict(record.attributes or {}) for record in finished}

    def close(self) -> None:
        self.log.handlers, self.log.propagate = [], True
        self.provider.shutdown()


@pytest.fixture(params=[SimpleLogRecordProcessor, BatchLogRecordProcessor])
def logs(request: pytest.FixtureRequest) -> Iterator[Logs]:
    made = Logs(ContextLogRecordProcessor(), request.param)
    yield made
    made.close()


class TestLogRecords:
    def test_inside_and_outside_of_blocks(self, logs: Logs) -> None:
        logs.log.warning("before")
        with plan_context("p"):
            logs.log.warning("inside", extra={"rows": 3})
        logs.log.warning("after")
        assert logs.records == {
            "before": {},
            "inside": {"aura.plan_name": "p", "rows": 3},
            "after": {},
        }

    def test_what_was_named_and_nothing_else(self) -> None:
        names = {"run": RunContext, "p": PlanContext}
        logs = Logs(ContextLogRecordProcessor(names), SimpleLogRecordProcessor)
        with plan_context("p"), RunContext(7), TenantContext("secret"):
            logs.log.warning("e")
        logs.close()
        assert logs.records == {"e": {"run": 7, "p": "p"}}

    def test_the_applications_own_value_wins(self, logs: Logs) -> None:
        with plan_context("ours"):
            logs.log.warning("e", extra={"aura.plan_name": "own"})
        assert logs.records == {"e": {"aura.plan_name": "own"}}

    def test_without_the_handler(self, logs: Logs) -> None:
        with plan_context("p"):
            logs.provider.get_logger("direct").emit(
                body="e", severity_number=SeverityNumber.WARN
            )
        assert logs.records == {"e": {"aura.plan_name": "p"}}

    def test_whose_attributes_another_processor_has_replaced(self) -> None:
        class Redacted(ContextLogRecordProcessor):
            @override
            def on_emit(self, log_record: ReadWriteLogRecord) -> None:
                log_record.log_record.attributes = {"rows": 3}
                super().on_emit(log_record)

        logs = Logs(Redacted(), SimpleLogRecordProcessor)
        with plan_context("p"):
            logs.log.warning("e")
        logs.close()
        assert logs.records == {"e": {"rows": 3, "aura.plan_name": "p"}}

    def test_flush(self, logs: Logs) -> None:
        assert logs.provider.force_flush()

    def test_threads(self, logs: Logs) -> None:
        together = threading.Barrier(4)

        def work(number: int) -> None:
            with plan_context(f"p{number}"):
                together.wait(30)
                logs.log.warning("p%d", number)

        threads = [threading.Thread(target=work, args=[n]) for n in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert logs.records == {
            f"p{number}": {"aura.plan_name": f"p{number}"} for number in range(4)
        }

    def test_behind_a_queue_the_record_factory_helps(self, logs: Logs) -> None:
        records: queue.Queue[Any] = queue.Queue()
        logs.log.handlers = [logging.handlers.QueueHandler(records)]
        listener = logging.handlers.QueueListener(records, logs.handler)
        integration.install({"aura.plan_name": PlanContext})
        try:
            with plan_context("who listens"):
                listener.start()
            with plan_context("p"):
                logs.log.warning("e")
            listener.stop()
        finally:
            integration.uninstall()
        assert logs.records == {"e": {"aura.plan_name": "p"}}
