"""Configuration of a single teacher."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from transformers import PreTrainedConfig

from distill.core.errors import UserError
from distill.data.prepare import PreparedData
from distill.modeling import loading

MAX_SEEDS = 1000
"""Largest number of fine-tunings of one model in an ensemble."""


@dataclass(kw_only=True)
class TeacherConfig:
    """A teacher, by the path of its model.

    Attributes:
        path: a folder, a hub id, the folder of a run (its student is the teacher), or
            ``package:NAME``.
        labels: names of the classes of a trained head that does not name them, in its order.
        fine_tune: ``auto`` fine-tunes a teacher only if its head is not trained for these classes;
            ``True`` always; ``False`` raises an error instead.
        epochs: maximum number of epochs of fine-tuning.
        learning_rate: learning rate of fine-tuning; ``None`` chooses it by the model's size.
        batch_size: batch size of fine-tuning.
        seed: seed of fine-tuning, independent of the run's, so that runs with different seeds share
            a teacher.
        seeds: an ensemble of this model fine-tuned with several seeds, see
            :func:`~distill.teacher.ensemble.expand_seeds`: their number, counted from ``seed``, or
            a list of them; ``None``: one teacher.
        outputs: ``cached`` computes the teacher's logits once and stores them; ``live`` runs the
            teacher on every batch; ``auto`` stores them unless the objective needs more than
            logits.
    """

    path: str
    labels: list[str | int | float | bool] | None = None
    fine_tune: bool | Literal["auto"] = "auto"
    epochs: int = 3
    learning_rate: float | None = None
    batch_size: int = 32
    seed: int = 0
    seeds: int | list[int] | None = None
    outputs: Literal["auto", "cached", "live"] = "auto"

    def __post_init__(self) -> None:
        if self.labels is not None:
            self.labels = [str(name) for name in self.labels]
        if not 0 <= self.seed < 2**31:
            raise UserError(f"teacher.seed={self.seed}: it must be 0 or above, below 2147483648")
        if self.seeds is not None and (
            not 1 <= self.seeds <= MAX_SEEDS
            if isinstance(self.seeds, int)
            else not self.seeds or len(set(self.seeds)) < len(self.seeds)
        ):
            raise UserError(
                f"teacher.seeds={self.seeds}: give a number from 1 to {MAX_SEEDS}, or a list of "
                "different seeds"
            )
        for key in ("epochs", "batch_size"):
            if getattr(self, key) < 1:
                raise UserError(f"teacher.{key}={getattr(self, key)}: it must be 1 or more")
        if self.learning_rate is not None and not self.learning_rate > 0:
            raise UserError(f"teacher.learning_rate={self.learning_rate}: it must be above 0")
        if self.fine_tune not in ("auto", True, False):
            raise UserError(f"teacher.fine_tune={self.fine_tune}: choose auto, true or false")
        if self.outputs not in ("auto", "cached", "live"):
            raise UserError(f"teacher.outputs={self.outputs}: choose auto, cached or live")

    def load_config(self) -> PreTrainedConfig:
        """Return the configuration of the teacher's model.

        Raises:
            UserError: if there is no such model.
        """
        path = loading.resolve_model_path(self.path, "teacher.path")
        return loading.load_config(path, f"teacher.path={path}")

    def for_data(self, data: PreparedData, cache_dir: Path) -> "TeacherConfig":
        """Return the teacher for prepared data; of a pretrained model itself.

        Args:
            data: prepared data.
            cache_dir: where a model that is made for the data is kept.

        Raises:
            UserError: for data that no such teacher can be made for.
        """
        return self

    @property
    def name(self) -> str:
        """Name in reports: the end of the path."""
        return self.path.removeprefix("package:").rstrip("/").split("/")[-1]
