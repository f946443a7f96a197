"""SQuAD's nested JSON as rows: a question, its context and its answers in each."""

import gzip
import hashlib
import json
import re
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from datasets import Dataset, Features, List, Value

from distill.core.cache import cache_key, get_or_create
from distill.core.errors import UserError

FEATURES = Features(
    {
        "id": Value("string"),
        "question": Value("string"),
        "context": Value("string"),
        "answers": {"text": List(Value("string")), "answer_start": List(Value("int64"))},
    }
)
# Far enough into a file to meet its first paragraph, whatever stands before it.
LOOKED_AT = 1 << 16


def read_squad(file: Path, cache_dir: Path) -> Dataset | None:
    """The questions of a file of SQuAD's layout, in its order; ``None`` if it is none.

    It is parsed once: a later call with the same content maps what was kept of it.

    Args:
        file: json, also .gz.
        cache_dir: where the rows are kept.

    Returns:
        Rows with ``question``, ``context``, ``answers`` (``text`` and ``answer_start``, empty where
        the question has none) and ``id``.

    Raises:
        UserError: if it cannot be read, has no question, or a part of one is missing.
    """
    try:
        content = file.read_bytes()
        if file.suffix.lower() == ".gz":
            content = gzip.decompress(content)
        text = content.decode("utf-8-sig")
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise UserError(f"cannot read {file}: {error}") from error
    if not text.lstrip().startswith("{") or not re.search(r'"paragraphs"\s*:', text[:LOOKED_AT]):
        return None
    try:
        articles = json.loads(text)["data"]
    except (json.JSONDecodeError, KeyError):
        return None  # one object a line, perhaps: what reads any json says what is wrong
    key = cache_key(kind="squad", format=1, content=hashlib.sha256(content).hexdigest())
    folder = cache_dir / "data" / f"squad-{key}"

    def prepare(partial: Path) -> None:
        rows = list(_rows(articles, file))
        if not rows:
            raise UserError(f"{file} has no examples")
        columns = {name: [row[name] for row in rows] for name in FEATURES}
        Dataset.from_dict(columns, FEATURES).to_parquet(partial / "rows.parquet")

    get_or_create(folder, prepare)
    return Dataset.from_parquet(str(folder / "rows.parquet"), cache_dir=str(cache_dir / "datasets"))


def _rows(articles: Any, file: Path) -> Iterator[dict[str, Any]]:
    number = 0
    try:
        for article in articles:
            for paragraph in article["paragraphs"]:
                for question in paragraph["qas"]:
                    number += 1
                    # What is_impossible has by way of answers are plausible ones, not right ones.
                    none = question.get("is_impossible", False)
                    answers = [] if none else question["answers"]
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
        what = f"lacks {error}" if isinstance(error, KeyError) else "is not as SQuAD's are"
        raise UserError(f"{file}: question {number or 1} {what}") from error
