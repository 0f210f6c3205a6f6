"""Each relative link of a Markdown page leads to a file, and a heading, that exists."""

from __future__ import annotations

import re

from pathlib import Path

import pytest


ROOT = Path(__file__).parents[1]
PAGES = [
    page
    for pattern in ("*.md", "docs/**/*.md")
    for page in sorted(ROOT.glob(pattern))
    if "_build" not in page.parts
]

FENCE = re.compile(r"^(`{3,}).*?^\1$", re.MULTILINE | re.DOTALL)
SPAN = re.compile(r"`[^`\n]+`")
LINK = re.compile(r"\]\(<?([^()\s>]+)>?\)")
RULE = re.compile(r"\[([^\[\]]*\b[NRFSI]\d+\b[^\[\]]*)\]\(([^()\s]+)\)")
HTML = re.compile(r"\b(?:href|src|srcset)=\"([^\"]+)\"")
FILE = re.compile(r"^(?::file: |```\{(?:literal)?include\} )(\S+)", re.MULTILINE)
HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)
TARGET = re.compile(r"^\(([\w-]+)\)=$", re.MULTILINE)


def links(page: Path) -> list[str]:
    """Return what a page links to, and which files it takes in."""
    text = page.read_text("utf-8")
    prose = SPAN.sub("", FENCE.sub("", text))
    found = [*LINK.findall(prose), *HTML.findall(prose), *FILE.findall(text)]
    return [link for link in found if not re.match(r"[a-z]+:", link)]


def anchors(page: Path) -> set[str]:
    """Return the names of a page's headings, made as GitHub and MyST make them."""
    text = FENCE.sub("", page.read_text("utf-8"))
    headings = [re.sub(r"[^\w\- ]", "", each) for each in HEADING.findall(text)]
    slugs = {heading.lower().replace(" ", "-") for heading in headings}
    return slugs.union(TARGET.findall(text))


def wrong_rules(page: Path) -> list[str]:
    """Return those links that name a rule, and do not lead to it alone."""
    rules = ROOT / "docs" / "rules.md"
    wrong: list[str] = []
    for text, link in RULE.findall(FENCE.sub("", page.read_text("utf-8"))):
        path, _, anchor = link.partition("#")
        target = page.parent / path if path else page
        if (target.resolve(), anchor) != (rules, text.lower()):
            wrong.append(text)
    return wrong


def is_broken(page: Path, link: str) -> bool:
    path, _, anchor = link.partition("#")
    target = page.parent / path if path else page
    return not target.is_file() or (bool(anchor) and anchor not in anchors(target))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    assert [link for link in links(page) if is_broken(page, link)] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_of_rules_lead_to_the_rule(page: Path) -> None:
    assert wrong_rules(page) == []


@pytest.mark.parametrize(
    ("link", "wrong"),
    [
        ("[N1](rules.md#n1)", 0),
        ("[N1](rules.md#names)", 1),
        ("[N1 to N3](rules.md#n1)", 1),
        ("[R1](rules.md#r2)", 1),
        ("[R1](#r1)", 1),
    ],
)
def test_a_link_that_leads_to_another_is_found(
    link: str, wrong: int, tmp_path: Path
) -> None:
    page = tmp_path / "page.md"
    page.write_text(link.replace("rules.md", str(ROOT / "docs/rules.md")), "utf-8")
    assert len(wrong_rules(page)) == wrong


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_have_a_text(page: Path) -> None:
    # Sphinx fills in the title, but the pages are read as plain Markdown too.
    assert "[](" not in FENCE.sub("", page.read_text("utf-8"))


@pytest.mark.parametrize(
    "link",
    [
        "missing.md",
        "docs",
        "#missing",
        "docs/explanation/limits.md#missing",
        "docs/index.md#where-to-go-else",
    ],
)
def test_a_broken_link_is_found(link: str) -> None:
    assert is_broken(ROOT / "README.md", link)


def test_all_kinds_of_links_are_found(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "# A `heading` of page.md: really\n"
        '[](a.md) ![b](b.svg#c) <img src="d.svg"> [e](https://example.org/e)\n'
        "`[no](no.md)`\n"
        "```python\n# not\n[no](no.md)\n```\n"
        "```{literalinclude} ../f.py\n```\n"
        "```{include} ../g.md\n```\n",
        "utf-8",
    )
    assert links(page) == ["a.md", "b.svg#c", "d.svg", "../f.py", "../g.md"]
    assert anchors(page) == {"a-heading-of-pagemd-really"}
    assert len(PAGES) > 20
