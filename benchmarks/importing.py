"""What ``import aura_context`` costs, beside what it cannot do without.

    python benchmarks/importing.py [--quick]

Each row is a new interpreter that imports one thing, timed by itself from before the
import to after it. The candidates take turns, many times, so that a busy machine slows
all of them; the figures are medians, and the ratio is the median of the turns' ratios.
"""

from __future__ import annotations

import subprocess
import sys

from functools import partial
from statistics import median

from turns import take_turns


TURNS = 3 if "--quick" in sys.argv else 31

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
    turns = take_turns(
        {name: partial(seconds, each) for name, each in CANDIDATES.items()}, TURNS
    )
    yardstick = next(iter(turns.values()))
    print(f"{'':36}{'median':>10}{'ratio':>8}")
    for name, column in turns.items():
        ratio = median(
            mine / other for mine, other in zip(column, yardstick, strict=True)
        )
        print(f"{name:36}{median(column) * 1000:8.1f}ms{ratio:8.2f}")


if __name__ == "__main__":
    main()
