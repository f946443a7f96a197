"""Text files in any encoding, also compressed with gzip."""

import codecs
import gzip
import io
import re
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TextIO, cast

from distill.core.errors import UserError

# Byte order marks and the encodings that they announce; UTF-32's begins like UTF-16's.
_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
# Encodings that are proposed for a file that is not UTF-8: the name, the codec that tells it from
# others, and the letters (ranges of code points) that text in it consists of besides ASCII. euc_kr
# lacks cp949's rare syllables, which is what Japanese text would decode to.
_HANGUL, _KANA, _HAN = (0xAC00, 0xD7A3), (0x3040, 0x30FF), (0x4E00, 0x9FFF)
_CANDIDATES = (
    ("cp949", "euc_kr", (_HANGUL,)),
    ("cp932", "cp932", (_KANA, _HAN)),
    ("gb18030", "gb2312", (_HAN,)),
    ("big5", "big5", (_HAN,)),
    ("cp1251", "cp1251", ((0x0400, 0x04FF),)),
    ("cp1252", "cp1252", ((0x00C0, 0x017F),)),
)
_WORDS, _ASCII_LETTER = re.compile(r"[^\s\x00-\x40]+"), re.compile("[A-Za-z]")
_BLOCK = 1 << 20
READ_ERRORS = (OSError, EOFError, zlib.error)
"""What reading a file, compressed or not, may raise."""


def open_bytes(file: Path) -> IO[bytes]:
    """Open a file for reading, decompressed if its name ends in ``.gz``."""
    if file.suffix.lower() == ".gz":
        return cast(IO[bytes], gzip.open(file, "rb"))
    return file.open("rb")


@contextmanager
def open_text(file: Path, encoding: str | None = None) -> Iterator[TextIO]:
    """Open a text file; line ends are kept as they are.

    Args:
        file: the file, which may be compressed (.gz).
        encoding: name of a codec; ``None``: what its byte order mark says, else UTF-8.

    Raises:
        UserError: if the file cannot be read or is not in this encoding, also while it is read.
    """
    chosen = find_encoding(file, encoding)
    try:
        with open_bytes(file) as content, io.TextIOWrapper(content, chosen, newline="") as lines:
            yield lines
    except UnicodeError as error:
        raise UserError(f"cannot read {file}: it is not {chosen} ({_reason(error)})") from error
    except READ_ERRORS as error:
        raise UserError(f"cannot read {file}: {error}") from error


def find_encoding(file: Path, encoding: str | None = None) -> str:
    """Return the encoding of a text file.

    Raises:
        UserError: for an encoding that does not exist; without one, for a file that is neither
            marked nor UTF-8, naming the encoding that it most likely has.
    """
    if encoding is not None:
        try:
            name = codecs.lookup(encoding).name
        except LookupError:
            raise UserError(
                f"data.encoding={encoding}: there is no such encoding (such as utf-8, utf-16, "
                "cp949, cp932, gb18030, latin-1)"
            ) from None
        # A mark at the beginning is no part of the text.
        return "utf-8-sig" if name == "utf-8" else name
    decoder, line = codecs.getincrementaldecoder("utf-8")(), 1
    try:
        with open_bytes(file) as content:
            block = content.read(_BLOCK)
            for mark, marked in _MARKS:
                if block.startswith(mark):
                    return marked
            while block:
                if b"\0" in block:
                    raise UserError(_null_message(file, block, line))
                try:
                    decoder.decode(block)
                except UnicodeDecodeError as error:
                    raise UserError(_undecodable_message(file, error, block, line)) from error
                line += block.count(b"\n")
                block = content.read(_BLOCK)
        decoder.decode(b"", final=True)
    except UnicodeDecodeError as error:
        raise UserError(f"cannot read {file}: it ends in the middle of a character") from error
    except READ_ERRORS as error:
        raise UserError(f"cannot read {file}: {error}") from error
    return "utf-8"


def guess_encoding(content: bytes) -> str | None:
    """Return the most likely encoding of text that is not UTF-8; ``None`` if none fits."""
    best, best_share = None, 0.5
    for name, codec, ranges in _CANDIDATES:
        # The end may be cut inside a character.
        text = codecs.getincrementaldecoder(codec)(errors="replace").decode(content)
        words = [word for word in _WORDS.findall(text) if not word.isascii()]
        foreign = [letter for word in words for letter in word if ord(letter) > 127]
        expected = sum(
            any(first <= ord(letter) <= last for first, last in ranges) for letter in foreign
        )
        if name != "cp1252":  # words of other scripts have no Latin letters
            mixed = sum(bool(_ASCII_LETTER.search(word)) for word in words)
            expected = 0 if mixed >= len(words) / 2 else expected
        share = expected / len(foreign) if foreign else 0.0
        if share > best_share:
            best, best_share = name, share
    return best


def _null_message(file: Path, block: bytes, line: int) -> str:
    number = line + block[: block.index(b"\0")].count(b"\n")
    sample = block[:2000]
    for name, place in (("utf-16-le", sample[1::2]), ("utf-16-be", sample[0::2])):
        if place and place.count(0) > len(place) / 3:
            return f"cannot read {file}: it looks like UTF-16: set data.encoding={name}"
    return f"cannot read {file}: line {number} holds a NUL byte: the file is damaged or no text"


def _undecodable_message(file: Path, error: UnicodeDecodeError, block: bytes, line: int) -> str:
    number = line + error.object[: error.start].count(b"\n")
    byte = error.object[error.start]
    guess = guess_encoding(block[:100_000])
    if guess is None:
        hint = "name its encoding with data.encoding=..."
    else:
        hint = f"it looks like {guess}: set data.encoding={guess}"
    return f"cannot read {file}: byte 0x{byte:02x} in line {number} is not UTF-8; {hint}"


def _reason(error: UnicodeError) -> str:
    return str(getattr(error, "reason", error))
