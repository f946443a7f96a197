"""Reader of the embedded default data set: from which library does a docstring come?

Every machine with the ``demo`` extra has eight libraries whose docstrings are English prose, so a
text classification task needs no download. The sources are located and parsed, never imported.

An example is the first paragraph of the docstring of a module, class or function, without markup,
of 5 to 60 words. Excluded are:

- texts that name one of the libraries, because they reveal the label;
- lists of parameters, signatures, formulas, templates and anything that is not ASCII, because they
  are not English prose;
- near-duplicates, which have the same :func:`normal_form`: one of them is kept if all are from one
  library (hundreds of models of transformers differ in little but a name), none if they are from
  several, because the label would be ambiguous;
- tests and vendored copies of other projects.

Every choice depends on SHA-256, so the rows depend on the installed sources and not on the order
of files in a file system.
"""

import ast
import hashlib
import math
import os
import re
import sysconfig
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Literal, NamedTuple

from distill.core.errors import UserError

LIBRARIES = (
    "stdlib",
    "numpy",
    "scipy",
    "scikit-learn",
    "pandas",
    "torch",
    "transformers",
    "pytorch_lightning",
)

# Packages of libraries that have another name.
_PACKAGES = {
    "scikit-learn": ("sklearn",),
    # One distribution. The first package alone has some 630 texts, and the smallest library
    # determines the number of texts of all.
    "pytorch_lightning": ("pytorch_lightning", "lightning_fabric"),
}

# Other names of the libraries.
_ALIASES = r"\bnp\b|\bpd\b|sklearn|scikit|lightning|\bfabric|hugging ?face"

_SKIPPED_FOLDERS = frozenset(
    {
        # Tests.
        *("test", "tests", "testing", "_test", "_tests", "_testing", "_test_common"),
        # Copies of other projects: array_api_compat, packaging, cobyqa, cutlass, ...
        *("_lib", "_vendor", "_vendored", "externals", "third_party", "vendored_templates"),
        # Inside the folder of the standard library, but not part of it.
        *("site-packages", "dist-packages"),
        # Removed in Python 3.12; numpy had a variant of it until then.
        "distutils",
        # Programs and demonstrations; lib2to3 was removed in Python 3.13.
        *("idlelib", "lib2to3", "turtledemo"),
    }
)

# Factor of texts that are read beyond the requested number, because texts of several libraries are
# removed afterwards. Reading all files takes four times as long and makes the task harder, because
# fewer texts come from one file: tf-idf with logistic regression reaches 68 % instead of 74 %.
_RESERVE = 1.25

# The paragraph ends before a field, directive, prompt, rule, list item or heading.
_END = re.compile(
    r"\s*(?::\w[^`]*:(?:\s|$)"  # :param x: ...
    r"|@\w|>>>|\.\. "  # @param, doctest, directive
    r"|[-=~^#*+]{3,}"  # rule
    r"|(?:[-*+]|\d+[.)])\s"  # list item
    r"|\**\w+\s*(?:\(.*\))?\s*:(?:\s|$)"  # Args: and x (int, optional): ...
    r"|(?:Parameters|Returns|Raises|Notes|Examples?)\s*$)"
)
_MARKUP = tuple(
    (re.compile(pattern), replacement)
    for pattern, replacement in (
        (r":[a-zA-Z][\w:.+-]*:`([^`]*)`", r"`\1`"),  # :class:`X`
        (r"`~(?:\w+\.)*(\w+[^`]*)`", r"`\1`"),  # `~package.X`, shown as X
        (r"`([^`<]+?)\s*<[^`]*>`_{0,2}", r"\1"),  # `text <target>`_
        (r"\[([^][]+)\]\([^)\s]*\)", r"\1"),  # [text](target)
        (r"\[`([^`]*)`\]", r"\1"),  # [`X`]
        (r"\s*\[[\w#*]+\]_", ""),  # footnote [1]_
        (r"`_?", ""),
        (r"(?<![\w*])(\*{1,2})(?=\w)([^*]*?)(?<=\w)\1(?![\w*])", r"\2"),  # *emphasis*
        (r"::$", ":"),
    )
)
# A call at the start is a signature; braces and %( are templates; a backslash is LaTeX.
_NOT_PROSE = re.compile(r"^\S+\(|[\\{}]|://|->|%\(")
_PLAIN_WORD = re.compile(r"[A-Za-z]+(?:['-][A-Za-z]+)*")
# Minimum fraction of plain words; the others are identifiers, numbers and operators.
_PLAIN_SHARE = 0.75
_LOWER_CASE_WORD = re.compile(r"(?<![\w.])[a-z]+(?:['-][a-z]+)*(?![\w(]|\.\w)")

Split = Literal["train", "validation", "test"]


class Docstring(NamedTuple):
    """A paragraph and the library that it comes from."""

    text: str
    label: str


class Paragraphs:
    """First paragraphs of the docstrings of files; each file is parsed once."""

    def __init__(self) -> None:
        self._parsed: dict[Path, list[str]] = {}

    def of(self, file: Path) -> list[str]:
        """Return the paragraphs of a file in their order."""
        if file not in self._parsed:
            self._parsed[file] = [first_paragraph(text) for text in _docstrings(file)]
        return self._parsed[file]


def read_docstrings(
    libraries: Sequence[str] = LIBRARIES,
    per_library: int = 1000,
    min_words: int = 5,
    max_words: int = 60,
    paragraphs: Paragraphs | None = None,
) -> list[Docstring]:
    """Read a balanced set of paragraphs from the sources of installed libraries.

    Args:
        libraries: names of libraries; a name that is not in ``LIBRARIES`` is that of a package.
        per_library: maximum number of texts per library; all have as many as the smallest.
        min_words: minimum number of words of a text.
        max_words: maximum number of words of a text.
        paragraphs: keeps what is parsed, for :func:`load_rest`.

    Returns:
        The rows by library in the given order, those of a library by the hash of the text. Files
        are read in the order of the hash of their path until a quarter more than ``per_library``
        texts are found, and the texts with the smallest hashes are taken.

    Raises:
        UserError: if a library is not installed or has no usable text, or a number is out of range.
    """
    if per_library < 1 or not 1 <= min_words <= max_words:
        raise UserError(
            "docstrings need per_library >= 1 and 1 <= min_words <= max_words, not "
            f"per_library={per_library}, min_words={min_words}, max_words={max_words}"
        )
    paragraphs = paragraphs or Paragraphs()
    roots = {library: _roots(library) for library in libraries}
    names = _names(libraries)
    pools = {
        library: _pool(
            folders, names, paragraphs, min_words, max_words, enough=_RESERVE * per_library
        )
        for library, folders in roots.items()
    }
    occurrences = Counter(form for pool in pools.values() for form in pool)
    texts = {
        library: [pool[form] for form in sorted(pool, key=_digest) if occurrences[form] == 1]
        for library, pool in pools.items()
    }
    smallest = min(texts, key=lambda library: len(texts[library]))
    if not texts[smallest]:
        raise UserError(f"the sources of {smallest} hold no docstring that data=docstrings can use")
    count = min(per_library, len(texts[smallest]))
    return [Docstring(text, library) for library in texts for text in texts[library][:count]]


def load(
    per_library: int = 1000, paragraphs: Paragraphs | None = None
) -> dict[Split, list[dict[str, str]]]:
    """Read the labeled data set: rows with ``text`` and ``label`` of every split.

    See :func:`read_docstrings` for the arguments and errors, :func:`split_of` for the splits.
    """
    splits: dict[Split, list[dict[str, str]]] = {"train": [], "validation": [], "test": []}
    for row in read_docstrings(per_library=per_library, paragraphs=paragraphs):
        splits[split_of(row.text)].append(row._asdict())
    return splits


def load_rest(labeled: Iterable[str], paragraphs: Paragraphs | None = None) -> list[str]:
    """Read the paragraphs that are not among those of :func:`load`, as texts without labels.

    Every file is read. Near-duplicates of the labeled texts, in any split, are excluded; one of
    other near-duplicates is kept, even if they are from several libraries, because no label is
    needed.

    Args:
        labeled: texts of every split of :func:`load`.
        paragraphs: what :func:`load` has parsed, which is not parsed again.

    Returns:
        The texts in the order of their hash.

    Raises:
        UserError: see :func:`read_docstrings`.
    """
    paragraphs = paragraphs or Paragraphs()
    taken = set(map(normal_form, labeled))
    rest: dict[str, str] = {}
    for library in LIBRARIES:
        for form, text in _pool(_roots(library), _names(LIBRARIES), paragraphs).items():
            if form not in taken:
                rest[form] = min(text, rest.get(form, text))
    return sorted(rest.values(), key=_digest)


def split_of(text: str) -> Split:
    """Return the split of a text: 60 % train, 10 % validation, 30 % test.

    It depends on the SHA-256 of :func:`normal_form`, so it is the same on every machine, and
    near-duplicates are always in the same split.
    """
    # Not the first bytes, by which texts are selected: these are independent of them.
    tenth = int.from_bytes(_digest(normal_form(text))[16:24]) % 10
    return "validation" if tenth == 1 else "test" if tenth < 4 else "train"


def normal_form(text: str) -> str:
    """Return the plain lower-case words in their order, which near-duplicates have in common.

    Digits, punctuation, identifiers and capitalized names (except the first word of the text) are
    removed: "Constructs a BERT tokenizer." and "Constructs a GPT-2 tokenizer" are equal.
    """
    return " ".join(_LOWER_CASE_WORD.findall(text[:1].lower() + text[1:]))


def first_paragraph(docstring: str) -> str:
    """Return the first paragraph in one line, without reStructuredText and Markdown markup.

    It is empty if the docstring does not start with prose, but with a list, directive or field.
    """
    lines = []
    for line in docstring.strip().splitlines():
        if not line.strip() or _END.match(line):
            break
        lines.append(line)
    text = " ".join(" ".join(lines).split())
    for pattern, replacement in _MARKUP:
        text = pattern.sub(replacement, text)
    return text


def _names(libraries: Sequence[str]) -> re.Pattern[str]:
    """Return a pattern of the names that reveal a label."""
    return re.compile(
        "|".join([_ALIASES, *map(re.escape, (*LIBRARIES, *libraries))]), re.IGNORECASE
    )


def _pool(
    folders: Sequence[Path],
    names: re.Pattern[str],
    paragraphs: Paragraphs,
    min_words: int = 5,
    max_words: int = 60,
    enough: float = math.inf,
) -> dict[str, str]:
    """Return usable texts by their normal form; reading stops once there are enough."""
    pool: dict[str, str] = {}
    for file in _files(folders):
        for paragraph in paragraphs.of(file):
            if _is_prose(paragraph, min_words, max_words) and not names.search(paragraph):
                form = normal_form(paragraph)
                pool[form] = min(paragraph, pool.get(form, paragraph))
        if len(pool) >= enough:
            break
    return pool


def _is_prose(text: str, min_words: int, max_words: int) -> bool:
    words = text.split()
    plain = sum(bool(_PLAIN_WORD.fullmatch(word.strip(".,;:!?()\"'"))) for word in words)
    return (
        min_words <= len(words) <= max_words
        and text.isascii()
        and text[0].isalpha()
        and not _NOT_PROSE.search(text)
        and plain >= _PLAIN_SHARE * len(words)
    )


def _roots(library: str) -> list[Path]:
    if library == "stdlib":
        return [Path(sysconfig.get_paths()["stdlib"])]
    """Return the folders of a library's packages."""
    roots: list[Path] = []
    for package in _PACKAGES.get(library, (library,)):
        # find_spec of a top-level name runs none of its code. A folder without __init__.py, such as
        # one of that name in the working directory, has no origin.
        spec = find_spec(package)
        if spec is None or not spec.origin or not spec.submodule_search_locations:
            raise UserError(
                f"data=docstrings reads the sources of {library}, which is not installed: "
                "pip install 'distill[demo]'"
            )
        roots += map(Path, spec.submodule_search_locations)
    return roots


def _files(roots: Sequence[Path]) -> list[Path]:
    """Return the Python files below the roots, without tests, by the hash of their path."""
    found = {}
    for root in roots:
        for folder, subfolders, names in os.walk(root):
            subfolders[:] = [name for name in subfolders if name not in _SKIPPED_FOLDERS]
            for name in names:
                if name.endswith(".py") and not name.startswith("test_") and name != "conftest.py":
                    file = Path(folder, name)
                    found[file] = _digest(file.relative_to(root.parent).as_posix())
    return sorted(found, key=found.__getitem__)


def _docstrings(file: Path) -> Iterator[str]:
    with warnings.catch_warnings():
        # Invalid escapes in strings of the libraries.
        warnings.simplefilter("ignore")
        try:
            tree = ast.parse(file.read_bytes())
        except (SyntaxError, ValueError):
            return  # a template, or the syntax of a newer Python
    nodes: list[ast.AST] = [tree]  # grows while it is walked
    for node in nodes:
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            docstring = ast.get_docstring(node)
            if docstring:
                yield docstring
        # Definitions are statements: expressions, most of a tree, need no visit.
        nodes.extend(
            child
            for child in ast.iter_child_nodes(node)
            if isinstance(child, ast.stmt | ast.excepthandler)
        )


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()
