"""Fine-tuning on hard labels, cached: what teachers need first, and what controls are.

The same model on the same data with the same settings is trained once on a machine: twenty students
share one teacher, and runs that differ in their objective alone share one control.
"""

import json
import logging
import shutil
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from safetensors import SafetensorError, safe_open
from transformers import PreTrainedModel

from distill.core import cache
from distill.data.dataset import DistillationDataset
from distill.data.prepare import PreparedData
from distill.data.preprocessor import Processor
from distill.modeling.loading import weights_hash
from distill.objectives.objective import Objective
from distill.objectives.pair import ModelPair
from distill.objectives.terms.hard_labels import HardLabels
from distill.tasks.base import Task
from distill.training.loggers import TensorBoardLogger
from distill.training.module import DistillationModule
from distill.training.optimizer import AdamW
from distill.training.trainer import TrainerFactory, TrainingPlan, TrainingResult

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class FineTuningPlan:
    """A model, its data and the settings it is fine-tuned with.

    Attributes:
        role: ``teacher`` or ``control``: the prefix of its curves and its folder in the cache.
        name: part of the folder's name, for people who look for it.
        model: with its initial weights; trained in place unless the cache has it.
        processor: the model's own tokenizer or image processor.
        data: prepared data, whose hashes are part of the cache key.
        max_length: length in tokens that examples are truncated to.
        train: encoded training split.
        validation: encoded validation split.
        task: loss and metrics.
        optimizer: its settings.
        epochs: maximum number of epochs.
        batch_size: examples of a step.
        seed: of batch order and dropout.
    """

    role: str
    name: str
    model: PreTrainedModel
    processor: Processor
    data: PreparedData
    max_length: int
    train: DistillationDataset
    validation: DistillationDataset
    task: Task
    optimizer: AdamW
    epochs: int
    batch_size: int
    seed: int

    @property
    def learning_rate(self) -> float:
        """Highest learning rate: the optimizer's, or one by the model's size."""
        return self.optimizer.learning_rate_for(self.model)

    def cache_key(self, trainer: TrainerFactory) -> str:
        """Return the key of everything that determines the weights after training.

        Initial weights, tokenizer, training and validation data, length, optimizer, trainer,
        precision, epochs (and their length where it is not one pass), batch size and seed.
        """
        return cache.cache_key(
            kind="fine_tuned", format=1,
            weights=weights_hash(self.model),
            tokenizer=self.task.preprocessor.processor_hash(self.processor),
            task=self.task.name, metric=self.task.evaluator.metric_name,
            train=self.data.hashes["train"], validation=self.data.hashes["validation"],
            max_length=self.max_length,
            optimizer=asdict(self.optimizer) | {"learning_rate": self.learning_rate},
            epochs=self.epochs, batch_size=self.batch_size, seed=self.seed,
            patience=trainer.patience, precision=trainer.hardware.precision,
            accelerator=trainer.hardware.accelerator,
            lightning=str(sorted(trainer.lightning.items())),
            **({} if (examples := self.train.examples_per_epoch) is None
               else {"as_many_as": examples}),
            **({"training": settings} if (settings := self.task.training_settings) else {}),
        )  # fmt: skip

    def training_plan(self, folder: Path, logger: TensorBoardLogger) -> TrainingPlan:
        """Return the training on hard labels at weight 1.

        Args:
            folder: for checkpoints and a copy of the curves.
            logger: of the run that asks for the model.
        """
        objective = Objective("fine_tuning", hard_labels=HardLabels(weight=1.0))
        objective.bind(ModelPair(self.task, len(self.data.label_names)))
        return TrainingPlan(
            module=DistillationModule(
                self.model, objective, self.task, self.optimizer, prefix=f"{self.role}/"
            ),
            train=self.train,
            validation=self.validation,
            batch_size=self.batch_size,
            seed=self.seed,
            checkpoint_dir=folder / "checkpoints",
            logger=[
                logger.of_training(self.role),
                TensorBoardLogger(folder).of_training(self.role),
            ],
            max_epochs=self.epochs,
            description=self.role,
        )


@dataclass(frozen=True)
class FineTunedModel:
    """A fine-tuned model, trained in this run or taken from the cache.

    Attributes:
        folder: in the cache, with weights, tokenizer and curves.
        result: of its training.
        seconds: duration in this run; 0 where it was reused.
        reused: whether it was in the cache.
    """

    folder: Path
    result: TrainingResult
    seconds: float
    reused: bool


def fine_tune(
    plan: FineTuningPlan, trainer: TrainerFactory, cache_dir: Path, logger: TensorBoardLogger
) -> FineTunedModel:
    """Train a model on hard labels, or take it from the cache.

    Args:
        plan: model, data and settings.
        trainer: the trainer's settings.
        cache_dir: folder that fine-tuned models are kept in.
        logger: of the run that asks; a reused model brings its curves along.
    """
    folder = (
        cache_dir
        / f"{plan.role}s"
        / cache.entry_name(plan.name, plan.data.name, plan.cache_key(trainer))
    )
    started = time.perf_counter()

    def train(partial: Path) -> None:
        log.info(
            "%s: fine-tuning %s on %d examples, learning rate %.0e",
            plan.role, plan.name, len(plan.train), plan.learning_rate,
        )  # fmt: skip
        result = trainer.fit(plan.training_plan(partial, logger))
        plan.model.save_pretrained(partial)
        plan.processor.save_pretrained(partial)
        (partial / "training.json").write_text(json.dumps(asdict(result), indent=2) + "\n")
        shutil.rmtree(partial / "checkpoints")

    reused = cache.get_or_create(folder, train, adopt=_looks_whole)
    if reused:
        log.info("%s: trained before from the same start on the same data, reused", plan.role)
        logger.of_training(plan.role).copy_curves(folder)
    result = TrainingResult(**json.loads((folder / "training.json").read_text()))
    return FineTunedModel(folder, result, 0.0 if reused else time.perf_counter() - started, reused)


def _looks_whole(folder: Path) -> bool:
    """Return whether a model that was kept without checksums has all its files, at full length.

    Training it again would take long, and its weights are looked at when they are loaded.
    """
    try:
        TrainingResult(**json.loads((folder / "training.json").read_text()))
        json.loads((folder / "config.json").read_text(encoding="utf-8"))
        weights = sorted(folder.glob("*.safetensors"))
        for file in weights:
            with safe_open(file, "pt"):  # compares the header with the length
                pass
    except (OSError, ValueError, TypeError, SafetensorError):
        return False
    return bool(weights)
