"""Rule I2: what is bound, in the tags of Sentry's errors and transactions."""

from __future__ import annotations

import asyncio
import threading

from contextvars import Context
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
import sentry_sdk

from sentry_sdk.transport import Transport
from typing_extensions import override

from aura_context import PlanContext, carry, current_plan_name, plan_context
from aura_context.integrations.sentry import ContextEventProcessor
from tests.contexts import RunContext, TenantContext


if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from sentry_sdk.envelope import Envelope


class Kept(Transport):
    """Keeps the events that it is given to send."""

    def __init__(self) -> None:
        super().__init__()
        self.events: list[Any] = []

    @override
    def capture_envelope(self, envelope: Envelope) -> None:
        for item in envelope.items:
            event: Any = item.payload.json
            self.events.append(event)

    @property
    def tags(self) -> list[dict[str, Any]]:
        """The tags of each event, in the order in which they were captured."""
        return [event.get("tags", {}) for event in self.events]


@pytest.fixture
def start(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Kept]]:
    """Return what starts the SDK with such a processor, and a transport that keeps."""
    # Scope.clear() would leave them.
    monkeypatch.setattr(sentry_sdk.get_global_scope(), "_event_processors", [])

    def started(contexts: Any = None) -> Kept:
        kept = Kept()
        sentry_sdk.init(
            "http://key@localhost/1",
            transport=kept,
            traces_sample_rate=1.0,
            default_integrations=False,
            auto_session_tracking=False,
        )
        processor = ContextEventProcessor(contexts)
        sentry_sdk.get_global_scope().add_event_processor(processor)
        return kept

    with sentry_sdk.isolation_scope():
        yield started
    sentry_sdk.init(default_integrations=False)


def test_errors(start: Callable[..., Kept]) -> None:
    kept = start()
    sentry_sdk.capture_message("before")
    with plan_context("nightly"), TenantContext("hunter2"):
        sentry_sdk.capture_exception(LookupError())
        with plan_context("inner"):
            sentry_sdk.capture_message("inner")
        with plan_context(None):
            sentry_sdk.capture_message("none")
    sentry_sdk.capture_message("after")
    assert kept.tags == [{}, {"plan_name": "nightly"}, {"plan_name": "inner"}, {}, {}]
    assert "hunter2" not in str(kept.tags)


def test_transactions(start: Callable[..., Kept]) -> None:
    kept = start()
    with plan_context("nightly"), sentry_sdk.start_transaction(name="job"):
        pass
    with sentry_sdk.start_transaction(name="bare"):
        pass
    assert [event["type"] for event in kept.events] == ["transaction"] * 2
    assert kept.tags == [{"plan_name": "nightly"}, {}]


def test_what_was_named(start: Callable[..., Kept]) -> None:
    kept = start({"plan": PlanContext, "run": RunContext})
    with plan_context("计划"), RunContext(7), TenantContext("hunter2"):
        sentry_sdk.capture_message("m")
    with RunContext(10**5000):
        sentry_sdk.capture_message("m")
    assert kept.tags == [
        {"plan": "计划", "run": "7"},
        {"run": f"<int of {(10**5000).bit_length()} bits>"},
    ]


def test_the_applications_own_tag_wins(start: Callable[..., Kept]) -> None:
    kept = start()
    with plan_context("nightly"):
        sentry_sdk.set_tag("rows", "42")
        sentry_sdk.capture_message("m")
        sentry_sdk.set_tag("plan_name", "own")
        sentry_sdk.capture_message("m")
        sentry_sdk.capture_event({"message": "m", "tags": {"plan_name": "theirs"}})
    assert [tags["plan_name"] for tags in kept.tags[:2]] == ["nightly", "own"]
    assert [tags["rows"] for tags in kept.tags] == ["42"] * 3
    assert kept.tags[2]["plan_name"] != "nightly"


def test_tags_that_are_pairs() -> None:
    event: Any = {"tags": [("rows", "42"), ("plan_name", "own")]}
    with plan_context("nightly"):
        assert ContextEventProcessor()(event, {}) == {
            "tags": {"rows": "42", "plan_name": "own"}
        }


def test_what_forges_is_shown_as_its_repr(start: Callable[..., Kept]) -> None:
    kept = start()
    token = current_plan_name.set("a\nb")
    sentry_sdk.capture_message("m")
    current_plan_name.reset(token)
    assert kept.tags == [{"plan_name": r"'a\nb'"}]


def test_tasks_and_threads(start: Callable[..., Kept]) -> None:
    kept = start()

    async def job(name: str, mine: asyncio.Event, other: asyncio.Event) -> None:
        async with plan_context(name):
            mine.set()
            await other.wait()
            sentry_sdk.capture_message(name)

    async def main() -> None:
        a, b = asyncio.Event(), asyncio.Event()
        await asyncio.gather(job("a", a, b), job("b", b, a))

    asyncio.run(main())
    with plan_context("carried"):
        carried = carry(lambda: sentry_sdk.capture_message("carried"))
        # Threads may inherit: this one does not.
        capture = partial(Context().run, sentry_sdk.capture_message, "bare")
        bare = threading.Thread(target=capture)
        for thread in (threading.Thread(target=carried), bare):
            thread.start()
            thread.join()
    plans = {event["message"]: event.get("tags", {}) for event in kept.events}
    assert plans == {
        "a": {"plan_name": "a"},
        "b": {"plan_name": "b"},
        "carried": {"plan_name": "carried"},
        "bare": {},
    }


def test_refuses_a_mapping_of_anything_else() -> None:
    with pytest.raises(TypeError, match="'who' must name a VarContext class"):
        ContextEventProcessor({"who": str})  # type: ignore[dict-item] # pyright: ignore[reportArgumentType] - what is tested
