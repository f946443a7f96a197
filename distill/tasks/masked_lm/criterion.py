"""Masked tokens as distributions over the vocabulary."""

from typing import ClassVar

import torch.nn.functional as F
from torch import Tensor

from distill.objectives.criterion import Criterion, Distribution


class MaskedLMCriterion(Criterion):
    """Softmax over the vocabulary, too large for stored teacher logits."""

    distribution: ClassVar[Distribution] = "categorical"
    caches_logits: ClassVar[bool] = False
    row_wise: ClassVar[bool] = True

    def hard_label_loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        r"""Cross-entropy of the masked tokens in fp32: ``(U, V)``, ``(U,)`` -> scalar.

        .. math:: \frac{1}{U} \sum_u -\log \mathrm{softmax}(z_u)_{y_u}
        """
        return F.cross_entropy(logits.float(), labels)
