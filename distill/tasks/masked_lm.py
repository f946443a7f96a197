"""Which token stood here? Masked language modelling, what encoders are pretrained on."""

import hashlib
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from datasets import Dataset
from numpy.typing import NDArray
from torch import Tensor
from transformers import AutoModelForMaskedLM, PreTrainedTokenizerBase

from distill.core.errors import UserError
from distill.core.jagged import JaggedArray
from distill.data.columns import numeric_column
from distill.data.token_masking import (
    WORDS,
    TokenMasking,
    inverse_frequency_weights,
    ordinary_tokens,
)
from distill.metrics import calibration, fidelity
from distill.metrics.base import CountMetric, Floats
from distill.tasks.base import Task

# What is kept of a masked token's distribution.
NLL, CHOSEN, CONFIDENCE = range(3)


class MaskedLM(Task):
    """Masked language modelling: the head's outputs are the vocabulary, there are no labels.

    A unit is a masked token; which ones are is drawn anew in every pass over the training split,
    and is always the same in validation and test, see :class:`~distill.data.token_masking.TokenMasking`. A
    text longer than ``data.max_length`` tokens makes several rows, and a row is what intervals take
    for an example.

    Args:
        metric: what early stopping, the best checkpoint and the report's conclusion go by:
            ``accuracy``, the share of the masked tokens that are guessed right.
        mlm_probability: share of the tokens that are masked.
        mask_share: of these, the share that becomes the mask token.
        random_share: of these, the share that becomes any other token; the rest stays.
        whole_word: mask all tokens of a word or none.
        smoothing: in training, tokens are masked in proportion to their number in the training
            texts to the power of minus this, 0.7 in DistilBERT's; ``None``: all alike. Validation
            and test mask all alike, so that what is measured does not depend on it.

    Raises:
        UserError: for a metric that does not exist, or shares that are none.
    """

    name = "masked_lm"
    choices = ("accuracy",)
    distribution = "categorical"
    problem_type = None
    heads = (None,)
    auto_model = AutoModelForMaskedLM
    # BERT's own checkpoints carry a head for the next sentence beside it.
    head = ("ForMaskedLM", "BertForPreTraining")
    keeps_head = True
    per_token = True
    stores = False
    columns: ClassVar = {"text": ("text",)}

    def __init__(
        self,
        metric: str = "accuracy",
        mlm_probability: float = 0.15,
        mask_share: float = 0.8,
        random_share: float = 0.1,
        whole_word: bool = False,
        smoothing: float | None = None,
    ):
        if metric == "perplexity":
            raise UserError(
                "task.metric=perplexity: it is always reported; the best checkpoint goes by "
                "accuracy, which is better when larger"
            )
        super().__init__(metric)
        if not 0 < mlm_probability < 1:
            raise UserError(f"task.mlm_probability={mlm_probability}: it must lie between 0 and 1")
        for option, share in (("mask_share", mask_share), ("random_share", random_share)):
            if not 0 <= share <= 1:
                raise UserError(f"task.{option}={share}: it is a share, from 0 to 1")
        if mask_share + random_share > 1 + 1e-9:
            raise UserError(
                f"task.mask_share={mask_share} and task.random_share={random_share} sum to more "
                "than 1"
            )
        if smoothing is not None and not (smoothing >= 0 and math.isfinite(smoothing)):
            raise UserError(f"task.smoothing={smoothing}: it must be 0 or above, or null")
        self.probability, self.mask_share, self.random_share = (
            mlm_probability, mask_share, random_share,
        )  # fmt: skip
        self.whole_word, self.smoothing = whole_word, smoothing

    @property
    def measured(self) -> tuple[str, ...]:
        """The accuracy, and the perplexity, which is better when smaller."""
        return (*self.choices, "perplexity")

    # --- data ----------------------------------------------------------------------------------

    def label_names(self, splits: Mapping[str, Dataset], given: Sequence[str] | None) -> list[str]:
        """None: the outputs are the tokenizer's tokens, thousands of them.

        Raises:
            UserError: if ``data.labels`` names classes.
        """
        if given is not None:
            raise UserError(
                "data.labels names classes: task=masked_lm has none, set data.labels=null"
            )
        return []

    def targets(self, split: str, dataset: Dataset, names: Sequence[str]) -> None:
        """None: what a label is, the mask decides."""

    def no_label(self, names: Sequence[str]) -> None:
        """None."""

    def outputs(self, names: Sequence[str]) -> str:
        """For the log."""
        return "masked tokens"

    def width(self, classes: int, config) -> int:
        """The model's vocabulary."""
        return config.vocab_size

    def head_order(self, model_names: Mapping[int, str], names: Sequence[str]) -> list[int]:
        """As it is: the tokens are the tokenizer's."""
        return []

    def head_settings(self, names: Sequence[str]) -> dict[str, Any]:
        """Nothing: the names of tens of thousands of outputs stand in the tokenizer."""
        return {}

    def check_tokenizer(self, tokenizer: PreTrainedTokenizerBase, max_length: int) -> None:
        """Refuse a tokenizer that has no mask, and rows without room for a word and its mask.

        Raises:
            UserError: saying which.
        """
        if tokenizer.mask_token_id is None:
            raise UserError(
                "task=masked_lm: the teacher's tokenizer has no mask token; choose a teacher that "
                "was pretrained on masked words"
            )
        if not tokenizer.is_fast:
            raise UserError(
                "task=masked_lm continues long texts in further rows, which takes a tokenizer of "
                f"the tokenizers library; the teacher's is {type(tokenizer).__name__}"
            )
        around = tokenizer.num_special_tokens_to_add()
        if max_length < around + 2:
            raise UserError(
                f"data.max_length={max_length}: task=masked_lm needs room for {around} special "
                f"tokens and two others, {around + 2} or more"
            )

    @property
    def encoding(self) -> str:
        """Whole words need a column of their own."""
        return f"{self.name} 1, words" if self.whole_word else f"{self.name} 1"

    @property
    def training(self) -> dict[str, Any]:
        """How tokens are masked."""
        return self._examined | {"smoothing": self.smoothing}

    @property
    def _examined(self) -> dict[str, Any]:
        """What of it validation and test depend on."""
        return {
            "mlm_probability": self.probability, "mask_share": self.mask_share,
            "random_share": self.random_share, "whole_word": self.whole_word,
        }  # fmt: skip

    def fingerprint(self, content: str, examples) -> str:
        """Of the masked tokens too: with others, numbers cannot be compared."""
        digest = hashlib.sha256(f"{content} {sorted(self._examined.items())}".encode())
        digest.update(examples.units.tobytes())
        digest.update(examples.labels.values.tobytes())
        return digest.hexdigest()[:16]

    def encode(
        self, tokenizer: PreTrainedTokenizerBase, rows: Mapping[str, list], max_length: int
    ) -> dict[str, list]:
        """Texts -> rows of at most ``max_length`` tokens, one or several a text.

        A row without any ordinary token is left out: there is nothing to mask.
        """
        encoded = tokenizer(
            rows["text"],
            truncation=True,
            max_length=max_length,
            return_overflowing_tokens=True,
            return_attention_mask=False,
        )
        special = set(tokenizer.all_special_ids)
        kept = [i for i, ids in enumerate(encoded["input_ids"]) if not special.issuperset(ids)]
        columns = {
            key: [encoded[key][i] for i in kept]
            for key in ("input_ids", "token_type_ids")
            if key in encoded
        }
        if self.whole_word:
            columns[WORDS] = [
                [-1 if word is None else word for word in encoded.word_ids(i)] for i in kept
            ]
        return columns

    def reading_notes(self, encoded: Mapping[str, Dataset], max_length: int) -> list[str]:
        """Whether texts continue in further rows."""
        rows = encoded["test"]
        full = int((numeric_column(rows, "length") >= max_length).sum())
        if not full:
            return []
        return [
            f"{full} of the {len(rows)} evaluated rows are full (data.max_length={max_length} "
            "tokens): a text that is longer continues in a further row. Intervals take each row "
            "for an example."
        ]

    def transform(self, tokenizer: PreTrainedTokenizerBase, train: Dataset) -> TokenMasking:
        """Masks rows when a batch is made; ``train`` says how rare tokens are."""
        weights = None
        if self.smoothing is not None:
            weights = inverse_frequency_weights(
                train, len(ordinary_tokens(tokenizer)), self.smoothing
            )
        return TokenMasking(
            tokenizer, self.probability, self.mask_share, self.random_share, self.whole_word,
            weights,
        )  # fmt: skip

    # --- loss, metrics -------------------------------------------------------------------------

    def hard_label_loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        r"""Cross-entropy of the masked tokens in fp32: ``(U, V)``, ``(U,)`` -> scalar.

        .. math:: \frac{1}{U} \sum_u -\log \mathrm{softmax}(z_u)_{y_u}
        """
        return F.cross_entropy(logits.float(), labels)

    def condense(self, logits: Tensor, labels: Tensor) -> Tensor:
        """``(U, V)``, ``(U,)`` -> ``(U, 3)``: the label's negative log-likelihood in nats, the
        token with the largest probability, and that probability.
        """
        logits = logits.float()
        total = logits.logsumexp(-1)
        highest, chosen = logits.max(-1)
        own = logits.gather(-1, labels.unsqueeze(-1)).squeeze(-1)
        return torch.stack((total - own, chosen.float(), (highest - total).exp()), -1)

    def judge(self, logits: JaggedArray, examples) -> tuple[NDArray, NDArray]:
        """Each row's sums over its masked tokens.

        Returns:
            ``(N, 2)``, negative log-likelihoods in nats and tokens guessed right, and ``(N,)``, how
            many were masked.
        """
        said = np.asarray(logits.values, dtype=np.float64)
        right = said[:, CHOSEN] == examples.labels.values
        each = np.stack([said[:, NLL], right], axis=1)
        starts = logits.starts[:-1]  # every row has a masked token
        return np.add.reduceat(each, starts, axis=0), logits.counts

    def metric_function(self, name: str) -> Callable[..., float]:
        """Of each row's sums."""
        return {"accuracy": _accuracy, "perplexity": _perplexity}[name]

    def calibration(self, logits: JaggedArray, labels: JaggedArray) -> dict[str, float]:
        """Of the distribution over the vocabulary, token by token."""
        said = np.asarray(logits.values, dtype=np.float64)
        return {
            "expected_calibration_error": calibration.calibration_error(
                said[:, CONFIDENCE], said[:, CHOSEN] == labels.values
            ),
            "negative_log_likelihood": float(said[:, NLL].mean()),
        }

    def fidelity(self, logits: JaggedArray, teacher: JaggedArray) -> dict[str, float | None]:
        """Same token; the distributions are not kept."""
        return {
            "agreement": fidelity.agreement(logits.values[:, CHOSEN], teacher.values[:, CHOSEN]),
            "kl_divergence": None,
        }


@CountMetric
def _accuracy(sums: NDArray, units: NDArray, counts: Floats) -> Floats:
    """Share of the masked tokens that are guessed right."""
    return counts @ sums[:, 1] / (counts @ units)


@CountMetric
def _perplexity(sums: NDArray, units: NDArray, counts: Floats) -> Floats:
    """The exponential of the masked tokens' mean negative log-likelihood."""
    return np.exp(counts @ sums[:, 0] / (counts @ units))
