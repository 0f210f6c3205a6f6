"""Headers and messages that somebody forged, and what of them comes in."""

from __future__ import annotations

import json
import logging
import unicodedata

from contextvars import Context
from random import Random
from time import monotonic, perf_counter
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from aura_context import PlanContext
from aura_context.integrations import baggage, messages
from tables import Cell, Table, Zero


if TYPE_CHECKING:
    from collections.abc import Callable

ACCEPT = {"plan_name": PlanContext}
NAMES = ("plan_name", "plan_name", "plan_name ", "PLAN_NAME", "tenant", "", "a" * 300)
# A name that is right, what forges a line, what looks like syntax, and any character.
PIECES = (
    "nightly", "计划", "🗓️", "\n", "\r", "\0", "\x1b[31m", "\u2028", "\u202e", "\ud800",
    " ", "\t", "%", "%0A", "%ZZ", "%ff", "=", ",", ";", '"', "\\", "\\n", "\\ud800",
    "{", "}", "[", "null", "NaN", "1e999", "\ufeff", "\u200b", "\xa0", "a" * 5000,
    "{" * 2000, "9" * 5000, "plan_name", ":",
)  # fmt: skip
BIDI = "\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"


def forges(name: object) -> bool:
    """Return whether that is no name by the rules: said once more, by itself."""
    if name is None:
        return False
    if not isinstance(name, str) or len(name) > 8192:  # noqa: PLR2004 - the limit of a header
        return True
    kinds = {unicodedata.category(each) for each in name}
    bad = kinds & {"Cc", "Zl", "Zp", "Cs"} or set(name) & set(BIDI)
    return bool(bad) or kinds <= {"Zs", "Cf"}


def text(random: Random) -> str:
    pieces = random.choices((*PIECES, chr(random.randrange(0x110000))), k=4)
    return "".join(pieces[: random.randrange(5)])


def header(random: Random) -> str:
    members: list[str] = []
    (count,) = random.choices((1, 2, 5, 200), (60, 20, 10, 1))
    for _ in range(count):
        value = text(random)
        if random.random() < 0.5:  # noqa: PLR2004
            value = quote(value, errors="surrogatepass")
        members.append(f"{random.choice(NAMES)}={value}")
    return random.choice((",", ", ", ";", "")).join(members)


def message(random: Random) -> str:
    values: list[Any] = [text(random), text(random), 1, None, [], {}, True, 0.5]
    value = random.choice(values)
    line = json.dumps({random.choice(NAMES): value, "plan_name": value})
    if random.random() < 0.5:  # noqa: PLR2004 - broken in one place
        place = random.randrange(len(line))
        line = line[:place] + text(random) + line[place + random.randrange(3) :]
    return line


def tried(
    make: Callable[[Random], str], read: Callable[[str], Any], seconds: float
) -> tuple[Cell, ...]:
    random = Random(make.__name__)
    end = monotonic() + seconds
    times: list[float] = []
    exceptions = forged = accepted = 0
    while monotonic() < end:
        given = make(random)
        start = perf_counter()
        try:
            values = read(given)
        except Exception as error:  # noqa: BLE001 - none is expected
            if not exceptions:
                print(f"{read.__name__}: {type(error).__name__}: {given[:200]!a}")
            exceptions += 1
            continue
        finally:
            times.append(perf_counter() - start)
        accepted += bool(values)
        forged += any(forges(value) for value in values.values())
    longest = f"{max(times) * 1000:.1f} ms"
    return len(times), accepted, Zero(exceptions), Zero(forged), longest


def theirs(seconds: float) -> tuple[Cell, ...]:
    """Read the same headers by OpenTelemetry, which judges no names."""
    from opentelemetry.baggage import get_all  # noqa: PLC0415 - only beside the peers
    from opentelemetry.baggage.propagation import W3CBaggagePropagator  # noqa: PLC0415

    propagator = W3CBaggagePropagator()

    def read(text: str) -> Any:
        found = get_all(propagator.extract({"baggage": text}))
        return {name: found[name] for name in ACCEPT if name in found}

    *cells, exceptions, forged, longest = tried(header, read, seconds)
    return *cells, int(exceptions), int(forged), longest


def measure(seconds: float, *, peers: bool) -> list[Table]:
    logging.disable()
    share = seconds / (3 if peers else 2)

    def extract(text: str) -> Any:
        return baggage.extract({"baggage": text}, ACCEPT)

    def load(text: str) -> Any:
        return messages.load(text, ACCEPT)

    rows = {
        "`baggage.extract`": tried(header, extract, share),
        "`messages.load`": tried(message, load, share),
    }
    if peers:
        rows["OpenTelemetry's baggage"] = Context().run(theirs, share)
    columns = ("tried", "with a plan", "exceptions", "forged names let in", "longest")
    return [Table("Hostile input", columns, rows)]
