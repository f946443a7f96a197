"""The answer to a question as a span of a context (SQuAD v1.1 and v2), read in windows."""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import pyarrow.compute as pc
import torch
import torch.nn.functional as F
from datasets import Dataset
from torch import Tensor
from transformers import AutoModelForQuestionAnswering, PreTrainedTokenizerBase

from distill.core.errors import UserError
from distill.core.jagged import JaggedArray
from distill.data.collate import POSITIONS
from distill.data.dataset import DistillationDataset
from distill.data.labels import IGNORED_LABEL
from distill.metrics import fidelity, squad
from distill.tasks.base import Task

OUTPUTS = ["start", "end"]
# Of positions that a shorter window does not have: its probability is exactly 0 in fp32 at every
# temperature below some millions, and its logarithm finite.
NOWHERE = -1e9

_METRICS = {"f1": squad.f1, "exact_match": squad.exact_match}


class QuestionAnswering(Task):
    """Extractive question answering: where in its context the answer starts, and where it ends.

    A context that is too long is read in overlapping windows, each with the whole question. A
    window's units are its first token (BERT's ``[CLS]``), which stands for "the answer is not
    here" (Devlin et al. 2019, section 4.3), and the tokens of the context; start and end are a
    choice of one unit each. Windows without the answer are trained to say so, those of questions
    that have one as well: their scores are then lower where windows are compared.

    Args:
        metric: what early stopping, the best checkpoint and the report's conclusion go by: ``f1``
            or ``exact_match``.
        stride: tokens of the context that neighbouring windows share; ``None``: a quarter of what
            a window holds. A span no longer than that lies whole in some window.
        max_answer_length: tokens of a predicted span, at most.
        no_answer_threshold: a model declines to answer where its score for no answer exceeds that
            of the best span by more than this; in data with unanswerable questions only.

    Raises:
        UserError: for a metric that does not exist, or a setting out of range.
    """

    name = "question_answering"
    choices = tuple(_METRICS)
    distribution = "spans"
    problem_type = None
    heads = (None,)
    auto_model = AutoModelForQuestionAnswering
    head = "ForQuestionAnswering"
    per_token = True
    augments = False
    columns: ClassVar = {
        "text": ("question",),
        "text_pair": ("context",),
        "label": ("answers",),
    }

    def __init__(
        self,
        metric: str = "f1",
        stride: int | None = None,
        max_answer_length: int = 30,
        no_answer_threshold: float = 0.0,
    ):
        super().__init__(metric)
        if stride is not None and stride < 0:
            raise UserError(f"task.stride={stride}: it must be 0 or above")
        if max_answer_length < 1:
            raise UserError(f"task.max_answer_length={max_answer_length}: it must be 1 or more")
        if not math.isfinite(no_answer_threshold):
            raise UserError(f"task.no_answer_threshold={no_answer_threshold}: it must be a number")
        self.stride, self.max_answer_length = stride, max_answer_length
        self.no_answer_threshold = no_answer_threshold

    # --- labels --------------------------------------------------------------------------------

    def tidied(self, rows: Dataset, label: str | None) -> Dataset:
        """Answers to questions that a column ``is_impossible`` marks are none (SQuAD v2, KLUE)."""
        if "is_impossible" not in rows.column_names or label not in rows.column_names:
            return rows
        impossible = rows["is_impossible"][:]
        if not any(impossible):
            return rows
        feature = rows.features[label]
        given = rows[label][:]
        nothing = {"text": [], "answer_start": []} if isinstance(feature, Mapping) else []
        kept = [nothing if no else answer for no, answer in zip(impossible, given, strict=True)]
        return rows.remove_columns(label).add_column(label, kept, feature=feature)

    def label_names(self, splits: Mapping[str, Dataset], given: Sequence[str] | None) -> list[str]:
        """The head's two outputs.

        Raises:
            UserError: if ``data.labels`` names classes, if answers are none, if a split has none,
                or a threshold is given where every question has an answer.
        """
        if given is not None:
            raise UserError("data.labels names classes: task=question_answering has none")
        declines = False
        for split, rows in splits.items():
            answered = [bool(_pairs(split, row, one)) for row, one in enumerate(rows["label"][:])]
            if not any(answered):
                raise UserError(f"no question of {split} has an answer: leave this split out")
            declines |= not all(answered)
        if self.no_answer_threshold and not declines:
            raise UserError(
                f"task.no_answer_threshold={self.no_answer_threshold} changes nothing: every "
                "question of the data has an answer"
            )
        return list(OUTPUTS)

    def targets(self, split: str, dataset: Dataset, names: Sequence[str]) -> list[dict]:
        """Answers, each where it stands in the context: ``text`` and ``answer_start``.

        An answer that does not stand where it is said to is taken where it stands nearest to that.

        Raises:
            UserError: for one that stands nowhere.
        """
        return [
            _placed(
                f"{split} row {row + 1} ({_short(question)})", _pairs(split, row, given), context
            )
            for row, (given, question, context) in enumerate(
                zip(dataset["label"][:], dataset["text"][:], dataset["text_pair"][:], strict=True)
            )
        ]

    def remark(self, split: str, given: Sequence, targets: list) -> str | None:
        """How many answers were moved."""
        moved = sum(
            any(start != at for (start, _), at in zip(pairs, target["answer_start"], strict=True))
            for pairs, target in zip(
                (_pairs(split, row, one) for row, one in enumerate(given)), targets, strict=True
            )
        )
        if not moved:
            return None
        return (
            f"The answers of {moved} of {len(targets)} questions of {split} do not stand where "
            "answer_start says: the nearest place where they do was taken."
        )

    def no_label(self, names: Sequence[str]) -> dict:
        """Neither an answer nor that there is none."""
        return {"text": [""], "answer_start": [IGNORED_LABEL]}

    def label_bytes(self, labels: list) -> bytes:
        """All answers, as text."""
        return json.dumps(
            [[label["text"], label["answer_start"]] for label in labels], ensure_ascii=False
        ).encode()

    def head_order(self, model_names: Mapping[int, str], names: Sequence[str]) -> list[int] | None:
        """Start and end, in this order unless the head's own names say otherwise."""
        theirs = {str(name).lower(): int(index) for index, name in model_names.items()}
        if set(theirs) == set(OUTPUTS):
            return [theirs[name] for name in OUTPUTS]
        return [0, 1] if set(theirs) == {"label_0", "label_1"} else None

    def outputs(self, names: Sequence[str]) -> str:
        """What the head answers, for the log."""
        return "answers as spans"

    # --- windows -------------------------------------------------------------------------------

    @property
    def encoding(self) -> str:
        """How windows overlap."""
        return f"{self.name} 1, stride {self.stride}"

    @property
    def training(self) -> dict[str, Any]:
        """What is read, and how the answers are found that the best checkpoint is chosen by."""
        return self.settings

    def encode(
        self, tokenizer: PreTrainedTokenizerBase, rows: Mapping[str, list], max_length: int
    ) -> dict[str, list]:
        """Questions and contexts -> windows, one or more for each question.

        A question that would take more than half of the room is cut to it.

        Returns:
            The tokenizer's ids; ``positions``, the tokens that are units; ``starts`` and ``ends``,
            the units' characters in the context (0 and 0 of the first); ``label``, the units where
            the first answer starts and ends, 0 and 0 where it does not stand in the window whole;
            ``example``, the question's row; ``cut``, whether the question was.

        Raises:
            UserError: if the tokenizer cannot say where tokens stand, or windows have no room.
        """
        if not tokenizer.is_fast:
            raise UserError(
                f"task={self.name} has to know where tokens stand in the text, which "
                f"{type(tokenizer).__name__} cannot say: take a model with a tokenizer.json"
            )
        room = max_length - tokenizer.num_special_tokens_to_add(pair=True)
        questions, cut = _shortened(tokenizer, rows["text"], room // 2)
        encoded = tokenizer(
            questions,
            rows["text_pair"],
            truncation="only_second",
            max_length=max_length,
            stride=self._overlap(room, max_length),
            return_overflowing_tokens=True,
            return_offsets_mapping=True,
            return_attention_mask=False,
            verbose=False,
        )
        of, offsets = encoded.pop("overflow_to_sample_mapping"), encoded.pop("offset_mapping")
        windows: dict[str, list] = {
            key: [] for key in (POSITIONS, "starts", "ends", "label", "example", "cut")
        }
        for number, sample in enumerate(of):
            ids = encoded["input_ids"][number]
            context = [i for i, part in enumerate(encoded.sequence_ids(number)) if part == 1]
            none = ids.index(tokenizer.cls_token_id) if tokenizer.cls_token_id in ids else 0
            characters = np.asarray(offsets[number], dtype=np.int64)[context].reshape(-1, 2)
            first = number == 0 or of[number - 1] != sample
            last = number == len(of) - 1 or of[number + 1] != sample
            windows[POSITIONS].append([none, *context])
            windows["starts"].append([0, *characters[:, 0].tolist()])
            windows["ends"].append([0, *characters[:, 1].tolist()])
            windows["label"].append(_span(rows["label"][sample], characters, first, last))
            windows["example"].append(rows["row"][sample])
            windows["cut"].append(cut[sample])
        return dict(encoded) | windows

    def _overlap(self, room: int, max_length: int) -> int:
        """Tokens that neighbouring windows share; the longest question leaves half of the room."""
        most = room - room // 2 - 1
        if most < 1:
            raise UserError(f"data.max_length={max_length} leaves no room for a context: raise it")
        if self.stride is None:
            return room // 4
        if self.stride > most:
            raise UserError(
                f"task.stride={self.stride}: with data.max_length={max_length} neighbouring "
                f"windows can share {most} tokens at most (a question may take half of the room)"
            )
        return self.stride

    def reading_notes(self, encoded: Mapping[str, Dataset], max_length: int) -> list[str]:
        """How many contexts take several windows, and how many questions were cut."""
        notes, rows = [], encoded["train"]
        _, first, counts = np.unique(rows["example"][:], return_index=True, return_counts=True)
        several, cut = int((counts > 1).sum()), int(np.asarray(rows["cut"][:])[first].sum())
        if several:
            notes.append(
                f"{several} of {len(counts)} training questions have contexts that do not fit into "
                f"data.max_length={max_length} tokens: they are read in overlapping windows, "
                f"{int(counts.sum())} in all."
            )
        if cut:
            notes.append(
                f"{cut} of {len(counts)} training questions take more than half of "
                f"data.max_length={max_length} tokens: what goes beyond is cut."
            )
        return notes

    # --- loss ----------------------------------------------------------------------------------

    def arrange(self, logits: Tensor, batch: Mapping[str, Any]) -> Tensor:
        """Units' logits ``(U, 2)`` -> ``(2 B, L)`` in fp32: start, end, start, end, ...

        L is the number of units of the batch's longest window; what others do not have is
        ``NOWHERE``.
        """
        there = _there(batch["units"].to(logits.device))
        rows = logits.new_full((len(there), 2, there.shape[1]), NOWHERE, dtype=torch.float32)
        rows.transpose(1, 2)[there] = logits.float()
        return rows.flatten(0, 1)

    def restored(self, arranged: Tensor, batch: Mapping[str, Any]) -> Tensor:
        """``(2 B, L)`` -> ``(U, 2)``."""
        there = _there(batch["units"].to(arranged.device))
        return arranged.unflatten(0, (-1, 2)).transpose(1, 2)[there]

    def hard_label_loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        r"""Cross-entropy of start and end in fp32: ``(2 B, L)``, ``(2 B,)`` -> scalar.

        .. math:: \frac{1}{2 B} \sum_{b} (-\log p^{start}_{b, y_b} - \log p^{end}_{b, y'_b})

        BERT's, the mean of the two (Devlin et al. 2019, section 4.2). Windows of texts without
        labels add nothing to the sum, yet count in B.
        """
        total = F.cross_entropy(logits.float(), labels, ignore_index=IGNORED_LABEL, reduction="sum")
        return total / len(labels)

    # --- answers -------------------------------------------------------------------------------

    def answers(self, logits: JaggedArray, examples: DistillationDataset) -> dict[int, str]:
        """What a model answers: the best span over all windows of a question, by its row.

        Empty where it declines, which it may if some question of the split has no answer: the least
        score of no answer over the windows then counts, as in the official script's predictions.
        """
        scores, spans, none = squad.best_spans(logits, self.max_answer_length)
        example = examples.column("example").to_numpy()
        questions, of = np.unique(example, return_inverse=True)
        # The last of each question is its best.
        order = np.lexsort((scores, of))
        best = order[np.searchsorted(of[order], np.arange(len(questions)), side="right") - 1]
        least = np.full(len(questions), np.inf)
        np.minimum.at(least, of, none)
        declined = ~np.isfinite(scores[best])
        if _declines(examples.source):
            declined |= least - scores[best] > self.no_answer_threshold
        place = logits.starts[best]
        characters = [
            pc.list_flatten(examples.column(name)).to_numpy()[place + spans[best, side]]
            for side, name in enumerate(("starts", "ends"))
        ]
        contexts = examples.source.select(questions)["text_pair"][:]
        return {
            question: "" if no else context[start:end].strip()
            for question, no, context, start, end in zip(
                questions.tolist(), declined, contexts, *characters, strict=True
            )
        }

    def judge(self, logits: JaggedArray, examples: DistillationDataset) -> tuple[np.ndarray]:
        """Exact match and F1 of each question, ``(Q, 2)``, in the order of their rows."""
        said = self.answers(logits, examples)
        golds = [label["text"] for label in examples.source.select(list(said))["label"][:]]
        if _declines(examples.source):  # as the script of v2 does it, and that of v1.1 does not
            golds = [[gold for gold in texts if squad.normalize_answer(gold)] for texts in golds]
        pairs = zip(said.values(), golds, strict=True)
        return (np.array([squad.answer_scores(one, texts or [""]) for one, texts in pairs]),)

    def metric_function(self, name: str) -> Callable[..., float]:
        """The mean of a score over the questions."""
        return _METRICS[name]

    def calibration(self, logits: JaggedArray, labels: JaggedArray) -> None:
        """None: a span's score is no probability of being right."""
        return None

    def fidelity(self, logits: JaggedArray, teacher: JaggedArray) -> dict[str, float]:
        """By window: the same span (or none), and the divergence of starts and ends, their mean."""
        said, taught = self._chosen(logits), self._chosen(teacher)
        total = 0.0
        for first in range(0, len(logits), squad.WINDOWS):
            chosen = np.arange(first, min(first + squad.WINDOWS, len(logits)))
            batch = {"units": torch.from_numpy(logits.counts[chosen])}
            ours, theirs = (
                self.arrange(torch.from_numpy(one[chosen]), batch).numpy()
                for one in (logits, teacher)
            )
            total += fidelity.kl_divergence(theirs, ours) * len(chosen)
        return {
            "agreement": float((said == taught).all(axis=1).mean()),
            "kl_divergence": total / len(logits),
        }

    def _chosen(self, logits: JaggedArray) -> np.ndarray:
        """Each window's span, ``(W, 2)``; 0 and 0 where no answer scores higher."""
        scores, spans, none = squad.best_spans(logits, self.max_answer_length)
        return np.where((none - scores > self.no_answer_threshold)[:, None], 0, spans)


def _there(units: Tensor) -> Tensor:
    """Which units exist, ``(B,)`` -> ``(B, L)``."""
    return torch.arange(int(units.max()), device=units.device) < units[:, None]


def _declines(source: Dataset) -> bool:
    """Whether some question of a split has no answer."""
    return not all(label["text"] for label in source["label"][:])


def _pairs(split: str, row: int, given: Any) -> list[tuple[int | None, str]]:
    """A row's answers, where they are said to start and their text, of either form they have.

    Raises:
        UserError: for what is no answers.
    """
    if isinstance(given, Mapping):
        texts, starts = given.get("text"), given.get("answer_start")
        if isinstance(texts, list):
            starts = starts if isinstance(starts, list) else [None] * len(texts)
            if len(starts) == len(texts) and all(isinstance(text, str) for text in texts):
                return list(zip(starts, texts, strict=True))
    elif isinstance(given, list) and all(
        isinstance(one, Mapping) and isinstance(one.get("text"), str) for one in given
    ):
        return [(one.get("answer_start"), one["text"]) for one in given]
    raise UserError(
        f"{split} row {row + 1} has no answers in the column of data.label: they are "
        "{text: [...], answer_start: [...]}, both lists empty for a question without an answer"
    )


def _placed(where: str, pairs: list[tuple[int | None, str]], context: str) -> dict:
    starts = []
    for start, text in pairs:
        if not text.strip():
            raise UserError(f"{where} has an empty answer")
        if start is None or start < 0 or context[start : start + len(text)] != text:
            start = _nearest(context, text, start or 0)
        if start is None:
            raise UserError(
                f"{where}: its context does not contain the answer {_short(text)}, and "
                "task=question_answering looks for answers there"
            )
        starts.append(start)
    return {"text": [text for _, text in pairs], "answer_start": starts}


def _short(text: str) -> str:
    text = " ".join(text.split())
    return f"'{text}'" if len(text) <= 40 else f"'{text[:40]}...'"


def _nearest(context: str, text: str, start: int) -> int | None:
    places, at = [], context.find(text)
    while at >= 0:
        places.append(at)
        at = context.find(text, at + 1)
    return min(places, key=lambda place: abs(place - start), default=None)


def _shortened(
    tokenizer: PreTrainedTokenizerBase, questions: list[str], most: int
) -> tuple[list[str], list[bool]]:
    """Questions cut to so many tokens, and which were."""
    encoded = tokenizer(
        questions, add_special_tokens=False, truncation=False, return_offsets_mapping=True,
        return_attention_mask=False, verbose=False,
    )  # fmt: skip
    cut = [len(ids) > most for ids in encoded["input_ids"]]
    short = list(questions)
    for index in np.flatnonzero(cut):
        # A word cut in two may make more tokens than it had: back to where one ends.
        kept = most
        while kept and len(tokenizer.tokenize(short[index])) > most:
            short[index] = questions[index][: encoded["offset_mapping"][index][kept - 1][1]]
            kept -= 1
    return short, cut


def _span(answer: Mapping[str, list], characters: np.ndarray, first: bool, last: bool) -> list[int]:
    """The units where the first answer starts and ends in a window; the first unit twice if not.

    Args:
        answer: of the question.
        characters: where the window's tokens of the context start and end, ``(L, 2)``.
        first: whether the context starts with this window.
        last: whether it ends with it.
    """
    if not answer["text"]:
        return [0, 0]
    text, start = answer["text"][0], answer["answer_start"][0]
    if start == IGNORED_LABEL:
        return [IGNORED_LABEL, IGNORED_LABEL]
    start, end = start + len(text) - len(text.lstrip()), start + len(text.rstrip())
    if not len(characters):
        return [0, 0]
    starts, ends = characters.T
    whole = (first or starts[0] <= start) and (last or ends[-1] >= end)
    begin = int(np.searchsorted(ends, start, side="right"))
    finish = int(np.searchsorted(starts, end, side="left")) - 1
    return [begin + 1, finish + 1] if whole and begin <= finish else [0, 0]
