"""The embedded default data set: which library does this paragraph of documentation come from?

Every machine with the ``demo`` extra holds eight libraries whose docstrings are real English
prose, so a text classification task needs no download. The sources are located and parsed, never
imported.

What is an example: the first paragraph of the docstring of a module, class or function, without
markup, of 5 to 60 words. What is left out, and why:

- texts that name one of the libraries: they would give the label away;
- lists of parameters, signatures, formulas, templates, anything that is not ASCII: not English
  prose;
- near-duplicates, the same :func:`normal_form`: one stays when they are of one library (the
  hundreds of models of transformers differ in little but a name), none when they are of several,
  because then the label is a toss-up;
- tests and vendored copies of other projects.

Every choice is made by SHA-256, so the rows depend on the sources installed and not on the order
of a file system.
"""

import ast
import hashlib
import math
import os
import re
import sysconfig
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
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

# Where a library's package is not called what the library is called.
_PACKAGES = {
    "scikit-learn": ("sklearn",),
    # One distribution. The first package alone has some 630 texts, and the smallest library
    # decides how many the others may have.
    "pytorch_lightning": ("pytorch_lightning", "lightning_fabric"),
}

# Other names of the libraries, beside their labels.
_ALIASES = r"\bnp\b|\bpd\b|sklearn|scikit|lightning|\bfabric|hugging ?face"

_SKIPPED_FOLDERS = frozenset(
    {
        # Tests.
        *("test", "tests", "testing", "_test", "_tests", "_testing", "_test_common"),
        # Copies of other projects: array_api_compat, packaging, cobyqa, cutlass, ...
        *("_lib", "_vendor", "_vendored", "externals", "third_party", "vendored_templates"),
        # Not the standard library, though inside its folder.
        *("site-packages", "dist-packages"),
        # Gone from Python 3.12, and numpy held a variant of it until then.
        "distutils",
        # Programs and demonstrations; lib2to3 is gone from Python 3.13.
        *("idlelib", "lib2to3", "turtledemo"),
    }
)

# Read a little more than asked for: texts that two libraries share go afterwards. Reading all files
# takes four times as long and makes the task harder, because then fewer texts come from one file:
# tf-idf with logistic regression reaches 68 % instead of 74 %.
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
# A call first is a signature; braces and %( are templates; a backslash is LaTeX.
_NOT_PROSE = re.compile(r"^\S+\(|[\\{}]|://|->|%\(")
_PLAIN_WORD = re.compile(r"[A-Za-z]+(?:['-][A-Za-z]+)*")
# Of the words so many must be plain: the others are identifiers, numbers and operators.
_PLAIN_SHARE = 0.75
_LOWER_CASE_WORD = re.compile(r"(?<![\w.])[a-z]+(?:['-][a-z]+)*(?![\w(]|\.\w)")

Split = Literal["train", "validation", "test"]


class Docstring(NamedTuple):
    """A paragraph and the library it comes from."""

    text: str
    label: str


def read_docstrings(
    libraries: Sequence[str] = LIBRARIES,
    per_library: int = 1000,
    min_words: int = 5,
    max_words: int = 60,
) -> list[Docstring]:
    """Read a balanced set of paragraphs out of the sources of installed libraries.

    Args:
        libraries: Names of libraries; one that is not in ``LIBRARIES`` is the package of that name.
        per_library: At most so many texts of each. Each has as many as the one with the fewest.
        min_words: Shorter texts are left out.
        max_words: Longer texts are left out.

    Returns:
        The rows, library by library in the order asked for, in each by the hash of the text.
        Of a library with more texts than needed, files are read in the order of the hash of their
        path until a quarter more than ``per_library`` are found, and the texts with the smallest
        hashes are taken.

    Raises:
        UserError: A library is not installed or has no usable text, or a number is out of range.
    """
    if per_library < 1 or not 1 <= min_words <= max_words:
        raise UserError(
            "docstrings need per_library >= 1 and 1 <= min_words <= max_words, not "
            f"per_library={per_library}, min_words={min_words}, max_words={max_words}"
        )
    roots = {library: _roots(library) for library in libraries}
    names = _names(libraries)
    pools = {
        library: _pool(folders, names, min_words, max_words, enough=_RESERVE * per_library)
        for library, folders in roots.items()
    }
    holders = Counter(form for pool in pools.values() for form in pool)
    texts = {
        library: [pool[form] for form in sorted(pool, key=_digest) if holders[form] == 1]
        for library, pool in pools.items()
    }
    smallest = min(texts, key=lambda library: len(texts[library]))
    if not texts[smallest]:
        raise UserError(f"the sources of {smallest} hold no docstring that data=docstrings can use")
    count = min(per_library, len(texts[smallest]))
    return [Docstring(text, library) for library in texts for text in texts[library][:count]]


def load(per_library: int = 1000) -> dict[Split, list[dict[str, str]]]:
    """Read the default data set: rows with ``text`` and ``label`` for every split.

    See :func:`read_docstrings` for ``per_library`` and the errors, :func:`split_of` for the split.
    """
    splits: dict[Split, list[dict[str, str]]] = {"train": [], "validation": [], "test": []}
    for row in read_docstrings(per_library=per_library):
        splits[split_of(row.text)].append(row._asdict())
    return splits


def load_rest(per_library: int = 1000) -> list[str]:
    """Read the paragraphs that :func:`load` leaves over, to serve as texts without labels.

    Every file is read. Near-duplicates of what :func:`load` gives, in any of its splits, are left
    out; of other near-duplicates one stays, also where several libraries share them: here no label
    has to be right.

    Returns:
        The texts in the order of their hash.

    Raises:
        UserError: as :func:`read_docstrings`.
    """
    taken = {normal_form(row.text) for row in read_docstrings(LIBRARIES, per_library)}
    rest: dict[str, str] = {}
    for library in LIBRARIES:
        for form, text in _pool(_roots(library), _names(LIBRARIES)).items():
            if form not in taken:
                rest[form] = min(text, rest.get(form, text))
    return sorted(rest.values(), key=_digest)


def split_of(text: str) -> Split:
    """Return the split of a text: 80 % train, 10 % validation, 10 % test.

    It is decided by the SHA-256 of :func:`normal_form`, so it is the same on every machine, and
    near-duplicates are always in the same split.
    """
    # The first bytes decide which texts are taken: these later ones are independent of that.
    tenth = int.from_bytes(_digest(normal_form(text))[16:24]) % 10
    return "test" if tenth == 0 else "validation" if tenth == 1 else "train"


def normal_form(text: str) -> str:
    """Return what near-duplicates have in common: the plain lower-case words, in their order.

    Digits, punctuation, identifiers and capitalised names (except the first word of the text) go:
    "Constructs a BERT tokenizer." and "Constructs a GPT-2 tokenizer" are one.
    """
    return " ".join(_LOWER_CASE_WORD.findall(text[:1].lower() + text[1:]))


def first_paragraph(docstring: str) -> str:
    """Return the first paragraph in one line, without reStructuredText and Markdown markup.

    Empty if the docstring begins with something else: a list, a directive, a signature's fields.
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
    """What would give a label away."""
    return re.compile(
        "|".join([_ALIASES, *map(re.escape, (*LIBRARIES, *libraries))]), re.IGNORECASE
    )


def _pool(
    folders: Sequence[Path],
    names: re.Pattern[str],
    min_words: int = 5,
    max_words: int = 60,
    enough: float = math.inf,
) -> dict[str, str]:
    """Usable texts by their normal form; no further files are read once there are enough."""
    pool: dict[str, str] = {}
    for file in _files(folders):
        for paragraph in map(first_paragraph, _docstrings(file)):
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
    # find_spec of a top-level name runs none of its code. A folder without __init__.py, which any
    # folder of that name in the working directory is, has no origin.
    specs = [find_spec(package) for package in _PACKAGES.get(library, (library,))]
    if not all(spec and spec.origin and spec.submodule_search_locations for spec in specs):
        raise UserError(
            f"data=docstrings reads the sources of {library}, which is not installed: "
            "pip install 'distill[demo]'"
        )
    return [Path(folder) for spec in specs for folder in spec.submodule_search_locations]


def _files(roots: Sequence[Path]) -> list[Path]:
    """Return the Python files worth reading below the roots, in an order that is no order."""
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
        # Invalid escapes in other people's strings.
        warnings.simplefilter("ignore")
        try:
            tree = ast.parse(file.read_bytes())
        except (SyntaxError, ValueError):
            return  # a template, or the syntax of a newer Python
    nodes: list[ast.AST] = [tree]
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
