"""The programs: each a row of the table, with its docstring's first line as title.

A program gets a candidate and an empty Context, and raises where a user would be
surprised. It looks first and judges last, so that what it has opened is closed in the
Context that opened it.
"""

from __future__ import annotations

import asyncio
import gc
import inspect
import logging

from contextlib import aclosing, contextmanager
from typing import TYPE_CHECKING, TypeVar

from typing_extensions import override


if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Generator

    from candidates import Candidate

T = TypeVar("T")


class NotOfferedError(Exception):
    """The candidate has no such thing."""


class WrongError(Exception):
    """What happened instead."""


def offered(feature: T | None) -> T:
    """Return what the candidate offers for this."""
    if feature is None:
        raise NotOfferedError
    return feature


def expect(seen: object, wanted: object, where: str) -> None:
    """Judge a value."""
    if seen != wanted:
        msg = f"reads `{seen!r}` {where}"
        raise WrongError(msg)


def expect_kind(is_kept: bool) -> None:  # noqa: FBT001 - it is the judgement
    """Judge whether `inspect` still takes the function for what it was."""
    if not is_kept:
        msg = "is a function of another kind"
        raise WrongError(msg)


class Errors(logging.Handler):
    """Notes the errors that are logged, those of the event loop included."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.names: list[str] = []

    @override
    def emit(self, record: logging.LogRecord) -> None:
        error = record.exc_info and record.exc_info[0]
        self.names.append(error.__name__ if error else record.name)


@contextmanager
def nothing_logged() -> Generator[None, None, None]:
    """Judge what is logged meanwhile."""
    errors = Errors()
    logging.getLogger().addHandler(errors)
    try:
        yield
    finally:
        logging.getLogger().removeHandler(errors)
    if errors.names:
        msg = f"logs `{errors.names[0]}`"
        raise WrongError(msg)


def restores_after_exception(candidate: Candidate) -> None:
    """An exception passes, and the value is restored."""
    error = LookupError("the body's")
    inside = caught = None
    with candidate.block("outer"):
        try:
            with candidate.block("inner"):
                inside = candidate.get()
                raise error
        except LookupError as passed:
            caught = passed
        between = candidate.get()
    expect(inside, "inner", "inside")
    expect(caught, error, "as the exception")
    expect(between, "outer", "in the outer block")
    expect(candidate.get(), None, "after the outer block")


def undoes_raw_set(candidate: Candidate) -> None:
    """A raw `set` inside the block is undone when it ends."""
    raw_set = offered(candidate.raw_set)
    with candidate.block("plan"):
        bound = candidate.get()
        raw_set("raw")
        inside = candidate.get()
    expect((bound, inside), ("plan", "raw"), "inside")
    expect(candidate.get(), None, "after the block")


def serves_async_with(candidate: Candidate) -> None:
    """`async with`."""
    block = offered(candidate.async_block)

    async def main() -> None:
        async with block("plan"):
            await asyncio.sleep(0)
            inside = candidate.get()
        expect(inside, "plan", "inside")
        expect(candidate.get(), None, "after the block")

    asyncio.run(main())


def nests_in_itself(candidate: Candidate) -> None:
    """One instance, nested in itself."""
    instance = offered(candidate.instance)("plan")
    with instance:
        with candidate.block("other"), instance:
            inner = candidate.get()
        outer = candidate.get()
    expect(inner, "plan", "in the inner block")
    expect(outer, "plan", "in the outer block")
    expect(candidate.get(), None, "after the outer block")


def serves_many_tasks(candidate: Candidate) -> None:
    """One instance, shared by 50 tasks at once."""
    instance = offered(candidate.instance)("plan")

    async def work(all_entered: asyncio.Barrier) -> tuple[str | None, str | None]:
        with instance:
            await all_entered.wait()
            inside = candidate.get()
        return inside, candidate.get()

    async def main() -> set[tuple[str | None, str | None]]:
        all_entered = asyncio.Barrier(50)
        return set(await asyncio.gather(*(work(all_entered) for _ in range(50))))

    expect(asyncio.run(main()), {("plan", None)}, "inside and after")


def leaves_in_any_order(candidate: Candidate) -> None:
    """Overlapping blocks, left in the order in which they were entered."""

    def hold(value: str) -> Generator[None, None, None]:
        with candidate.block(value):
            yield

    first, second = hold("first"), hold("second")
    next(first)
    next(second)
    first.close()
    between = candidate.get()
    second.close()
    expect(between, "second", "while the second block is open")
    expect(candidate.get(), None, "after both")


def leaves_elsewhere(candidate: Candidate) -> None:
    """Left by another task: no error, and that task keeps its own value."""

    async def hold() -> AsyncGenerator[str | None, None]:
        with candidate.block("generator"):
            yield candidate.get()

    async def close(generator: AsyncGenerator[str | None, None]) -> str | None:
        with candidate.block("closer"):
            await generator.aclose()
            return candidate.get()

    async def main() -> None:
        generator = hold()
        inside = await anext(generator)
        closer = await asyncio.create_task(close(generator))
        expect(inside, "generator", "in the generator")
        expect(closer, "closer", "in the block of the other task")

    with nothing_logged():
        asyncio.run(main())


def recovers_from_break(candidate: Candidate) -> None:
    """`break` out of an async generator: no error, restored after the next block."""

    async def hold(closed: asyncio.Event) -> AsyncGenerator[str | None, None]:
        try:
            with candidate.block("generator"):
                yield candidate.get()
        finally:
            closed.set()

    async def main() -> tuple[list[str | None], str | None]:
        closed = asyncio.Event()
        seen: list[str | None] = []
        async for inside in hold(closed):
            seen.append(inside)
            break
        gc.collect()  # where nothing else finds the generator
        await closed.wait()  # the event loop closes it in a task of its own
        with candidate.block("next"):
            pass
        return seen, candidate.get()

    with nothing_logged():
        seen, after = asyncio.run(main())
        gc.collect()  # so that what a task has raised is logged
    expect(seen, ["generator"], "in the generator")
    expect(after, None, "after the next block")


def decorates_functions(candidate: Candidate) -> None:
    """Decorates `def`."""

    @offered(candidate.decorator)("plan")
    def look() -> str | None:
        return candidate.get()

    for _ in range(2):
        expect(look(), "plan", "in the body")
        expect(candidate.get(), None, "after the call")


def decorates_coroutine_functions(candidate: Candidate) -> None:
    """Decorates `async def`."""

    @offered(candidate.decorator)("plan")
    async def look() -> str | None:
        await asyncio.sleep(0)
        return candidate.get()

    async def main() -> None:
        for _ in range(2):
            expect(await look(), "plan", "in the body")
            expect(candidate.get(), None, "after the call")

    asyncio.run(main())
    expect_kind(inspect.iscoroutinefunction(look))


def decorates_generator_functions(candidate: Candidate) -> None:
    """Decorates both kinds of generator, hidden from the consumer."""
    decorator = offered(candidate.decorator)

    @decorator("plan")
    def steps() -> Generator[str | None, None, None]:
        yield candidate.get()
        yield candidate.get()

    @decorator("plan")
    async def async_steps() -> AsyncGenerator[str | None, None]:
        yield candidate.get()
        yield candidate.get()

    async def main() -> list[tuple[str | None, str | None]]:
        async with aclosing(async_steps()) as generator:
            return [(inside, candidate.get()) async for inside in generator]

    for seen in (
        [(inside, candidate.get()) for inside in steps()],
        asyncio.run(main()),
    ):
        for inside, outside in seen:
            # Which of the two is wrong depends on the Python, for contextlib.
            if inside == outside:
                msg = "reads the same in the body and in its consumer"
                raise WrongError(msg)
            expect((inside, outside), ("plan", None), "in the body and its consumer")
    expect_kind(inspect.isgeneratorfunction(steps))
    expect_kind(inspect.isasyncgenfunction(async_steps))


def keeps_nothing(candidate: Candidate) -> None:
    """10,000 tasks, each started by the one before: flat memory."""
    first, last = 1_000, 10_000
    sizes: list[int] = []
    seen: list[str | None] = []

    async def live(number: int, tasks: asyncio.TaskGroup, begun: asyncio.Event) -> None:
        with candidate.block(f"task {number}"):
            begun.set()
            if number in {first, last}:
                seen.append(candidate.get())
                gc.collect()
                sizes.append(len(gc.get_objects()))
            if number < last:
                next_begun = asyncio.Event()
                tasks.create_task(live(number + 1, tasks, next_begun))
                await next_begun.wait()  # so that the two blocks overlap

    async def main() -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(live(1, tasks, asyncio.Event()))

    asyncio.run(main())
    expect(seen, [f"task {first}", f"task {last}"], "inside")
    if sizes[1] - sizes[0] > (last - first) // 10:
        msg = "keeps objects of tasks that are gone"
        raise WrongError(msg)


PROGRAMS: tuple[Callable[[Candidate], None], ...] = (
    restores_after_exception,
    undoes_raw_set,
    serves_async_with,
    nests_in_itself,
    serves_many_tasks,
    leaves_in_any_order,
    leaves_elsewhere,
    recovers_from_break,
    decorates_functions,
    decorates_coroutine_functions,
    decorates_generator_functions,
    keeps_nothing,
)
