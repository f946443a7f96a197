"""One label for a text or a pair of texts."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from datasets import Dataset
from torch import Tensor

from distill.core.errors import UserError
from distill.data.columns import describe_type, distinct_values
from distill.data.labels import IGNORED_LABEL
from distill.metrics import classification
from distill.tasks import class_labels
from distill.tasks.base import TextTask


class SequenceClassification(TextTask):
    """Sequence classification: the labels, the hard-label loss and the metrics.

    Args:
        metric: what early stopping, the best checkpoint and the report's conclusion go by.
        per_class: also precision, recall and F1 of every class.

    Raises:
        UserError: for a metric that does not exist.
    """

    name = "sequence_classification"
    choices = ("accuracy", "macro_f1", "matthews_correlation")
    distribution = "categorical"
    problem_type = "single_label_classification"
    heads = (None, "single_label_classification")  # None: classification is what is usual

    def __init__(self, metric: str = "accuracy", per_class: bool = False):
        super().__init__(metric, per_class)

    # --- labels --------------------------------------------------------------------------------

    def label_names(self, splits: Mapping[str, Dataset], given: Sequence[str] | None) -> list[str]:
        """The classes, in the order of their ids; see :func:`distill.tasks.class_labels.class_names`.

        Raises:
            UserError: fewer than two classes, a missing label, or a label that ``given`` lacks.
        """
        feature = splits["train"].features["label"]
        if hasattr(feature, "feature"):
            raise UserError(
                "the labels are lists: task=multi_label is for examples with any number of labels"
            )
        if (kind := describe_type(feature)) == "records":
            raise UserError(f"the column of data.label holds {kind}, not classes")
        occurring = {
            str(value)
            for split in ("train", "validation")
            for value in distinct_values(splits[split], "label")[0]
        } - {"None", ""}
        if len(occurring) < 2:
            raise UserError(
                f"the data have one class only ({', '.join(occurring) or 'no labels'}): "
                "there is nothing to classify"
            )
        return class_labels.class_names(feature, occurring, given)

    def targets(self, split: str, dataset: Dataset, names: Sequence[str]) -> np.ndarray:
        """The labels of a split as ids, ``(N,)``.

        Raises:
            UserError: for a label that is missing or outside the set.
        """
        labels, which = distinct_values(dataset, "label")
        first = [labels[index] for index in which[:100]]
        ids = class_labels.label_ids(dataset.features["label"], first, names)
        known = np.array([ids.get(str(label), -1) for label in labels], dtype=np.int64)
        targets = known[which]
        if (targets < 0).any():
            row = int(np.argmax(targets < 0))
            label = labels[which[row]]
            what = "has no label" if label in (None, "") else f"has the label '{label}', which"
            some = class_labels.preview(names)
            where = "" if label in (None, "") else f" train does not have ({some})"
            raise UserError(f"{split} row {row + 1} {what}{where}")
        return targets

    def no_label(self, names: Sequence[str]) -> int:
        """An id that is no class's."""
        return IGNORED_LABEL

    def head_order(self, model_names: Mapping[int, str], names: Sequence[str]) -> list[int] | None:
        """Where each class stands in a trained head, matched by name."""
        return class_labels.head_order(model_names, names)

    # --- loss, metrics -------------------------------------------------------------------------

    def hard_label_loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        """See :func:`distill.tasks.class_labels.cross_entropy`; ``(N, C)``, ``(N,)`` -> scalar."""
        return class_labels.cross_entropy(logits, labels)

    def predictions(self, logits: np.ndarray) -> np.ndarray:
        """Class ids from logits, ``(N, C)`` -> ``(N,)``."""
        return logits.argmax(axis=-1)

    def metric_function(self, name: str) -> Callable[..., float]:
        """Of class ids against labels."""
        return getattr(classification, name)

    def calibration(self, logits: np.ndarray, labels: np.ndarray) -> dict[str, float]:
        """Of the distribution over the classes."""
        return class_labels.classification_calibration(logits, labels)

    def fidelity(self, logits: np.ndarray, teacher: np.ndarray) -> dict[str, float]:
        """Same class, and how far the distributions are apart."""
        return class_labels.classification_fidelity(logits, teacher)

    def by_class(
        self, logits: np.ndarray, labels: np.ndarray, names: Sequence[str]
    ) -> dict[str, dict[str, float | None]]:
        """Each class against all others."""
        every = np.arange(len(names))
        predicted = self.predictions(logits)[:, None] == every
        return classification.per_class_scores(
            predicted, np.asarray(labels)[:, None] == every, names
        )
