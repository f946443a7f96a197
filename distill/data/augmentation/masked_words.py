"""Words replaced by what a masked language model would say in their place."""

import logging
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoModelForMaskedLM, PreTrainedTokenizerBase

from distill.core import hardware
from distill.core.errors import UserError
from distill.data.augmentation.base import check_positive, check_probability, text_generator
from distill.data.collate import PaddingCollator
from distill.data.text_preprocessor import TextPreprocessor, tokenizer_hash
from distill.modeling import loading

log = logging.getLogger(__name__)

WORD = re.compile(r"\w+(?:['’-]\w+)*")
# Masked texts are sorted by length within so many examples at a time.
CHUNK = 500
SECONDS_BETWEEN_LINES = 60


@dataclass(kw_only=True)
class MaskedWords:
    """TinyBERT's augmentation: each word is replaced, with some probability, by a likely other one.

    Jiao et al. 2020, "TinyBERT" (arXiv:1909.10351), algorithm 1: for each word of the text, the
    model is asked what could stand there, with that word alone masked; each copy replaces the word
    with probability ``probability`` by one of the ``candidates`` most likely words, each as likely.
    Only the words that some copy replaces are asked for.

    One thing differs. The algorithm asks the model about words that are one piece of its
    vocabulary, and takes GloVe's nearest neighbours for the others. Here a word of several pieces
    is masked as a whole, by one mask, and the model is asked about it too: no second model, and it
    works for languages in which most words are several pieces. What replaces a word is always one
    piece that is a word by itself.

    Attributes:
        name: what reports call it.
        model: a masked language model with its pretrained head.
        copies: texts made of each one (N_a; TinyBERT takes 20).
        probability: of each word to be replaced (p_t).
        candidates: so many words to draw from (K).
        max_length: tokens the model reads of a text; words behind them stay.
        batch_size: masked texts a forward pass.
        seed: of all draws.
        accelerator: where the model runs, as ``trainer.accelerator``.
        precision: in which it runs, as ``trainer.precision``.
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

    def __post_init__(self):
        for option in ("copies", "candidates", "max_length", "batch_size"):
            check_positive(option, getattr(self, option))
        check_probability("probability", self.probability)
        if self.probability == 0:
            raise UserError("data.augmentation.probability=0 changes nothing")
        if self.seed < 0:
            raise UserError(f"data.augmentation.seed={self.seed}: it must be 0 or above")

    def settings(self) -> dict[str, Any]:
        """See :class:`~distill.data.augmentation.base.Augmentation`."""
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
            "precision": hardware.resolve_hardware(self.accelerator, self.precision).precision,
        }

    def __call__(self, texts: Sequence[str]) -> list[list[str]]:
        """See :class:`~distill.data.augmentation.base.Augmentation`."""
        model, tokenizer = self._load()
        fill = _MaskFiller(
            model, tokenizer, self.candidates, self.max_length, self.batch_size,
            hardware.resolve_hardware(self.accelerator, self.precision),
        )  # fmt: skip
        copies: list[list[str]] = []
        said = time.monotonic()
        for start in range(0, len(texts), CHUNK):
            copies += self._of_chunk(texts[start : start + CHUNK], fill)
            if time.monotonic() - said > SECONDS_BETWEEN_LINES:
                said = time.monotonic()
                log.info("augmentation: %d of %d texts", len(copies), len(texts))
        return copies

    def _of_chunk(self, texts: Sequence[str], fill: "_MaskFiller") -> list[list[str]]:
        words = [list(WORD.finditer(text)) for text in texts]
        drawn, ranks = [], []
        for text, found in zip(texts, words, strict=True):
            random = text_generator(self.seed, text)
            drawn.append(random.random((self.copies, len(found))) < self.probability)
            ranks.append(random.integers(fill.count, size=(self.copies, len(found))))
        asked = [
            (text, word)
            for text in range(len(texts))
            for word in drawn[text].any(axis=0).nonzero()[0].tolist()
        ]
        likely = dict(
            zip(
                asked, fill([(texts[text], words[text][word]) for text, word in asked]), strict=True
            )
        )
        copies = []
        for text, original in enumerate(texts):
            copies.append([])
            for copy in range(self.copies):
                parts, end = [], 0
                for word in drawn[text][copy].nonzero()[0].tolist():
                    others = likely[text, word]
                    if not others:
                        continue
                    match = words[text][word]
                    parts += [original[end : match.start()], others[ranks[text][copy, word]]]
                    end = match.end()
                copies[-1].append("".join([*parts, original[end:]]))
        return copies

    def _load(self) -> tuple[nn.Module, PreTrainedTokenizerBase]:
        what = f"data.augmentation.model={self.model}"
        path = loading.resolve_model_path(self.model, "data.augmentation.model")
        loading.check_max_length(loading.load_config(path, what), self.max_length)
        tokenizer = loading.load_tokenizer(path, what)
        instead = (
            "name a pretrained model that has one with data.augmentation.model=..., or take "
            "augmentation=combined, which needs none"
        )
        try:
            model, loaded = AutoModelForMaskedLM.from_pretrained(
                path, dtype=torch.float32, output_loading_info=True
            )
        except ValueError as error:  # an architecture that has no such head
            raise UserError(f"{what} has no head that fills in masked words: {instead}") from error
        except OSError as error:
            reason = " ".join(str(error).split())[:300]
            raise UserError(f"{what} cannot be loaded: {reason}") from error
        if loaded["missing_keys"] or loaded["mismatched_keys"] or tokenizer.mask_token is None:
            raise UserError(f"{what} has no trained head that fills in masked words: {instead}")
        return model.eval(), tokenizer


class _MaskFiller:
    """The most likely words in place of one that is masked.

    Args:
        model: a masked language model.
        tokenizer: its own.
        count: so many words; fewer if the vocabulary has not as many.
        max_length: tokens a text is cut to.
        batch_size: masked texts a forward pass.
        where: device and precision.
    """

    def __init__(
        self,
        model: nn.Module,
        tokenizer: PreTrainedTokenizerBase,
        count: int,
        max_length: int,
        batch_size: int,
        where: hardware.Hardware,
    ):
        self.model, self.tokenizer, self.where = model.to(where.device), tokenizer, where
        self.max_length, self.batch_size = max_length, batch_size
        self.collate = PaddingCollator(TextPreprocessor("masked_words").fields(tokenizer))
        self.words = whole_words(tokenizer)
        if not self.words:
            raise UserError("data.augmentation.model: its vocabulary has no whole words")
        self.count = min(count, len(self.words))
        self.allowed = torch.tensor(sorted(self.words), device=where.device)

    def __call__(self, asked: Sequence[tuple[str, re.Match]]) -> list[list[str]]:
        """Texts and the word in each -> ``count`` words, the likeliest first.

        None of them if the word stands behind ``max_length`` tokens.
        """
        answers: list[list[str]] = [[] for _ in asked]
        if not asked:
            return answers
        mask, mask_id = self.tokenizer.mask_token, self.tokenizer.mask_token_id
        rows = self.tokenizer(
            [f"{text[: word.start()]}{mask}{text[word.end() :]}" for text, word in asked],
            truncation=True,
            max_length=self.max_length,
            return_attention_mask=False,
        )
        places = []  # of the mask among the tokens; a text may have such tokens of its own
        for (text, word), ids in zip(asked, rows["input_ids"], strict=True):
            masks = [place for place, token in enumerate(ids) if token == mask_id]
            number = text[: word.start()].count(mask)
            places.append(masks[number] if number < len(masks) else None)
        order = [index for index, place in enumerate(places) if place is not None]
        order.sort(key=lambda index: -len(rows["input_ids"][index]))
        for start in range(0, len(order), self.batch_size):
            chosen = order[start : start + self.batch_size]
            batch = self.collate({key: [rows[key][index] for index in chosen] for key in rows})
            logits = self._logits(batch, torch.tensor([places[index] for index in chosen]))
            best = logits[:, self.allowed].topk(self.count).indices
            for index, ids in zip(chosen, self.allowed[best].tolist(), strict=True):
                answers[index] = [self.words[token] for token in ids]
        return answers

    def _logits(self, batch: dict[str, Tensor], places: Tensor) -> Tensor:
        """Logits at one place a row: ``(B, L)`` ids, ``(B,)`` -> ``(B, V)`` in fp32."""
        rows = torch.arange(len(places))

        def at_the_mask(layer: nn.Module, arguments: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
            return (arguments[0][rows, places].unsqueeze(1), *arguments[1:])

        # The projection onto the vocabulary costs as much as a small encoder: where it is a layer
        # of its own, it gets the one place that is asked for.
        head = self.model.get_output_embeddings()
        hook = head.register_forward_pre_hook(at_the_mask) if head is not None else None
        try:
            with torch.inference_mode(), self.where.autocast():
                inputs = {key: value.to(self.where.device) for key, value in batch.items()}
                logits = loading.call_model(self.model, inputs).logits.float()
        finally:
            if hook is not None:
                hook.remove()
        return logits[:, 0] if logits.shape[1] == 1 else logits[rows, places]


def whole_words(tokenizer: PreTrainedTokenizerBase) -> dict[int, str]:
    """Ids of a vocabulary that are a word by themselves, and the words.

    Not the continuations of words: a piece counts if its text, standing alone, becomes that piece.
    """
    special = set(tokenizer.all_special_ids)
    ids = [token for token in sorted(tokenizer.get_vocab().values()) if token not in special]
    texts = [text.strip() for text in tokenizer.batch_decode([[token] for token in ids])]
    pairs = [(token, text) for token, text in zip(ids, texts, strict=True) if WORD.fullmatch(text)]
    if not pairs:
        return {}
    again = tokenizer([f" {text}" for _, text in pairs], add_special_tokens=False)["input_ids"]
    return {
        token: text for (token, text), pieces in zip(pairs, again, strict=True) if pieces == [token]
    }
