"""Rule I1: what is bound, in every record of the standard library's logging."""

from __future__ import annotations

import asyncio
import io
import json
import logging
import logging.config
import logging.handlers
import multiprocessing
import pickle
import queue
import subprocess
import sys
import textwrap
import threading

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from aura_context import PlanContext, carry, current_plan_name, plan_context
from aura_context.integrations.logging import ContextFilter, install, uninstall
from tests.contexts import RunContext, TenantContext


if TYPE_CHECKING:
    from collections.abc import Generator, Iterator
    from multiprocessing.process import BaseProcess


NAMES = {"who": TenantContext, "run": RunContext, "plan": PlanContext}
FORMAT = "%(aura_plan_name)s | %(message)s"


@pytest.fixture(autouse=True)
def factory() -> Iterator[object]:
    """Put the record factory back, and give it."""
    before = logging.getLogRecordFactory()
    yield before
    uninstall()
    logging.setLogRecordFactory(before)


@contextmanager
def written(
    *filters: logging.Filter, name: str = "test", fmt: str = FORMAT, style: Any = "%"
) -> Generator[io.StringIO]:
    """Log to a text, through these filters on the handler."""
    log, out = logging.getLogger(name), io.StringIO()
    handler = logging.StreamHandler(out)
    handler.setFormatter(logging.Formatter(fmt, style=style))
    for each in filters:
        handler.addFilter(each)
    before = log.handlers, log.propagate, log.level
    log.handlers, log.propagate = [handler], False
    log.setLevel(logging.DEBUG)
    try:
        yield out
    finally:
        log.handlers, log.propagate, log.level = before


log = logging.getLogger("test")


def made(**extra: object) -> logging.LogRecord:
    """Make a record as a logger does."""
    return log.makeRecord("n", logging.INFO, "f", 1, "m", (), None, extra=extra)


def attribute(record: logging.LogRecord, name: str = "aura_plan_name") -> Any:
    return vars(record).get(name, "<missing>")


class TestContextFilter:
    def test_inside_and_outside_of_blocks(self) -> None:
        with written(ContextFilter()) as out:
            log.info("before")
            with plan_context("outer"):
                log.info("one")
                with plan_context("inner"):
                    log.info("two")
                log.info("three")
            log.info("after")
        assert out.getvalue().splitlines() == [
            "- | before",
            "outer | one",
            "inner | two",
            "outer | three",
            "- | after",
        ]

    @pytest.mark.parametrize(
        ("style", "fmt"),
        [
            ("%", "%(plan)s %(who)s %(run)s %(message)s"),
            ("{", "{plan} {who} {run} {message}"),
            ("$", "$plan ${who} $run $message"),
        ],
    )
    def test_all_styles(self, style: str, fmt: str) -> None:
        with written(ContextFilter(NAMES), fmt=fmt, style=style) as out:
            log.info("%s", "outside")
            with plan_context("p"), TenantContext("acme"), RunContext(7):
                log.info("%s", "inside")
        assert out.getvalue() == "- - - outside\np acme 7 inside\n"

    def test_nothing_is_shown_that_was_not_named(self) -> None:
        record = made()
        with plan_context("p"), TenantContext("secret"):
            assert ContextFilter().filter(record)
        assert attribute(record) == "p"
        assert "secret" not in repr(vars(record))

    def test_what_the_application_says_stays(self) -> None:
        with written(ContextFilter()) as out, plan_context("p"):
            log.info("mine", extra={"aura_plan_name": "own", "plan_name": "other"})
        assert out.getvalue() == "own | mine\n"

    def test_another_packages_logger(self) -> None:
        with (
            written(ContextFilter(), name="asyncio", fmt="%(aura_plan_name)s") as out,
            plan_context("p"),
        ):
            asyncio.run(asyncio.sleep(0), debug=True)  # says which selector it uses
        assert set(out.getvalue().splitlines()) == {"p"}


class TestNames:
    @pytest.mark.parametrize(
        "name",
        ["name", "msg", "args", "message", "asctime", "taskName", "getMessage"],
    )
    @pytest.mark.parametrize("take", [ContextFilter, install])
    def test_a_records_own(self, name: str, take: Any, factory: object) -> None:
        with pytest.raises(ValueError, match=f"a LogRecord has {name} itself"):
            take({"free": PlanContext, name: PlanContext})
        assert logging.getLogRecordFactory() is factory

    def test_all_that_are_taken_are_told(self) -> None:
        with pytest.raises(ValueError, match="has args, name itself:"):
            install({"name": PlanContext, "free": PlanContext, "args": PlanContext})

    def test_free_ones(self) -> None:
        # Not taken, because it is we who have taken it.
        install({"plan.name": PlanContext})
        install({"plan.name": PlanContext})
        with plan_context("p"):
            assert attribute(made(), "plan.name") == "p"

    def test_not_a_context(self) -> None:
        with pytest.raises(TypeError, match="must name a VarContext class"):
            install({"who": current_plan_name})  # type: ignore[dict-item] # pyright: ignore[reportArgumentType] - what is tested
        assert attribute(made(), "who") == "<missing>"


class TestDictConfig:
    # As it would be in a file.
    CONFIG = """{
        "version": 1,
        "disable_existing_loggers": false,
        "filters": {
            "context": {
                "()": "aura_context.integrations.logging.ContextFilter",
                "contexts": {
                    "plan": "ext://aura_context.PlanContext",
                    "who": "ext://tests.contexts.TenantContext"
                }
            },
            "plan_only": {"()": "aura_context.integrations.logging.ContextFilter"}
        },
        "formatters": {
            "both": {"format": "{plan} {who} {message}", "style": "{"},
            "plan": {"format": "%(aura_plan_name)s %(message)s"}
        },
        "handlers": {
            "both": {
                "class": "logging.StreamHandler",
                "stream": "ext://sys.stdout",
                "formatter": "both",
                "filters": ["context"]
            },
            "plan": {
                "class": "logging.StreamHandler",
                "stream": "ext://sys.stdout",
                "formatter": "plan",
                "filters": ["plan_only"]
            }
        },
        "loggers": {
            "configured": {"level": "INFO", "handlers": ["both", "plan"]}
        }
    }"""

    def test_by_class_path_with_names_given_there(
        self, capsys: pytest.CaptureFixture[str]
    ) -> None:
        logging.config.dictConfig(json.loads(self.CONFIG))
        configured = logging.getLogger("configured.child")
        try:
            configured.info("outside")
            with plan_context("p"), TenantContext("acme"):
                configured.info("inside")
        finally:
            logging.getLogger("configured").handlers.clear()
        assert capsys.readouterr().out.splitlines() == [
            "- - outside",
            "- outside",
            "p acme inside",
            "p inside",
        ]

    def test_a_taken_name_is_told(self) -> None:
        config = json.loads(self.CONFIG.replace('"plan":', '"msg":', 1))
        with pytest.raises(ValueError, match="filter 'context'") as error:
            logging.config.dictConfig(config)
        assert "a LogRecord has msg itself" in str(error.value.__cause__)


class TestInstall:
    def test_every_record_has_it(self) -> None:
        install()
        with written() as out:
            log.info("outside")
            with plan_context("p"):
                log.info("inside")
        assert out.getvalue() == "- | outside\np | inside\n"

    def test_a_record_that_is_made_by_keyword(self) -> None:
        install()
        make = logging.getLogRecordFactory()
        assert make("n", 20, "f", 1, "m", (), None, func="g").funcName == "g"

    def test_another_packages_logger(self) -> None:
        install()
        with (
            written(name="asyncio", fmt="%(aura_plan_name)s") as out,
            plan_context("p"),
        ):
            asyncio.run(asyncio.sleep(0), debug=True)
        assert set(out.getvalue().splitlines()) == {"p"}

    def test_warnings_too(self) -> None:
        install()
        logging.captureWarnings(capture=True)
        try:
            with (
                written(name="py.warnings", fmt="%(aura_plan_name)s") as out,
                pytest.MonkeyPatch.context() as patch,
            ):
                patch.setattr("warnings.filters", [])
                with plan_context("p"):
                    logging.warnings.warn("odd", UserWarning, stacklevel=1)  # type: ignore[attr-defined] # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType]
        finally:
            logging.captureWarnings(capture=False)
        assert out.getvalue() == "p\n"

    def test_what_was_named_and_nothing_else(self) -> None:
        install(NAMES)
        with plan_context("p"), TenantContext("acme"):
            record = made()
        values = [attribute(record, name) for name in (*NAMES, "aura_plan_name")]
        assert values == ["acme", "-", "p", "<missing>"]

    def test_extra_with_the_applications_own_names(self) -> None:
        install()
        with plan_context("p"):
            record = made(plan_name="own", plan="own", who="me")
        assert attribute(record) == "p"
        assert [attribute(record, n) for n in ("plan_name", "plan", "who")] == [
            "own",
            "own",
            "me",
        ]

    def test_extra_with_the_very_name_is_refused_by_logging(self) -> None:
        install({"who": PlanContext})
        with pytest.raises(KeyError, match="Attempt to overwrite 'who'"):
            made(who="me")

    def test_together_with_the_filter(self) -> None:
        install()
        with written(ContextFilter()) as out, plan_context("p"):
            log.info("once")
        assert out.getvalue() == "p | once\n"

    def test_a_record_from_elsewhere_keeps_what_it_has(self) -> None:
        install()
        with plan_context("sender"):
            sent = vars(made()).copy()
        with plan_context("receiver"):
            assert attribute(logging.makeLogRecord(sent)) == "sender"


class Own(logging.LogRecord):
    """An application's own record."""


def counting(inner: Any, calls: list[str]) -> Any:
    """Return an application's own factory, which calls the one before."""

    def count(*args: Any, **kwargs: Any) -> logging.LogRecord:
        calls.append("called")
        record: logging.LogRecord = inner(*args, **kwargs)
        return record

    return count


class TestOtherFactories:
    def test_the_one_before_is_kept_and_called(self) -> None:
        logging.setLogRecordFactory(Own)
        install()
        with plan_context("p"):
            record = made()
        assert type(record) is Own
        assert attribute(record) == "p"
        uninstall()
        assert logging.getLogRecordFactory() is Own

    def test_what_it_sets_itself_stays(self) -> None:
        def own(*args: Any, **kwargs: Any) -> logging.LogRecord:
            record = Own(*args, **kwargs)
            vars(record)["aura_plan_name"] = "own"
            return record

        logging.setLogRecordFactory(own)
        install()
        with plan_context("p"):
            assert attribute(made()) == "own"

    def test_one_that_is_set_later_stays(self, factory: object) -> None:
        install()
        ours = logging.getLogRecordFactory()
        calls: list[str] = []
        later = counting(ours, calls)
        logging.setLogRecordFactory(later)
        with plan_context("p"):
            assert attribute(made()) == "p"
            uninstall()
            assert attribute(made()) == "<missing>"
            assert logging.getLogRecordFactory() is later
            logging.setLogRecordFactory(ours)  # as the later one undoes itself
            assert attribute(made()) == "<missing>"
        assert len(calls) == 2
        uninstall()
        assert logging.getLogRecordFactory() is factory

    def test_one_that_replaces_ours(self) -> None:
        install()
        logging.setLogRecordFactory(Own)
        assert attribute(made()) == "<missing>"
        install()
        assert attribute(made()) == "-"
        uninstall()
        assert logging.getLogRecordFactory() is Own

    def test_installing_again_above_one_that_calls_ours(self) -> None:
        calls: list[str] = []
        install()
        later = counting(logging.getLogRecordFactory(), calls)
        logging.setLogRecordFactory(later)
        install({"plan": PlanContext})
        with plan_context("p"):
            record = made()
        assert [attribute(record), attribute(record, "plan")] == ["p", "p"]
        assert calls == ["called"]
        uninstall()
        assert logging.getLogRecordFactory() is later
        assert attribute(made()) == "<missing>"


class TestTwice:
    def test_install(self, factory: object) -> None:
        for _ in range(3):
            install()
        assert vars(logging.getLogRecordFactory())["inner"] is factory
        uninstall()
        assert logging.getLogRecordFactory() is factory

    def test_install_adds_to_what_is_shown(self) -> None:
        install()
        install({"who": TenantContext})
        install({"who": RunContext})  # the last of a name counts
        with plan_context("p"), TenantContext("acme"), RunContext(7):
            record = made()
        assert [attribute(record), attribute(record, "who")] == ["p", 7]

    def test_uninstall(self, factory: object) -> None:
        uninstall()
        install()
        uninstall()
        uninstall()
        assert logging.getLogRecordFactory() is factory
        install()
        assert attribute(made()) == "-"

    def test_nothing_is_left_of_what_was_shown_before(self) -> None:
        install({"who": TenantContext})
        uninstall()
        install()
        assert attribute(made(), "who") == "<missing>"


@contextmanager
def listening(
    queue_handler: logging.handlers.QueueHandler, *behind: logging.Filter
) -> Generator[io.StringIO]:
    """Write in the listener's thread what is logged here."""
    out = io.StringIO()
    handler = logging.StreamHandler(out)
    handler.setFormatter(logging.Formatter(FORMAT))
    for each in behind:
        handler.addFilter(each)
    listener = logging.handlers.QueueListener(queue_handler.queue, handler)
    with written():
        log.handlers = [queue_handler]
        with plan_context("listener"):
            listener.start()
        try:
            yield out
        finally:
            listener.stop()


class TestFixedInTheThreadThatLogs:
    def test_queue_with_the_factory(self) -> None:
        install()
        with listening(logging.handlers.QueueHandler(queue.Queue())) as out:
            log.info("outside")
            with plan_context("p"):
                log.info("inside")
        assert out.getvalue() == "- | outside\np | inside\n"

    def test_queue_with_the_filter_before_it(self) -> None:
        handler = logging.handlers.QueueHandler(queue.Queue())
        handler.addFilter(ContextFilter())
        # One behind as well does no harm.
        with listening(handler, ContextFilter()) as out, plan_context("p"):
            log.info("inside")
        assert out.getvalue() == "p | inside\n"

    def test_many_threads_at_once(self) -> None:
        install()
        together = threading.Barrier(8)

        def work(number: int) -> None:
            with plan_context(f"p{number}"):
                for _ in range(20):
                    together.wait(30)
                    log.info("p%d", number)

        with listening(logging.handlers.QueueHandler(queue.Queue())) as out:
            threads = [threading.Thread(target=work, args=[n]) for n in range(8)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        lines = [line.split(" | ") for line in out.getvalue().splitlines()]
        assert len(lines) == 160
        assert all(plan == message for plan, message in lines)

    def test_a_thread_has_what_is_carried_to_it(self) -> None:
        install()
        with written() as out, plan_context("p"):
            thread = threading.Thread(target=carry(log.info), args=["in a thread"])
            thread.start()
            thread.join()
        assert out.getvalue() == "p | in a thread\n"

    def test_tasks(self) -> None:
        async def work(number: int, turn: asyncio.Barrier) -> None:
            async with plan_context(f"p{number}"):
                for _ in range(3):
                    await turn.wait()
                    log.info("p%d", number)

        async def main() -> None:
            turn = asyncio.Barrier(3)
            await asyncio.gather(*(work(number, turn) for number in range(3)))

        with written(ContextFilter()) as out:
            asyncio.run(main())
        lines = [line.split(" | ") for line in out.getvalue().splitlines()]
        assert len(lines) == 9
        assert all(plan == message for plan, message in lines)

    def test_pickled_records(self) -> None:
        install({"plan": PlanContext})
        with plan_context("p"):
            copy = pickle.loads(pickle.dumps(made()))  # noqa: S301 - our own
        assert attribute(copy, "plan") == "p"


def child(records: multiprocessing.Queue[logging.LogRecord], plan_name: str) -> None:
    """Log in a process of its own, to a queue."""
    install()
    log.handlers = [logging.handlers.QueueHandler(records)]
    log.setLevel(logging.INFO)
    with plan_context(plan_name):
        log.info("from a child")
    log.info("still from a child")


class TestSubprocesses:
    def test_records_from_a_queue(self) -> None:
        spawning = multiprocessing.get_context("spawn")
        records: multiprocessing.Queue[logging.LogRecord] = spawning.Queue()
        processes: list[BaseProcess] = [
            spawning.Process(target=child, args=(records, f"p{number}"))
            for number in range(2)
        ]
        for process in processes:
            process.start()
        with plan_context("parent"):
            received = [attribute(records.get(timeout=60)) for _ in range(4)]
        for process in processes:
            process.join()
        assert sorted(received) == ["-", "-", "p0", "p1"]

    def test_a_program_by_itself(self) -> None:
        program = """
            import logging
            from aura_context import plan_context
            from aura_context.integrations.logging import install

            install()
            logging.basicConfig(format="%(aura_plan_name)s %(message)s", level="INFO")
            logging.info("outside")
            with plan_context("p"):
                logging.info("inside")
        """
        done = subprocess.run(  # noqa: S603 - our own program
            [sys.executable, "-W", "error", "-c", textwrap.dedent(program)],
            capture_output=True,
            encoding="utf-8",
            check=True,
            timeout=60,
        )
        assert done.stderr == "- outside\np inside\n"
