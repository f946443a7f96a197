"""TextBrewer as in its own examples.

Based on examples/random_tokens_example/distill.py and notebook_examples/sst2.ipynb
(airaria/TextBrewer on GitHub): examples padded to 128 tokens beforehand, a dictionary of tensors
under a shuffled DataLoader, ``GeneralDistiller`` with the live teacher in fp32, AdamW at 1e-4,
linear schedule with 10 % warm-up, no clipping. The loss on hard labels comes from the model, as in
mnli_example.

Its soft loss is a cross-entropy without the factor T^2: the factor is part of ``kd_loss_weight``,
and the remaining difference to the KL divergence is the teacher's entropy, which has no gradient.
The examples import AdamW of transformers, which no longer exists: torch's AdamW replaces it.
"""

import tempfile

import torch
from textbrewer import DistillationConfig, GeneralDistiller, TrainingConfig
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, RandomSampler
from transformers import get_linear_schedule_with_warmup

from contestants.clock import Clock
from contestants.work import Work


class _Tensors(Dataset):
    """Dataset of padded tensors."""

    def __init__(self, columns: dict[str, Tensor]):
        self.columns = columns

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        return {name: column[index] for name, column in self.columns.items()}

    def __len__(self) -> int:
        return len(self.columns["labels"])


def _adaptor(batch: dict[str, Tensor], outputs) -> dict:
    return {"logits": outputs.logits, "losses": outputs.loss}


class TextBrewer:
    """``GeneralDistiller`` and its settings."""

    # Its soft loss is a cross-entropy instead of a KL divergence.
    counts_entropy = True

    def __init__(self, work: Work):
        self.work, self.student = work, work.student()
        padded = work.tokenizer.pad(
            work.rows, padding="max_length", max_length=work.max_length, return_tensors="pt"
        )
        self.data = _Tensors(dict(padded))
        self.loader = DataLoader(
            self.data, sampler=RandomSampler(self.data), batch_size=work.batch_size
        )
        self.output = tempfile.TemporaryDirectory(dir=work.folder)
        self.distiller = GeneralDistiller(
            TrainingConfig(device=torch.device(work.device), output_dir=self.output.name),
            DistillationConfig(
                temperature=work.temperature,
                kd_loss_weight=work.soft * work.temperature**2,
                hard_label_weight=work.hard,
            ),
            work.teacher(),
            self.student,
            _adaptor,
            _adaptor,
        )

    def loss(self, rows: list[int]) -> Tensor:
        """Compute the loss with ``train_on_batch``."""
        batch = {name: column[rows] for name, column in self.data.columns.items()}
        return self.distiller.train_on_batch(batch, {})[0]

    def train(self, clock: Clock) -> None:
        """Train for one epoch."""
        steps = self.work.steps
        optimizer = torch.optim.AdamW(self.student.parameters(), lr=self.work.learning_rate)
        with self.distiller:
            self.distiller.train(
                optimizer,
                clock.timed(self.loader),
                1,
                scheduler_class=get_linear_schedule_with_warmup,
                scheduler_args={"num_warmup_steps": steps // 10, "num_training_steps": steps},
            )
        self.output.cleanup()


prepare = TextBrewer
