"""Augmentation that replaces words by the predictions of a masked language model."""

import logging
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from transformers import AutoModelForMaskedLM, PreTrainedModel, PreTrainedTokenizerBase

from distill.core.errors import UserError
from distill.core.hardware import Hardware, resolve_hardware
from distill.data.augmentation.base import check_positive, check_probability, text_generator
from distill.data.collate import PaddingCollator
from distill.data.text_preprocessor import TextPreprocessor, tokenizer_hash
from distill.modeling import loading
from distill.modeling.pretrained_weights import load_pretrained

log = logging.getLogger(__name__)

WORD = re.compile(r"\w+(?:['’-]\w+)*")
# Number of texts whose masked copies are sorted by length together.
CHUNK_TEXTS = 500
LOG_INTERVAL_SECONDS = 60


@dataclass(kw_only=True)
class MaskedWords:
    """TinyBERT's augmentation: words are replaced, with some probability, by predicted words.

    Jiao et al. 2020, "TinyBERT" (arXiv:1909.10351), algorithm 1: for each word of the text, the
    model predicts the words in its place with that word alone masked; each copy replaces the word
    with probability ``probability`` by one of the ``candidates`` most probable words, all equally
    likely. Only words that some copy replaces are predicted.

    One deviation: the algorithm predicts only words that are one token of the model's vocabulary,
    and takes GloVe's nearest neighbors for the others. Here a word of several tokens is replaced by
    one mask token and predicted as well: this needs no second model, and works for languages in
    which most words have several tokens. The replacement is always a single token that is a word by
    itself.

    Attributes:
        name: name in reports.
        model: a masked language model with its pretrained head.
        copies: number of new texts per text (N_a; TinyBERT takes 20).
        probability: probability that a word is replaced (p_t).
        candidates: number of words that the replacement is drawn from (K).
        max_length: maximum number of tokens that the model reads; words beyond are not replaced.
        batch_size: number of masked texts per forward pass.
        seed: seed of all random numbers.
        accelerator: accelerator of the model, as ``trainer.accelerator``.
        precision: precision of the model, as ``trainer.precision``.
    """

    name: str
    model: str
    copies: int = 5
    probability: float = 0.4
    candidates: int = 15
    max_length: int = 128
    batch_size: int = 64
    seed: int = 0
    accelerator: str = "auto"
    precision: str | int = "auto"

    def __post_init__(self) -> None:
        for option in ("copies", "candidates", "max_length", "batch_size"):
            check_positive(option, getattr(self, option))
        check_probability("probability", self.probability)
        if self.probability == 0:
            raise UserError("data.augmentation.probability=0 changes nothing")
        if self.seed < 0:
            raise UserError(f"data.augmentation.seed={self.seed}: it must be 0 or above")

    def settings(self) -> dict[str, Any]:
        """Return the settings and hashes of model and tokenizer."""
        model, tokenizer = self._load()
        return {
            "kind": "masked_words",
            "weights": loading.weights_hash(model),
            "tokenizer": tokenizer_hash(tokenizer),
            "copies": self.copies,
            "probability": self.probability,
            "candidates": self.candidates,
            "max_length": self.max_length,
            "seed": self.seed,
            "precision": resolve_hardware(self.accelerator, self.precision).precision,
        }

    def __call__(self, texts: Sequence[str]) -> list[list[str]]:
        """Return ``copies`` new texts for each text."""
        model, tokenizer = self._load()
        fill = _MaskFiller(
            model, tokenizer, self.candidates, self.max_length, self.batch_size,
            resolve_hardware(self.accelerator, self.precision),
        )  # fmt: skip
        copies: list[list[str]] = []
        logged = time.monotonic()
        for start in range(0, len(texts), CHUNK_TEXTS):
            copies += self._augment_chunk(texts[start : start + CHUNK_TEXTS], fill)
            if time.monotonic() - logged > LOG_INTERVAL_SECONDS:
                logged = time.monotonic()
                log.info("augmentation: %d of %d texts", len(copies), len(texts))
        return copies

    def _augment_chunk(self, texts: Sequence[str], fill: "_MaskFiller") -> list[list[str]]:
        words = [list(WORD.finditer(text)) for text in texts]
        # Of each text: which word each copy replaces, and by its candidate of which rank, (N_a, W).
        replaces: list[NDArray[np.bool_]] = []
        ranks: list[NDArray[np.int64]] = []
        for text, matches in zip(texts, words, strict=True):
            random = text_generator(self.seed, text)
            replaces.append(random.random((self.copies, len(matches))) < self.probability)
            ranks.append(random.integers(fill.count, size=(self.copies, len(matches))))
        masked = [
            (index, word)
            for index in range(len(texts))
            for word in np.flatnonzero(replaces[index].any(axis=0)).tolist()
        ]
        predicted = fill([(texts[index], words[index][word]) for index, word in masked])
        candidates = dict(zip(masked, predicted, strict=True))
        copies: list[list[str]] = []
        for index, text in enumerate(texts):
            copies.append([])
            for copy in range(self.copies):
                parts: list[str] = []
                end = 0
                for word in np.flatnonzero(replaces[index][copy]).tolist():
                    replacements = candidates[index, word]
                    if not replacements:
                        continue
                    match = words[index][word]
                    parts += [text[end : match.start()], replacements[ranks[index][copy, word]]]
                    end = match.end()
                copies[-1].append("".join([*parts, text[end:]]))
        return copies

    def _load(self) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
        option = f"data.augmentation.model={self.model}"
        path = loading.resolve_model_path(self.model, "data.augmentation.model")
        loading.check_max_length(loading.load_config(path, option), self.max_length)
        tokenizer = loading.load_tokenizer(path, option)
        advice = (
            "name a pretrained model that has one with data.augmentation.model=..., or choose "
            "augmentation=combined, which needs none"
        )
        if tokenizer.mask_token is None:
            raise UserError(f"{option} has no trained head that fills in masked words: {advice}")
        try:
            model = load_pretrained(AutoModelForMaskedLM, path, new_head=False)
        except UserError as error:
            raise UserError(
                f"{option} has no trained head that fills in masked words ({error}): {advice}"
            ) from error
        return model.eval(), tokenizer


class _MaskFiller:
    """Predicts the most probable words in place of a masked one.

    Args:
        model: a masked language model.
        tokenizer: tokenizer of the model.
        count: number of words, or all whole words of a smaller vocabulary.
        max_length: maximum number of tokens of a text.
        batch_size: number of masked texts per forward pass.
        hardware: device and precision.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        count: int,
        max_length: int,
        batch_size: int,
        hardware: Hardware,
    ):
        nn.Module.to(model, hardware.device)  # PreTrainedModel.to has no usable types
        self.model, self.tokenizer, self.hardware = model, tokenizer, hardware
        self.max_length, self.batch_size = max_length, batch_size
        self.collate = PaddingCollator(TextPreprocessor("masked_words").fields(tokenizer))
        self.words = whole_words(tokenizer)
        if not self.words:
            raise UserError("data.augmentation.model: its vocabulary has no whole words")
        self.count = min(count, len(self.words))
        self.allowed = torch.tensor(sorted(self.words), device=hardware.device)

    def __call__(self, masked: Sequence[tuple[str, re.Match[str]]]) -> list[list[str]]:
        """Return ``count`` words for each text and word in it, the most probable first.

        The list is empty if the word is beyond ``max_length`` tokens.
        """
        predicted: list[list[str]] = [[] for _ in masked]
        if not masked:
            return predicted
        mask, mask_id = self.tokenizer.mask_token, self.tokenizer.mask_token_id
        rows = self.tokenizer(
            [f"{text[: word.start()]}{mask}{text[word.end() :]}" for text, word in masked],
            truncation=True,
            max_length=self.max_length,
            return_attention_mask=False,
        )
        positions: dict[int, int] = {}  # of the mask by row; a text may contain mask tokens itself
        for index, ((text, word), ids) in enumerate(zip(masked, rows["input_ids"], strict=True)):
            masks = [position for position, token in enumerate(ids) if token == mask_id]
            number = text[: word.start()].count(mask)
            if number < len(masks):
                positions[index] = masks[number]
        order = sorted(positions, key=lambda index: -len(rows["input_ids"][index]))
        for start in range(0, len(order), self.batch_size):
            indices = order[start : start + self.batch_size]
            batch = self.collate({key: [rows[key][index] for index in indices] for key in rows})
            logits = self._logits(batch, torch.tensor([positions[index] for index in indices]))
            best = logits[:, self.allowed].topk(self.count).indices
            for index, ids in zip(indices, self.allowed[best].tolist(), strict=True):
                predicted[index] = [self.words[token] for token in ids]
        return predicted

    def _logits(self, batch: dict[str, Tensor], positions: Tensor) -> Tensor:
        """Return the logits ``(B, V)`` in fp32 at one position of each row, ``(B,)``."""
        rows = torch.arange(len(positions))

        def select(layer: nn.Module, arguments: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
            return (arguments[0][rows, positions].unsqueeze(1), *arguments[1:])

        # The projection onto the vocabulary costs as much as a small encoder: if it is a separate
        # layer, it is computed at the requested position only.
        head = self.model.get_output_embeddings()
        hook = head.register_forward_pre_hook(select) if head is not None else None
        try:
            with torch.inference_mode(), self.hardware.autocast():
                inputs = {key: value.to(self.hardware.device) for key, value in batch.items()}
                logits: Tensor = loading.call_model(self.model, inputs).logits.float()
        finally:
            if hook is not None:
                hook.remove()
        return logits[:, 0] if logits.shape[1] == 1 else logits[rows, positions]


def whole_words(tokenizer: PreTrainedTokenizerBase) -> dict[int, str]:
    """Return the tokens of a vocabulary that are whole words, by id.

    Continuations of words are excluded: the text of a token, tokenized by itself, must give that
    token.
    """
    special = set(tokenizer.all_special_ids)
    ids = [token for token in sorted(tokenizer.get_vocab().values()) if token not in special]
    texts = [text.strip() for text in tokenizer.batch_decode([[token] for token in ids])]
    pairs = [(token, text) for token, text in zip(ids, texts, strict=True) if WORD.fullmatch(text)]
    if not pairs:
        return {}
    tokenized = tokenizer([f" {text}" for _, text in pairs], add_special_tokens=False)["input_ids"]
    return {
        token: text
        for (token, text), pieces in zip(pairs, tokenized, strict=True)
        if pieces == [token]
    }
