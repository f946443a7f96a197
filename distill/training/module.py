"""The one LightningModule: a teacher, a student and the objective that ties them."""

from collections.abc import Callable

import numpy as np
import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import LRScheduler

from distill.core.jagged import ArrayOrJagged, allocate_rows
from distill.data.dataset import DistillationDataset
from distill.distributed.collectives import all_gather_object, all_reduce_mean
from distill.modeling.features import ModelOutputs, forward_with_features
from distill.modeling.forward import forward_at_positions
from distill.objectives.objective import Objective
from distill.tasks.base import Task
from distill.training.optimizer import AdamW


class DistillationModule(pl.LightningModule):
    """Trains a student on an objective.

    The teacher comes in one of three ways: as logits stored beforehand that the batches bring
    along; live, run on each batch; or not at all (fine-tuning, and the control). The methods of
    distillation differ in the objective's terms, never in this loop.

    Args:
        student: a transformers model with a head.
        objective: the weighted sum of terms, bound to the task.
        task: predictions and metrics.
        optimizer: builds optimizer and schedule.
        teacher: a model to run live, or ``None``. It is kept out of the module tree: Lightning
            would put it into training mode, save it in every checkpoint and train it along.
        prefix: put before the names of everything that is logged, such as ``control/``.
        read_logits: makes the teacher's outputs of stored logits; an ensemble combines them.
    """

    def __init__(
        self,
        student: nn.Module,
        objective: Objective,
        task: Task,
        optimizer: AdamW,
        teacher: nn.Module | None = None,
        prefix: str = "",
        read_logits: Callable[[Tensor], ModelOutputs] = ModelOutputs,
    ):
        super().__init__()
        self.student = student
        self.objective, self.task, self.optimizer_settings = objective, task, optimizer
        self._teacher = [teacher.eval().requires_grad_(False)] if teacher is not None else []
        self.prefix, self.read_logits, self._steps = prefix, read_logits, 1
        self._validation: list[tuple[Tensor, Tensor]] = []  # rows and their logits

    def on_fit_start(self) -> None:
        """Put the teacher where the student is."""
        for teacher in self._teacher:
            teacher.to(self.device)

    @property
    def progress(self) -> float:
        """How much of the training is done, from 0 to 1."""
        return self.trainer.global_step / self._steps if self._trainer is not None else 0.0

    def teacher_outputs(
        self, batch: dict, needs: frozenset[str] | None = None
    ) -> ModelOutputs | None:
        """What the objective sees of the teacher: stored logits, or one live forward pass.

        Args:
            batch: with ``teacher_logits``, or the teacher's inputs.
            needs: what is asked for; by default all that any term ever needs.
        """
        needs = self.objective.needs if needs is None else needs
        if "teacher_logits" in batch:
            return self._arranged(self.read_logits(batch["teacher_logits"]), batch)
        if not self._teacher or not needs:
            return None
        with torch.no_grad():
            return self._arranged(
                forward_with_features(self._teacher[0], batch["teacher"], needs), batch
            )

    def _arranged(self, said: ModelOutputs, batch: dict) -> ModelOutputs:
        """What a model says, its logits as the task's terms take them."""
        for one in (said, *said.members.values()):
            one.logits = self.task.criterion.to_distributions(one.logits, batch)
        if said.averaged:  # the mean of distributions, which the logits are only now
            said.logits = said.logits_at(1.0)
        return said

    def training_step(self, batch: dict, batch_index: int) -> Tensor:
        """One forward pass of the student; returns the weighted loss."""
        progress = self.progress
        needs = self.objective.needs_at(progress)
        student = self._arranged(
            forward_with_features(self.student, batch["student"], needs), batch
        )
        losses = self.objective(student, self.teacher_outputs(batch, needs), batch, progress)
        if "batch_share" in batch:
            losses = self._over_processes(losses, batch["batch_share"])
        size = len(batch["labels"])
        total = losses.pop("loss")
        self.log(f"{self.prefix}train/loss", total.detach(), prog_bar=True, batch_size=size)
        for name, value in losses.items():
            self.log(f"{self.prefix}train/loss/{name}", value.detach(), batch_size=size)
        for name, value in self.objective.scheduled_values(progress).items():
            self.log(f"{self.prefix}train/{name}", value, batch_size=size)
        schedule = self.lr_schedulers()
        assert isinstance(schedule, LRScheduler)
        self.log(f"{self.prefix}learning_rate", schedule.get_last_lr()[0])
        return total

    def _over_processes(self, losses: dict[str, Tensor], part: float) -> dict[str, Tensor]:
        """The losses on the batch that all processes share, with the gradient of this one's part.

        Every term is a mean over examples, and gradients are averaged over processes: weighted by
        the sizes of the parts, they average to the gradient of the mean over the whole batch. (A
        term that relates examples to each other relates those of a part.)
        """
        own = torch.stack(list(losses.values())) * part
        mean = all_reduce_mean(own, self.trainer.world_size)
        return dict(zip(losses, own + (mean - own.detach()), strict=True))

    def validation_step(self, batch: dict, batch_index: int) -> None:
        """Collect what the metrics need of the logits."""
        logits = self.task.evaluator.reduce_logits(
            forward_at_positions(self.student, batch["student"]).logits.float(), batch["labels"]
        )
        if len(batch["rows"]):
            self._validation.append((batch["rows"].cpu(), logits.cpu()))

    def on_validation_epoch_end(self) -> None:
        """The task's metrics over the split, or what was seen of it."""
        parts = all_gather_object(self._validation, self.trainer.world_size)
        batches = [batch for part in parts for batch in part]
        self._validation.clear()
        seen = np.concatenate([rows.numpy() for rows, _ in batches])
        loader = self.trainer.val_dataloaders
        assert loader is not None
        examples = loader.dataset
        if len(seen) < len(examples):  # trainer.limit_val_batches
            examples = examples.select(np.sort(seen).tolist())
        place = np.empty(seen.max() + 1, dtype=np.int64)
        place[np.sort(seen)] = np.arange(len(seen))
        logits = allocate_rows(examples.position_counts, len(examples), batches[0][1].numpy())
        for rows, values in batches:
            logits[place[rows.numpy()]] = values.numpy()
        for name, value in self.evaluate(logits, examples).items():
            self.log(
                f"{self.prefix}validation/{name}",
                value,
                prog_bar=name == self.task.evaluator.metric_name,
            )

    def evaluate(self, logits: ArrayOrJagged, examples: DistillationDataset) -> dict[str, float]:
        """Metrics by name."""
        return self.task.evaluator.evaluate(logits, examples)

    def configure_model(self) -> None:
        """Group the parameters while they are whole; the student's size decides the rate."""
        self._groups = self.optimizer_settings.parameter_groups(self, sized=self.student)

    def configure_optimizers(self):
        """AdamW over the student and the terms' own parameters, stepped after every batch."""
        self._steps = steps = int(self.trainer.estimated_stepping_batches)
        # Under fp16's gradient scaler a fused step would unscale after clipping.
        fused = self.trainer.precision != "16-mixed"
        optimizer, schedule = self.optimizer_settings.build(self._groups, steps, fused)
        return [optimizer], [{"scheduler": schedule, "interval": "step"}]

    def configure_gradient_clipping(
        self,
        optimizer: torch.optim.Optimizer,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Clip by norm or value; Lightning's own refuses every fused optimizer under autocast."""
        if not gradient_clip_val:
            return
        if gradient_clip_algorithm == "value":
            nn.utils.clip_grad_value_(self.parameters(), gradient_clip_val)
        elif callable(clip := getattr(self.trainer.strategy.model, "clip_grad_norm_", None)):
            clip(gradient_clip_val)  # FSDP: the norm is over the shards of all processes
        else:
            nn.utils.clip_grad_norm_(self.parameters(), gradient_clip_val)

    def on_save_checkpoint(self, checkpoint: dict) -> None:
        """Keep every process's random state: a resumed run continues to the bit."""
        state = {"random_state": torch.get_rng_state()}
        if self.device.type == "cuda":
            state["cuda_random_state"] = torch.cuda.get_rng_state(self.device)
        checkpoint["random_states"] = all_gather_object(state, self.trainer.world_size)

    def on_load_checkpoint(self, checkpoint: dict) -> None:
        """Take the random state back."""
        states, rank = checkpoint["random_states"], self.trainer.global_rank
        self._random_states = states[rank] if rank < len(states) else {}

    def on_train_start(self) -> None:
        """Restore the random state last, when nothing else draws from it any more."""
        states = self.__dict__.pop("_random_states", {})
        if "random_state" in states:
            torch.set_rng_state(states["random_state"].cpu())
        if "cuda_random_state" in states:
            torch.cuda.set_rng_state(states["cuda_random_state"].cpu(), self.device)
