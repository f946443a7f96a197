"""Reader of CoNLL files: one word per line with its tags, an empty line after each sentence."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from datasets import Dataset, Features, List, Value

from distill.core.errors import UserError
from distill.data.readers.stored import Notes
from distill.data.readers.text_file import open_text

# Start of the line that begins a document in the files of the CoNLL tasks.
DOCUMENT = "-DOCSTART-"
# Names of the first and the last column, in addition to their numbers.
FIRST, LAST = "tokens", "ner_tags"
# CoNLL-U (and CoNLL-X): ten columns, the first of which numbers the words of a sentence; the word
# and its part of speech. A range (2-3) is a written token of several words that follow with numbers
# of their own, a decimal (4.1) an empty node, which is not written.
_UNIVERSAL_WIDTH, _WORD, _PART_OF_SPEECH = 10, 1, 3
_WORD_ID, _NO_WORD_ID = re.compile(r"\d+"), re.compile(r"\d+-\d+|\d+\.\d+")
_PARTS = "pos_tags"
# Between tabs, a first field with a space after its # is no word, but a comment that has tabs
# itself, as KLUE's: "## id<tab>the whole sentence".
_COMMENT = re.compile(r"#+ ")


def read_conll(file: Path, encoding: str | None = None, notes: Notes | None = None) -> Dataset:
    """Read the sentences of a file, which may be compressed (.gz).

    Columns are separated by tabs if the first line of words has a tab, otherwise by spaces. Lines
    that begin a document (``-DOCSTART-``) are skipped; so are comments, lines before a sentence
    that begin with ``#`` and have another number of columns than the others, or a space after it
    where columns are separated by tabs.

    In CoNLL-U, the lines of multiword tokens (``2-3``) and empty nodes (``4.1``) are no words.

    Args:
        file: the file.
        encoding: name of a codec; ``None``: what its byte order mark says, else UTF-8.
        notes: what was noticed is appended.

    Returns:
        One row per sentence with the columns ``1``, ``2``, ... of the file as lists of strings; the
        first column also as ``tokens``, and the last of several as ``ner_tags``. Of CoNLL-U, the
        words as ``tokens`` and their universal parts of speech as ``pos_tags``.

    Raises:
        UserError: for a line with a different number of columns or an empty field.
    """
    reading = _Sentences(file, encoding)
    sentences = reading.read()
    if not sentences:
        raise UserError(f"{file} has no examples")
    names = [str(index + 1) for index in range(reading.width)]
    columns = {
        name: [[fields[index] for fields in sentence] for sentence in sentences]
        for index, name in enumerate(names)
    }
    if reading.universal:
        aliases = {FIRST: columns[names[_WORD]], _PARTS: columns[names[_PART_OF_SPEECH]]}
        columns = aliases | columns
        if reading.no_words and notes is not None:
            notes.append(
                f"{file.name}: {reading.no_words} lines of multiword tokens (2-3) or empty nodes "
                "(4.1) are no words of their own and were left out."
            )
    else:
        columns = {FIRST: columns[names[0]]} | columns
        if reading.width > 1:
            columns[LAST] = columns[names[-1]]
    feature = List(Value("string"))
    return Dataset.from_dict(columns, features=Features(dict.fromkeys(columns, feature)))


def begins_with_document(file: Path, encoding: str | None = None) -> bool:
    """Return whether the first line of a text file begins a document, as CoNLL-2003's do."""
    return next((line.startswith(DOCUMENT) for _, line in _lines(file, encoding) if line), False)


@dataclass
class _Sentences:
    """Reads the sentences of a file.

    Attributes:
        width: number of columns.
        universal: whether the file is in CoNLL-U.
        no_words: number of lines of CoNLL-U that are no words.
    """

    file: Path
    encoding: str | None
    width: int = 0
    universal: bool = False
    no_words: int = 0

    def read(self) -> list[list[list[str]]]:
        """Return the fields of every word of every sentence."""
        sentences: list[list[list[str]]] = []
        open_sentence = False
        tabs, first = False, 0
        for number, line in _lines(self.file, self.encoding):
            if not line or line.startswith(DOCUMENT):
                open_sentence = False
                continue
            if not self.width:
                if _COMMENT.match(line) and "\t" in line:
                    continue
                if line.startswith("#") and _is_comment(self.file, number, line, self.encoding):
                    continue
                tabs = "\t" in line
                fields = _fields(line, tabs)
                self.width, first = len(fields), number
                self.universal = self.width == _UNIVERSAL_WIDTH and bool(
                    _WORD_ID.fullmatch(fields[0]) or _NO_WORD_ID.fullmatch(fields[0])
                )
            if tabs and not open_sentence and _COMMENT.match(line):
                continue
            fields = _fields(line, tabs)
            if len(fields) != self.width:
                if line.startswith("#") and not open_sentence:
                    continue
                raise UserError(
                    f"{self.file} line {number}: {len(fields)} column{'s' * (len(fields) > 1)}, "
                    f"and line {first} has {self.width} (separated by "
                    f"{'tabs' if tabs else 'spaces'})"
                )
            if not all(fields):
                raise UserError(
                    f"{self.file} line {number}: column {fields.index('') + 1} is empty"
                )
            if self.universal and _NO_WORD_ID.fullmatch(fields[0]):
                self.no_words += 1
                continue
            if not open_sentence:
                sentences.append([])
            sentences[-1].append(fields)
            open_sentence = True
        return sentences


def _is_comment(file: Path, number: int, line: str, encoding: str | None) -> bool:
    """Return whether a line with ``#`` has another number of columns than the first without."""
    for later_number, later_line in _lines(file, encoding):
        is_later = later_number > number and later_line
        if is_later and not later_line.startswith(("#", DOCUMENT)):
            tabs = "\t" in later_line
            return len(_fields(line, tabs)) != len(_fields(later_line, tabs))
    return False


def _fields(line: str, tabs: bool) -> list[str]:
    if not tabs:
        # Not at any white space: words may contain a no-break space.
        return re.split(r"[ \t]+", line.strip(" "))
    # A field of spaces alone is a word: where every character is one, as in KLUE's files.
    return [field.strip(" ") or field for field in line.split("\t")]


def _lines(file: Path, encoding: str | None) -> Iterator[tuple[int, str]]:
    """Yield the lines with their numbers; those of white space alone are empty."""
    with open_text(file, encoding) as lines:
        for number, line in enumerate(lines, 1):
            stripped = line.rstrip("\r\n")
            yield number, stripped if stripped.strip() else ""
