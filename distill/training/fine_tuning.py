"""Fine-tuning on hard labels, once: what a teacher needs first, and what a control is.

The same model on the same data with the same settings is trained one time on a machine: twenty
students share one teacher, and runs that differ in their objective alone share one control.
"""

import json
import logging
import shutil
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from pytorch_lightning.loggers import Logger
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from distill.core.cache import cache_key, get_or_create
from distill.data.dataset import DistillationDataset
from distill.data.prepare import PreparedData
from distill.modeling.loading import weights_hash
from distill.objectives.objective import Objective
from distill.objectives.pair import ModelPair
from distill.objectives.terms.hard_labels import HardLabels
from distill.tasks.base import Task
from distill.training.loggers import TensorBoardLogger
from distill.training.module import DistillationModule
from distill.training.optimizer import AdamW
from distill.training.trainer import TrainerFactory, TrainingResult

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class FineTunedModel:
    """A model that was fine-tuned, now or before.

    Attributes:
        folder: in the cache, with weights, tokenizer and curves.
        result: what its training came to.
        seconds: what it took in this run; 0 where it was reused.
        reused: whether it was there already.
    """

    folder: Path
    result: TrainingResult
    seconds: float
    reused: bool


def fine_tune(
    role: str,
    name: str,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    data: PreparedData,
    max_length: int,
    train: DistillationDataset,
    validation: DistillationDataset,
    task: Task,
    optimizer: AdamW,
    fitter: TrainerFactory,
    epochs: int,
    batch_size: int,
    seed: int,
    cache_dir: Path,
    logger: TensorBoardLogger,
) -> FineTunedModel:
    """Train a model on hard labels at weight 1, or take it from the cache.

    Everything that determines the result is in the key: first weights, tokenizer, training and
    validation data, length, optimizer, trainer, precision, epochs (and their length where it is not
    one pass), batch size and seed.

    Args:
        role: ``teacher`` or ``control``: the prefix of its curves and its folder in the cache.
        name: for the folder, so that a person finds it.
        model: with its first weights; trained in place if it has to be.
        tokenizer: its own.
        data: whose hashes enter the key.
        max_length: tokens the examples are cut to.
        train: the training split, encoded.
        validation: the validation split, encoded.
        task: loss and metrics.
        optimizer: settings.
        fitter: the trainer's settings.
        epochs: at most so many.
        batch_size: examples a step.
        seed: of batch order and dropout.
        cache_dir: where it is kept.
        logger: of the run that asks; a reused model brings its curves along.
    """
    key = cache_key(
        kind="fine_tuned", format=1,
        weights=weights_hash(model), tokenizer=task.preprocessor.processor_hash(tokenizer),
        task=task.name, metric=task.evaluator.metric_name, train=data.hashes["train"],
        validation=data.hashes["validation"], max_length=max_length,
        optimizer=asdict(optimizer) | {"learning_rate": optimizer.rate_for(model)},
        epochs=epochs, batch_size=batch_size, seed=seed, patience=fitter.patience,
        precision=fitter.hardware.precision, accelerator=fitter.hardware.accelerator,
        lightning=str(sorted(fitter.lightning.items())),
        **({} if train.as_many_as is None else {"as_many_as": train.as_many_as}),
        **({"training": task.training_settings} if task.training_settings else {}),
    )  # fmt: skip
    folder = cache_dir / f"{role}s" / f"{name}-{data.name}-{key}"
    started = time.perf_counter()

    def train_it(partial: Path) -> None:
        log.info(
            "%s: fine-tuning %s on %d examples, learning rate %.0e",
            role, name, len(train), optimizer.rate_for(model),
        )  # fmt: skip
        objective = Objective("fine_tuning", hard_labels=HardLabels(weight=1.0))
        objective.bind(ModelPair(task, len(data.label_names)))
        kept: list[Logger] = [logger, TensorBoardLogger(partial)]
        fitted = fitter.fit(
            DistillationModule(model, objective, task, optimizer, prefix=f"{role}/"),
            train.loader(batch_size, seed),
            validation.loader(batch_size, None),
            partial / "checkpoints",
            seed,
            logger=kept,
            max_epochs=epochs,
            what=role,
        )
        model.save_pretrained(partial)
        tokenizer.save_pretrained(partial)
        (partial / "training.json").write_text(json.dumps(asdict(fitted), indent=2) + "\n")
        shutil.rmtree(partial / "checkpoints")

    reused = get_or_create(folder, train_it)
    if reused:
        log.info("%s: trained before from the same start on the same data, reused", role)
        for events in folder.glob("events.out.tfevents.*"):
            shutil.copy(events, logger.log_dir)
    fitted = TrainingResult(**json.loads((folder / "training.json").read_text()))
    return FineTunedModel(folder, fitted, 0.0 if reused else time.perf_counter() - started, reused)
