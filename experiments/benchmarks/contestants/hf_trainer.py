"""transformers' ``Trainer`` with a distillation loss in ``compute_loss``, as in common guides.

Its defaults: fp32, random order, batches padded to their longest by
``DataCollatorWithPadding``, AdamW, clipping at 1, a linear schedule. The teacher is live.
"""

import tempfile

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import DataCollatorWithPadding, PrinterCallback, Trainer, TrainingArguments

from contestants.clock import Clock
from contestants.work import Work


class _Distilling(Trainer):
    """A ``Trainer`` with a live teacher."""

    def __init__(self, work: Work, **settings):
        super().__init__(**settings)
        self.work, self.teacher = work, work.teacher()
        self.clock: Clock | None = None

    def get_train_dataloader(self):
        """Return the loader, which starts the clock."""
        return self.clock.timed(super().get_train_dataloader())

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        """Compute the soft target loss (Hinton et al. 2015) and the loss on hard labels."""
        outputs = model(**inputs)
        with torch.no_grad():
            teacher_logits = self.teacher(**inputs).logits
        temperature = self.work.temperature
        soft = F.kl_div(
            F.log_softmax(outputs.logits / temperature, dim=-1),
            F.softmax(teacher_logits / temperature, dim=-1),
            reduction="batchmean",
        )
        loss = self.work.soft * temperature**2 * soft + self.work.hard * outputs.loss
        return (loss, outputs) if return_outputs else loss


class HuggingFaceTrainer:
    """The ``Trainer`` and its settings."""

    counts_entropy = False

    def __init__(self, work: Work):
        self.work, self.student = work, work.student()
        self.output = tempfile.TemporaryDirectory(dir=work.folder)
        self.collate = DataCollatorWithPadding(work.tokenizer)
        self.trainer = _Distilling(
            work,
            model=self.student,
            args=TrainingArguments(
                self.output.name,
                num_train_epochs=1,
                per_device_train_batch_size=work.batch_size,
                learning_rate=work.learning_rate,
                seed=work.seed,
                use_cpu=work.device == "cpu",
                # Not part of the training loop.
                save_strategy="no",
                report_to="none",
                disable_tqdm=True,
                remove_unused_columns=False,
            ),
            train_dataset=work.rows,
            data_collator=self.collate,
        )
        self.trainer.remove_callback(PrinterCallback)

    def loss(self, rows: list[int]) -> Tensor:
        """Compute the loss with ``compute_loss``."""
        batch = self.collate([self.work.rows[row] for row in rows]).to(self.work.device)
        return self.trainer.compute_loss(self.student, batch)

    def train(self, clock: Clock) -> None:
        """Train for one epoch."""
        self.trainer.clock = clock
        self.trainer.train()
        self.output.cleanup()


prepare = HuggingFaceTrainer
