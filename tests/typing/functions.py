"""What type checkers are told of decorated functions; see `api` beside this."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Generator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import assert_type

from aura_context import plan_context


@plan_context("p")
def plain(number: int, *, text: str = "") -> str:
    return text * number


@plan_context("p")
async def coroutine(number: int) -> str:
    return str(number)


@plan_context("p")
def generator(number: int) -> Generator[int, bytes, str]:
    sent = yield number
    return sent.decode()


@plan_context("p")
def iterator(number: int) -> Iterator[int]:
    yield number


@plan_context("p")
async def async_generator(number: int) -> AsyncGenerator[int, bytes]:
    yield number


@plan_context("p")
async def async_iterator(number: int) -> AsyncIterator[int]:
    yield number


@contextmanager
@plan_context("p")
def manager() -> Generator[int]:
    yield 1


@asynccontextmanager
@plan_context("p")
async def async_manager() -> AsyncGenerator[int]:
    yield 1


class Methods:
    @plan_context("p")
    def plain(self, number: int) -> str:
        return str(number)

    @plan_context("p")
    async def coroutine(self) -> int:
        return 1

    @plan_context("p")
    def generator(self) -> Generator[int, bytes, str]:
        return (yield 1).decode()

    @plan_context("p")
    async def async_generator(self) -> AsyncGenerator[int, bytes]:
        yield 1

    @classmethod
    @plan_context("p")
    def of_class(cls, number: int) -> tuple[Methods, int]:
        return cls(), number

    @staticmethod
    @plan_context("p")
    def static(number: int) -> str:
        return str(number)


def functions() -> None:
    assert_type(plain(1, text="t"), str)
    assert_type(iterator(1), Iterator[int])
    assert_type(generator(1), Generator[int, bytes, str])
    assert_type(generator(1).send(b""), int)
    as_value: Callable[[int], Generator[int, bytes, str]] = generator
    assert_type(as_value(1), Generator[int, bytes, str])

    plain("1")  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]
    plain(1, "t")  # type: ignore[call-arg] # pyright: ignore[reportCallIssue]
    plan_context("p")(1)  # type: ignore[type-var] # pyright: ignore[reportArgumentType]


async def async_functions() -> None:
    assert_type(await coroutine(1), str)
    assert_type(async_generator(1), AsyncGenerator[int, bytes])
    assert_type(await async_generator(1).asend(b""), int)
    assert_type(async_iterator(1), AsyncIterator[int])
    assert_type([each async for each in async_generator(1)], list[int])

    await coroutine("1")  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]


async def managers() -> None:
    with manager() as number:
        assert_type(number, int)
    async with async_manager() as number:
        assert_type(number, int)


async def methods() -> None:
    assert_type(Methods().plain(1), str)
    assert_type(await Methods().coroutine(), int)
    assert_type(Methods().generator(), Generator[int, bytes, str])
    assert_type(Methods().async_generator(), AsyncGenerator[int, bytes])
    assert_type(Methods.of_class(1), tuple[Methods, int])
    assert_type(Methods().of_class(1), tuple[Methods, int])
    assert_type(Methods.static(1), str)

    Methods().plain("1")  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]
