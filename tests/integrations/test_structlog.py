"""Rule I2: what is bound, in the events of structlog."""

from __future__ import annotations

import asyncio
import io
import json
import logging
import os
import threading

from typing import TYPE_CHECKING, Any

import pytest
import structlog

from aura_context import PlanContext, plan_context
from aura_context.integrations import logging as integration
from aura_context.integrations.structlog import ContextProcessor
from tests.contexts import RunContext, TenantContext


if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(autouse=True)
def defaults() -> Iterator[None]:
    yield
    structlog.reset_defaults()
    structlog.contextvars.clear_contextvars()


class Output:
    """Lines of JSON, as structlog wrote them."""

    def __init__(self, *processors: Any) -> None:
        self._out = io.StringIO()
        structlog.configure(
            processors=[*processors, structlog.processors.JSONRenderer()],
            logger_factory=structlog.PrintLoggerFactory(self._out),
            cache_logger_on_first_use=False,
        )
        self.log: Any = structlog.get_logger()

    @property
    def events(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self._out.getvalue().splitlines()]


class TestContextProcessor:
    def test_inside_and_outside_of_blocks(self) -> None:
        output = Output(ContextProcessor())
        output.log.info("before")
        with plan_context("outer"):
            output.log.info("one")
            with plan_context("inner"):
                output.log.info("two", rows=3)
        output.log.info("after")
        assert output.events == [
            {"event": "before"},
            {"event": "one", "plan_name": "outer"},
            {"event": "two", "rows": 3, "plan_name": "inner"},
            {"event": "after"},
        ]

    def test_what_was_named_and_nothing_else(self) -> None:
        output = Output(ContextProcessor({"run": RunContext, "p": PlanContext}))
        with plan_context("p"), RunContext(7), TenantContext("secret"):
            output.log.info("e")
        assert output.events == [{"event": "e", "run": 7, "p": "p"}]

    def test_the_applications_own_value_wins(self) -> None:
        output = Output(structlog.contextvars.merge_contextvars, ContextProcessor())
        with plan_context("ours"):
            output.log.info("given", plan_name="own")
            output.log.bind(plan_name=None).info("bound")
            with structlog.contextvars.bound_contextvars(plan_name="own"):
                output.log.info("context variable")
        assert [event["plan_name"] for event in output.events] == ["own", None, "own"]

    def test_what_was_bound_late_counts_for_a_logger_made_early(self) -> None:
        output = Output(ContextProcessor())
        early = output.log.bind(who="early")
        with plan_context("p"):
            early.info("e")
        assert output.events == [{"who": "early", "event": "e", "plan_name": "p"}]

    def test_exceptions(self) -> None:
        output = Output(ContextProcessor(), structlog.processors.format_exc_info)
        with plan_context("p"):
            try:
                _ = os.environ["NO_SUCH_NAME"]
            except KeyError:
                output.log.exception("failed")
        (event,) = output.events
        assert event["plan_name"] == "p"
        assert "KeyError: 'NO_SUCH_NAME'" in event["exception"]

    def test_not_a_context(self) -> None:
        with pytest.raises(TypeError, match="must name a VarContext class"):
            ContextProcessor({"who": str})  # type: ignore[dict-item] # pyright: ignore[reportArgumentType] - what is tested


class TestWhoLogs:
    def test_threads(self) -> None:
        output, together = Output(ContextProcessor()), threading.Barrier(4)

        def work(number: int) -> None:
            name = f"p{number}"
            with plan_context(name):
                together.wait(30)
                output.log.info(name)

        threads = [threading.Thread(target=work, args=[n]) for n in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(output.events) == 4
        assert all(e["event"] == e["plan_name"] for e in output.events)

    def test_tasks_and_methods_that_wait(self) -> None:
        output = Output(ContextProcessor())

        async def work(number: int, turn: asyncio.Barrier) -> None:
            async with plan_context(f"p{number}"):
                for _ in range(3):
                    await turn.wait()
                    await output.log.ainfo(f"p{number}")  # in a thread of its own

        async def main() -> None:
            turn = asyncio.Barrier(3)
            await asyncio.gather(*(work(number, turn) for number in range(3)))

        asyncio.run(main())
        assert len(output.events) == 9
        assert all(e["event"] == e["plan_name"] for e in output.events)


class TestThroughLogging:
    """What other packages log comes to structlog as a record of logging."""

    def test_foreign_records(self) -> None:
        out = io.StringIO()
        handler = logging.StreamHandler(out)
        handler.setFormatter(
            structlog.stdlib.ProcessorFormatter(
                processors=[
                    structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                    structlog.processors.JSONRenderer(),
                ],
                foreign_pre_chain=[structlog.stdlib.ExtraAdder(allow=["plan_name"])],
            )
        )
        structlog.configure(
            processors=[
                ContextProcessor(),
                structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
            ],
            logger_factory=structlog.stdlib.LoggerFactory(),
            cache_logger_on_first_use=False,
        )
        log = logging.getLogger("foreign")
        log.handlers, log.propagate = [handler], False
        integration.install({"plan_name": PlanContext})
        try:
            with plan_context("p"):
                log.warning("theirs")
                structlog.get_logger("foreign").warning("ours")
        finally:
            integration.uninstall()
            log.handlers, log.propagate = [], True
        assert [json.loads(line) for line in out.getvalue().splitlines()] == [
            {"event": "theirs", "plan_name": "p"},
            {"event": "ours", "plan_name": "p"},
        ]
