"""Rule I4: Celery's tasks, without a worker; `tests/engines` has real ones."""

from __future__ import annotations

import gc
import itertools
import json
import logging
import weakref

from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

import celery
import pytest

from celery import Celery, chain, group, signals
from celery.app.trace import build_tracer

from aura_context import (
    PlanContext,
    VarContext,
    active_contexts,
    current_plan_name,
    plan_context,
)
from aura_context.integrations.celery import install, uninstall
from tests.contexts import (
    UNSET,
    RunContext,
    TenantContext,
    current_run,
    current_tenant,
    fresh,
    held,
)


if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


CONTEXTS = {"plan_name": PlanContext, "run": RunContext}

NUMBERS = itertools.count()  # the broker is one for the process

current_secret: ContextVar[str | None] = ContextVar("secret", default=None)
current_thing: ContextVar[object] = ContextVar("thing", default=UNSET)


class SecretContext(VarContext[str | None]):
    var = current_secret
    carried = False


class ThingContext(VarContext[object]):
    var = current_thing


def logged(caplog: pytest.LogCaptureFixture) -> list[logging.LogRecord]:
    """Return what this package has logged, and every error of anything else."""
    return [
        each
        for each in caplog.records
        if each.name.startswith("aura_context") or each.levelno >= logging.ERROR
    ]


def open_values() -> list[object]:
    return [each.value for each in active_contexts() if isinstance(each, VarContext)]


class Boom(Exception):
    """An exception of a task."""


class Tasks:
    """An application, its tasks, and a worker of a kind: one that takes one message."""

    def __init__(self) -> None:
        self.app: Any = Celery(
            "tests", broker="memory://", backend="cache+memory://", set_as_current=False
        )
        self.app.conf.broker_transport_options = {"polling_interval": 0.01}
        self.queue = self.app.conf.task_default_queue = f"queue {next(NUMBERS)}"
        self.seen: list[Any] = []
        self.after: Any = None

        def look(*_previous: object) -> list[Any]:
            seen = [current_plan_name.get(), current_run.get(), current_tenant.get()]
            self.seen.append(seen)
            return seen

        def retry(task: Any) -> list[Any]:
            look()
            with plan_context("inside"):
                if task.request.retries < 2:
                    raise task.retry(countdown=0)
            return look()

        def boom() -> None:
            look()
            raise Boom

        self.look = self.add(look)
        self.retry = self.add(retry, bind=True)
        self.boom = self.add(boom)

    def add(self, function: Callable[..., Any], **options: Any) -> Any:
        """Make a task of this application alone."""
        name = function.__name__
        return self.app.task(function, name=name, shared=False, **options)

    def forge(self, name: str, headers: dict[str, Any]) -> None:
        """Send a message with these headers, as one without us may do."""
        Tasks().app.send_task(name, headers=headers, queue=self.queue)

    def message(self) -> Any:
        """Take the next message from the queue."""
        with self.app.connection_for_read() as connection:
            queue = connection.SimpleQueue(self.queue)
            message = queue.get(timeout=30)
            message.ack()
            queue.close()
        return message

    def work(self, message: Any = None) -> Any:
        """Run the task of the next message as a worker does."""
        message = message or self.message()
        args, kwargs, embed = message.payload
        task = self.app.tasks[message.headers["task"]]
        tracer: Any = build_tracer(task.name, task, app=self.app)
        request = {**message.headers, **embed, "delivery_info": message.delivery_info}

        def run() -> Any:
            with plan_context("of the worker"), TenantContext("of the worker"):
                traced = tracer(message.headers["id"], args, kwargs, request)
                self.after = open_values()
                assert held() == held(current_tenant) == "of the worker"
                return traced.retval

        return fresh(run)


@pytest.fixture
def tasks() -> Iterator[Tasks]:
    tasks = Tasks()
    install(tasks.app, CONTEXTS)
    yield tasks
    uninstall(tasks.app)


def header(**values: Any) -> dict[str, Any]:
    return {"aura_context": json.dumps(values)}


class TestPublish:
    def test_header_is_one_line_of_text(self, tasks: Tasks) -> None:
        with plan_context("日报"), RunContext(7), TenantContext("acme"):
            tasks.look.delay()
        text = tasks.message().headers["aura_context"]
        assert isinstance(text, str)
        assert text.isascii()
        assert json.loads(text) == {"plan_name": "日报", "run": 7}

    def test_nothing_bound(self, tasks: Tasks) -> None:
        tasks.look.delay()
        with plan_context(None), RunContext(0):
            tasks.look.delay()
        assert [tasks.message().headers["aura_context"] for _ in range(2)] == ["{}"] * 2

    def test_by_name_and_with_headers_of_ones_own(self, tasks: Tasks) -> None:
        with plan_context("p"):
            tasks.app.send_task("look", headers={"mine": 1})
        headers = tasks.message().headers
        assert headers["mine"] == 1
        assert json.loads(headers["aura_context"]) == {"plan_name": "p"}

    def test_what_is_bound_raw_counts(self, tasks: Tasks) -> None:
        def body() -> None:
            current_plan_name.set("raw")
            tasks.look.delay()

        fresh(body)
        assert tasks.work() == ["raw", 0, None]

    @pytest.mark.parametrize("value", [object(), ["list"], b"bytes"])
    def test_what_cannot_travel_is_an_error_in_the_caller(
        self, tasks: Tasks, value: object
    ) -> None:
        install(tasks.app, {"thing": ThingContext})
        tasks.look.delay()
        with ThingContext(value), pytest.raises(TypeError, match=r"^thing: a mess"):
            tasks.look.delay()
        with (
            ThingContext(float("nan")),
            pytest.raises(ValueError, match=r"thing: .* NaN"),
        ):
            tasks.look.delay()

    @pytest.mark.parametrize("value", ["text", "", 7, 0.5, True, None, "\ud800\n"])
    def test_what_can(self, tasks: Tasks, value: object) -> None:
        got: list[object] = []
        install(tasks.app, {"thing": ThingContext})

        def get() -> None:
            got.append(current_thing.get())

        task = tasks.add(get)
        with ThingContext(value):
            task.delay()
        tasks.work()
        assert got == [value]

    def test_another_application_is_left_alone(self, tasks: Tasks) -> None:
        other = Tasks()
        with plan_context("p"):
            other.look.delay()
            assert "aura_context" not in other.message().headers
            other.look.apply()
        assert other.seen == [["p", 0, None]]
        assert tasks.seen == []


class TestWorker:
    def test_bound_around_the_task_and_nothing_else(self, tasks: Tasks) -> None:
        with plan_context("p"), RunContext(7), TenantContext("acme"):
            tasks.look.delay()
        assert tasks.work() == ["p", 7, None]
        assert tasks.after == ["of the worker", "of the worker"]

    def test_body_that_raises(self, tasks: Tasks) -> None:
        with plan_context("p"):
            tasks.boom.delay()
        tasks.work()
        assert tasks.seen == [["p", 0, None]]

    @pytest.mark.parametrize(
        "headers",
        [
            {"aura_context": None},
            {"aura_context": ""},
            {"aura_context": "{}"},
            {"aura_context": '{"unknown": "x", "tenant": "x"}'},
        ],
    )
    def test_clean(
        self, tasks: Tasks, headers: dict[str, Any], caplog: pytest.LogCaptureFixture
    ) -> None:
        tasks.forge("look", headers)
        assert tasks.work() == [None, 0, None]
        assert "aura" not in caplog.text

    def test_publisher_without_us(self, tasks: Tasks) -> None:
        foreign = Tasks()
        with plan_context("p"):
            foreign.look.delay()
        assert tasks.work(foreign.message()) == [None, 0, None]

    @pytest.mark.parametrize(
        "text",
        [
            *("{", "[]x", "null", "7", '"p"', "[1]", "[" * 100_000, "9" * 5_000),
            *(7, ["p"], {"plan_name": "p"}, '{"run": 7}' + " " * 8192),
        ],
    )
    def test_malformed_headers_are_dropped_with_a_warning(
        self, tasks: Tasks, text: object, caplog: pytest.LogCaptureFixture
    ) -> None:
        tasks.forge("look", {"aura_context": text})
        assert tasks.work() == [None, 0, None]
        (record,) = logged(caplog)
        assert record.levelname == "WARNING"
        assert record.getMessage().startswith("a message's context is dropped: ")
        assert len(record.getMessage()) < 200

    @pytest.mark.parametrize(
        "value", ["", " ", "a\nb", 7, True, ["p"], {"a": 1}, "\n" * 1_000, "n" * 5_000]
    )
    def test_what_the_class_refuses_is_dropped_alone(
        self, tasks: Tasks, value: object, caplog: pytest.LogCaptureFixture
    ) -> None:
        tasks.forge("look", header(plan_name=value, run=7))
        assert tasks.work() == [None, 7, None]
        (record,) = logged(caplog)
        message = record.getMessage()
        assert message.startswith("a message's plan_name is dropped: ")
        assert message.isprintable()
        assert len(message) < 300

    @pytest.mark.parametrize("headers", ["text", ["a"], 5, True, [["aura_context", 1]]])
    @pytest.mark.parametrize("name", ["look", "retry"])
    def test_a_headers_field_that_is_no_mapping(
        self,
        tasks: Tasks,
        name: str,
        headers: object,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        tasks.forge(name, {"headers": headers})
        for _ in range(3 if name == "retry" else 1):
            tasks.work()
        assert tasks.seen
        assert {*map(tuple, tasks.seen)} == {(None, 0, None)}
        assert logged(caplog) == []

    def test_a_headers_field_that_is_no_mapping_is_none(self, tasks: Tasks) -> None:
        """As it is in Celery where there is no such field."""

        def tell(task: Any) -> Any:
            return task.request.headers

        tasks.add(tell, bind=True)
        tasks.forge("tell", {"headers": "text"})
        assert tasks.work() is None

    @pytest.mark.parametrize(
        "headers",
        [
            {"is_eager": True},
            {"_aura_context_run": "forged"},
            {"_aura_context_run": ["{}", None]},
        ],
    )
    def test_fields_of_the_request_that_a_message_sets(
        self, tasks: Tasks, headers: Any, caplog: pytest.LogCaptureFixture
    ) -> None:
        tasks.forge("look", headers)
        assert tasks.work() == [None, 0, None]
        foreign = Tasks()
        foreign.forge("look", headers)
        assert foreign.work()[0] == "of the worker"

        def publish(task: Any) -> None:
            with plan_context("ours"):
                task_id = task.request.id
                tasks.app.send_task("look", task_id=task_id, retries=1)

        foreign.add(publish, bind=True)
        foreign.forge("publish", headers)
        foreign.work()
        assert tasks.work() == ["ours", 0, None]
        assert logged(caplog) == []

    def test_what_the_body_leaves_behind(self, tasks: Tasks) -> None:
        kept: list[PlanContext] = []

        def leave() -> None:
            current_run.set(8)
            kept.append(plan_context("left open").__enter__())

        tasks.add(leave)
        for name in ("leave", "look"):
            with plan_context("p"):
                tasks.app.send_task(name)
        first, second = tasks.message(), tasks.message()
        task = tasks.app.tasks

        def run() -> None:
            for message in (first, second):
                name = message.headers["task"]
                tracer: Any = build_tracer(name, task[name], app=tasks.app)
                tracer(message.headers["id"], [], {}, message.headers)

        fresh(run)
        assert tasks.seen == [["p", 0, None]]

    def test_nothing_of_a_task_is_left_behind(self, tasks: Tasks) -> None:
        shared = plan_context("left open")

        def leave() -> None:
            shared.__enter__()
            current_run.set(8)

        leaving: Any = build_tracer("leave", tasks.add(leave), app=tasks.app)

        def run() -> None:
            for number in range(3):
                leaving(f"{number}", [], {}, {"id": f"{number}"})
                assert active_contexts() == ()
                assert (current_plan_name.get(), current_run.get()) == (None, 0)

        fresh(run)

    @pytest.mark.filterwarnings("ignore::aura_context.ForeignExitWarning")
    def test_nor_of_one_that_leaves_every_block_it_finds(self, tasks: Tasks) -> None:
        def leave() -> str | None:
            for context in active_contexts():
                context.__exit__(None, None, None)
            found = current_plan_name.get()
            current_plan_name.set("raw")
            return found

        leaving: Any = build_tracer("leave", tasks.add(leave), app=tasks.app)

        def run() -> None:
            assert (
                leaving("1", [], {}, {"headers": header(plan_name="p")}).retval == "p"
            )
            assert current_plan_name.get() is None

        fresh(run)

    def test_logged_as_the_plan(
        self, tasks: Tasks, caplog: pytest.LogCaptureFixture
    ) -> None:
        """Celery's own "succeeded" is logged inside."""
        plans: list[str | None] = []

        class Handler(logging.Handler):
            def emit(self, record: logging.LogRecord) -> None:
                del record
                plans.append(current_plan_name.get())

        handler = Handler()
        log = logging.getLogger("celery.app.trace")
        log.addHandler(handler)
        try:
            with caplog.at_level("INFO"), plan_context("p"):
                tasks.look.delay()
                tasks.work()
        finally:
            log.removeHandler(handler)
        assert plans == ["p"]


class TestOnwards:
    def test_retry_keeps_what_it_was_published_with(self, tasks: Tasks) -> None:
        with plan_context("p"):
            tasks.retry.delay()
        for _ in range(3):
            tasks.work()
        assert tasks.seen == [["p", 0, None]] * 4

    def test_retry_of_what_was_published_clean(self, tasks: Tasks) -> None:
        Tasks().retry.apply_async(queue=tasks.queue)
        for _ in range(3):
            tasks.work()
        assert tasks.seen == [[None, 0, None]] * 4

    def test_retry_of_what_was_refused(self, tasks: Tasks) -> None:
        tasks.forge("retry", header(plan_name="", run=7))
        for _ in range(3):
            tasks.work()
        assert tasks.seen == [[None, 7, None]] * 4

    def test_chain(self, tasks: Tasks) -> None:
        with plan_context("p"), RunContext(7):
            chain(tasks.look.s(), tasks.look.s(), tasks.look.s()).delay()
        for _ in range(3):
            tasks.work()
        assert tasks.seen == [["p", 7, None]] * 3

    def test_group(self, tasks: Tasks) -> None:
        with plan_context("p"):
            group(tasks.look.s() for _ in range(3)).delay()
        for _ in range(3):
            tasks.work()
        assert tasks.seen == [["p", 0, None]] * 3

    def test_callbacks_and_error_callbacks(self, tasks: Tasks) -> None:
        def on_error(_task_id: str) -> None:
            tasks.look()

        errback = tasks.add(on_error)
        with plan_context("p"):
            tasks.look.apply_async(link=tasks.look.s())
        with plan_context("q"):
            tasks.boom.apply_async(link_error=errback.s())
        for _ in range(4):
            tasks.work()
        assert sorted(tasks.seen) == [["p", 0, None]] * 2 + [["q", 0, None]] * 2

    def test_published_inside_a_block_of_the_body(self, tasks: Tasks) -> None:
        def publish() -> None:
            with plan_context("inner"):
                tasks.look.delay()
            tasks.look.delay()

        tasks.add(publish)
        with plan_context("p"):
            tasks.app.send_task("publish")
        for _ in range(3):
            tasks.work()
        assert tasks.seen == [["inner", 0, None], ["p", 0, None]]

    def test_headers_that_a_task_hands_on(self, tasks: Tasks) -> None:
        def publish(task: Any) -> None:
            headers = dict(task.request.headers)
            with plan_context("new"):
                tasks.look.apply_async(headers=headers)
                # Not a retry either: another task, though it counts as one.
                tasks.look.apply_async(headers=headers, retries=1)
            with plan_context(None):
                tasks.look.apply_async(headers=headers)

        tasks.add(publish, bind=True)
        with plan_context("old"):
            tasks.app.send_task("publish", headers={"mine": 1})
        tasks.work()
        for _ in range(3):
            message = tasks.message()
            assert message.headers["mine"] == 1
            tasks.work(message)
        assert tasks.seen == [["new", 0, None], ["new", 0, None], [None, 0, None]]

    def test_a_header_that_is_forged(self, tasks: Tasks) -> None:
        with plan_context("ours"):
            tasks.look.apply_async(headers=header(plan_name="theirs"))
        assert tasks.work() == ["ours", 0, None]

    def test_replaced_by_another_task(self, tasks: Tasks) -> None:
        def replaced(task: Any) -> None:
            with plan_context("inner"):
                task.replace(tasks.look.s())

        tasks.add(replaced, bind=True)
        with plan_context("p"):
            tasks.app.send_task("replaced")
        tasks.work()
        assert tasks.work() == ["inner", 0, None]

    def test_retry_with_headers_of_its_own(self, tasks: Tasks) -> None:
        def again(task: Any) -> None:
            tasks.look()
            if not task.request.retries:
                with plan_context("inside"):
                    task.retry(countdown=0, headers=header(plan_name="forged"))

        tasks.add(again, bind=True)
        with plan_context("p"):
            tasks.app.send_task("again")
        for _ in range(2):
            tasks.work()
        assert tasks.seen == [["p", 0, None]] * 2

    def test_called_as_a_function_it_publishes_what_is_bound(
        self, tasks: Tasks
    ) -> None:
        def publish() -> None:
            tasks.look.delay()

        publishing = tasks.add(publish)
        with plan_context("p"):
            publishing()
        assert tasks.work() == ["p", 0, None]

    def test_headers_that_are_pairs(self, tasks: Tasks) -> None:
        with plan_context("p"):
            tasks.look.apply_async(headers=[("mine", 1)])
        message = tasks.message()
        assert message.headers["mine"] == 1
        assert tasks.work(message) == ["p", 0, None]

    @pytest.mark.parametrize("headers", ["text", 5, ["a"]])
    def test_headers_that_are_none(self, tasks: Tasks, headers: object) -> None:
        with pytest.raises((TypeError, ValueError)):
            tasks.look.apply_async(headers=headers)


class TestEager:
    @pytest.fixture(autouse=True)
    def eager(self, tasks: Tasks) -> None:
        tasks.app.conf.task_always_eager = True
        tasks.app.conf.task_eager_propagates = True

    def test_as_in_a_worker(self, tasks: Tasks) -> None:
        with plan_context("p"), RunContext(7), TenantContext("acme"):
            assert tasks.look.delay().get() == ["p", 7, None]
            assert current_tenant.get() == "acme"
        assert tasks.look.delay().get() == [None, 0, None]
        assert held() == UNSET

    def test_body_that_raises(self, tasks: Tasks) -> None:
        with plan_context("p"):
            with pytest.raises(Boom):
                tasks.boom.delay()
            assert open_values() == ["p"]

    def test_retry(self, tasks: Tasks) -> None:
        tasks.app.conf.task_eager_propagates = False
        with plan_context("p"):
            assert tasks.retry.delay().get() == ["p", 0, None]
        assert tasks.seen == [["p", 0, None]] * 4

    def test_chain_and_group(self, tasks: Tasks) -> None:
        with plan_context("p"):
            chain(tasks.look.s(), tasks.look.s()).delay()
            group(tasks.look.s(), tasks.look.s()).delay()
        assert tasks.seen == [["p", 0, None]] * 4

    def test_headers_that_a_task_hands_on(self, tasks: Tasks) -> None:
        def outer(task: Any) -> None:
            with plan_context("new"):
                forged = header(plan_name="forged")
                tasks.look.apply_async(headers=task.request.headers or forged)

        with plan_context("old"):
            tasks.add(outer, bind=True).delay()
        assert tasks.seen == [["new", 0, None]]

    def test_a_task_within_itself(self, tasks: Tasks) -> None:
        def down(depth: int) -> None:
            tasks.look()
            if depth:
                with plan_context(f"depth {depth}"):
                    tasks.app.tasks["down"].apply_async((depth - 1,), retries=1)

        with plan_context("p"):
            tasks.add(down).delay(2)
        assert [plan for plan, *_ in tasks.seen] == ["p", "depth 2", "depth 1"]

    def test_task_within_a_task(self, tasks: Tasks) -> None:
        def outer() -> str | None:
            with plan_context("inner"):
                tasks.look.delay()
            return current_plan_name.get()

        task = tasks.add(outer)
        with plan_context("p"):
            assert task.delay().get() == "p"
        assert tasks.seen == [["inner", 0, None]]

    def test_what_could_not_travel(
        self, tasks: Tasks, caplog: pytest.LogCaptureFixture
    ) -> None:
        install(tasks.app, {"plan_name": PlanContext, "thing": ThingContext})
        with plan_context("p"), ThingContext(object()):
            assert tasks.look.delay().get() == [None, 0, None]
        assert "TypeError: thing: a message takes text" in caplog.text

    def test_called_as_a_function(self, tasks: Tasks) -> None:
        with plan_context("p"), TenantContext("acme"):
            assert tasks.look() == ["p", 0, "acme"]


class TestInstall:
    def test_the_plan_and_nothing_else_by_default(self) -> None:
        tasks = Tasks()
        install(tasks.app)
        with plan_context("p"), RunContext(7):
            tasks.look.delay()
        message = tasks.message()
        assert message.headers["aura_context"] == '{"plan_name": "p"}'
        assert tasks.work(message) == ["p", 0, None]
        uninstall(tasks.app)

    def test_twice_changes_nothing_but_the_mapping(self, tasks: Tasks) -> None:
        send, receivers = tasks.app.send_task, [*signals.task_prerun.receivers]
        install(tasks.app, {"run": RunContext})
        assert tasks.app.send_task == send
        assert signals.task_prerun.receivers == receivers
        with plan_context("p"), RunContext(7):
            tasks.look.delay()
        assert tasks.work() == [None, 7, None]

    def test_a_proxy(self) -> None:
        tasks = Tasks()
        proxy: Any = celery.current_app
        before: Any = proxy._get_current_object()
        tasks.app.set_current()
        try:
            install(proxy)
        finally:
            before.set_current()
        with plan_context("p"):
            tasks.look.delay()
        assert tasks.work() == ["p", 0, None]
        uninstall(tasks.app)

    def test_uninstall(self) -> None:
        tasks = Tasks()
        uninstall(tasks.app)
        install(tasks.app)
        uninstall(tasks.app)
        with plan_context("p"):
            tasks.look.delay()
        assert "aura_context" not in tasks.message().headers
        tasks.forge("look", header(plan_name="p"))
        assert tasks.work() == ["of the worker", 0, "of the worker"]

    def test_uninstall_below_another_wrapper(self) -> None:
        tasks = Tasks()
        install(tasks.app)
        ours: Any = tasks.app.send_task

        def theirs(*args: Any, **options: Any) -> Any:
            return ours(*args, **options)

        tasks.app.send_task = theirs
        uninstall(tasks.app)
        assert tasks.app.send_task is theirs
        tasks.look.delay()
        assert "aura_context" not in tasks.message().headers
        install(tasks.app)
        with plan_context("p"):
            tasks.look.delay()
        assert tasks.message().headers["aura_context"] == '{"plan_name": "p"}'
        uninstall(tasks.app)

    def test_uninstall_in_the_middle_of_a_task(self) -> None:
        tasks = Tasks()
        install(tasks.app)

        def leave() -> None:
            uninstall(tasks.app)

        task = tasks.add(leave)
        with plan_context("p"):
            task.delay()
        tasks.work()
        assert tasks.after == ["of the worker", "of the worker"]

    def test_keeps_no_application_alive(self) -> None:
        def is_kept(prepare: Callable[[Any], object]) -> bool:
            tasks = Tasks()
            prepare(tasks.app)
            with plan_context("p"):
                tasks.look.delay()
            tasks.work()
            application = weakref.ref(tasks.app)
            del tasks
            gc.collect()
            return application() is not None

        # Celery 5.3 keeps every application that has sent a task.
        assert is_kept(install) <= is_kept(repr)

    @pytest.mark.parametrize(
        ("contexts", "error", "match"),
        [
            ({"who": str}, TypeError, "must name a VarContext class"),
            ({7: PlanContext}, TypeError, "maps names"),
            (PlanContext, TypeError, "maps names"),
            ({"s": SecretContext}, TypeError, "'s' names SecretContext, which has ca"),
            (
                {"a": PlanContext, "b": PlanContext},
                ValueError,
                "'a' and 'b' share a var",
            ),
        ],
    )
    def test_refused(self, contexts: Any, error: type[Exception], match: str) -> None:
        tasks = Tasks()
        with pytest.raises(error, match=match):
            install(tasks.app, contexts)
        assert "send_task" not in vars(tasks.app)
