"""Questions and contexts encoded as overlapping windows."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from datasets import Dataset
from transformers import PreTrainedTokenizerBase

from distill.core.errors import UserError
from distill.data.labels import IGNORED_LABEL
from distill.data.preprocessor import POSITIONS
from distill.data.text_preprocessor import TextPreprocessor


class WindowPreprocessor(TextPreprocessor):
    """Encodes a question and its context as one or more windows.

    Args:
        cache_key: see :class:`~distill.data.preprocessor.Preprocessor`.
        stride: see :class:`~distill.tasks.question_answering.QuestionAnswering`.
    """

    token_level = True

    def __init__(self, cache_key: str, stride: int | None = None):
        super().__init__(cache_key)
        self.stride = stride

    @property
    def training_settings(self) -> dict[str, Any]:
        """The overlap of the windows."""
        return {"stride": self.stride}

    def encode(
        self, processor: PreTrainedTokenizerBase, rows: Mapping[str, list[Any]], max_length: int
    ) -> dict[str, list[Any]]:
        """Encode questions and contexts.

        A question that would take more than half of the window is truncated.

        Returns:
            The tokenizer's ids; ``positions``, the tokens with logits; ``starts`` and ``ends``, the
            characters of these tokens in the context (0 and 0 of the first); ``label``, the indices
            of the positions where the first answer starts and ends, 0 and 0 where it does not lie
            whole in the window; ``example``, the question's row; ``cut``, whether the question was
            truncated.

        Raises:
            UserError: if the tokenizer has no offsets, or a window has no room.
        """
        if not processor.is_fast:
            raise UserError(
                "task=question_answering has to know where tokens stand in the text, which "
                f"{type(processor).__name__} cannot say: take a model with a tokenizer.json"
            )
        room = max_length - processor.num_special_tokens_to_add(pair=True)
        questions, truncated = _truncate_questions(processor, rows["text"], room // 2)
        encoded = processor(
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
        samples, offsets = encoded.pop("overflow_to_sample_mapping"), encoded.pop("offset_mapping")
        windows: dict[str, list[Any]] = {
            key: [] for key in (POSITIONS, "starts", "ends", "label", "example", "cut")
        }
        for number, sample in enumerate(samples):
            ids = encoded["input_ids"][number]
            context = [i for i, part in enumerate(encoded.sequence_ids(number)) if part == 1]
            cls_id = processor.cls_token_id
            no_answer = ids.index(cls_id) if cls_id in ids else 0
            characters = np.asarray(offsets[number], dtype=np.int64)[context].reshape(-1, 2)
            is_first = number == 0 or samples[number - 1] != sample
            is_last = number == len(samples) - 1 or samples[number + 1] != sample
            windows[POSITIONS].append([no_answer, *context])
            windows["starts"].append([0, *characters[:, 0].tolist()])
            windows["ends"].append([0, *characters[:, 1].tolist()])
            windows["label"].append(
                _answer_positions(rows["label"][sample], characters, is_first, is_last)
            )
            windows["example"].append(rows["row"][sample])
            windows["cut"].append(truncated[sample])
        return dict(encoded) | windows

    def _overlap(self, room: int, max_length: int) -> int:
        """Return the tokens that neighboring windows share beside the longest question."""
        largest = room - room // 2 - 1
        if largest < 1:
            raise UserError(f"data.max_length={max_length} leaves no room for a context: raise it")
        if self.stride is None:
            return room // 4
        if self.stride > largest:
            raise UserError(
                f"task.stride={self.stride}: with data.max_length={max_length} neighboring "
                f"windows can share {largest} tokens at most (a question may take half of the room)"
            )
        return self.stride

    def notes(self, encoded: Mapping[str, Dataset], max_length: int) -> list[str]:
        """Return notes on contexts of several windows and on truncated questions."""
        notes, rows = [], encoded["train"]
        _, first, counts = np.unique(rows["example"][:], return_index=True, return_counts=True)
        several = int((counts > 1).sum())
        truncated = int(np.asarray(rows["cut"][:])[first].sum())
        if several:
            notes.append(
                f"{several} of {len(counts)} training questions have contexts that do not fit into "
                f"data.max_length={max_length} tokens: they are read in overlapping windows, "
                f"{int(counts.sum())} in all."
            )
        if truncated:
            notes.append(
                f"{truncated} of {len(counts)} training questions take more than half of "
                f"data.max_length={max_length} tokens: what goes beyond is cut."
            )
        return notes


def _truncate_questions(
    tokenizer: PreTrainedTokenizerBase, questions: list[str], max_tokens: int
) -> tuple[list[str], list[bool]]:
    """Return questions of at most ``max_tokens`` tokens, and which were truncated."""
    encoded = tokenizer(
        questions, add_special_tokens=False, truncation=False, return_offsets_mapping=True,
        return_attention_mask=False, verbose=False,
    )  # fmt: skip
    truncated = [len(ids) > max_tokens for ids in encoded["input_ids"]]
    result = list(questions)
    for index in np.flatnonzero(truncated):
        # A word cut in two may have more tokens than before: go back to where one ends.
        kept = max_tokens
        while kept and len(tokenizer.tokenize(result[index])) > max_tokens:
            result[index] = questions[index][: encoded["offset_mapping"][index][kept - 1][1]]
            kept -= 1
    return result, truncated


def _answer_positions(
    answers: Mapping[str, list[Any]], characters: np.ndarray, is_first: bool, is_last: bool
) -> list[int]:
    """Return where the first answer starts and ends in a window; ``[0, 0]`` if it does not.

    Args:
        answers: of the question.
        characters: start and end of the window's context tokens, ``(L, 2)``.
        is_first: whether the context starts with this window.
        is_last: whether it ends with it.
    """
    if not answers["text"]:
        return [0, 0]
    text, start = answers["text"][0], answers["answer_start"][0]
    if start == IGNORED_LABEL:
        return [IGNORED_LABEL, IGNORED_LABEL]
    start, end = start + len(text) - len(text.lstrip()), start + len(text.rstrip())
    if not len(characters):
        return [0, 0]
    starts, ends = characters.T
    is_whole = (is_first or starts[0] <= start) and (is_last or ends[-1] >= end)
    begin = int(np.searchsorted(ends, start, side="right"))
    finish = int(np.searchsorted(starts, end, side="left")) - 1
    return [begin + 1, finish + 1] if is_whole and begin <= finish else [0, 0]
