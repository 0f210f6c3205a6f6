"""Rule I2: what is bound, in the records of loguru."""

from __future__ import annotations

import asyncio
import io
import json
import threading

from typing import TYPE_CHECKING

import pytest

from loguru import logger

from aura_context import PlanContext, plan_context
from aura_context.integrations.loguru import ContextPatcher
from tests.contexts import RunContext, TenantContext


if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from loguru import Record


@pytest.fixture
def out() -> Iterator[io.StringIO]:
    """What loguru writes; an error in a sink or a format is one here too."""
    text = io.StringIO()
    logger.remove()
    logger.add(text, format="{extra[plan_name]} | {message}", catch=False)
    logger.configure(patcher=ContextPatcher())
    yield text
    logger.remove()
    logger.configure(patcher=untouched, extra={})


def untouched(_record: Record) -> None:
    """Take the place of a patcher, as loguru has no way to remove one."""


class TestContextPatcher:
    def test_inside_and_outside_of_blocks(self, out: io.StringIO) -> None:
        logger.info("before")
        with plan_context("outer"):
            logger.info("one")
            with plan_context("inner"):
                logger.info("two {}", 2)
        logger.info("after")
        assert out.getvalue().splitlines() == [
            "- | before",
            "outer | one",
            "inner | two 2",
            "- | after",
        ]

    def test_what_was_named_and_nothing_else(self, out: io.StringIO) -> None:
        records: list[Record] = []
        logger.remove()
        logger.add(lambda message: records.append(message.record), catch=False)
        logger.configure(patcher=ContextPatcher({"run": RunContext, "p": PlanContext}))
        with RunContext(7), TenantContext("secret"):
            logger.info("e")
        assert records[0]["extra"] == {"run": 7, "p": "-"}
        assert out.getvalue() == ""

    def test_the_applications_own_value_wins(self, out: io.StringIO) -> None:
        with plan_context("ours"):
            logger.bind(plan_name="bound").info("e")
            with logger.contextualize(plan_name="contextualized"):
                logger.info("e")
            logger.info("e", plan_name="given")
            logger.configure(extra={"plan_name": "configured"})
            logger.info("e")
        assert out.getvalue().split(" | e\n") == [
            "bound",
            "contextualized",
            "given",
            "configured",
            "",
        ]

    def test_on_one_logger_alone(self, out: io.StringIO) -> None:
        patched = logger.patch(ContextPatcher({"who": TenantContext}))
        logger.remove()
        logger.add(out, format="{extra}", catch=False)
        with plan_context("p"), TenantContext("acme"):
            patched.info("e")
            logger.info("e")
        assert out.getvalue().splitlines() == [
            "{'plan_name': 'p', 'who': 'acme'}",
            "{'plan_name': 'p'}",
        ]

    def test_serialized(self, out: io.StringIO) -> None:
        logger.remove()
        logger.add(out, serialize=True, catch=False)
        with plan_context("p"):
            logger.info("e")
        assert json.loads(out.getvalue())["record"]["extra"] == {"plan_name": "p"}

    def test_not_a_context(self) -> None:
        with pytest.raises(TypeError, match="must name a VarContext class"):
            ContextPatcher({"who": str})  # type: ignore[dict-item] # pyright: ignore[reportArgumentType] - what is tested


class TestWhoLogs:
    @pytest.mark.parametrize("enqueue", [False, True])
    def test_threads(
        self,
        out: io.StringIO,
        tmp_path: Path,
        enqueue: bool,
    ) -> None:
        assert not out.getvalue()
        path, together = tmp_path / "log", threading.Barrier(4)
        with plan_context("who writes"):
            logger.remove()
            logger.add(path, format="{extra[plan_name]} {message}", enqueue=enqueue)

        def work(number: int) -> None:
            with plan_context(f"p{number}"):
                together.wait(30)
                logger.info(f"p{number}")

        threads = [threading.Thread(target=work, args=[n]) for n in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        logger.complete()
        lines = [line.split() for line in path.read_text("utf-8").splitlines()]
        assert len(lines) == 4
        assert all(plan == message for plan, message in lines)

    def test_tasks(self, out: io.StringIO) -> None:
        async def work(number: int, turn: asyncio.Barrier) -> None:
            async with plan_context(f"p{number}"):
                for _ in range(3):
                    await turn.wait()
                    logger.info(f"p{number}")

        async def main() -> None:
            turn = asyncio.Barrier(3)
            await asyncio.gather(*(work(number, turn) for number in range(3)))

        asyncio.run(main())
        lines = [line.split(" | ") for line in out.getvalue().splitlines()]
        assert len(lines) == 9
        assert all(plan == message for plan, message in lines)
