"""Run the programs with each candidate, and write the table of what came out.

Run it where all candidates are installed, as ``nox -s compare`` does::

    python docs/comparison/compare.py --check
    python docs/comparison/compare.py --write
"""

from __future__ import annotations

import argparse
import inspect
import platform
import sys
import warnings

from contextvars import Context
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Final

import candidates

from chinese import CHINESE
from programs import PROGRAMS, NotOfferedError, WrongError


if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from candidates import Candidate

YES, NO, NOT_OFFERED = "yes", "no", "—"

# Where a "no" is a "yes" from this Python on: contextlib's decorators, which both use,
# leave a coroutine before its body begins until then.
SINCE: Final = {
    ("decorates_coroutine_functions", "structlog"): (3, 15),
    ("decorates_coroutine_functions", "loguru"): (3, 15),
}

ROOT = Path(__file__).parents[2]
BEGIN = "<!-- table: written by docs/comparison/compare.py -->"
END = "<!-- end of the table -->"
VERSIONS = "Versions: "


def answer(program: Callable[[Candidate], None], candidate: Candidate) -> str:
    """Run the program with the candidate; a "no" comes with its reason."""
    with warnings.catch_warnings():
        # As Python does unless told otherwise: what warns is not an error.
        warnings.simplefilter("ignore", ResourceWarning)
        try:
            Context().run(program, candidate)
        except NotOfferedError:
            return NOT_OFFERED
        except WrongError as wrong:
            return f"{NO}: {wrong}"
        except Exception as error:  # noqa: BLE001 - whatever it raises is its answer
            return f"{NO}: raises `{type(error).__name__}`"
    return YES


def cell(program: Callable[[Candidate], None], candidate: Candidate) -> str:
    """Return what the table says: the same on every Python, if all is as expected."""
    seen = answer(program, candidate)
    since = SINCE.get((program.__name__, candidate.title))
    if since is None or (sys.version_info >= since) != (seen == YES):
        return seen
    return f"{'.'.join(map(str, since))}+"


def title(program: Callable[[Candidate], None]) -> str:
    """Return the title of the program's row."""
    return (inspect.getdoc(program) or "").partition("\n")[0].removesuffix(".")


def table(titles: list[str], rows: dict[str, list[str]]) -> str:
    """Return the table in Markdown."""
    lines = [
        ["", *titles],
        ["---", *(":-:" for _ in titles)],
        *([row, *cells] for row, cells in rows.items()),
    ]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def without_reasons(rows: dict[str, list[str]]) -> dict[str, list[str]]:
    """Return the rows with the bare answers."""
    return {row: [cell.partition(":")[0] for cell in rows[row]] for row in rows}


def in_chinese(titles: list[str], rows: dict[str, list[str]]) -> str:
    """Return the table of bare answers as a Chinese reader wants it."""
    translated = {
        CHINESE[row]: [CHINESE.get(cell, cell) for cell in cells]
        for row, cells in without_reasons(rows).items()
    }
    return table([CHINESE.get(each, each) for each in titles], translated)


def with_notes(rows: dict[str, list[str]]) -> tuple[dict[str, list[str]], str]:
    """Return the rows with a number for each reason, and the list of reasons."""
    reasons = {cell: "" for cells in rows.values() for cell in cells if ":" in cell}
    for number, cell in enumerate(reasons, 1):
        reasons[cell] = f"{NO} ({number})"
    numbered = {row: [reasons.get(cell, cell) for cell in rows[row]] for row in rows}
    return numbered, "".join(
        f"{number}. {cell.partition(': ')[2]}\n"
        for number, cell in enumerate(reasons, 1)
    )


def versions(compared: Iterable[Candidate]) -> str:
    """Return the line that says what was compared."""
    others = [
        f"{name} {metadata.version(name)}"
        for candidate in compared
        if (name := candidate.distribution)
    ]
    python = f"{platform.python_implementation()} {platform.python_version()}"
    return f"{VERSIONS}{', '.join(others)}, on {python}.\n"


def filled(text: str, content: str) -> str:
    """Return the text with this content between its marks."""
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not end:
        msg = f"no place for the table: {BEGIN}, {END}"
        raise ValueError(msg)
    return f"{before}{begin}\n\n{content}\n{end}{after}"


def settled(text: str) -> list[str]:
    """Return the lines that only change with an answer: versions come and go."""
    return [line for line in text.splitlines() if not line.startswith(VERSIONS)]


def main() -> int:
    """Write the files, or say which are not as they would be written."""
    parser = argparse.ArgumentParser(description=__doc__)
    todo = parser.add_mutually_exclusive_group(required=True)
    todo.add_argument("--check", action="store_true")
    todo.add_argument("--write", action="store_true")
    arguments = parser.parse_args()

    compared = [candidates.load(name) for name in candidates.NAMES]
    rows = {
        title(program): [cell(program, candidate) for candidate in compared]
        for program in PROGRAMS
    }
    titles = [candidate.title for candidate in compared]
    noted, notes = with_notes(rows)
    contents = {
        "README.md": table(titles, without_reasons(rows)),
        "README.zh-CN.md": in_chinese(titles, rows),
        "docs/comparison.md": f"{table(titles, noted)}\n{notes}\n{versions(compared)}",
    }
    stale: list[str] = []
    for name, content in contents.items():
        path = ROOT / name
        text = path.read_text("utf-8")
        new = filled(text, content)
        if arguments.write:
            path.write_text(new, "utf-8")
        elif settled(new) != settled(text):
            stale.append(name)
    print(contents["docs/comparison.md"])
    for name in stale:
        print(f"{name} says otherwise: run this with --write")
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main())
