"""Tables and drawings of what has been measured, for the documentation.

Text and axes of a drawing take the colour of the page that it is part of; opened by
itself, it follows the reader's colour scheme.
"""

from __future__ import annotations

import re

from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
import matplotlib.pyplot as plt


if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from turns import Cost, Series


subplots: Any = plt.subplots  # whose result is half unknown to type checkers

FOLDER = Path(__file__).parents[1] / "docs" / "explanation"

INK = "#010203"  # stands for the colour of the page
OURS = "#3b82f6"
THEIRS = "#9ca3af"

STYLE = """
<style>
@media (prefers-color-scheme: dark) { svg:root { color: #e5e7eb; background: #131416 } }
svg text { font-family: system-ui, sans-serif }
</style>
"""

mpl.use("svg")
mpl.rcParams.update(
    {
        "axes.edgecolor": INK,
        "axes.labelcolor": INK,
        "axes.spines.right": False,
        "axes.spines.top": False,
        "font.size": 9,
        "svg.fonttype": "none",  # text stays text
        "svg.hashsalt": "aura_context",  # the same drawing has the same names in it
        "text.color": INK,
        "xtick.color": INK,
        "ytick.color": INK,
    }
)


def save(figure: Any, name: str, title: str) -> None:
    """Write the drawing, in the colours of whoever shows it."""
    file = StringIO()
    figure.savefig(
        file, format="svg", transparent=True, metadata={"Date": None, "Title": title}
    )
    plt.close(figure)
    drawing = file.getvalue().replace(INK, "currentColor")
    drawing = drawing[drawing.index("<svg") :]  # as part of a page it has no prologue
    head, end, rest = drawing.partition(">")
    head += f' role="img" aria-label="{title}"'
    drawing = re.sub(r"(\.\d\d)\d+", r"\1", head + end + STYLE + rest)
    lines = [line.rstrip() for line in drawing.splitlines()]
    (FOLDER / name).write_text("\n".join(lines) + "\n", "utf-8")


def write_table(costs: Mapping[str, Cost], machine: str) -> None:
    """Put a row for each candidate into the page."""
    page = FOLDER / "performance.md"
    text = page.read_text("utf-8")
    lines = [
        "",
        "| | ratio | of all processes |",
        "| --- | --: | --: |",
        *(
            f"| {name} | {cost.ratio:.2f} | {cost.lowest:.2f} - {cost.highest:.2f} |"
            for name, cost in costs.items()
        ),
        "",
        f"Measured on {machine}.",
        "",
    ]
    head, begin, rest = text.partition(
        "<!-- table: written by benchmarks/blocks.py -->"
    )
    _, end, tail = rest.partition("<!-- end of the table -->")
    page.write_text("\n".join([head + begin, *lines, end + tail]), "utf-8")


def draw_blocks(costs: Mapping[str, Cost], ours: Sequence[str]) -> None:
    """Draw a bar for each way to bind a value for a block."""
    rows = [*costs][::-1]  # drawn from below, in the order of the table
    figure, axes = subplots(figsize=(8, 0.27 * len(rows) + 0.8), layout="tight")
    bars = axes.barh(
        rows,
        [costs[name].ratio for name in rows],
        color=[OURS if name in ours else THEIRS for name in rows],
        height=0.7,
    )
    axes.bar_label(bars, [f"{costs[name].ratio:.2f}" for name in rows], padding=3)
    axes.set_xlabel(
        "ours in blue; 1 is @contextmanager, or @asynccontextmanager where async"
    )
    axes.margins(y=0.01)
    save(figure, "performance-blocks.svg", "What a block costs, beside others")


def draw_scale(series: Sequence[Series]) -> None:
    """Draw a panel for each thing that grows."""
    figure, panels = subplots(3, 3, figsize=(8, 7), layout="tight")
    for axes, each in zip(panels.flat, series, strict=False):
        sizes = [point.size for point in each.points]
        unit = each.points[2].other
        ours = [point.ours / unit for point in each.points]
        others = [point.other / unit for point in each.points]
        axes.plot(sizes, others, "o-", color=THEIRS, ms=3)
        axes.plot(sizes, ours, "o-", color=OURS, ms=3)
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.set_title(each.title, fontsize=10)
        axes.set_xlabel(each.grows, fontsize=8)
        _, high = axes.get_ylim()
        axes.set_ylim(0.1, max(10, high))  # so that flat looks flat
        axes.yaxis.set_major_formatter("{x:g}")
        axes.minorticks_off()
    for axes in panels.flat[len(series) :]:
        axes.axis("off")
    panels.flat[len(series)].text(
        0,
        0.3,
        "Blue: aura_context.\n"
        "Grey: the same on bare ContextVars;\n"
        "for exits out of order, exits in order.\n\n"
        "1 is the third grey point of each panel.",
        fontsize=9,
    )
    save(figure, "performance-scale.svg", "What a block costs as everything grows")
