"""Questions whose answers stand between two marks, in contexts of filler words."""

import json
import random
from pathlib import Path

from tests.factories import BAD, FILLER, GOOD

SIZES = (("train", 240, 1), ("dev", 60, 2), ("test", 80, 3))


def asked(count: int, seed: int, longest: int = 14, unanswerable: bool = False) -> list[dict]:
    """What the film is like: one or two good words, in the flat form.

    Some have no such word, if ``unanswerable``; bad words stand where nobody asks for them.
    """
    draw, rows = random.Random(seed), []
    for index in range(count):
        words = draw.choices(FILLER[:-1], k=draw.randint(5, longest))
        words.insert(draw.randrange(len(words)), draw.choice(BAD))
        at = draw.randrange(len(words))
        if unanswerable and index % 3 == 0:
            answers = {"text": [], "answer_start": []}
        else:
            answer = " ".join(draw.choices(GOOD, k=draw.randint(1, 2)))
            start = sum(len(word) + 1 for word in words[:at])
            words.insert(at, answer)
            answers = {"text": [answer], "answer_start": [start]}
        question = "was the " + draw.choice(["film", "plot", "cast"])
        rows.append({"question": question, "context": " ".join(words), "answers": answers})
    return rows


def nested(rows: list[dict]) -> dict:
    """As SQuAD's own files have them."""
    paragraphs = [
        {
            "context": row["context"],
            "qas": [
                {
                    "id": str(index),
                    "question": row["question"],
                    "is_impossible": not row["answers"]["text"],
                    "answers": [
                        {"text": text, "answer_start": start}
                        for text, start in zip(
                            row["answers"]["text"], row["answers"]["answer_start"], strict=True
                        )
                    ],
                }
            ],
        }
        for index, row in enumerate(rows)
    ]
    return {"version": "v2.0", "data": [{"title": "films", "paragraphs": paragraphs}]}


def write(folder: Path, **settings) -> Path:
    folder.mkdir()
    for split, count, seed in SIZES:
        version = "" if split == "test" else "-v2.0"
        text = json.dumps(nested(asked(count, seed, **settings)))
        (folder / f"{split}{version}.json").write_text(text)
    return folder
