"""The table in ``docs/comparison.md`` and the READMEs: it says what comes out."""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import sys

from contextlib import contextmanager, nullcontext, suppress
from contextvars import ContextVar
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from aura_context import current_plan_name


if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from contextlib import AbstractContextManager

ROOT = Path(__file__).parents[1]

with pytest.MonkeyPatch.context() as patch:
    patch.setattr(sys, "path", [str(ROOT / "docs" / "comparison"), *sys.path])
    compare: Any = importlib.import_module("compare")
    candidates: Any = importlib.import_module("candidates")
    programs: Any = importlib.import_module("programs")

OURS = candidates.load("aura")
each_program = pytest.mark.parametrize(
    "program", compare.PROGRAMS, ids=lambda program: program.__name__
)


def recorded(name: str) -> dict[tuple[str, str], str]:
    """Return the answers that a file holds, by row and column."""
    content = (ROOT / name).read_text("utf-8").partition(compare.BEGIN)[2]
    head, _, *rows = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in content.partition(compare.END)[0].splitlines()
        if line.startswith("| ")
    ]
    return {
        (row, column): cell.partition(" ")[0]
        for row, *cells in rows
        for column, cell in zip(head[1:], cells, strict=True)
    }


class TestTable:
    def test_all_files_say_the_same(self) -> None:
        answers = recorded("docs/comparison.md")
        assert recorded("README.md") == answers
        chinese = compare.CHINESE
        assert recorded("README.zh-CN.md") == {
            (chinese[row], chinese.get(column, column)): chinese.get(answer, answer)
            for (row, column), answer in answers.items()
        }

    def test_holds_every_program_and_candidate(self) -> None:
        answers = recorded("docs/comparison.md")
        assert len(answers) == len(compare.PROGRAMS) * len(candidates.NAMES)
        assert set(answers.values()) == {"yes", "no", "—", "3.15+"}

    @each_program
    # Prefect is large, and left to the session `compare`.
    @pytest.mark.parametrize(
        "name", [name for name in candidates.NAMES if name != "prefect"]
    )
    def test_says_what_comes_out(self, program: Any, name: str) -> None:
        candidate = candidates.load(name)
        answer = compare.cell(program, candidate).partition(":")[0]
        row = compare.title(program), candidate.title
        assert answer == recorded("docs/comparison.md")[row]

    @each_program
    def test_ours_is_yes(self, program: Any) -> None:
        row = compare.title(program), OURS.title
        assert recorded("docs/comparison.md")[row] == "yes"


class TestScript:
    def test_goes_stale_with_an_answer_and_not_with_a_version(self) -> None:
        text = (ROOT / "docs" / "comparison.md").read_text("utf-8")
        lines = text.splitlines()
        (line,) = [each for each in lines if each.startswith(compare.VERSIONS)]
        assert compare.settled(text.replace(line, f"{line} 2")) == compare.settled(text)
        for old, new in [("| yes", "| no"), ("`ValueError`", "`KeyError`")]:
            changed = text.replace(old, new, 1)
            assert compare.settled(changed) != compare.settled(text)

    def test_fills_the_place_that_is_marked(self) -> None:
        text = f"before {compare.BEGIN} old {compare.END} after"
        new = f"before {compare.BEGIN}\n\nnew\n{compare.END} after"
        assert compare.filled(text, "new") == new
        assert compare.filled(new, "new") == new

    def test_refuses_a_file_without_the_marks(self) -> None:
        with pytest.raises(ValueError, match="no place for the table"):
            compare.filled("", "new")


def bind_nothing(_: str) -> AbstractContextManager[None]:
    return nullcontext()


@contextmanager
def never_restore(value: str) -> Generator[None, None, None]:
    current_plan_name.set(value)
    yield


@contextmanager
def swallow(value: str) -> Generator[None, None, None]:
    token = current_plan_name.set(value)
    with suppress(LookupError):
        yield
    current_plan_name.reset(token)


stack: ContextVar[tuple[object, ...]] = ContextVar("stack", default=())


@contextmanager
def keep_tokens(value: str) -> Generator[None, None, None]:
    token = current_plan_name.set(value)
    outer = stack.set((token, stack.get()))
    yield
    stack.reset(outer)
    current_plan_name.reset(token)


def leave_bare(_: str) -> Callable[[Any], Any]:
    def decorate(function: Any) -> Any:
        return function

    return decorate


def hide_kind(value: str) -> Callable[[Any], Any]:
    def decorate(function: Any) -> Any:
        decorated = OURS.decorator(value)(function)

        def wrapper() -> Any:
            return decorated()

        return wrapper

    return decorate


def show_consumer(value: str) -> Callable[[Any], Any]:
    def decorate(function: Any) -> Any:
        def wrapper() -> Any:
            with OURS.block(value):
                yield from function()

        async def async_wrapper() -> Any:
            with OURS.block(value):
                async for each in function():
                    yield each

        return async_wrapper if inspect.isasyncgenfunction(function) else wrapper

    return decorate


class TestPrograms:
    """A "yes" means something: what is broken gets a "no"."""

    def answer(self, name: str, **broken: Any) -> str:
        program = getattr(programs, name)
        answer: str = compare.answer(program, dataclasses.replace(OURS, **broken))
        return answer

    @pytest.mark.parametrize("name", [each.__name__ for each in compare.PROGRAMS])
    def test_binding_nothing(self, name: str) -> None:
        answer = self.answer(
            name,
            block=bind_nothing,
            instance=bind_nothing,
            async_block=bind_nothing,
            decorator=leave_bare,
        )
        assert answer.startswith("no: reads ")
        assert "None" in answer or "the same" in answer

    @pytest.mark.parametrize(
        ("name", "answer"),
        [
            ("restores_after_exception", "no: reads `'inner'` in the outer block"),
            ("undoes_raw_set", "no: reads `'raw'` after the block"),
            ("leaves_in_any_order", "no: reads `'second'` after both"),
            ("recovers_from_break", "no: reads `'next'` after the next block"),
        ],
    )
    def test_restoring_nothing(self, name: str, answer: str) -> None:
        assert self.answer(name, block=never_restore) == answer

    def test_swallowing(self) -> None:
        answer = self.answer("restores_after_exception", block=swallow)
        assert answer == "no: reads `None` as the exception"

    @pytest.mark.parametrize(
        "name", ["decorates_coroutine_functions", "decorates_generator_functions"]
    )
    def test_hiding_the_kind(self, name: str) -> None:
        answer = self.answer(name, decorator=hide_kind)
        assert answer == "no: is a function of another kind"

    def test_showing_the_consumer(self) -> None:
        answer = self.answer("decorates_generator_functions", decorator=show_consumer)
        assert answer == "no: reads the same in the body and in its consumer"

    def test_keeping_every_token(self) -> None:
        """As a stack does whose entries outlive their blocks in the child's copy."""
        answer = self.answer("keeps_nothing", block=keep_tokens)
        assert answer == "no: keeps objects of tasks that are gone"
