"""Exact match and F1 of predicted answers."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pyarrow.compute as pc
import torch
from datasets import Dataset

from distill.core.jagged import JaggedArray
from distill.data.dataset import DistillationDataset
from distill.metrics import fidelity, squad
from distill.metrics.base import Metric
from distill.tasks.evaluator import Evaluator
from distill.tasks.question_answering.criterion import pad_positions


@dataclass(frozen=True)
class AnswerConfig:
    """How a span is chosen; see :class:`~distill.tasks.question_answering.QuestionAnswering`."""

    max_answer_length: int = 30
    no_answer_threshold: float = 0.0


class SpanEvaluator(Evaluator[JaggedArray]):
    """SQuAD's metrics over questions.

    Args:
        metric: ``f1`` or ``exact_match``.
        config: how spans are chosen.
    """

    selection_metrics = ("f1", "exact_match")

    def __init__(self, metric: str, config: AnswerConfig):
        super().__init__(metric)
        self.config = config

    @property
    def all_metrics(self) -> list[Metric]:
        """Means over the questions."""
        return [Metric("f1", squad.f1), Metric("exact_match", squad.exact_match)]

    @property
    def training_settings(self) -> dict[str, Any]:
        """How the answers are chosen that the best checkpoint is selected by."""
        return asdict(self.config)

    def predict_answers(self, logits: JaggedArray, examples: DistillationDataset) -> dict[int, str]:
        """Return a model's answer to each question by its row: the best span over all windows.

        Empty where the model gives none, which it may if some question of the split has no answer:
        the least no-answer score over the windows counts, as in the official script.
        """
        scores, spans, no_answer = squad.best_spans(logits, self.config.max_answer_length)
        example = examples.column("example").to_numpy()
        questions, question_of = np.unique(example, return_inverse=True)
        # The last window of each question in this order is its best.
        order = np.lexsort((scores, question_of))
        ends = np.searchsorted(question_of[order], np.arange(len(questions)), side="right")
        best = order[ends - 1]
        least = np.full(len(questions), np.inf)
        np.minimum.at(least, question_of, no_answer)
        empty = ~np.isfinite(scores[best])
        if has_unanswerable(examples.source):
            empty |= least - scores[best] > self.config.no_answer_threshold
        starts = logits.starts[best]
        characters = [
            pc.list_flatten(examples.column(name)).to_numpy()[starts + spans[best, side]]
            for side, name in enumerate(("starts", "ends"))
        ]
        assert examples.source is not None
        contexts = examples.source.select(questions)["text_pair"][:]
        return {
            question: "" if no else context[start:end].strip()
            for question, no, context, start, end in zip(
                questions.tolist(), empty, contexts, *characters, strict=True
            )
        }

    def metric_inputs(
        self, logits: JaggedArray, examples: DistillationDataset
    ) -> tuple[np.ndarray]:
        """Return exact match and F1 of each question, ``(Q, 2)``, in the order of their rows."""
        answers = self.predict_answers(logits, examples)
        assert examples.source is not None
        labels = examples.source.select(list(answers))["label"][:]
        golds = [label["text"] for label in labels]
        if has_unanswerable(examples.source):  # as the script of v2 does, unlike that of v1.1
            golds = [[gold for gold in texts if squad.normalize_answer(gold)] for texts in golds]
        pairs = zip(answers.values(), golds, strict=True)
        return (np.array([squad.answer_scores(answer, gold or [""]) for answer, gold in pairs]),)

    def constant_prediction(
        self, logits: JaggedArray, examples: DistillationDataset, names: Sequence[str]
    ) -> str | None:
        """Return that no question is answered."""
        answers = self.predict_answers(logits, examples).values()
        return "no answer for every question" if len(answers) > 1 and not any(answers) else None

    def clusters(self, examples: DistillationDataset) -> np.ndarray:
        """Return the paragraph of each question, ``(Q,)``: questions about one are not independent.

        Equal contexts are one paragraph.
        """
        questions = np.unique(examples.column("example").to_numpy())
        assert examples.source is not None
        contexts = examples.source.select(questions)["text_pair"][:]
        return np.unique(np.array(contexts), return_inverse=True)[1]

    def calibration(self, logits: JaggedArray, labels: JaggedArray) -> None:
        """Return nothing: the score of a span is no probability of being correct."""

    def fidelity(self, logits: JaggedArray, teacher: JaggedArray) -> dict[str, float | None]:
        """Return, over windows, the share of equal spans and the mean KL of start and end."""
        spans, teacher_spans = self._window_spans(logits), self._window_spans(teacher)
        total = 0.0
        for first in range(0, len(logits), squad.WINDOWS):
            windows = list(range(first, min(first + squad.WINDOWS, len(logits))))
            counts = torch.from_numpy(logits.counts[windows])
            student_rows, teacher_rows = (
                pad_positions(torch.from_numpy(array[windows]), counts).numpy()
                for array in (logits, teacher)
            )
            total += fidelity.kl_divergence(teacher_rows, student_rows) * len(windows)
        return {
            "agreement": float((spans == teacher_spans).all(axis=1).mean()),
            "kl_divergence": total / len(logits),
        }

    def _window_spans(self, logits: JaggedArray) -> np.ndarray:
        """Return each window's span, ``(W, 2)``; 0 and 0 where no answer scores higher."""
        scores, spans, no_answer = squad.best_spans(logits, self.config.max_answer_length)
        empty = no_answer - scores > self.config.no_answer_threshold
        return np.where(empty[:, None], 0, spans)


def has_unanswerable(source: Dataset) -> bool:
    """Return whether some question of a split has no answer."""
    return not all(label["text"] for label in source["label"][:])
