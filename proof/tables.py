"""What the parts hand to the program that writes them down."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, TypeAlias


if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


class Zero(int):
    """A figure that has to be 0."""


Cell: TypeAlias = "int | str"


class Table(NamedTuple):
    """What was tried, and what came out."""

    title: str
    columns: Sequence[str]
    rows: Mapping[str, Sequence[Cell]]

    def wrong(self) -> list[str]:
        return [
            f"{self.title}: {row}: {column}: {cell:,}"
            for row, cells in self.rows.items()
            for column, cell in zip(self.columns, cells, strict=True)
            if isinstance(cell, Zero) and cell
        ]

    def markdown(self) -> str:
        lines = [
            (self.title, *self.columns),
            ("---", *("--:" for _ in self.columns)),
            *((row, *map(shown, cells)) for row, cells in self.rows.items()),
        ]
        return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def shown(cell: Cell) -> str:
    if isinstance(cell, str):
        return cell
    return f"**{cell:,}**" if isinstance(cell, Zero) else f"{cell:,}"


def share(part: int, whole: int) -> str:
    return f"{part / whole:.1%}" if whole else "-"
