"""One label for a text or a pair of texts."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from datasets import Dataset
from torch import Tensor
from transformers import (
    AutoModelForSequenceClassification,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from distill.data.batches import IGNORED_LABEL
from distill.errors import UserError
from distill.measure import quality

METRICS = ("accuracy", "macro_f1", "matthews_correlation")


class SequenceClassification:
    """Sequence classification: the head, the labels, the hard-label loss and the metrics.

    Args:
        metric: what early stopping, the best checkpoint and the report's conclusion go by.

    Raises:
        UserError: for a metric that does not exist.
    """

    name = "sequence_classification"
    inputs = ("text", "text_pair")
    auto_model = AutoModelForSequenceClassification
    head = "ForSequenceClassification"  # how an architecture with a trained head is named

    def __init__(self, metric: str = "accuracy"):
        if metric not in METRICS:
            raise UserError(f"task.metric={metric}: choose one of {', '.join(METRICS)}")
        self.metric = metric

    # --- labels --------------------------------------------------------------------------------

    def label_names(self, splits: Mapping[str, Dataset], given: Sequence[str] | None) -> list[str]:
        """The classes, in the order of their ids.

        The source's own order where it has one (a ``ClassLabel`` column); otherwise the labels
        that occur in train and validation, sorted (numbers by value). ``given`` names the
        integer labels 0, 1, ... or fixes the order of labels that are strings.

        Raises:
            UserError: fewer than two classes, a missing label, or a label that ``given`` lacks.
        """
        train = splits["train"]
        feature = train.features["label"]
        occurring = {
            str(value)
            for split in ("train", "validation")
            for value in splits[split].unique("label")
        } - {"None", ""}
        if len(occurring) < 2:
            raise UserError(
                f"the data have one class only ({', '.join(occurring) or 'no labels'}): "
                "there is nothing to classify"
            )
        if hasattr(feature, "names"):
            names = list(given or feature.names)
            if len(names) != len(feature.names):
                raise UserError(
                    f"data.labels names {len(names)} classes, the data have {len(feature.names)}"
                )
            return names
        names = sorted(occurring, key=_numbers_by_value)
        if given is None:
            return names
        given = [str(name) for name in given]
        if not set(names) <= set(given) and not _are_ids(names, len(given)):
            missing = sorted(set(names) - set(given))
            raise UserError(f"data.labels lacks {', '.join(missing[:5])}, which the data have")
        return given

    def label_ids(self, split: str, dataset: Dataset, names: Sequence[str]) -> list[int]:
        """The labels of a split as ids.

        Raises:
            UserError: for a label that is missing or outside the set.
        """
        values = dataset["label"]
        ids = {name: index for index, name in enumerate(names)}
        # Ids already: a ClassLabel's, whatever its classes are called, or named by data.labels.
        are_ids = hasattr(dataset.features["label"], "names")
        if are_ids or all(str(value) not in ids for value in values[:100]):
            ids = {str(index): index for index in range(len(names))}
        try:
            return [ids[str(value)] for value in values]
        except KeyError:
            row = next(row for row, value in enumerate(values) if str(value) not in ids)
            label = values[row]
            what = "has no label" if label in (None, "") else f"has the label '{label}', which"
            where = "" if label in (None, "") else f" train does not have ({_some(names)})"
            raise UserError(f"{split} row {row + 1} {what}{where}") from None

    # --- model ---------------------------------------------------------------------------------

    def head_settings(self, names: Sequence[str]) -> dict[str, Any]:
        """What a model's configuration says about the classes."""
        return {
            "num_labels": len(names),
            "id2label": dict(enumerate(names)),
            "label2id": {name: index for index, name in enumerate(names)},
            "problem_type": "single_label_classification",
        }

    def load(self, path: str | Path, names: Sequence[str], **settings: Any) -> PreTrainedModel:
        """A pretrained encoder with a head for these classes, new where it has none that fits."""
        return self.auto_model.from_pretrained(
            path,
            dtype=torch.float32,
            ignore_mismatched_sizes=True,
            **self.head_settings(names),
            **settings,
        )

    def head_order(self, model_names: Mapping[int, str], names: Sequence[str]) -> list[int] | None:
        """Where each class stands in a trained head, matched by name.

        Names match regardless of case; ``LABEL_3`` stands for a class called ``3``. ``None``
        if the two sets differ: the head was then trained for something else.
        """
        theirs = {_plain(name): int(index) for index, name in model_names.items()}
        ours = [_plain(name) for name in names]
        if set(theirs) != set(ours) or len(theirs) != len(names):
            return None
        return [theirs[name] for name in ours]

    # --- examples, loss, metrics ---------------------------------------------------------------

    def encode(
        self, tokenizer: PreTrainedTokenizerBase, rows: Mapping[str, list], max_length: int
    ) -> dict[str, list]:
        """Texts or pairs -> the tokenizer's ids, cut to ``max_length`` tokens, not padded."""
        return dict(
            tokenizer(
                rows["text"],
                rows.get("text_pair"),
                truncation=True,
                max_length=max_length,
                return_attention_mask=False,
            )
        )

    def hard_label_loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        r"""Cross-entropy in fp32: ``(N, C)``, ``(N,)`` -> scalar.

        .. math:: \frac{1}{N} \sum_{n:\, y_n \neq -100} -\log \mathrm{softmax}(z_n)_{y_n}

        Examples without a label (``IGNORED_LABEL``) add nothing to the sum, yet count in N: so a
        labelled example weighs the same whatever batch it falls into, as it does against its own
        soft label, whose mean is over all N. A mean over the labelled ones alone would give the
        only labelled example of a batch the weight of N. Without any label the loss is exactly 0,
        with finite gradients that are 0.
        """
        total = F.cross_entropy(logits.float(), labels, ignore_index=IGNORED_LABEL, reduction="sum")
        return total / len(labels)

    def predictions(self, logits: np.ndarray) -> np.ndarray:
        """Class ids from logits, ``(N, C)`` -> ``(N,)``."""
        return logits.argmax(axis=-1)

    @property
    def metrics(self) -> dict[str, Any]:
        """Metrics of class ids against labels, the primary one first."""
        ordered = sorted(METRICS, key=lambda name: name != self.metric)
        return {name: getattr(quality, name) for name in ordered}


def _plain(name: str) -> str:
    return re.sub(r"^label_", "", str(name).strip().lower())


def _are_ids(names: Sequence[str], count: int) -> bool:
    return all(name.isdigit() and int(name) < count for name in names)


def _numbers_by_value(name: str) -> tuple[int, float, str]:
    try:
        return (0, float(name), name)
    except ValueError:
        return (1, 0.0, name)


def _some(names: Sequence[str], count: int = 5) -> str:
    return ", ".join(names[:count]) + (", ..." if len(names) > count else "")
