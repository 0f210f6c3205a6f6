"""What public signatures name is defined, and users can import it."""

from __future__ import annotations

import ast
import builtins
import importlib
import inspect
import re

from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, get_type_hints

import pytest

import aura_context

from .test_public import MODULES


if TYPE_CHECKING:
    from collections.abc import Iterator


PACKAGE = Path(aura_context.__file__).parent
PUBLIC = {
    (module, name)
    for module in MODULES
    for name in importlib.import_module(module).__all__
}
CLASSES = [
    name
    for name in aura_context.__all__
    if isinstance(getattr(aura_context, name), type)
]
DUNDERS = {
    *("__init__", "__call__"),
    *("__enter__", "__exit__", "__aenter__", "__aexit__"),
}


def is_public(method: str) -> bool:
    """Return whether users call a method of that name, or Python for them."""
    return method in DUNDERS or not method.startswith("_")


def public_functions() -> Iterator[tuple[str, Any]]:
    """Iterate over all functions and methods of ours that are public, by path."""
    for module, name in sorted(PUBLIC):
        public = getattr(importlib.import_module(module), name)
        found = {name: public}
        if isinstance(public, type):
            for cls in reversed(public.__mro__):
                found |= {f"{name}.{key}": value for key, value in vars(cls).items()}
        for path, value in found.items():
            function = getattr(value, "__func__", value)
            if not (inspect.isfunction(function) and is_public(path.split(".")[-1])):
                continue
            if function.__module__.startswith("aura_context"):
                yield f"{module}.{path}", function


FUNCTIONS = dict(public_functions())

# Not users call these but a library, with types that may exist for checkers only.
OF_LIBRARIES = {
    "aura_context.integrations.loguru.ContextPatcher.__call__",
    "aura_context.integrations.opentelemetry.ContextLogRecordProcessor.on_emit",
    "aura_context.integrations.opentelemetry.ContextSpanProcessor.on_start",
    "aura_context.integrations.sentry.ContextEventProcessor.__call__",
    *(
        each
        for each in FUNCTIONS
        if each.startswith("aura_context.integrations.pytest")
    ),
}


def hidden(source: str) -> set[str]:
    """Return what public signatures in a module name, and users cannot import."""
    tree = ast.parse(source)
    return named(tree) - importable(tree) - {name for _, name in PUBLIC}


def importable(tree: ast.Module) -> set[str]:
    """Return what a module has from others, and its type variables."""
    names = set(dir(builtins))
    for node in ast.walk(tree):
        match node:
            case ast.ImportFrom(level=0, module=str(module)):
                if not module.startswith("aura_context"):
                    names |= {alias.asname or alias.name for alias in node.names}
            case ast.Import():
                names |= {alias.name.split(".")[0] for alias in node.names}
            case ast.Assign(
                targets=[ast.Name(id=name)],
                value=ast.Call(func=ast.Name(id="TypeVar" | "ParamSpec")),
            ):
                names.add(name)
            case _:
                pass
    return names


def named(tree: ast.Module) -> set[str]:
    """Return all names in the annotations of public functions and methods."""
    shown = {name for _, name in PUBLIC}
    functions = [
        *(each for each in tree.body if getattr(each, "name", "") in shown),
        *(
            each
            for cls in tree.body
            if isinstance(cls, ast.ClassDef) and cls.name in shown
            for each in cls.body
            if is_public(getattr(each, "name", "_"))
        ),
    ]
    annotations = [
        annotation
        for function in functions
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef)
        for annotation in (
            function.returns,
            *(getattr(each, "annotation", None) for each in ast.walk(function.args)),
        )
    ]
    return {
        node.id
        for annotation in annotations
        if annotation
        for node in ast.walk(annotation)
        if isinstance(node, ast.Name)
    }


class TestTypes:
    @pytest.mark.parametrize("name", sorted(set(FUNCTIONS) - OF_LIBRARIES))
    def test_are_defined(self, name: str) -> None:
        assert get_type_hints(FUNCTIONS[name])

    @pytest.mark.parametrize("file", sorted(PACKAGE.rglob("*.py")))
    def test_can_be_imported(self, file: Path) -> None:
        assert hidden(file.read_text("utf-8")) == set()

    @pytest.mark.parametrize(
        "source",
        [
            "class _X: ...\ndef carry(x: _X) -> None: ...",
            "X = int\ndef carry() -> list[X]: ...",
            "from ._named import X\ndef carry(*x: X | None) -> None: ...",
            "from aura_context._stack import X\nasync def carry() -> X: ...",
            "class Snapshot:\n    def run(self, x: _X) -> None: ...",
            "class Snapshot:\n    def __call__(self, *, x: _X) -> None: ...",
        ],
    )
    def test_one_that_cannot_is_found(self, source: str) -> None:
        assert len(hidden(source)) == 1


class TestAnnotations:
    """Those of public classes, which name the package as their module."""

    @pytest.mark.parametrize("name", CLASSES)
    def test_are_defined(self, name: str) -> None:
        cls = getattr(aura_context, name)
        get_type_hints(cls)
        assert str not in map(type, inspect.get_annotations(cls).values())

    def test_and_so_in_classes_of_users(self) -> None:
        class Run(aura_context.VarContext[int]):
            var: ClassVar[ContextVar[Any]] = ContextVar("run", default=0)

        @dataclass(frozen=True)
        class Job(aura_context.VarContext[int]):
            var: ClassVar[ContextVar[Any]] = ContextVar("job", default=0)
            value: int
            text: str = ""

        class Plan(aura_context.PlanContext):
            extra: str

        assert get_type_hints(Run)["carried"] == ClassVar[bool]
        assert get_type_hints(Job)["value"] is int
        assert get_type_hints(Job)["text"] is str
        assert get_type_hints(Plan)["value"] == str | None
        assert get_type_hints(Plan)["extra"] is str


class TestSource:
    """What `inspect` finds, although public names say that they are of the package."""

    @pytest.mark.parametrize("name", FUNCTIONS)
    def test_of_functions_and_methods(self, name: str) -> None:
        source = inspect.getsource(FUNCTIONS[name])
        assert re.search(rf"def {name.rpartition('.')[2]}\(", source)

    @pytest.mark.parametrize("name", CLASSES)
    def test_of_classes_none_rather_than_anothers(self, name: str) -> None:
        """Python looks for it in the file of the module that the class names."""
        with pytest.raises(OSError, match=r"class definition|not available|lineno"):
            inspect.getsource(getattr(aura_context, name))
