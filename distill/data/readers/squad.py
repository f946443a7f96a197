"""Reader of SQuAD's nested JSON: one row per question with its context and answers."""

import hashlib
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from datasets import Dataset, Features, List, Value

from distill.core.cache import cache_key, get_or_create
from distill.core.errors import UserError
from distill.data.readers.stored import write_rows
from distill.data.readers.text_file import open_text
from distill.data.values import parse_flag

FEATURES = Features(
    {
        "id": Value("string"),
        "question": Value("string"),
        "context": Value("string"),
        "answers": {"text": List(Value("string")), "answer_start": List(Value("int64"))},
    }
)
# The first paragraph of a file in SQuAD's layout is within this number of characters.
SNIFFED_CHARACTERS = 1 << 16


def read_squad(file: Path, cache_dir: Path, encoding: str | None = None) -> Dataset | None:
    """Read the questions of a file in SQuAD's layout; ``None`` if it has another layout.

    The file is parsed once: later calls with the same content map the cached rows.

    Args:
        file: a json file, which may be compressed (.gz).
        cache_dir: where the rows are kept.
        encoding: name of a codec; ``None``: what its byte order mark says, else UTF-8.

    Returns:
        Rows with ``question``, ``context``, ``answers`` (``text`` and ``answer_start``, empty for a
        question without an answer) and ``id``, in the order of the file.

    Raises:
        UserError: if the file cannot be read, has no question, or a question is incomplete.
    """
    with open_text(file, encoding) as content:
        text = content.read()
    if not text.lstrip().startswith("{") or not re.search(
        r'"paragraphs"\s*:', text[:SNIFFED_CHARACTERS]
    ):
        return None
    try:
        articles = json.loads(text)["data"]
    except (json.JSONDecodeError, KeyError):
        return None  # perhaps json lines: the general reader reports what is wrong
    key = cache_key(kind="squad", format=2, content=hashlib.sha256(text.encode()).hexdigest())
    folder = cache_dir / "data" / f"squad-{key}"

    def prepare(partial: Path) -> None:
        rows = list(_rows(articles, file))
        if not rows:
            raise UserError(f"{file} has no examples")
        columns = {name: [row[name] for row in rows] for name in FEATURES}
        write_rows(partial / "rows.arrow", Dataset.from_dict(columns, FEATURES))

    get_or_create(folder, prepare)
    return Dataset.from_file(str(folder / "rows.arrow"))


def _rows(articles: Any, file: Path) -> Iterator[dict[str, Any]]:
    """Yield one row per question."""
    number = 0
    try:
        for article in articles:
            for paragraph in article["paragraphs"]:
                for question in paragraph["qas"]:
                    number += 1
                    # The answers of an impossible question are plausible, but wrong.
                    is_impossible = parse_flag(
                        question.get("is_impossible", False),
                        f"{file}: question {number} has is_impossible",
                    )
                    answers = [] if is_impossible else question["answers"]
                    yield {
                        "id": str(question.get("id", number)),
                        "question": question["question"],
                        "context": paragraph["context"],
                        "answers": {
                            "text": [answer["text"] for answer in answers],
                            "answer_start": [answer["answer_start"] for answer in answers],
                        },
                    }
    except (KeyError, TypeError, AttributeError) as error:
        problem = f"lacks {error}" if isinstance(error, KeyError) else "is not as SQuAD's are"
        raise UserError(f"{file}: question {number or 1} {problem}") from error
