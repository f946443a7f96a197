"""The LightningModule of every training: a student, its objective and perhaps a teacher."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from distill.core.jagged import ArrayOrJagged, allocate_rows
from distill.data.dataset import DistillationDataset
from distill.distributed.collectives import all_gather_object, all_reduce_mean
from distill.modeling.features import ModelOutputs, forward_with_features
from distill.modeling.forward import forward_at_positions, forward_to_rows
from distill.modeling.head import last_linear
from distill.modeling.row_embedding import RowEmbedding
from distill.objectives.objective import Objective
from distill.tasks.base import Task
from distill.training.optimizer import AdamW


class DistillationModule(pl.LightningModule):
    """Trains a student on an objective.

    The teacher's outputs are stored logits, which are part of the batches; or computed live, by a
    forward pass on each batch; or there are none (fine-tuning, and the control). Distillation
    methods differ in the objective's terms, never in this loop.

    Args:
        student: a transformers model with a head.
        objective: the weighted sum of terms, bound to the task.
        task: criterion and metrics.
        optimizer: settings of optimizer and learning rate schedule.
        teacher: a model to run live, or ``None``. It is kept out of the module tree: Lightning
            would put it into training mode, save it in every checkpoint and train it too.
        prefix: of the names of everything that is logged, such as ``control/``.
        read_logits: makes the teacher's outputs from stored logits; an ensemble combines them.
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
        # Of each batch: rows, their logits, their share of the loss and what it is a share of.
        self._validation: list[tuple[Tensor, Tensor, float, int]] = []
        # Losses by term of the batches since the last step.
        self.losses: list[dict[str, Tensor]] = []
        self.on_gradient: Callable[[list[dict[str, Tensor]], Tensor | None], None] | None = None

    def on_fit_start(self) -> None:
        """Move the teacher to the student's device."""
        for teacher in self._teacher:
            teacher.to(self.device)

    @property
    def progress(self) -> float:
        """Fraction of the training steps that are done, from 0 to 1."""
        return self.trainer.global_step / self._steps if self._trainer is not None else 0.0

    def teacher_outputs(
        self,
        batch: dict[str, Any],
        needs: frozenset[str] | None = None,
        row_wise: bool = False,
    ) -> ModelOutputs | None:
        """Return the teacher's outputs: stored logits, or one live forward pass.

        Args:
            batch: with ``teacher_logits``, or the teacher's inputs.
            needs: features to compute; by default all that any term ever needs.
            row_wise: whether logits may be left to be computed from ``head_rows``.

        Returns:
            ``None`` without a teacher, or if nothing is needed of it.
        """
        needs = self.objective.needs if needs is None else needs
        if "teacher_logits" in batch:
            return self._to_distributions(self.read_logits(batch["teacher_logits"]), batch)
        if not self._teacher or not needs:
            return None
        with torch.no_grad():
            return self._to_distributions(
                forward_with_features(self._teacher[0], batch["teacher"], needs, row_wise), batch
            )

    def _to_distributions(self, outputs: ModelOutputs, batch: dict[str, Any]) -> ModelOutputs:
        """Bring the logits of a model, or of each member of an ensemble, into the terms' shape."""
        if outputs.head_rows is not None:  # of a criterion that takes logits as they are
            return outputs
        for member in (outputs, *outputs.members.values()):
            member.logits = self.task.criterion.to_distributions(member.logits, batch)
        if outputs.averaged:  # a mean of distributions, which the logits are only now
            outputs.logits = outputs.logits_at(1.0)
        return outputs

    def training_step(self, batch: dict[str, Any], batch_index: int) -> Tensor:
        """Run the student on a batch; return the weighted loss."""
        progress = self.progress
        needs = self.objective.needs_at(progress)
        row_wise = self.task.criterion.row_wise and self.objective.is_row_wise_at(progress)
        student = self._to_distributions(
            forward_with_features(self.student, batch["student"], needs, row_wise), batch
        )
        # The teacher's logits are left out where the student's are, else both exist whole.
        teacher = self.teacher_outputs(batch, needs, row_wise=student.head_rows is not None)
        losses = self.objective(student, teacher, batch, progress)
        if "batch_share" in batch:
            losses = self._mean_over_processes(losses, batch["batch_share"])
        self.losses.append({name: value.detach() for name, value in losses.items()})
        if self._logs(batch_index):
            self._log_step(losses, progress, len(batch["labels"]))
        return losses["loss"]

    def _logs(self, batch_index: int) -> bool:
        """Return whether the values of this batch are read by anybody.

        Lightning writes those of every ``log_every_n_steps`` steps. To hand over the others, too,
        takes as long as a small student's forward pass.
        """
        trainer: Any = self._trainer
        every = getattr(trainer, "log_every_n_steps", 1)
        return (
            getattr(trainer, "progress_bar_callback", None) is not None
            or (every > 0 and (getattr(trainer, "global_step", 0) + 1) % every == 0)
            or batch_index + 1 == getattr(trainer, "num_training_batches", 0)
        )

    def _log_step(self, losses: dict[str, Tensor], progress: float, size: int) -> None:
        values = {name: value.detach() for name, value in losses.items()}
        self.log(f"{self.prefix}train/loss", values.pop("loss"), prog_bar=True, batch_size=size)
        for name, value in values.items():
            self.log(f"{self.prefix}train/loss/{name}", value, batch_size=size)
        for name, number in self.objective.scheduled_values(progress).items():
            self.log(f"{self.prefix}train/{name}", number, batch_size=size)
        schedule: Any = self.lr_schedulers()
        self.log(f"{self.prefix}learning_rate", schedule.get_last_lr()[0])

    def _mean_over_processes(self, losses: dict[str, Tensor], share: float) -> dict[str, Tensor]:
        """Return the losses of the whole batch, with the gradient of this process's part.

        Every term is a mean over examples, and gradients are averaged over processes: weighted by
        the sizes of the parts, they average to the gradient of the mean over the whole batch. (A
        term that relates examples to each other relates those of a part.)

        Args:
            losses: of this process's part.
            share: size of the part as a multiple of the mean part.
        """
        own = torch.stack(list(losses.values())) * share
        mean = all_reduce_mean(own, self.trainer.world_size)
        return dict(zip(losses, own + (mean - own.detach()), strict=True))

    def validation_step(self, batch: dict[str, Any], batch_index: int) -> None:
        """Collect the loss and the part of the logits that the metrics need, in fp32."""
        with torch.autocast(self.device.type, enabled=False):
            loss, kept = self._validated(batch)
        if len(batch["rows"]):
            size = len(batch["labels"])
            # A batch without any label has no loss.
            share = float(loss) * size if size else 0.0
            self._validation.append((batch["rows"].cpu(), kept.cpu(), share, size))

    def _validated(self, batch: dict[str, Any]) -> tuple[Tensor, Tensor]:
        """Return the loss of a batch, and the part of its logits that the metrics need."""
        criterion, evaluator = self.task.criterion, self.task.evaluator
        labels, rows = batch["labels"], None
        if criterion.row_wise:
            result, rows = forward_to_rows(self.student, batch["student"])
        else:
            result = forward_at_positions(self.student, batch["student"])
        if rows is None:
            logits = result.logits.float()
            outputs = self._to_distributions(ModelOutputs(logits), batch)
            loss = criterion.hard_label_loss(outputs.logits, labels)
            return loss, evaluator.reduce_logits(logits, labels)
        total, kept = torch.zeros((), device=labels.device), []
        for part in rows.chunks():
            logits = rows.logits(part).float()
            total += criterion.hard_label_loss(logits, labels[part]) * len(logits) / len(rows)
            kept.append(evaluator.reduce_logits(logits, labels[part]))
        return total, torch.cat(kept)

    @property
    def loss_name(self) -> str:
        """Logged name of the loss on the labels of the validation split."""
        return f"{self.prefix}validation/loss"

    def on_validation_epoch_end(self) -> None:
        """Log the task's metrics over the split, or the part of it that was validated on."""
        parts = all_gather_object(self._validation, self.trainer.world_size)
        batches = [batch for part in parts for batch in part]
        self._validation.clear()
        validated = np.sort(np.concatenate([rows.numpy() for rows, *_ in batches]))
        loader: Any = self.trainer.val_dataloaders
        examples: DistillationDataset = loader.dataset
        if len(validated) < len(examples):  # trainer.limit_val_batches
            examples = examples.select(validated.tolist())
        position = np.empty(validated[-1] + 1, dtype=np.int64)
        position[validated] = np.arange(len(validated))
        logits = allocate_rows(examples.position_counts, len(examples), batches[0][1].numpy())
        for rows, values, *_ in batches:
            logits[position[rows.numpy()]] = values.numpy()
        total = max(1, sum(size for *_, size in batches))
        self.log(self.loss_name, sum(share for *_, share, _ in batches) / total)
        for name, value in self.evaluate(logits, examples).items():
            self.log(
                f"{self.prefix}validation/{name}",
                value,
                prog_bar=name == self.task.evaluator.metric_name,
            )

    def evaluate(self, logits: ArrayOrJagged, examples: DistillationDataset) -> dict[str, float]:
        """Return the task's metrics by name."""
        return self.task.evaluator.evaluate(logits, examples)

    def configure_model(self) -> None:
        """Group the parameters before FSDP shards them; the student's size decides the rate."""
        self._groups = self.optimizer_settings.parameter_groups(self, sized=self.student)

    def configure_optimizers(self) -> Any:
        """Return AdamW over the student's and the terms' parameters, and a schedule per step."""
        self._steps = steps = int(self.trainer.estimated_stepping_batches)
        # Under fp16's gradient scaler a fused step would unscale after clipping.
        fused = self.trainer.precision != "16-mixed"
        tables = [module for module in self.student.modules() if isinstance(module, RowEmbedding)]
        optimizer, schedule = self.optimizer_settings.build(self._groups, steps, fused, tables)
        return [optimizer], [{"scheduler": schedule, "interval": "step"}]

    def configure_gradient_clipping(
        self,
        optimizer: torch.optim.Optimizer,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Clip by norm or value; Lightning's own refuses every fused optimizer under autocast.

        The step's losses and the gradient's norm are then handed to ``on_gradient``.
        """
        norm: Tensor | None = None
        model: Any = self.trainer.strategy.model
        if not gradient_clip_val:
            pass
        elif gradient_clip_algorithm == "value":
            for gradient in self._gradients():
                gradient.clamp_(-gradient_clip_val, gradient_clip_val)
        elif hasattr(model, "clip_grad_norm_"):  # FSDP: over the shards of all processes
            norm = model.clip_grad_norm_(gradient_clip_val)
        else:
            norm = self._clip_norm(gradient_clip_val)
        losses, self.losses = self.losses, []
        if self.on_gradient is not None:
            self.on_gradient(losses, norm)

    def _gradients(self) -> list[Tensor]:
        """Return the gradients, of sparse ones the values."""
        gradients = []
        for parameter in self.parameters():
            if parameter.grad is None:
                continue
            if parameter.grad.is_sparse:
                parameter.grad = parameter.grad.coalesce()
                gradients.append(parameter.grad.values())
            else:
                gradients.append(parameter.grad)
        return gradients

    @torch.no_grad()
    def _clip_norm(self, limit: float) -> Tensor:
        """Clip the gradients' common norm; ``clip_grad_norm_`` takes no sparse ones."""
        if not any(isinstance(module, RowEmbedding) for module in self.student.modules()):
            return nn.utils.clip_grad_norm_(self.parameters(), limit)
        gradients = self._gradients()
        norm = nn.utils.get_total_norm(gradients)
        factor = (limit / (norm + 1e-6)).clamp(max=1.0)
        for gradient in gradients:
            gradient.mul_(factor)
        return norm

    @contextmanager
    def head_in_fp32(self) -> Iterator[None]:
        """Compute the head's last layer in fp32 within the context, whatever autocast says.

        Half precision would leave a regression a handful of distinct outputs, and loss terms
        logits of three digits. A layer over a vocabulary stays as it is: it is most of the work.
        """
        if not self.task.criterion.caches_logits or (layer := last_linear(self.student)) is None:
            yield
            return

        def forward(states: Tensor) -> Tensor:
            with torch.autocast(states.device.type, enabled=False):
                bias = None if layer.bias is None else layer.bias.float()
                return F.linear(states.float(), layer.weight.float(), bias)

        layer.forward = forward  # type: ignore[method-assign, assignment]
        try:
            yield
        finally:
            del layer.forward  # back to the method of its class

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Save every process's random state: a resumed run continues to the bit."""
        state = {"random_state": torch.get_rng_state()}
        if self.device.type == "cuda":
            state["cuda_random_state"] = torch.cuda.get_rng_state(self.device)
        checkpoint["random_states"] = all_gather_object(state, self.trainer.world_size)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep this process's random state for the start of the training."""
        states, rank = checkpoint["random_states"], self.trainer.global_rank
        self._random_states = states[rank] if rank < len(states) else {}

    def on_train_start(self) -> None:
        """Restore the random state last, when nothing else draws from it anymore."""
        states = self.__dict__.pop("_random_states", {})
        if "random_state" in states:
            torch.set_rng_state(states["random_state"].cpu())
        if "cuda_random_state" in states:
            torch.cuda.set_rng_state(states["cuda_random_state"].cpu(), self.device)
