"""Each test runs in a Context of its own, and what it leaves there is gone with it.

Shown by runs of their own under the conftest that runs these tests.
"""

from __future__ import annotations

from pathlib import Path
from textwrap import dedent

import pytest


pytest_plugins = ["pytester"]

CONFTEST = Path(__file__).parents[1] / "conftest.py"

HEAD = """
import pytest
import unittest

from hypothesis import given, strategies

from aura_context import active_contexts, current_plan_name, plan_context

def is_clean():
    return current_plan_name.get() is None and active_contexts() == ()

def leave():
    kept.append(plan_context("left").__enter__())
    current_plan_name.set("raw")

kept = []
"""

PAGE = """
```python
from aura_context import active_contexts, current_plan_name, plan_context
{first}
block = plan_context("page").__enter__()
current_plan_name.set("raw")
```

```python
assert current_plan_name.get() == "raw"
assert active_contexts() == (block,)
```
"""


@pytest.fixture(autouse=True)
def conftest(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run with this conftest, and without whatever plugins are installed."""
    pytester.makeconftest(CONFTEST.read_text("utf-8"))
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")


def run(pytester: pytest.Pytester, *args: str, source: str = "", passed: int) -> None:
    if source:
        pytester.makepyfile(HEAD + dedent(source))
    plugins = ["-panyio.pytest_plugin", "-pno:cacheprovider"]
    pytester.runpytest_subprocess(*plugins, *args).assert_outcomes(passed=passed)


# The sources of pairs of tests: each leaves something, and starts clean.
LEAVERS = {
    "function": """
        @pytest.mark.parametrize("number", range(2))
        def test_leaves(number):
            assert is_clean()
            leave()
        """,
    "async": """
        pytestmark = pytest.mark.anyio

        @pytest.mark.parametrize("number", range(1))
        async def test_leaves(number, anyio_backend):
            assert is_clean()
            leave()
        """,
    "unittest": """
        class Leaves(unittest.TestCase):
            def setUp(self):
                assert is_clean()
                leave()

            def test_one(self): ...
            def test_two(self): ...

        class LeavesAsync(unittest.IsolatedAsyncioTestCase):
            async def asyncSetUp(self):
                assert is_clean()
                leave()

            async def test_one(self): ...
        """,
    "hypothesis": """
        @given(strategies.integers())
        def test_leaves(number):
            leave()

        def test_next():
            assert is_clean()
        """,
    "fixture": """
        @pytest.fixture
        def leaves():
            assert is_clean()
            leave()
            yield
            leave()

        @pytest.mark.parametrize("number", range(2))
        def test_has_what_its_fixture_left(leaves, number):
            assert active_contexts() == (kept[-1],)
            assert current_plan_name.get() == "raw"
        """,
    "broader fixture": """
        @pytest.fixture(scope="module")
        def leaves():
            leave()
            yield
            assert is_clean()

        def test_one(leaves): ...
        def test_two(leaves):
            assert is_clean()
        """,
    "import": """
        leave()

        def test_clean():
            assert is_clean()
        """,
}


@pytest.mark.parametrize("kind", LEAVERS)
def test_what_a_test_leaves_is_gone(pytester: pytest.Pytester, kind: str) -> None:
    passed = {"unittest": 3, "import": 1, "async": 2}.get(kind, 2)
    run(pytester, source=LEAVERS[kind], passed=passed)


def test_setup_call_and_teardown_are_in_one_context(pytester: pytest.Pytester) -> None:
    source = """
        @pytest.fixture
        def plan():
            token = current_plan_name.set("fixture")
            yield
            assert current_plan_name.get() == "test"
            current_plan_name.reset(token)

        def test_sets(plan):
            assert current_plan_name.get() == "fixture"
            current_plan_name.set("test")
        """
    run(pytester, source=source, passed=1)


def test_a_page_goes_on_and_the_next_starts_clean(pytester: pytest.Pytester) -> None:
    pages = pytester.mkdir("docs")
    for name in ("one", "two"):
        page = PAGE.format(first="assert current_plan_name.get() is None")
        (pages / f"{name}.md").write_text(page, "utf-8")
    run(pytester, "docs", passed=4)


def test_what_is_wrong_in_a_test_is_still_seen(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        import warnings

        def test_fails():
            assert False

        def test_warns():
            warnings.warn("seen", stacklevel=1)
        """
    )
    result = pytester.runpytest_subprocess("-Werror", "-pno:cacheprovider")
    result.assert_outcomes(failed=2)
    result.stdout.fnmatch_lines(["E*UserWarning: seen"])


class TestOrder:
    SHUFFLED = """
        def pytest_collection_modifyitems(items):
            items.reverse()
        """

    def test_a_page_keeps_its_order(self, pytester: pytest.Pytester) -> None:
        """However a plugin shuffles."""
        pages = pytester.mkdir("docs")
        for name in ("one", "two"):
            (pages / f"{name}.md").write_text(PAGE.format(first=""), "utf-8")
        pytester.makepyfile(shuffling=dedent(self.SHUFFLED))
        result = pytester.runpytest_subprocess("-v", "-pshuffling", "docs")
        result.assert_outcomes(passed=4)
        lines = result.stdout.lines
        ran = [line.split("::")[0] for line in lines if "PASSED" in line]
        assert ran == ["docs/two.md"] * 2 + ["docs/one.md"] * 2
