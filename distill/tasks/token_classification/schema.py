"""Sentences as lists of words, and their tags."""

from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Any, ClassVar

import numpy as np
from datasets import Dataset

from distill.core.errors import UserError
from distill.data.columns import describe_type
from distill.data.label_cleaning import label_text
from distill.data.schema import LABEL, Column, DataSchema, InputType, Targets
from distill.metrics.entities import OUTSIDE, TagScheme
from distill.tasks import class_labels

FORMS = (
    "task=token_classification reads sentences as lists of words with a list of tags beside them "
    "(jsonl, parquet, hub), or a word a line (.conll, or data.layout=conll)"
)


class WordsInput(InputType):
    """A column of lists of words."""

    def validate(self, role: str, split: str, feature: Any) -> None:
        """Raise a ``UserError`` if the column does not hold lists of strings."""
        kind = describe_type(feature)
        if kind not in ("lists of string", "lists of large_string"):
            raise UserError(
                f"the column of data.{role} holds {kind} in {split}, not lists of words: {FORMS}"
            )

    def is_empty(self, value: Sequence[str] | None) -> bool:
        """Return whether a sentence has no word with content."""
        return not value or not any((word or "").strip() for word in value)

    def key(self, value: Sequence[str]) -> str:
        """Return the words joined by a separator that no word contains."""
        return "\x1e".join(word or "" for word in value)


class TagSchema(DataSchema):
    """One tag per word.

    Args:
        task_name: name of the task, for messages.
        metric: see :class:`~distill.tasks.token_classification.TokenClassification`.

    Attributes:
        metric: the selection metric; if not given it depends on the tags.
        scheme: meaning of the tags; ``None`` if they mark no entities. Known once label names are.
        outside: id that words without a prediction count as; -1 if there is no tag ``O``.
    """

    columns: Mapping[str, Column] = {
        "text": Column(("tokens", "words"), WordsInput()),
        LABEL: Column(("ner_tags", "tags", "labels", "label", "pos_tags")),
    }
    allows_augmentation: ClassVar[bool] = False
    categorical: ClassVar[bool] = True

    def __init__(self, task_name: str, metric: str | None = None):
        super().__init__(task_name)
        self.given_metric, self.metric = metric, metric or "f1"
        self.scheme: TagScheme | None = None
        self.outside = -1

    @property
    def settings(self) -> dict[str, Any]:
        """The metric, which some tags are refused for."""
        return {"metric": self.given_metric}

    def column_hint(self, role: str) -> str:
        """Name the forms that are read."""
        return f" ({FORMS})"

    def label_names(self, splits: Mapping[str, Dataset], given: Sequence[str] | None) -> list[str]:
        """Return the tags in the order of their ids; see :func:`class_labels.class_names`.

        Raises:
            UserError: for labels that are not lists, fewer than two tags, a tag that ``given``
                lacks, an invalid tag among tags of entities, or a metric that the tags do not have.
        """
        feature, present = _tag_feature(splits["train"], "train"), set()
        for split in ("train", "validation"):
            _tag_feature(splits[split], split)
            for tags in splits[split][LABEL][:]:
                present |= {str(tag) for tag in tags or () if label_text(tag) is not None}
        if len(present) < 2:
            raise UserError(
                f"the data have one tag only ({', '.join(present) or 'none at all'}): "
                "there is nothing to tell apart"
            )
        names = class_labels.class_names(feature, present, given)
        self.set_label_names(names)
        return names

    def set_label_names(self, names: Sequence[str]) -> None:
        """Determine whether the tags mark entities, and the metric.

        Raises:
            UserError: for an invalid tag among tags of entities, or a metric that the tags do not
                have.
        """
        by_word = self.given_metric in ("accuracy", "macro_f1")
        try:
            self.scheme = TagScheme.of(names)
        except UserError:
            if not by_word:
                raise
            self.scheme = None
        if self.scheme is None and self.given_metric == "f1":
            raise UserError(
                f"task.metric=f1 counts entities, and these tags mark none "
                f"({class_labels.preview(names)}; entities have B- and I-): choose accuracy or "
                "macro_f1"
            )
        if self.scheme is not None and self.given_metric == "macro_f1":
            raise UserError(
                "task.metric=macro_f1 is over the classes of words, and these tags mark entities "
                f"({class_labels.preview(names)}): choose f1 or accuracy"
            )
        self.metric = self.given_metric or ("accuracy" if self.scheme is None else "f1")
        self.outside = list(names).index(OUTSIDE) if OUTSIDE in names else -1

    def targets(self, split: str, rows: Dataset, names: Sequence[str]) -> list[list[int]]:
        """Return the tags of a split as ids, one for each word.

        Raises:
            UserError: for a sentence with more or fewer tags than words, an empty word, or a tag
                that is missing or unknown.
        """
        feature, tag_lists = _tag_feature(rows, split), rows[LABEL][:]
        first = list(chain.from_iterable(tags or () for tags in tag_lists[:100]))
        ids = class_labels.label_ids(feature, first[:1000] or names, names)
        targets = []
        for row, (words, tags) in enumerate(zip(rows["text"][:], tag_lists, strict=True)):
            where = f"{split} row {row + 1} ({_excerpt(words)})"
            if tags is None:
                raise UserError(f"{where} has no tags")
            if len(words) != len(tags):
                raise UserError(f"{where} has {len(words)} words and {len(tags)} tags")
            for number, (word, tag) in enumerate(zip(words, tags, strict=True), 1):
                if not word:
                    raise UserError(f"{where}: word {number} is empty")
                if str(tag) not in ids:
                    _raise_for_tag(f"{where}: word {number} ({word})", tag, names)
            targets.append([ids[str(tag)] for tag in tags])
        return targets

    def missing_label(self, names: Sequence[str]) -> list[int]:
        """Return no tags at all, whatever the number of words."""
        return []

    def target_bytes(self, targets: Targets) -> bytes:
        """Serialize the ids and the number of words of each sentence."""
        counts = np.fromiter(map(len, targets), np.int64, len(targets))
        return super().target_bytes(list(chain.from_iterable(targets))) + counts.tobytes()

    def describe_outputs(self, names: Sequence[str]) -> str:
        """Describe the tags and what they mark."""
        if self.scheme is None:
            return f"{len(names)} tags of words, measured by {self.metric}"
        return f"{len(names)} tags of {len(self.scheme.names)} types of entities"


def _raise_for_tag(where: str, tag: Any, names: Sequence[str]) -> None:
    if tag is None or tag == "":
        raise UserError(f"{where} has no tag")
    raise UserError(
        f"{where} has the tag '{tag}', which train does not have "
        f"({class_labels.preview(names)}; data.labels=[...] names them all)"
    )


def _tag_feature(rows: Dataset, split: str) -> Any:
    """Return the type of a single tag."""
    inner = getattr(rows.features[LABEL], "feature", None)
    if not hasattr(inner, "dtype"):
        raise UserError(f"the labels of {split} are no lists of tags: {FORMS}")
    return inner


def _excerpt(words: Sequence[str], count: int = 4) -> str:
    more = " ..." if len(words) > count else ""
    return " ".join(word or "" for word in words[:count]) + more
