"""Rule I5: the pytest plugin, in runs of its own."""

from __future__ import annotations

import asyncio  # noqa: F401 # pyright: ignore[reportUnusedImport] - for all runs
import shutil
import sys

from textwrap import dedent

import pytest

from tests import contexts


pytest_plugins = ["pytester"]

HEAD = """
import pytest
from contextvars import ContextVar

from aura_context import (
    PlanContext, Snapshot, VarContext, active_contexts, current_plan_name, plan_context
)

from tests.contexts import TenantContext, current_tenant

def is_clean():
    values = current_plan_name.get(), current_tenant.get()
    return values == (None, None) and active_contexts() == ()
"""

PLUGINS = [
    "aura_context.integrations.pytest",
    "anyio.pytest_plugin",
    "pytest_asyncio.plugin",
    "xdist.plugin",
]

SCOPES = ["function", "class", "module", "package", "session"]
BROAD = SCOPES[1:]


@pytest.fixture
def run(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> Runner:
    # Another test may have imported it, which pytest warns of for a plugin.
    monkeypatch.delitem(sys.modules, "aura_context.integrations.pytest", raising=False)
    # What else happens to be installed here has no say.
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    return Runner(pytester)


class Runner:
    def __init__(self, pytester: pytest.Pytester) -> None:
        self.pytester = pytester
        self.configure("filterwarnings = error")

    def configure(self, *lines: str) -> None:
        """Write the configuration of the tests."""
        lines = ("[pytest]", "asyncio_default_fixture_loop_scope = function", *lines)
        self.pytester.makeini("\n".join(lines))

    def __call__(self, source: str, *args: str, **outcomes: int) -> pytest.LineMatcher:
        """Run these tests under the plugin; check what comes out."""
        self.pytester.makepyfile(HEAD + dedent(source))
        plugins = [f"-p{name}" for name in PLUGINS]
        result = self.pytester.runpytest(*plugins, "-pno:cacheprovider", *args)
        result.assert_outcomes(**outcomes)
        return result.stdout


class TestTests:
    def test_a_clean_one_passes(self, run: Runner) -> None:
        run(
            """
            def test_clean():
                with plan_context("p"), TenantContext("t"):
                    token = current_plan_name.set("raw")
                    current_plan_name.reset(token)
            """,
            passed=1,
        )

    def test_a_block_left_open_fails_with_the_context_named(self, run: Runner) -> None:
        out = run(
            """
            kept = plan_context("left"), TenantContext("secret")

            def test_leaves():
                for context in kept:
                    context.__enter__()

            def test_next():
                assert is_clean()
            """,
            failed=1,
            passed=1,
        )
        out.fnmatch_lines(
            ["test 'test_leaves' left PlanContext('left') open and Ten*(...) open"]
        )
        out.no_fnmatch_line("*secret*")

    def test_a_snapshot_left_open(self, run: Runner) -> None:
        run(
            """
            from aura_context import Snapshot

            kept = Snapshot(TenantContext("hunter2"))

            def test_leaves():
                kept.__enter__()

            def test_next():
                assert active_contexts() == ()
            """,
            failed=1,
            passed=1,
        ).fnmatch_lines(["*'test_leaves' left Snapshot(...) open*"])

    def test_a_block_that_nobody_can_leave_any_more(self, run: Runner) -> None:
        out = run(
            """
            def test_leaves():
                plan_context("left").__enter__()

            def test_next():
                assert is_clean()
            """,
            failed=1,
            passed=1,
        )
        out.fnmatch_lines(
            ["test 'test_leaves' left * changed to 'left', as by PlanContext('left')"]
        )

    def test_a_variable_set_raw(self, run: Runner) -> None:
        out = run(
            """
            def test_sets():
                current_plan_name.set("raw")
                current_tenant.set("secret")

            def test_next():
                assert is_clean()
            """,
            failed=1,
            passed=1,
        )
        out.fnmatch_lines(
            ["test 'test_sets' left *'raw', as by *) and current_tenant changed"]
        )
        out.no_fnmatch_line("*secret*")

    def test_one_that_fails_anyway_is_told_in_a_note(self, run: Runner) -> None:
        out = run(
            """
            kept = plan_context("left")

            def test_fails():
                kept.__enter__()
                raise ValueError("its own")

            def test_fails_clean():
                raise ValueError("its own")
            """,
            failed=2,
        )
        out.fnmatch_lines(["E*ValueError: its own", "E*left PlanContext('left') open"])

    def test_one_instance_open_twice(self, run: Runner) -> None:
        out = run(
            """
            shared = plan_context("shared")

            @pytest.fixture
            def plan():
                with shared:
                    yield

            def test_leaves(plan):
                shared.__enter__()

            def test_next(plan):
                assert active_contexts() == (shared,)
            """,
            failed=1,
            passed=1,
        )
        out.fnmatch_lines(["test 'test_leaves' left PlanContext('shared') open"])

    def test_a_class_that_the_test_defines(self, run: Runner) -> None:
        out = run(
            """
            def test_defines():
                class LocalContext(VarContext[int]):
                    var = ContextVar("local", default=0)
                with LocalContext(1):
                    pass

            def test_defines_and_sets():
                class LocalContext(VarContext[int]):
                    var = ContextVar("local", default=0)
                LocalContext.var.set(1)
            """,
            passed=1,
            failed=1,
        )
        out.fnmatch_lines(["test 'test_defines_and_sets' left local changed"])

    def test_methods_unittest_and_doctest(self, run: Runner) -> None:
        run.pytester.makepyfile(
            documented='''
            def leaves():
                """
                >>> from aura_context import current_plan_name
                >>> token = current_plan_name.set("raw")
                """
            '''
        )
        out = run(
            """
            import unittest

            class TestMethod:
                def test_leaves(self):
                    current_plan_name.set("raw")

            class TestCase(unittest.TestCase):
                def test_leaves(self):
                    current_plan_name.set("raw")

            class TestAsync(unittest.IsolatedAsyncioTestCase):
                async def asyncSetUp(self):
                    await self.enterAsyncContext(plan_context("p"))

                async def test_clean(self):
                    async with plan_context("q"):
                        pass

                async def test_leaves(self):
                    current_plan_name.set("async")
            """,
            "--doctest-modules",
            failed=4,
            passed=1,
        )
        out.fnmatch_lines(["*left current_plan_name changed to 'async'*"])
        out.fnmatch_lines(["test 'documented.leaves' left *"])

    def test_what_is_no_name_is_not_shown(self, run: Runner) -> None:
        out = run(
            """
            def test_sets():
                current_plan_name.set(10**5000)  # which has no repr

            def test_next():
                assert is_clean()
            """,
            failed=1,
            passed=1,
        )
        out.fnmatch_lines(["test 'test_sets' left current_plan_name changed"])

    def test_finalizers_of_its_own(self, run: Runner) -> None:
        out = run(
            """
            kept = plan_context("left")

            def test_leaves(request):
                request.addfinalizer(kept.__enter__)

            def test_next():
                assert is_clean()
            """,
            passed=2,
            errors=1,
        )
        out.fnmatch_lines(["*test 'test_leaves' left PlanContext('left') open"])

    def test_a_block_that_a_hook_holds_is_none_of_theirs(self, run: Runner) -> None:
        run.pytester.makeconftest(
            """
            import pytest
            from aura_context import plan_context

            @pytest.hookimpl(wrapper=True)
            def pytest_runtest_protocol(item):
                with plan_context(item.name):
                    return (yield)

            def pytest_runtest_setup(item):
                item.block = plan_context("set up").__enter__()

            def pytest_runtest_teardown(item):
                item.block.__exit__(None, None, None)
            """
        )
        run(
            """
            def test_holds():
                names = [each.value for each in active_contexts()]
                assert names == ["test_holds", "set up"]
            """,
            passed=1,
        )


class TestStart:
    def test_is_clean_after_an_import_that_was_not(self, run: Runner) -> None:
        run(
            """
            kept = plan_context("import").__enter__()
            current_tenant.set("import")

            def test_clean():
                assert current_plan_name.get() is current_tenant.get() is None
            """,
            passed=1,
        )

    def test_is_clean_after_an_import_that_set_a_variable(self, run: Runner) -> None:
        run(
            """
            current_tenant.set("import")

            def test_clean():
                assert current_tenant.get() is None
            """,
            passed=1,
        )

    def test_is_clean_after_an_import_that_hid_what_it_set(self, run: Runner) -> None:
        run(
            """
            current_tenant.set("import")
            kept = [TenantContext(None).__enter__()]

            def test_clean():
                kept.clear()
                with plan_context("p"):  # which settles abandoned blocks
                    assert current_tenant.get() is None
            """,
            passed=1,
        )

    def test_nothing_is_set_where_nothing_was(self, run: Runner) -> None:
        run(
            """
            def test_untouched():
                assert active_contexts() == ()
                assert Snapshot.capture() == {}
            """,
            passed=1,
        )

    def test_what_runs_pytest_keeps_its_plan(self, run: Runner) -> None:
        from aura_context import current_plan_name, plan_context  # noqa: PLC0415

        with plan_context("runner"):
            run(
                """
                def test_clean():
                    assert current_plan_name.get() is None

                def test_leaves():
                    current_plan_name.set("raw")
                """,
                passed=1,
                failed=1,
            )
            assert current_plan_name.get() == "runner"


class TestFixtures:
    def test_of_function_scope_may_hold_a_block_for_its_test(self, run: Runner) -> None:
        run(
            """
            @pytest.fixture
            def plan():
                with plan_context("held"):
                    yield

            @pytest.fixture
            def raw(plan, request):
                token = current_plan_name.set("raw")
                request.addfinalizer(lambda: current_plan_name.reset(token))

            def test_plan(plan):
                assert current_plan_name.get() == "held"

            def test_raw(raw):
                assert current_plan_name.get() == "raw"

            def test_next():
                assert is_clean()

            class TestMethod:
                @pytest.fixture
                def mine(self):
                    self.plan = plan_context("mine")
                    with self.plan:
                        yield

                def test_mine(self, mine):
                    assert active_contexts() == (self.plan,)
            """,
            passed=4,
        )

    def test_requested_dynamically(self, run: Runner) -> None:
        run(
            """
            @pytest.fixture
            def plan():
                with plan_context("held"):
                    yield

            @pytest.fixture
            def outer(request):
                request.getfixturevalue("plan")

            def test_by_a_fixture(outer):
                assert current_plan_name.get() == "held"

            def test_by_the_test(request):
                request.getfixturevalue("plan")
                assert current_plan_name.get() == "held"

            @pytest.fixture
            def tenant():
                with TenantContext("acme"):
                    yield

            def test_one_after_the_other(request):
                request.getfixturevalue("plan")
                request.getfixturevalue("tenant")
                assert current_plan_name.get() == "held"

            def test_next():
                assert is_clean()
            """,
            passed=4,
        )

    @pytest.mark.parametrize("scope", BROAD)
    def test_of_broader_scope_that_yields_inside_a_block_is_named(
        self, run: Runner, scope: str
    ) -> None:
        out = run(
            f"""
            left = []

            @pytest.fixture(scope={scope!r})
            def plan():
                with plan_context("held"):
                    yield
                left.append(True)

            class TestAll:
                def test_happens_to_run(self, plan): ...
                def test_other(self):
                    assert is_clean() and left == [True]
                def test_later(self, plan): ...
            """,
            passed=1,
            errors=2,
        )
        named = (
            f"fixture 'plan' of {scope} scope holds PlanContext('held') open, "
            "for tests that never asked for it too: do that in a fixture of function "
            "scope"
        )
        out.fnmatch_lines([named, named])

    @pytest.mark.parametrize("scope", SCOPES)
    def test_that_leaves_a_block_open_is_named(self, run: Runner, scope: str) -> None:
        out = run(
            f"""
            kept = plan_context("left")

            @pytest.fixture(scope={scope!r})
            def plan():
                kept.__enter__()

            @pytest.fixture(scope={scope!r})
            def unheld():
                both = [plan_context("unheld"), TenantContext("secret")]
                for context in both:
                    context.__enter__()
                both.clear()
                del context
                yield

            def test_happens_to_run(plan): ...
            def test_unheld(unheld): ...
            def test_next(): assert is_clean()
            """,
            passed=2 if scope == "function" else 1,
            errors=2,
        )
        both = "as by PlanContext('unheld') and current_tenant changed"
        out.fnmatch_lines(
            [
                f"fixture 'plan' of {scope} scope left PlanContext('left') open",
                f"fixture 'unheld' of {scope} scope * {both}*",
            ]
        )

    @pytest.mark.parametrize("scope", SCOPES)
    def test_whose_teardown_changes_something_is_named(
        self, run: Runner, scope: str
    ) -> None:
        out = run(
            f"""
            @pytest.fixture(scope={scope!r})
            def plan():
                yield
                current_plan_name.set("torn")

            def test_happens_to_run(plan): ...
            """,
            passed=1,
            errors=1,
        )
        out.fnmatch_lines([f"fixture 'plan' of {scope} scope left *'torn', as by *"])

    def test_whose_setup_fails_has_its_own_error(self, run: Runner) -> None:
        out = run(
            """
            @pytest.fixture
            def plan():
                with plan_context("p"):
                    raise ValueError("its own")

            def test_one(plan): ...
            """,
            errors=1,
        )
        out.fnmatch_lines(["E*ValueError: its own"])
        out.no_fnmatch_line("*left*")


@pytest.mark.parametrize("library", ["anyio", "asyncio"])
class TestAsync:
    @pytest.fixture
    def head(self, library: str) -> str:
        if library == "asyncio":
            return (
                "\nimport pytest_asyncio\n"
                "pytestmark = pytest.mark.asyncio(loop_scope='session')\n"
                "def fixture(scope='function'):\n"
                "    return pytest_asyncio.fixture(scope=scope, loop_scope='session')\n"
            )
        return (
            "\npytestmark = pytest.mark.anyio\n"
            "fixture = pytest.fixture\n"
            "@pytest.fixture(scope='session', params=['asyncio', 'trio'])\n"
            "def anyio_backend(request):\n"
            "    return request.param\n"
        )

    def test_tests(self, run: Runner, library: str, head: str) -> None:
        times = 2 if library == "anyio" else 1
        out = run(
            head
            + dedent(
                """
                kept = plan_context("left")

                @fixture(scope="module")
                async def keeps_the_loop():
                    yield

                async def test_clean(keeps_the_loop):
                    async with plan_context("p"):
                        assert current_plan_name.get() == "p"

                async def test_leaves():
                    kept.__enter__()

                async def test_next():
                    assert is_clean()

                async def test_fails():
                    kept.__enter__()
                    raise ValueError("its own")

                class TestMethod:
                    async def test_leaves(self):
                        current_plan_name.set("raw")

                    async def test_next(self):
                        assert is_clean()
                """
            ),
            passed=3 * times,
            failed=3 * times,
        )
        out.fnmatch_lines_random(
            [
                "*test 'test_leaves*' left PlanContext('left') open",
                "E*ValueError: its own",
                "E*left PlanContext('left') open",
                "*test 'test_leaves*' left *'raw', as by *",
            ]
        )

    def test_fixtures_of_function_scope(
        self, run: Runner, library: str, head: str
    ) -> None:
        times = 2 if library == "anyio" else 1
        out = run(
            head
            + dedent(
                """
                kept = plan_context("left")

                @fixture(scope="module")
                async def keeps_the_loop():
                    yield

                @fixture()
                async def plan():
                    async with plan_context("held"):
                        yield

                @fixture()
                async def leaves():
                    yield
                    kept.__enter__()

                @fixture()
                async def returns():
                    kept.__enter__()

                @fixture()
                async def unheld():
                    plan_context("unheld").__enter__()
                    yield

                async def test_plan(keeps_the_loop, plan):
                    assert current_plan_name.get() == "held"

                async def test_leaves(leaves): ...
                async def test_returns(returns): ...
                async def test_unheld(unheld): ...

                class TestMethod:
                    @fixture()
                    async def mine(self):
                        self.plan = plan_context("mine")
                        with self.plan:
                            yield

                    async def test_mine(self, mine):
                        assert active_contexts() == (self.plan,)

                async def test_next(keeps_the_loop):
                    assert is_clean()
                """
            ),
            passed=4 * times,
            errors=3 * times,
        )
        out.fnmatch_lines_random(
            [
                "*fixture 'leaves' of function scope left PlanContext('left') open",
                "*fixture 'returns' of function scope left PlanContext('left') open",
                "*fixture 'unheld' of function scope left *PlanContext('unheld')",
            ]
        )

    @pytest.mark.parametrize("scope", BROAD)
    def test_fixtures_of_broader_scope(
        self, run: Runner, library: str, head: str, scope: str
    ) -> None:
        times = 2 if library == "anyio" else 1
        out = run(
            head
            + dedent(
                f"""
                @fixture(scope={scope!r})
                async def plan():
                    async with plan_context("held"):
                        yield

                @fixture(scope={scope!r})
                async def clean():
                    async with plan_context("p"):
                        pass
                    yield

                class TestAll:
                    async def test_happens_to_run(self, clean, plan): ...
                    async def test_other(self, clean):
                        assert is_clean()

                class TestMethod:
                    @fixture(scope={scope!r})
                    @classmethod
                    async def mine(cls):
                        async with plan_context("mine"):
                            yield

                    async def test_mine(self, mine): ...
                """
            ),
            passed=times,
            errors=2 * times,
        )
        out.fnmatch_lines(
            [
                f"*fixture {name!r} of {scope} scope holds {context} open, for *"
                for name, context in (
                    ("plan", "PlanContext('held')"),
                    ("mine", "PlanContext('mine')"),
                )
            ]
        )


class TestPlugin:
    def test_is_off_unless_named(self, pytester: pytest.Pytester) -> None:
        """Even where all plugins that are installed are loaded."""
        pytester.makepyfile(
            """
            from aura_context import current_plan_name

            def test_leaves():
                current_plan_name.set("raw")
            """
        )
        result = pytester.runpytest_subprocess("-p", "no:asyncio")
        result.assert_outcomes(passed=1)

    def test_unclean_from_the_start(self, run: Runner) -> None:
        run(
            """
            kept = plan_context("import").__enter__()

            @pytest.fixture(scope="session")
            def clean():
                with plan_context("setup"):
                    pass
                yield
                with plan_context("teardown"):
                    pass

            def test_one(clean): ...
            def test_two(clean): ...
            """,
            passed=2,
        )

    def test_distributed_by_xdist(self, run: Runner) -> None:
        # What a worker process imports from here, it has to find there.
        shutil.copy(contexts.__file__, run.pytester.mkpydir("tests"))
        out = run(
            """
            @pytest.fixture(scope="session")
            def plan():
                with plan_context("held"):
                    yield

            @pytest.mark.parametrize("number", range(4))
            def test_leaves(number):
                current_plan_name.set(f"plan-{number}")

            @pytest.mark.parametrize("number", range(4))
            def test_clean(number):
                assert is_clean()

            def test_with_a_fixture(plan): ...
            """,
            "-n2",
            passed=4,
            failed=4,
            errors=1,
        )
        out.fnmatch_lines_random(
            [
                *(f"test 'test_leaves?{n}?' left *'plan-{n}'*" for n in range(4)),
                "fixture 'plan' of session scope holds PlanContext('held') open, *",
            ]
        )


class TestHidden:
    """What a test leaves fails it, also where something else decides how it ends."""

    def test_skips(self, run: Runner) -> None:
        out = run(
            """
            import unittest

            shared = plan_context("left")

            def test_skips():
                pytest.skip("no database")

            def test_leaves():
                shared.__enter__()
                pytest.skip("no database")

            class TestCase(unittest.TestCase):
                def test_leaves_too(self):
                    shared.__enter__()
                    self.skipTest("no database")

            @pytest.fixture
            def database():
                shared.__enter__()
                pytest.skip("no database")

            def test_asks(database): ...

            def test_next():
                assert is_clean()
            """,
            skipped=1,
            failed=2,
            errors=1,
            passed=1,
        )
        out.fnmatch_lines_random(
            [
                "test 'test_leaves' left PlanContext('left') open",
                "test 'test_leaves_too' left PlanContext('left') open",
                "fixture 'database' of function scope left PlanContext('left') open",
            ]
        )

    @pytest.mark.parametrize("strict", [True, False])
    @pytest.mark.parametrize("raises", ["", ", raises=AssertionError"])
    def test_fails_as_expected(self, run: Runner, strict: bool, raises: str) -> None:
        out = run(
            f"""
            shared = plan_context("left")
            xfail = pytest.mark.xfail(strict={strict}{raises})

            @xfail
            def test_fails():
                assert 1 == 2

            @xfail
            def test_leaves_and_fails():
                shared.__enter__()
                assert 1 == 2

            @xfail
            def test_leaves_alone():
                shared.__enter__()

            def test_says_so_itself():
                shared.__enter__()
                pytest.xfail("known")

            @pytest.fixture
            def leaves():
                yield
                shared.__enter__()

            @xfail
            def test_asks(leaves):
                assert 1 == 2

            def test_next():
                assert is_clean()
            """,
            xfailed=2,
            failed=3,
            errors=1,
            passed=1,
        )
        out.fnmatch_lines_random(
            [
                "*test 'test_leaves_and_fails' left PlanContext('left') open",
                "*test 'test_leaves_alone' left PlanContext('left') open",
                "*test 'test_says_so_itself' left PlanContext('left') open",
                "*fixture 'leaves' of function scope left PlanContext('left') open",
            ]
        )

    def test_a_fixture_that_leaves_and_raises(self, run: Runner) -> None:
        out = run(
            """
            shared = plan_context("left")

            @pytest.fixture(scope="session")
            def broken():
                shared.__enter__()
                current_tenant.set("left")
                raise ValueError("its own")

            def test_one(broken): ...

            def test_next():
                assert is_clean()

            def test_two(broken): ...
            """,
            errors=2,
            passed=1,
        )
        out.fnmatch_lines(
            ["E*ValueError: its own", "E*fixture 'broken' of session scope left Plan*"]
        )


class TestHypothesis:
    SOURCE = """
    from hypothesis import given, settings, strategies

    kept = plan_context("left")
    examples = settings(max_examples=3, deadline=None, database=None)

    {mark}
    @examples
    @given(strategies.integers())
    {kind} test_clean(number):
        with plan_context("p"):
            assert current_plan_name.get() == "p"

    {mark}
    @examples
    @given(strategies.integers())
    {kind} test_leaves(number):
        kept.__enter__()

    class TestMethods:
        {mark}
        @examples
        @given(strategies.integers())
        {kind} test_leaves(self, number):
            current_plan_name.set("raw")

    {mark}
    @examples
    @given(strategies.integers())
    {kind} test_starts_clean_each_time(number):
        assert is_clean(), "un" + "clean"
        current_plan_name.set("again")

    def test_next():
        assert is_clean()

    @pytest.fixture
    def anyio_backend():
        return "asyncio"
    """

    @pytest.mark.parametrize("mark", ["", "anyio", "asyncio"])
    def test_examples(self, run: Runner, mark: str) -> None:
        kind = "async def" if mark else "def"
        mark = f"@pytest.mark.{mark}" if mark else ""
        source = dedent(self.SOURCE).format(kind=kind, mark=mark)
        out = run(source, "-W", "ignore", passed=2, failed=3)
        out.no_fnmatch_line("*unclean*")
        out.fnmatch_lines_random(
            [
                "*'test_starts_clean_each_time' left *plan_name changed to 'again'*",
                "*test 'test_leaves' left PlanContext('left') open*",
                "*test 'test_leaves' left current_plan_name changed to 'raw'*",
            ]
        )

    def test_what_is_left_again_and_again_is_told_once(self, run: Runner) -> None:
        out = run(
            """
            from hypothesis import given, settings, strategies

            kept = plan_context("left")

            @pytest.mark.xfail
            @settings(max_examples=3, database=None)
            @given(strategies.integers())
            def test_fails(number):
                kept.__enter__()
                raise LookupError
            """,
            failed=1,
        )
        told = [line for line in out.lines if line.startswith("test 'test_fails' left")]
        assert len(told) == 1


class TestRunsInside:
    def test_change_nothing_outside(self, run: Runner) -> None:
        run(
            """
            INNER = '''
            import pytest
            from aura_context import plan_context

            kept = plan_context("left")

            @pytest.fixture
            def plan():
                with plan_context("inner"):
                    yield

            def test_plan(plan): ...

            def test_leaves():
                kept.__enter__()
                pytest.skip("no database")
            '''

            @pytest.fixture
            def outer():
                with plan_context("outer"):
                    yield

            def test_runs(outer, tmp_path):
                from textwrap import dedent

                (tmp_path / "test_inner.py").write_text(dedent(INNER))
                args = "-paura_context.integrations.pytest", "-pno:cacheprovider"
                assert pytest.main([*args, str(tmp_path)]) == 1
                assert current_plan_name.get() == "outer"

            def test_next():
                assert is_clean()
            """,
            "-W",
            "ignore",
            passed=2,
        )


class TestWarnings:
    SOURCE = """
    from contextvars import copy_context

    def test_leaves_elsewhere():
        with plan_context("p") as context:
            copy_context().run(context.__exit__, None, None, None)
    """

    def test_a_foreign_exit_is_shown(self, run: Runner) -> None:
        run.configure()
        out = run(self.SOURCE, passed=1, warnings=1)
        out.fnmatch_lines(["*ForeignExitWarning*"])

    @pytest.mark.parametrize("how", ["ini", "option"])
    def test_unless_the_configuration_hides_it(self, run: Runner, how: str) -> None:
        ignore = "ignore::aura_context.ForeignExitWarning"
        run.configure(*[f"filterwarnings = {ignore}"] if how == "ini" else [])
        options = ["-W", ignore] if how == "option" else []
        run(self.SOURCE, *options, passed=1, warnings=0)
