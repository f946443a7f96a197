"""Text in figures: a font for every script that the machine has one for, and no boxes for others.

Matplotlib draws a box, and warns, for each character that its font lacks. Its own font has Latin,
Greek and Cyrillic letters, but neither Hangul nor Chinese or Japanese characters.
"""

from __future__ import annotations

import unicodedata
from contextlib import suppress
from functools import cache
from typing import TYPE_CHECKING

from distill.reporting.text import one_line

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Fonts of Linux, macOS and Windows, the first choice first.
FALLBACKS = (
    "Noto Sans CJK KR", "Noto Sans KR", "NanumGothic", "Nanum Gothic", "UnDotum",
    "Apple SD Gothic Neo", "AppleGothic", "Malgun Gothic", "Gulim",
    "Noto Sans CJK JP", "Noto Sans CJK SC", "Noto Sans JP", "Noto Sans SC", "Source Han Sans KR",
    "WenQuanYi Zen Hei", "WenQuanYi Micro Hei", "Hiragino Sans", "PingFang SC", "Yu Gothic",
    "Meiryo", "Microsoft YaHei", "Arial Unicode MS", "Unifont",
)  # fmt: skip
# Of names of characters whose last word is the sound they stand for.
SOUNDS = ("HANGUL SYLLABLE ", "HIRAGANA LETTER ", "KATAKANA LETTER ")


def use_fonts(figure: Figure) -> None:
    """Give every text of a figure the fonts of this machine, and replace what they all lack.

    Nothing is read as mathematics: ``$`` in the name of a run is a dollar.
    """
    from matplotlib.text import Text

    for artist in figure.findobj(Text):
        assert isinstance(artist, Text)
        artist.set_parse_math(False)
        content = drawable(artist.get_text())
        artist.set_text(content)
        if not content.isascii():
            artist.set_fontfamily(font_families())


def font_families() -> list[str]:
    """Return the fonts of this machine, in the order in which a character is looked up."""
    return list(_character_sets())


def drawable(content: str) -> str:
    """Return text of which this machine has every character in a font.

    Characters without a font are transliterated by their Unicode names: Hangul and Kana to their
    sounds, others to their code points (``U+4E2D``).
    """
    content = one_line(content)
    if content.isascii():
        return content
    return transliterate(content, frozenset[int]().union(*_character_sets().values()))


def transliterate(content: str, known: frozenset[int]) -> str:
    """Return text with every character replaced that is not among the known code points.

    >>> transliterate("한국 films", frozenset(map(ord, " films")))
    'hangug films'
    """
    return "".join(one if ord(one) in known else _sound(one) for one in content)


def _sound(character: str) -> str:
    name = unicodedata.name(character, "")
    if name.startswith(SOUNDS):
        return name.rpartition(" ")[2].lower()
    return f"U+{ord(character):04X}"


@cache
def _character_sets() -> dict[str, frozenset[int]]:
    """Return the code points of each font by family: matplotlib's own, then those installed."""
    from matplotlib import font_manager
    from matplotlib.ft2font import FT2Font

    manager = font_manager.fontManager
    listed = {entry.fname for entry in manager.ttflist}
    # Matplotlib keeps a list of fonts: those that were installed later are not on it.
    for path in font_manager.findSystemFonts():
        if path not in listed:
            with suppress(OSError, RuntimeError):  # not every file is a font that it can read
                manager.addfont(path)
    installed = {entry.name: entry.fname for entry in manager.ttflist}
    names = ["DejaVu Sans", *(name for name in FALLBACKS if name in installed)]
    return {name: frozenset(FT2Font(installed[name]).get_charmap()) for name in names}
