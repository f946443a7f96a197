"""AdamW with learning rate warm-up and decay."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import nn
from torch.optim.lr_scheduler import LambdaLR

from distill.core.errors import UserError
from distill.modeling.row_embedding import RowEmbedding
from distill.modeling.size import count_parameters
from distill.training.row_adamw import RowAdamW, rows_can_wait

# Learning rates by parameters without embeddings: what the miniatures' authors (Turc et al. 2019:
# 1e-4 and 3e-4 for the small ones), BERT's (2e-5 to 5e-5) and our own trials (FACTS in
# experiments/) found to work; smaller for larger models.
LEARNING_RATES = ((15e6, 2e-4), (50e6, 5e-5), (100e6, 3e-5), (math.inf, 2e-5))


def default_learning_rate(model: nn.Module) -> float:
    """Return a learning rate for fine-tuning: the model class's own, or one by the model's size."""
    usual = getattr(model, "usual_learning_rate", None)
    if usual is not None:
        return usual
    parameters = count_parameters(model).without_embeddings
    return next(rate for limit, rate in LEARNING_RATES if parameters <= limit)


@dataclass(kw_only=True)
class AdamW:
    """AdamW (Loshchilov and Hutter 2019) with linear warm-up and decay to 0.

    Attributes:
        learning_rate: its maximum; ``None`` chooses by the model's class or size.
        weight_decay: on matrices; never on biases and normalization (Devlin et al. 2019).
        betas: decay of the moments.
        epsilon: added to the root of the second moment.
        warmup: share of all steps over which the rate rises from 0.
        decay: ``linear``, ``cosine`` or ``constant`` after the warm-up.
    """

    learning_rate: float | None = None
    weight_decay: float = 0.01
    betas: tuple[float, float] = (0.9, 0.999)
    epsilon: float = 1e-8
    warmup: float = 0.1
    decay: Literal["linear", "cosine", "constant"] = "linear"

    def __post_init__(self) -> None:
        if self.learning_rate is not None and not self.learning_rate > 0:
            raise UserError(f"learning_rate={self.learning_rate}: it must be above 0")
        if not 0 <= self.warmup < 1:
            raise UserError(f"optimizer.warmup={self.warmup}: it is a share, from 0 to below 1")
        if not self.epsilon > 0:
            raise UserError(f"optimizer.epsilon={self.epsilon}: it must be above 0")
        if self.weight_decay < 0:
            raise UserError(f"optimizer.weight_decay={self.weight_decay}: it must be 0 or above")
        if len(self.betas) != 2 or not all(0 <= beta < 1 for beta in self.betas):
            raise UserError(f"optimizer.betas={self.betas}: two numbers from 0 to below 1")
        if self.decay not in ("linear", "cosine", "constant"):
            raise UserError(f"optimizer.decay={self.decay}: choose linear, cosine or constant")

    @property
    def defers_rows(self) -> bool:
        """Whether rows of embedding tables may be updated late, see :class:`RowAdamW`."""
        return rows_can_wait(self.betas)

    def learning_rate_for(self, model: nn.Module) -> float:
        """Return the highest learning rate for this model."""
        return self.learning_rate or default_learning_rate(model)

    def parameter_groups(
        self, module: nn.Module, sized: nn.Module | None = None
    ) -> list[dict[str, Any]]:
        """Return the parameters with and without weight decay, and their learning rate.

        Call it before FSDP shards a module: flat shards do not tell matrices from biases.

        Args:
            module: whose parameters are trained.
            sized: the part of it whose size decides the learning rate; by default all of it.
        """
        trained = [parameter for parameter in module.parameters() if parameter.requires_grad]
        rate = self.learning_rate_for(module if sized is None else sized)
        return [
            {
                "params": [parameter for parameter in trained if parameter.ndim > 1],
                "weight_decay": self.weight_decay,
                "lr": rate,
            },
            {
                "params": [parameter for parameter in trained if parameter.ndim <= 1],
                "weight_decay": 0.0,
                "lr": rate,
            },
        ]

    def build(
        self,
        groups: list[dict[str, Any]],
        steps: int,
        fused: bool = True,
        tables: Sequence[RowEmbedding] = (),
    ) -> tuple[torch.optim.Optimizer, LambdaLR]:
        """Return optimizer and learning rate schedule.

        Args:
            groups: from :meth:`parameter_groups`.
            steps: number of optimizer steps of the training.
            fused: whether a step is one kernel.
            tables: embedding tables with sparse gradients; see :class:`RowAdamW`.
        """
        settings: dict[str, Any] = {
            "betas": tuple(self.betas), "eps": self.epsilon, "fused": fused,
        }  # fmt: skip
        optimizer: torch.optim.Optimizer
        if tables:
            optimizer = RowAdamW(groups, list(tables), **settings)
        else:
            optimizer = torch.optim.AdamW(groups, **settings)
        return optimizer, LambdaLR(optimizer, lambda step: self.schedule_factor(step, steps))

    def schedule_factor(self, step: int, steps: int) -> float:
        """Return the factor of the learning rate at a step, from 0 to 1.

        Args:
            step: from 0.
            steps: number of optimizer steps of the training.
        """
        warmup = int(self.warmup * steps)
        if step < warmup:
            return (step + 1) / (warmup + 1)
        done = min(1.0, (step - warmup) / max(1, steps - warmup))
        if self.decay == "linear":
            return 1.0 - done
        return 0.5 * (1 + math.cos(math.pi * done)) if self.decay == "cosine" else 1.0
