"""The plan in OpenTelemetry's spans and log records."""

from __future__ import annotations

from typing import TYPE_CHECKING

from opentelemetry.sdk._logs import LogRecordProcessor
from opentelemetry.sdk.trace import SpanProcessor
from typing_extensions import override

from ._named import Contexts  # noqa: TC001 - get_type_hints() evaluates it
from ._shown import Shown, of_64_bits


if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from opentelemetry.context import Context
    from opentelemetry.sdk._logs import ReadWriteLogRecord
    from opentelemetry.sdk.trace import Span


__all__ = ["ContextLogRecordProcessor", "ContextSpanProcessor"]


class ContextSpanProcessor(SpanProcessor):
    """Adds what is bound to each span, where the span starts.

    This includes child spans. An attribute that the span has already is kept, and
    nothing is added to a span that is full. If nothing is bound, nothing is added. An
    int of more than 64 bits becomes text.

    Args:
        contexts: What to show: a mapping from the attribute's name to the context
            class. Without it, the plan is shown as ``aura.plan_name``, and nothing
            else.

    Raises:
        TypeError: If the mapping holds anything but context classes, by name.

    Example:
        >>> from opentelemetry.sdk.trace import TracerProvider
        >>> from aura_context import plan_context
        >>> provider = TracerProvider()
        >>> provider.add_span_processor(ContextSpanProcessor())
        >>> with plan_context("nightly"):
        ...     span = provider.get_tracer("doctest").start_span("job")
        >>> dict(span.attributes)
        {'aura.plan_name': 'nightly'}
        >>> provider.shutdown()
    """

    def __init__(self, contexts: Contexts | None = None) -> None:
        self._shown = Shown(contexts, "aura.plan_name")

    @override
    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        """Add to the span; OpenTelemetry calls this in the thread that starts it."""
        # The public property hides how many there may be.
        own: Any = span._attributes  # noqa: SLF001 # pyright: ignore[reportPrivateUsage] - there is no other way
        for name, value in self._shown.bound().items():
            if _has_room(own, name):
                before = dict(own)
                span.set_attribute(name, of_64_bits(value))
                # They come last, because the SDK drops the oldest if too many are set.
                span.set_attributes(before)

    @override
    def force_flush(self, timeout_millis: int = 30000) -> bool:
        """Return True: there is nothing to flush."""
        # Older SDKs inherit None here, and then do not flush the next processor.
        return True


class ContextLogRecordProcessor(LogRecordProcessor):
    """Adds what is bound to each log record, where it is emitted.

    It treats attributes as `ContextSpanProcessor` does. Add it to the
    ``LoggerProvider`` before the processor that exports, because they are called in
    that order.
    """

    def __init__(self, contexts: Contexts | None = None) -> None:
        self._shown = Shown(contexts, "aura.plan_name")

    @override
    def on_emit(self, log_record: ReadWriteLogRecord) -> None:
        """Add to the record; OpenTelemetry calls this in the thread that emits it."""
        # The SDK has replaced what the application gave by a mapping of its own.
        own: Any = log_record.log_record.attributes
        for name, value in self._shown.bound().items():
            if _has_room(own, name):
                own[name] = of_64_bits(value)

    @override
    def shutdown(self) -> None:
        """Do nothing: there is nothing to release."""

    @override
    def force_flush(self, timeout_millis: int = 30000) -> bool:
        """Return True: there is nothing to flush."""
        return True


def _has_room(own: Mapping[str, Any], name: str) -> bool:
    """Return whether the name is free, and adding it drops nothing.

    The SDK's mapping drops the oldest attribute if it is full.
    """
    limit: int | None = getattr(own, "maxlen", None)
    return name not in own and (limit is None or len(own) < limit)
