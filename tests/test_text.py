"""Rule N1: which text is a name, and can be shown as it is."""

from __future__ import annotations

import sys

from unicodedata import category

import pytest

from aura_context._text import is_readable


BIDI_CONTROLS = {
    *(0x061C, 0x200E, 0x200F),
    *range(0x202A, 0x202F),
    *range(0x2066, 0x206A),
}


class TestN1Readable:
    @pytest.mark.parametrize(
        "name",
        [
            "nightly",
            "daily sales",
            " padded ",
            "计划\u3000A",  # ideographic space
            "no\xa0break",
            "narrow\u202fspace",
            "\u0645\u06cc\u200c\u062e",  # Persian, with a zero-width non-joiner
            "\N{MAN}\u200d\N{PERSONAL COMPUTER}",
            "❤\ufe0f",
            "soft\xadhyphen",
            "\ufeffmark",
            "zero\u200bwidth",
            "\ue000",  # private use
            "\U000e0100a",
            "\u0378",  # not assigned
        ],
    )
    def test_accepts(self, name: str) -> None:
        assert is_readable(name)

    @pytest.mark.parametrize(
        "name",
        [
            "",
            " ",
            "   ",
            "\u3000",
            "\xa0 \u2003",
            "\u200b",
            " \u200d\ufeff ",
            "\xad",
        ],
    )
    def test_refuses_what_has_nothing_to_see(self, name: str) -> None:
        assert not is_readable(name)

    @pytest.mark.parametrize(
        "character",
        [
            *("\x00", "\t", "\n", "\r", "\x1b", "\x7f", "\x85", "\x9b"),
            *("\u2028", "\u2029", "\ud800", "\udfff"),
            *map(chr, sorted(BIDI_CONTROLS)),
        ],
    )
    @pytest.mark.parametrize("around", ["a{}b", "{}b", "a{}", "计划\u3000{}A", "{}"])
    def test_refuses_what_forges(self, character: str, around: str) -> None:
        assert not is_readable(around.format(character))

    def test_asks_each_character_there_is(self) -> None:
        for point in range(sys.maxunicode + 1):
            kind = category(chr(point))
            forges = kind in {"Cc", "Zl", "Zp", "Cs"} or point in BIDI_CONTROLS
            assert is_readable("a" + chr(point)) is not forges, hex(point)
            invisible = forges or kind in {"Zs", "Cf"}
            assert is_readable(chr(point)) is not invisible, hex(point)
