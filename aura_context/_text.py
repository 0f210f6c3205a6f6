"""Which text can stand in a log line as it is: rule N1, for names and for values."""

from __future__ import annotations

from typing import Final
from unicodedata import category


# They reorder what stands around them, so that a line reads as another:
# https://www.unicode.org/reports/tr9/#Directional_Formatting_Characters
_BIDI_CONTROLS: Final = frozenset(
    "\N{ARABIC LETTER MARK}"
    "\N{LEFT-TO-RIGHT MARK}\N{RIGHT-TO-LEFT MARK}"
    "\N{LEFT-TO-RIGHT EMBEDDING}\N{RIGHT-TO-LEFT EMBEDDING}"
    "\N{POP DIRECTIONAL FORMATTING}"
    "\N{LEFT-TO-RIGHT OVERRIDE}\N{RIGHT-TO-LEFT OVERRIDE}"
    "\N{LEFT-TO-RIGHT ISOLATE}\N{RIGHT-TO-LEFT ISOLATE}\N{FIRST STRONG ISOLATE}"
    "\N{POP DIRECTIONAL ISOLATE}"
)

# Control characters, line and paragraph separators, lone surrogates.
_FORGING: Final = frozenset({"Cc", "Zl", "Zp", "Cs"})

# White space and format characters. What else is white space is refused above.
_INVISIBLE: Final = frozenset({"Zs", "Cf"})


def is_readable(text: str) -> bool:
    r"""Return whether there is something to see in the text, and nothing that forges.

    Control characters, line and paragraph separators, lone surrogates and
    bidirectional controls forge or reorder log lines. Anything else may be there:
    no-break spaces, zero-width joiners, emoji, private characters.

    Example:
        >>> is_readable("计划\u3000A")
        True
        >>> is_readable("nightly\nnightly"), is_readable("\u200b")
        (False, False)
    """
    # Nearly every name: the only invisible character that is printable is the space.
    if text.isprintable():
        return bool(text.strip())
    categories = {category(character) for character in text}
    return (
        categories.isdisjoint(_FORGING)
        and _BIDI_CONTROLS.isdisjoint(text)
        and not categories <= _INVISIBLE
    )
