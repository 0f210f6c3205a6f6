"""What ``import aura_context`` costs, beside what it cannot do without.

Run it where the package is installed: ``python benchmarks/importing.py``.

Each row is a new interpreter that imports one thing, timed by itself from before the
import to after it. The candidates take turns, many times, so that a busy machine slows
all of them; the figures are medians, and the ratio is the median of the turns' ratios.
"""

from __future__ import annotations

import subprocess
import sys

from statistics import median


TURNS = 31

CANDIDATES = {
    "contextvars, typing_extensions": "import contextvars, typing_extensions",
    "aura_context": "import aura_context",
    # Most of that is inspect and concurrent.futures, which asyncio needs as well.
    "asyncio": "import asyncio",
    "asyncio, aura_context": "import asyncio, aura_context",
}

TIMED = """
from time import perf_counter
start = perf_counter()
{}
print(perf_counter() - start)
"""


def seconds(statement: str) -> float:
    """Return what the statement takes in an interpreter of its own."""
    done = subprocess.run(  # noqa: S603 - our own program
        [sys.executable, "-c", TIMED.format(statement)],
        stdout=subprocess.PIPE,
        check=True,
    )
    return float(done.stdout)


def main() -> None:
    """Print a row for each candidate."""
    for statement in CANDIDATES.values():  # files are read, bytecode is written
        seconds(statement)
    turns = [[*map(seconds, CANDIDATES.values())] for _ in range(TURNS)]
    print(f"{'':36}{'median':>10}{'ratio':>8}")
    for name, row in zip(CANDIDATES, zip(*turns, strict=True), strict=True):
        ratio = median(mine / turn[0] for mine, turn in zip(row, turns, strict=True))
        print(f"{name:36}{median(row) * 1000:8.1f}ms{ratio:8.2f}")


if __name__ == "__main__":
    main()
