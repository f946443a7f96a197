"""Questions, contexts and answers."""

import json
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from datasets import Dataset

from distill.core.errors import UserError
from distill.data.labels import IGNORED_LABEL
from distill.data.schema import LABEL, Column, DataSchema, Targets, TextInput
from distill.data.values import parse_flag

OUTPUTS = ["start", "end"]

Answer = tuple[int | None, str]
"""Where an answer is said to start, and its text."""


class AnswerSchema(DataSchema):
    """A question, its context and any number of answers in it.

    Args:
        task_name: name of the task, for messages.
        no_answer_threshold: see :class:`~distill.tasks.question_answering.QuestionAnswering`.
    """

    columns: Mapping[str, Column] = {
        "text": Column(("question",), TextInput()),
        "text_pair": Column(("context",), TextInput()),
        LABEL: Column(("answers",)),
    }
    allows_augmentation: ClassVar[bool] = False
    group_by: ClassVar[str | None] = "text_pair"

    def __init__(self, task_name: str, no_answer_threshold: float = 0.0):
        super().__init__(task_name)
        self.no_answer_threshold = no_answer_threshold

    @property
    def settings(self) -> dict[str, Any]:
        """The threshold, which is refused where every question has an answer."""
        return {"no_answer_threshold": self.no_answer_threshold}

    def clean_rows(self, rows: Dataset, label: str | None) -> Dataset:
        """Drop the answers of questions marked by a column ``is_impossible`` (SQuAD v2, KLUE)."""
        if "is_impossible" not in rows.column_names or label not in rows.column_names:
            return rows
        impossible = [
            parse_flag(value, f"row {row + 1} has is_impossible")
            for row, value in enumerate(rows["is_impossible"][:])
        ]
        if not any(impossible):
            return rows
        feature = rows.features[label]
        answers = rows[label][:]
        nothing = {"text": [], "answer_start": []} if isinstance(feature, Mapping) else []
        kept = [nothing if no else answer for no, answer in zip(impossible, answers, strict=True)]
        return rows.remove_columns(label).add_column(label, kept, feature=feature)

    def label_names(self, splits: Mapping[str, Dataset], given: Sequence[str] | None) -> list[str]:
        """Return the head's two outputs.

        Raises:
            UserError: if ``data.labels`` names classes, if answers are malformed, if a split has
                none, or a threshold is given where every question has an answer.
        """
        if given is not None:
            raise UserError(f"data.labels names classes: task={self.task_name} has none")
        has_unanswerable = False
        for split, rows in splits.items():
            answered = [
                bool(_parse_answers(split, row, label)) for row, label in enumerate(rows[LABEL][:])
            ]
            if not any(answered):
                raise UserError(f"no question of {split} has an answer: leave this split out")
            has_unanswerable |= not all(answered)
        if self.no_answer_threshold and not has_unanswerable:
            raise UserError(
                f"task.no_answer_threshold={self.no_answer_threshold} changes nothing: every "
                "question of the data has an answer"
            )
        return list(OUTPUTS)

    def targets(
        self, split: str, rows: Dataset, names: Sequence[str]
    ) -> list[dict[str, list[Any]]]:
        """Return the answers with their place in the context: ``text`` and ``answer_start``.

        An answer that is not where it is said to be is taken at the nearest place where it is.

        Raises:
            UserError: for one that is nowhere in the context.
        """
        return [
            _locate_answers(
                f"{split} row {row + 1} ({_excerpt(question)})",
                _parse_answers(split, row, label),
                context,
            )
            for row, (label, question, context) in enumerate(
                zip(rows[LABEL][:], rows["text"][:], rows["text_pair"][:], strict=True)
            )
        ]

    def target_note(self, split: str, labels: Sequence[Any], targets: Targets) -> str | None:
        """Return a note on the number of answers that were moved."""
        moved = sum(
            any(start != at for (start, _), at in zip(pairs, target["answer_start"], strict=True))
            for pairs, target in zip(
                (_parse_answers(split, row, label) for row, label in enumerate(labels)),
                targets,
                strict=True,
            )
        )
        if not moved:
            return None
        return (
            f"The answers of {moved} of {len(targets)} questions of {split} do not stand where "
            "answer_start says: the nearest place where they do was taken."
        )

    def missing_label(self, names: Sequence[str]) -> dict[str, list[Any]]:
        """Return an answer whose place is ignored: neither an answer nor that there is none."""
        return {"text": [""], "answer_start": [IGNORED_LABEL]}

    def target_bytes(self, targets: Targets) -> bytes:
        """Serialize all answers as text."""
        return json.dumps(
            [[target["text"], target["answer_start"]] for target in targets], ensure_ascii=False
        ).encode()

    def describe_outputs(self, names: Sequence[str]) -> str:
        """Describe the outputs."""
        return "answers as spans"


def _parse_answers(split: str, row: int, label: Any) -> list[Answer]:
    """Return a row's answers from either form they come in.

    Raises:
        UserError: for anything else.
    """
    if isinstance(label, Mapping):
        texts, starts = label.get("text"), label.get("answer_start")
        if isinstance(texts, list):
            starts = starts if isinstance(starts, list) else [None] * len(texts)
            if len(starts) == len(texts) and all(isinstance(text, str) for text in texts):
                return list(zip(starts, texts, strict=True))
    elif isinstance(label, list) and all(
        isinstance(answer, Mapping) and isinstance(answer.get("text"), str) for answer in label
    ):
        return [(answer.get("answer_start"), answer["text"]) for answer in label]
    raise UserError(
        f"{split} row {row + 1} has no answers in the column of data.label: they are "
        "{text: [...], answer_start: [...]}, both lists empty for a question without an answer"
    )


def _locate_answers(where: str, answers: list[Answer], context: str) -> dict[str, list[Any]]:
    starts = []
    for start, text in answers:
        if not text.strip():
            raise UserError(f"{where} has an empty answer")
        if start is None or start < 0 or context[start : start + len(text)] != text:
            start = _nearest_occurrence(context, text, start or 0)
        if start is None:
            raise UserError(
                f"{where}: its context does not contain the answer {_excerpt(text)}, and "
                "task=question_answering looks for answers there"
            )
        starts.append(start)
    return {"text": [text for _, text in answers], "answer_start": starts}


def _excerpt(text: str) -> str:
    text = " ".join(text.split())
    return f"'{text}'" if len(text) <= 40 else f"'{text[:40]}...'"


def _nearest_occurrence(context: str, text: str, start: int) -> int | None:
    places, at = [], context.find(text)
    while at >= 0:
        places.append(at)
        at = context.find(text, at + 1)
    return min(places, key=lambda place: abs(place - start), default=None)
