"""Reader of CoNLL files: one word per line with its tags, an empty line after each sentence."""

import gzip
import re
from collections.abc import Iterator
from pathlib import Path

from datasets import Dataset, Features, List, Value

from distill.core.errors import UserError

# Start of the line that begins a document in the files of the CoNLL tasks.
DOCUMENT = "-DOCSTART-"
# Names of the first and the last column, in addition to their numbers.
FIRST, LAST = "tokens", "ner_tags"


def read_conll(file: Path) -> Dataset:
    """Read the sentences of a file, which may be compressed (.gz).

    Columns are separated by tabs if the first line of words has a tab, otherwise by spaces. Lines
    that begin a document (``-DOCSTART-``) are skipped; so are comments, lines before a sentence
    that begin with ``#`` and have another number of columns than the others.

    Returns:
        One row per sentence with the columns ``1``, ``2``, ... of the file as lists of strings; the
        first column also as ``tokens``, and the last of several as ``ner_tags``.

    Raises:
        UserError: for a line with a different number of columns or an empty field.
    """
    sentences: list[list[list[str]]] = []
    open_sentence = False
    tabs, width, first = False, 0, 0
    for number, line in _lines(file):
        if not line or line.startswith(DOCUMENT):
            open_sentence = False
            continue
        if not width:
            if line.startswith("#") and _is_comment(file, number, line):
                continue
            tabs = "\t" in line
            width, first = len(_fields(line, tabs)), number
        fields = _fields(line, tabs)
        if len(fields) != width:
            if line.startswith("#") and not open_sentence:
                continue
            raise UserError(
                f"{file} line {number}: {len(fields)} column{'s' * (len(fields) > 1)}, and line "
                f"{first} has {width} (separated by {'tabs' if tabs else 'spaces'})"
            )
        if not all(fields):
            raise UserError(f"{file} line {number}: column {fields.index('') + 1} is empty")
        if not open_sentence:
            sentences.append([])
        sentences[-1].append(fields)
        open_sentence = True
    if not sentences:
        raise UserError(f"{file} has no examples")
    names = [str(index + 1) for index in range(width)]
    columns = {
        name: [[fields[index] for fields in sentence] for sentence in sentences]
        for index, name in enumerate(names)
    }
    columns = {FIRST: columns[names[0]]} | columns
    if width > 1:
        columns[LAST] = columns[names[-1]]
    feature = List(Value("string"))
    return Dataset.from_dict(columns, features=Features(dict.fromkeys(columns, feature)))


def _is_comment(file: Path, number: int, line: str) -> bool:
    """Return whether a line with ``#`` has another number of columns than the first without."""
    for later_number, later_line in _lines(file):
        is_later = later_number > number and later_line
        if is_later and not later_line.startswith(("#", DOCUMENT)):
            tabs = "\t" in later_line
            return len(_fields(line, tabs)) != len(_fields(later_line, tabs))
    return False


def _fields(line: str, tabs: bool) -> list[str]:
    # Not at any white space: words may contain a no-break space.
    return [field.strip(" ") for field in line.split("\t")] if tabs else re.split(r"[ \t]+", line)


def _lines(file: Path) -> Iterator[tuple[int, str]]:
    opener = gzip.open if file.suffix.lower() == ".gz" else open
    try:
        with opener(file, "rt", encoding="utf-8-sig") as lines:
            for number, line in enumerate(lines, 1):
                stripped = line.rstrip("\r\n")
                # Tabs are kept, for an empty last column; surrounding spaces are removed.
                yield number, stripped.strip(" ") if stripped.strip() else ""
    except (OSError, UnicodeDecodeError, EOFError) as error:
        raise UserError(f"cannot read {file}: {error}") from error
