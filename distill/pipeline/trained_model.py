"""A student or control after its training."""

from dataclasses import dataclass

from transformers import PreTrainedModel

from distill.training.trainer import TrainingResult


@dataclass(frozen=True)
class TrainedModel:
    """A model with the weights that were best on validation.

    Attributes:
        model: The model in memory; the same is saved in the run's folder.
        result: Result of its training.
        seconds: Time of training in this run; 0 if it was reused.
        reused: Whether it was trained before.
    """

    model: PreTrainedModel
    result: TrainingResult
    seconds: float
    reused: bool
