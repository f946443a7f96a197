"""One label for each word of a sentence: named entities, parts of speech."""

from collections.abc import Callable, Mapping, Sequence
from itertools import chain
from typing import Any, ClassVar

import numpy as np
from datasets import Dataset
from torch import Tensor
from transformers import AutoModelForTokenClassification, PreTrainedTokenizerBase

from distill.core.errors import UserError
from distill.core.jagged import JaggedArray
from distill.data.collate import POSITIONS
from distill.data.columns import describe_type
from distill.data.dataset import DistillationDataset
from distill.data.labels import IGNORED_LABEL
from distill.metrics import classification
from distill.metrics.base import CountMetric
from distill.metrics.entities import OUTSIDE, EntitySpans, TagScheme
from distill.tasks import class_labels
from distill.tasks.base import Task

READS = (
    "task=token_classification reads sentences as lists of words with a list of tags beside them "
    "(jsonl, parquet, hub), or a word a line (.conll, or data.layout=conll)"
)


class TokenClassification(Task):
    """Token classification: a label for each word, read off the first of its pieces.

    Special tokens, padding and a word's further pieces are never asked. A word that the model does
    not read, beyond ``data.max_length`` or without any piece, has no logits: it counts as predicted
    ``O``, or as wrong where there is no such tag. White space that stands as a word (sets of
    characters have it) belongs to no entity and is left out altogether.

    Where tags mark entities (B-, I-, ... and O; see `distill.metrics.entities`) precision, recall and
    F1 are those of whole entities over all types, as the script `conlleval` and the library seqeval
    count them; tags of any other kind, such as parts of speech, are classes of words.

    Args:
        metric: what early stopping, the best checkpoint and the report's conclusion go by: ``f1``,
            ``accuracy`` or ``macro_f1``; ``None``: ``f1`` of entities, or else ``accuracy``.
            ``accuracy`` and ``macro_f1`` also take tags as they are that are no proper scheme.
        per_class: also precision, recall and F1 of every type of entity, or of every class.

    Raises:
        UserError: for a metric that does not exist.
    """

    name = "token_classification"
    choices = ("f1", "accuracy", "macro_f1")
    distribution = "categorical"
    problem_type = None
    heads = (None,)
    auto_model = AutoModelForTokenClassification
    head = "ForTokenClassification"
    per_token = True
    augments = False
    columns: ClassVar = {
        "text": ("tokens", "words"),
        "label": ("ner_tags", "tags", "labels", "label", "pos_tags"),
    }

    def __init__(self, metric: str | None = None, per_class: bool = False):
        super().__init__(self.choices[0] if metric is None else metric, per_class)
        self.given_metric = metric
        self.scheme: TagScheme | None = None
        self.outside = -1  # the id that words without a prediction have

    # --- labels --------------------------------------------------------------------------------

    def check_texts(self, column: str, split: str, feature: Any) -> None:
        """Refuse what are no lists of words."""
        kind = describe_type(feature)
        if kind not in ("lists of string", "lists of large_string"):
            raise UserError(
                f"the column of data.{column} holds {kind} in {split}, not lists of words: {READS}"
            )

    def column_hint(self, ours: str, have: Sequence[str]) -> str:
        """What is read."""
        return f" ({READS})"

    def is_empty(self, text: Sequence[str] | None) -> bool:
        """Whether a sentence has nothing to read."""
        return not text or not any((word or "").strip() for word in text)

    def plain(self, text: Sequence[str]) -> str:
        """The words, with what no word contains between them."""
        return "\x1e".join(word or "" for word in text)

    def label_bytes(self, labels: list) -> bytes:
        """Ids and how many there are a sentence."""
        counts = np.fromiter(map(len, labels), np.int64, len(labels))
        return super().label_bytes(list(chain.from_iterable(labels))) + counts.tobytes()

    def label_names(self, splits: Mapping[str, Dataset], given: Sequence[str] | None) -> list[str]:
        """The tags, in the order of their ids; see :func:`distill.tasks.class_labels.class_names`.

        Raises:
            UserError: labels that are no lists, fewer than two tags, one that ``given`` lacks, one
                that is none among tags of entities, or a metric that these tags do not have.
        """
        feature, occurring = _of_one(splits["train"], "train"), set()
        for split in ("train", "validation"):
            _of_one(splits[split], split)
            for tags in splits[split]["label"][:]:
                occurring |= set(map(str, tags or ()))
        occurring -= {"None", ""}
        if len(occurring) < 2:
            raise UserError(
                f"the data have one tag only ({', '.join(occurring) or 'none at all'}): "
                "there is nothing to tell apart"
            )
        names = class_labels.class_names(feature, occurring, given)
        self.know(names)
        return names

    @property
    def encoding(self) -> str:
        """A number that goes up whenever :meth:`encode` changes."""
        return f"{self.name} 1"

    @property
    def settings(self) -> dict[str, Any]:
        """What tags are refused for."""
        return {"metric": self.given_metric}

    def know(self, names: Sequence[str]) -> None:
        """Whether the tags mark entities, and what the metric then is.

        Raises:
            UserError: for a tag that is none among tags of entities, or a metric that these tags do
                not have.
        """
        plain = self.given_metric in ("accuracy", "macro_f1")
        try:
            self.scheme = TagScheme.of(names)
        except UserError:
            if not plain:
                raise
            self.scheme = None
        if self.scheme is None and self.given_metric == "f1":
            raise UserError(
                f"task.metric=f1 counts entities, and these tags mark none "
                f"({class_labels.preview(names)}; entities have B- and I-): choose accuracy or macro_f1"
            )
        if self.scheme is not None and self.given_metric == "macro_f1":
            raise UserError(
                "task.metric=macro_f1 is over the classes of words, and these tags mark entities "
                f"({class_labels.preview(names)}): choose f1 or accuracy"
            )
        self.metric = self.given_metric or ("accuracy" if self.scheme is None else "f1")
        self.outside = names.index(OUTSIDE) if OUTSIDE in names else -1

    def targets(self, split: str, dataset: Dataset, names: Sequence[str]) -> list[list[int]]:
        """The tags of a split as ids, one for each word.

        Raises:
            UserError: for a sentence with more or fewer tags than words, a word that is empty, a
                tag that is missing or outside the set.
        """
        feature, rows = _of_one(dataset, split), dataset["label"][:]
        some = list(chain.from_iterable(tags or () for tags in rows[:100]))
        ids = class_labels.label_ids(feature, some[:1000] or names, names)
        targets = []
        for row, (words, tags) in enumerate(zip(dataset["text"][:], rows, strict=True)):
            where = f"{split} row {row + 1} ({_shown(words)})"
            if tags is None:
                raise UserError(f"{where} has no tags")
            if len(words) != len(tags):
                raise UserError(f"{where} has {len(words)} words and {len(tags)} tags")
            for number, (word, tag) in enumerate(zip(words, tags, strict=True)):
                if not word:
                    raise UserError(f"{where}: word {number + 1} is empty")
                if str(tag) not in ids:
                    missing = tag is None or tag == ""
                    raise UserError(
                        f"{where}: word {number + 1} ({word}) has "
                        + ("no tag" if missing else f"the tag '{tag}', which train does not have ")
                        + ("" if missing else f"({class_labels.preview(names)}; ")
                        + ("" if missing else "data.labels=[...] names them all)")
                    )
            targets.append([ids[str(tag)] for tag in tags])
        return targets

    def no_label(self, names: Sequence[str]) -> list[int]:
        """No tags at all, however many words there are."""
        return []

    def outputs(self, names: Sequence[str]) -> str:
        """The tags, and what they mark."""
        if self.scheme is None:
            return f"{len(names)} tags of words, measured by {self.metric}"
        return f"{len(names)} tags of {len(self.scheme.names)} types of entities"

    def head_order(self, model_names: Mapping[int, str], names: Sequence[str]) -> list[int] | None:
        """Where each tag stands in a trained head, matched by name."""
        return class_labels.head_order(model_names, names)

    # --- reading -------------------------------------------------------------------------------

    def check_tokenizer(self, tokenizer: PreTrainedTokenizerBase, max_length: int) -> None:
        """Refuse sentences without room for a single word.

        Raises:
            UserError: saying what would do.
        """
        around = tokenizer.num_special_tokens_to_add()
        if max_length <= around:
            raise UserError(
                f"data.max_length={max_length} leaves no room for a word beside {around} special "
                "tokens: raise it"
            )

    def encode(
        self, tokenizer: PreTrainedTokenizerBase, rows: Mapping[str, list], max_length: int
    ) -> dict[str, list]:
        """Sentences -> ids, and which token and tag belongs to which word.

        Returns:
            The tokenizer's ids; for each word that is read its first piece in ``positions``, its
            tag in ``label`` and its place among the words in ``word``; ``tags``: of all words, read
            or not. White space that stands as a word is none.

        Raises:
            UserError: for a tokenizer that does not tell which piece is of which word.
        """
        if not tokenizer.is_fast:
            raise UserError(
                f"{type(tokenizer).__name__} does not tell which pieces are of which word: "
                "task=token_classification needs a fast tokenizer (tokenizer.json)"
            )
        sentences, labels = [], []
        for words, tags in zip(rows["text"], rows["label"], strict=True):
            tags = tags or [IGNORED_LABEL] * len(words)
            kept = [
                (word, tag) for word, tag in zip(words, tags, strict=True) if (word or "").strip()
            ]
            sentences.append([word for word, _ in kept])
            labels.append([tag for _, tag in kept])
        space = " " if _needs_spaces(tokenizer) else ""
        encoded = tokenizer(
            [[word if not i else space + word for i, word in enumerate(s)] for s in sentences],
            is_split_into_words=True,
            truncation=True,
            max_length=max_length,
            return_attention_mask=False,
        )
        first: list[dict[int, int]] = []
        for row in range(len(sentences)):
            pieces: dict[int, int] = {}
            for position, word in enumerate(encoded.word_ids(row)):
                if word is not None:
                    pieces.setdefault(word, position)
            first.append(pieces)
        return dict(encoded) | {
            POSITIONS: [list(pieces.values()) for pieces in first],
            "label": [
                [tags[word] for word in pieces]
                for tags, pieces in zip(labels, first, strict=True)
            ],
            "word": [list(pieces) for pieces in first],
            "tags": labels,
        }  # fmt: skip

    def reading_notes(self, encoded: Mapping[str, Dataset], max_length: int) -> list[str]:
        """How many words are not read, and entities that no tag begins."""
        notes = []
        for split in ("train", "test"):
            rows = encoded[split]
            words, read = (sum(map(len, rows[column][:])) for column in ("tags", "word"))
            if read < words:
                notes.append(
                    f"{words - read} of the {words} words of {split} are not read (beyond "
                    "data.max_length, or without any token) and "
                    + ("teach nothing." if split == "train" else self._counted_as)
                )
            if self.scheme is not None:
                found = self.scheme.entities(*_flat(rows["tags"][:])[:2])
                if found.implicit.any():
                    notes.append(
                        f"{found.implicit.sum()} of the {len(found.first)} entities of {split} "
                        "begin without B- (IOB1, or broken BIO) and are counted as conlleval does."
                    )
        return notes

    @property
    def _counted_as(self) -> str:
        return "count as wrong." if self.outside < 0 else f"count as predicted {OUTSIDE}."

    # --- loss, metrics -------------------------------------------------------------------------

    def hard_label_loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Cross-entropy over words, :func:`distill.tasks.class_labels.cross_entropy`."""
        return class_labels.cross_entropy(logits, labels)

    @property
    def measured(self) -> tuple[str, ...]:
        """Of entities, or of words alone."""
        if self.scheme is None:
            return ("accuracy", "macro_f1")
        return ("f1", "precision", "recall", "accuracy")

    def metric_function(self, name: str) -> Callable[..., float]:
        """Of what :meth:`judge` gives."""
        return (_OF_WORDS if self.scheme is None else _OF_ENTITIES)[name]

    def judge(
        self, logits: JaggedArray, examples: DistillationDataset
    ) -> tuple[np.ndarray, np.ndarray]:
        """Counts a sentence.

        Returns:
            Where tags mark entities: entities found, entities predicted and words right ``(N, 3)``;
            entities there are and words ``(N, 2)``. Else for each class the words that are right
            and those predicted, ``(N, 2C)``; and those of it ``(N, C)``.
        """
        words = self._words(logits, examples)
        if self.scheme is None:
            hits, predicted, labelled = words.by_class(logits.shape[1])
            return np.concatenate([hits, predicted], axis=1), labelled
        found, there = self._entities(words)
        right = words.predicted == words.tags
        own = [
            words.count(found.first[found.among(there)]), words.count(found.first),
            words.count(np.flatnonzero(right)),
        ]  # fmt: skip
        return np.stack(own, 1), np.stack([words.count(there.first), words.counts], 1)

    def _words(self, logits: JaggedArray, examples: DistillationDataset) -> "_Words":
        tags, begins, counts = _flat(examples.student["tags"][:])
        predicted = np.full(len(tags), self.outside)
        read, _, of_each = _flat(examples.student["word"][:])
        predicted[read + np.repeat(np.cumsum(counts) - counts, of_each)] = logits.values.argmax(-1)
        return _Words(tags, predicted, begins, counts)

    def _entities(self, words: "_Words") -> tuple[EntitySpans, EntitySpans]:
        """Predicted ones, and those that there are."""
        assert self.scheme is not None
        return tuple(
            self.scheme.entities(tags, words.begins) for tags in (words.predicted, words.tags)
        )

    def calibration(self, logits: JaggedArray, labels: JaggedArray) -> dict[str, float]:
        """Of the distribution over the tags, over the words that are read."""
        return class_labels.classification_calibration(logits.values, labels.values)

    def fidelity(self, logits: JaggedArray, teacher: JaggedArray) -> dict[str, float]:
        """Same tag, and how far the distributions are apart, over the words that are read."""
        return class_labels.classification_fidelity(logits.values, teacher.values)

    def per_class_of(
        self, logits: JaggedArray, examples: DistillationDataset, names: Sequence[str]
    ) -> dict[str, dict[str, float | None]]:
        """Each type of entity; or, where there are none, each class of words."""
        words = self._words(logits, examples)
        if self.scheme is None:
            counts = (table.sum(axis=0) for table in words.by_class(len(names)))
            return classification.per_class_scores_from_counts(*counts, names)
        found, there = self._entities(words)
        of_type = (found.types[found.among(there)], found.types, there.types)
        count = len(self.scheme.names)
        return classification.per_class_scores_from_counts(
            *(np.bincount(types, minlength=count) for types in of_type), self.scheme.names
        )


class _Words:
    """All words of a split, sentence after sentence.

    Attributes:
        tags: that they have, ``(W,)``.
        predicted: by a model, ``(W,)``; -1: none.
        begins: which are the first of their sentence, ``(W,)``.
        counts: words of each sentence, ``(N,)``.
    """

    def __init__(self, tags, predicted, begins, counts):
        self.tags, self.predicted, self.begins, self.counts = tags, predicted, begins, counts
        self.sentence = np.repeat(np.arange(len(counts)), counts)

    def count(self, words: np.ndarray) -> np.ndarray:
        """How many of some words each sentence has, ``(N,)``."""
        return np.bincount(self.sentence[words], minlength=len(self.counts))

    def by_class(self, classes: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Words right, predicted and labelled of each class in each sentence, ``(N, C)`` each."""

        def table(ids: np.ndarray, counted: np.ndarray) -> np.ndarray:
            cells = self.sentence[counted] * classes + ids[counted]
            shape = len(self.counts), classes
            return np.bincount(cells, minlength=shape[0] * shape[1]).reshape(shape)

        return (
            table(self.tags, self.predicted == self.tags),
            table(self.predicted, self.predicted >= 0),
            table(self.tags, self.tags >= 0),
        )


def _flat(rows: Sequence[Sequence[int]]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """All values, which of them are the first of their row, and how many each row has."""
    counts = np.fromiter(map(len, rows), np.int64, len(rows))
    values = np.fromiter(chain.from_iterable(rows), np.int64, counts.sum())
    begins = np.zeros(len(values), dtype=bool)
    begins[(np.cumsum(counts) - counts)[counts > 0]] = True
    return values, begins, counts


def _of_one(dataset: Dataset, split: str) -> Any:
    """The type of a single tag."""
    feature = dataset.features["label"]
    inner = getattr(feature, "feature", None)
    if not hasattr(inner, "dtype"):
        raise UserError(f"the labels of {split} are no lists of tags: {READS}")
    return inner


def _shown(words: Sequence[str], count: int = 4) -> str:
    more = " ..." if len(words) > count else ""
    return " ".join(word or "" for word in words[:count]) + more


def _needs_spaces(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Whether a word behind a space is read otherwise than one given by itself (RoBERTa's)."""
    text = tokenizer("a b", add_special_tokens=False)["input_ids"]
    words = tokenizer(["a", "b"], is_split_into_words=True, add_special_tokens=False)["input_ids"]
    spaced = tokenizer(["a", " b"], is_split_into_words=True, add_special_tokens=False)
    return text != words and text == spaced["input_ids"]


# --- metrics of sums over sentences ---------------------------------------------------------


def _share(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """0 where there is nothing, as `conlleval` has it."""
    return part / np.maximum(whole, 1)


@CountMetric
def _precision(own: np.ndarray, shared: np.ndarray, counts: np.ndarray) -> np.ndarray:
    return _share(*(counts @ own[:, :2]).T)


@CountMetric
def _recall(own: np.ndarray, shared: np.ndarray, counts: np.ndarray) -> np.ndarray:
    return _share(counts @ own[:, 0], counts @ shared[:, 0])


@CountMetric
def _f1(own: np.ndarray, shared: np.ndarray, counts: np.ndarray) -> np.ndarray:
    return _share(2 * (counts @ own[:, 0]), counts @ (own[:, 1] + shared[:, 0]))


@CountMetric
def _accuracy(own: np.ndarray, shared: np.ndarray, counts: np.ndarray) -> np.ndarray:
    return counts @ own[:, 2] / (counts @ shared[:, 1])


@CountMetric
def _accuracy_of_words(own: np.ndarray, shared: np.ndarray, counts: np.ndarray) -> np.ndarray:
    right = own[:, : shared.shape[1]].sum(axis=1)
    return counts @ right / (counts @ shared.sum(axis=1))


@CountMetric
def _macro_f1_of_words(own: np.ndarray, shared: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Over the classes that occur among tags or predictions, as :func:`quality.macro_f1`."""
    hit, predicted = np.split(own, 2, axis=1)
    occurs = counts @ (predicted + shared)
    f1 = _share(2 * (counts @ hit), occurs)
    return f1.sum(axis=1) / (occurs > 0).sum(axis=1)


_OF_ENTITIES = {"f1": _f1, "precision": _precision, "recall": _recall, "accuracy": _accuracy}
_OF_WORDS = {"accuracy": _accuracy_of_words, "macro_f1": _macro_f1_of_words}
