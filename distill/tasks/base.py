"""What a task is, and what those share that give a text, or a pair of texts, one answer.

A task says what its labels are, what they cost when they are missed, how a prediction is read off
the logits, and by what it is measured. The rest of the program asks it.

An example has one row of logits, or several: its units, such as the words that a tagger labels.
Which tokens they belong to is for :meth:`Task.encode` to say (a column ``positions``); from there
on a batch's logits are ``(U, C)``, U units one after another, and whatever works on N examples
works on them. See `distill.modeling.forward`, `distill.core.jagged`.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from datasets import Dataset
from torch import Tensor, nn
from transformers import (
    AutoModelForSequenceClassification,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from distill.core.errors import UserError
from distill.core.jagged import ArrayOrJagged
from distill.data.columns import describe_type, numeric_column


class Task:
    """Any task: what the main flow, the losses and the measures ask of it.

    Args:
        metric: what early stopping, the best checkpoint and the report's conclusion go by: one of
            ``choices``, all of which are better when larger.
        per_class: also precision, recall and F1 of every class.

    Attributes:
        distribution: what the logits are the parameters of: ``categorical``, ``bernoulli``,
            ``gaussian``, or ``spans`` (categorical over the positions of a text, as many as it
            has); decides the form of the terms on logits, see `distill.objectives.terms`.
        problem_type: how transformers calls the task in a model's configuration.
        heads: the ``problem_type`` of checkpoints whose trained head serves as it is.
        auto_model: loads a model with the task's head.
        head: how an architecture with a trained head is named.
        keeps_head: whether fine-tuning starts from the head as it is loaded, not from a new one.
        many_labels: whether an example's label is a list of classes.
        per_token: whether it asks about tokens, so that teacher and student must read the same.
        augments: whether new texts can be made out of its examples.
        stores: whether a teacher's logits are small enough to be kept.
        columns: what it reads of the data: for each of ``text``, ``text_pair`` and ``label`` the
            names that such a column usually has.
        optional_columns: those it can do without.

    Raises:
        UserError: for a metric that does not exist.
    """

    name: str
    choices: tuple[str, ...]
    distribution: str
    problem_type: str | None
    heads: tuple[str | None, ...]
    auto_model: type
    head: str | tuple[str, ...]
    keeps_head = False
    many_labels = False
    per_token = False
    augments = True
    stores = True
    columns: Mapping[str, tuple[str, ...]] = {"text": ("text",), "label": ("label",)}
    optional_columns: tuple[str, ...] = ()

    def __init__(self, metric: str, per_class: bool = False):
        if metric not in self.choices:
            raise UserError(f"task.metric={metric}: choose one of {', '.join(self.choices)}")
        self.metric, self.per_class = metric, per_class

    # --- what a task says ----------------------------------------------------------------------

    def label_names(self, splits: Mapping[str, Dataset], given: Sequence[str] | None) -> list[str]:
        """A name for each of the head's outputs; ``given`` is ``data.labels``."""
        raise NotImplementedError

    def know(self, names: Sequence[str]) -> None:
        """Told the outputs' names before anything else is asked, prepared now or long ago."""

    def targets(self, split: str, dataset: Dataset, names: Sequence[str]) -> Sequence | None:
        """The labels of a split as the loss and the metrics take them, one a row.

        Numbers are arrays, ``(N,)`` or ``(N, C)``: a split may have many millions of rows. ``None``
        where a task has no labels.

        Raises:
            UserError: for a label that is missing or cannot be.
        """
        raise NotImplementedError

    def no_label(self, names: Sequence[str]) -> Any:
        """What stands for the label of an example without one."""
        raise NotImplementedError

    def head_order(self, model_names: Mapping[int, str], names: Sequence[str]) -> list[int] | None:
        """Where each output stands in a trained head; ``None`` if it was trained for others."""
        raise NotImplementedError

    def hard_label_loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Logits as arranged and labels -> scalar: a sum over the labelled, divided by N."""
        raise NotImplementedError

    def judge(self, logits: ArrayOrJagged, examples) -> tuple[np.ndarray, ...]:
        """What the metrics take, each with the measured examples on axis 0.

        Args:
            logits: of every example, what :meth:`condense` left of them.
            examples: a :class:`~distill.data.dataset.DistillationDataset` with its ``labels`` and ``source``.

        Returns:
            The model's own array first; after it those that are the same for every model.
        """
        raise NotImplementedError

    def encode(
        self, tokenizer: PreTrainedTokenizerBase, rows: Mapping[str, list], max_length: int
    ) -> dict[str, list]:
        """Examples -> the tokenizer's ids, cut to ``max_length`` tokens, not padded; ``label``.

        Args:
            tokenizer: any tokenizer.
            rows: the task's columns, ``label``, and ``row``, where each stands in its split.
            max_length: tokens at most.
        """
        raise NotImplementedError

    def calibration(self, logits: ArrayOrJagged, labels: ArrayOrJagged) -> dict[str, float] | None:
        """How far a model's probabilities can be believed; ``None`` where it gives none."""
        raise NotImplementedError

    def fidelity(self, logits: ArrayOrJagged, teacher: ArrayOrJagged) -> dict[str, float | None]:
        """How near a model is to the teacher, both by their logits."""
        raise NotImplementedError

    def by_class(
        self, logits: ArrayOrJagged, labels: ArrayOrJagged, names: Sequence[str]
    ) -> dict[str, dict[str, float | None]]:
        """Precision, recall, F1 and support of each class; where it has classes."""
        raise NotImplementedError

    def per_class_of(
        self, logits: ArrayOrJagged, examples, names: Sequence[str]
    ) -> dict[str, dict[str, float | None]]:
        """The same, for tasks whose units are not all that is counted."""
        return self.by_class(logits, examples.labels, names)

    def metric_function(self, name: str) -> Callable[..., float]:
        """The function ``(predictions, labels) -> float`` behind a metric's name."""
        raise NotImplementedError

    # --- what most share -----------------------------------------------------------------------

    def tidied(self, rows: Dataset, label: str | None) -> Dataset:
        """Rows as their source has them, before columns are chosen; ``label`` is one of these."""
        return rows

    def remark(self, split: str, given: Sequence, targets: list) -> str | None:
        """What a reader should know of how labels were turned into targets."""
        return None

    def reading_notes(self, encoded: Mapping[str, Dataset], max_length: int) -> list[str]:
        """What a reader of the report should know of how the splits are encoded."""
        share = float(np.mean(numeric_column(encoded["train"], "length") >= max_length))
        if share < 0.01:
            return []
        return [
            f"{share:.0%} of the training texts fill data.max_length={max_length} tokens: "
            "what goes beyond is cut."
        ]

    def check_texts(self, column: str, split: str, feature: Any) -> None:
        """Refuse a column that does not hold what the task reads.

        Raises:
            UserError: naming it.
        """
        if (kind := describe_type(feature)) not in ("string", "large_string"):
            raise UserError(f"the column of data.{column} holds {kind} in {split}, not text")

    def column_hint(self, ours: str, have: Sequence[str]) -> str:
        """What else to say where a column is missing."""
        return ""

    def is_empty(self, text: Any) -> bool:
        """Whether there is nothing to read."""
        return text is None or not text.strip()

    def plain(self, text: Any) -> str:
        """What a text is known again by."""
        return text

    def label_bytes(self, labels: list) -> bytes:
        """What tells other labels from these."""
        array = np.asarray(labels)
        return array.astype(np.float64 if array.dtype.kind == "f" else np.int64).tobytes()

    def width(self, classes: int, config: Any) -> int:
        """Outputs of a model's head.

        Args:
            classes: how many names :meth:`label_names` gives.
            config: the model's.
        """
        return classes

    def check_tokenizer(self, tokenizer: PreTrainedTokenizerBase, max_length: int) -> None:
        """Refuse a teacher's tokenizer that the task cannot work with; any will do.

        Raises:
            UserError: saying why.
        """

    def transform(self, tokenizer: PreTrainedTokenizerBase, train: Dataset) -> Callable | None:
        """What is done to rows when a batch is made, see ``Collate``; ``None``: nothing.

        Args:
            tokenizer: that encoded them.
            train: the training split, encoded.
        """

    def fingerprint(self, content: str, examples: Any) -> str:
        """What tells runs apart that cannot be compared: of what was measured.

        Args:
            content: of the evaluated split and the names.
            examples: the evaluated split as the student reads it, ``Batches``.
        """
        return content

    @property
    def training(self) -> dict[str, Any]:
        """Its settings that change what a training comes to, for cache keys."""
        return {}

    @property
    def encoding(self) -> str:
        """Its name and every setting that changes what :meth:`encode` gives, for cache keys."""
        return self.name

    def arrange(self, logits: Tensor, batch: Mapping[str, Any]) -> Tensor:
        """A batch's logits as the objective takes them: one distribution a row."""
        return logits

    def restored(self, arranged: Tensor, batch: Mapping[str, Any]) -> Tensor:
        """The logits that :meth:`arrange` was given, from what it made of them."""
        return arranged

    def condense(self, logits: Tensor, labels: Tensor) -> Tensor:
        """What measuring needs of a batch's logits ``(N, C)``; all of them."""
        return logits

    @property
    def settings(self) -> dict[str, Any]:
        """Plain values that labels and what is read may depend on, for the keys of caches."""
        return {
            name: value for name, value in vars(self).items() if name not in ("metric", "per_class")
        }

    @property
    def metrics(self) -> dict[str, Callable[..., float]]:
        """All metrics, the primary one first."""
        ordered = sorted(self.measured, key=lambda name: name != self.metric)
        return {name: self.metric_function(name) for name in ordered}

    def start(self, output: nn.Linear, labels: np.ndarray) -> None:
        """Set a new head's last layer to where training had better start from; nothing to set."""

    def comparable(self, predictions: np.ndarray) -> np.ndarray:
        """Predictions in a form in which one model's can be swapped with another's."""
        return predictions

    @property
    def measured(self) -> tuple[str, ...]:
        """The names of all metrics, those too that no choice of a model can go by."""
        return self.choices

    def outputs(self, names: Sequence[str]) -> str:
        """What the head answers, for the log."""
        return f"{len(names)} classes"

    def head_settings(self, names: Sequence[str]) -> dict[str, Any]:
        """What a model's configuration says about the outputs."""
        return {
            "num_labels": len(names),
            "id2label": dict(enumerate(names)),
            "label2id": {name: index for index, name in enumerate(names)},
            "problem_type": self.problem_type,
        }

    def load(self, path: str | Path, names: Sequence[str], **settings: Any) -> PreTrainedModel:
        """A pretrained encoder with a head for these outputs, new where it has none that fits."""
        return self.auto_model.from_pretrained(
            path,
            dtype=torch.float32,
            ignore_mismatched_sizes=True,
            **self.head_settings(names),
            **settings,
        )


class TextTask(Task):
    """One answer to a text or a pair of texts, by a head over the whole."""

    auto_model = AutoModelForSequenceClassification
    head = "ForSequenceClassification"
    columns: ClassVar = {"text": ("text",), "text_pair": ("text_pair",), "label": ("label",)}
    optional_columns = ("text_pair",)

    def predictions(self, logits: np.ndarray) -> np.ndarray:
        """What a model predicts, in the form of the labels; logits ``(N, C)``."""
        raise NotImplementedError

    def judge(self, logits: np.ndarray, examples) -> tuple[np.ndarray, np.ndarray]:
        """Predictions and labels."""
        return self.predictions(logits), examples.labels

    def encode(
        self, tokenizer: PreTrainedTokenizerBase, rows: Mapping[str, list], max_length: int
    ) -> dict[str, list]:
        """Texts or pairs -> the tokenizer's ids, cut to ``max_length`` tokens, not padded."""
        encoded = tokenizer(
            rows["text"],
            rows.get("text_pair"),
            truncation=True,
            max_length=max_length,
            return_attention_mask=False,
        )
        return dict(encoded) | {"label": rows["label"]}
