"""torchdistill's own ``DistillationBox``, in the loop of its own GLUE example.

Based on examples/hf_transformers/general_language_understanding.py and
configs/sample/glue/sst2/kd (yoshitomo-matsubara/torchdistill on GitHub): live teacher, fp32,
batches padded to their longest in random order, AdamW at 1e-4 without decay, clipping at 1, a
linear schedule, ``MetricLogger`` around each step.

Two differences from the example: Its loop passes no targets, and without them ``KDLoss`` omits hard
labels and the factor T^2; here the factor is part of the term's weight, and the loss on hard labels
is the model's own (``model_term``), as the package provides. And ``accelerator`` is None, because
the package (1.1.5) uses an attribute that accelerate no longer has; the box then does the same
steps itself.
"""

import logging
import time

import torch
from torch import Tensor
from torch.utils.data import RandomSampler
from torchdistill.core.distillation import get_distillation_box
from torchdistill.core.interfaces.registry import register_forward_proc_func
from torchdistill.datasets.registry import register_collate_func
from torchdistill.losses.registry import register_func2extract_model_output
from torchdistill.misc.log import MetricLogger, SmoothedValue
from torchdistill.optim.registry import register_scheduler
from transformers import DataCollatorWithPadding, get_linear_schedule_with_warmup

from contestants.clock import Clock
from contestants.work import Work

register_scheduler(get_linear_schedule_with_warmup)


@register_forward_proc_func
def _keywords(model, sample_batch, targets=None, supp_dict=None, **_):
    return model(**sample_batch)


@register_func2extract_model_output
def _labels_loss(student_outputs, targets, **_) -> dict[str, Tensor]:
    return {"loss": student_outputs.loss}


class Torchdistill:
    """``DistillationBox`` and the training loop of the example."""

    counts_entropy = False

    def __init__(self, work: Work):
        logging.getLogger("torchdistill").setLevel(logging.WARNING)
        self.work, self.student = work, work.student()
        self.collate = DataCollatorWithPadding(work.tokenizer)
        register_collate_func(self.collate, key="padding")
        io_config = {
            "forward_proc": "_keywords",
            "forward_hook": {"input": [], "output": ["classifier"]},
        }
        config = {
            "num_epochs": 1,
            "train_data_loader": {
                "dataset_id": "train",
                "sampler": {"class_or_func": RandomSampler},
                "kwargs": {"batch_size": work.batch_size, "num_workers": 0},
                "collate_fn": "padding",
                "requires_supp": False,
            },
            "teacher": io_config | {"requires_grad": False},
            "student": dict(io_config),
            "optimizer": {
                "key": "AdamW",
                "kwargs": {"lr": work.learning_rate, "weight_decay": 0.0},
                "max_grad_norm": 1.0,
            },
            "scheduler": {
                "key": "get_linear_schedule_with_warmup",
                "kwargs": {"num_warmup_steps": 0, "num_training_steps": work.steps},
                "scheduling_step": 1,
            },
            "criterion": {
                "key": "WeightedSumLoss",
                "kwargs": {
                    "model_term": {"weight": work.hard},
                    "sub_terms": {
                        "kd": {
                            "criterion": {
                                "key": "KDLoss",
                                "kwargs": {
                                    "student_module_path": "classifier",
                                    "student_module_io": "output",
                                    "teacher_module_path": "classifier",
                                    "teacher_module_io": "output",
                                    "temperature": work.temperature,
                                    "alpha": 0.0,
                                    "reduction": "batchmean",
                                },
                            },
                            "weight": work.soft * work.temperature**2,
                        }
                    },
                },
                "func2extract_model_loss": "_labels_loss",
            },
        }
        self.box = get_distillation_box(
            work.teacher(), self.student, {"train": work.rows}, config,
            torch.device(work.device), None, False, 1,
        )  # fmt: skip

    def loss(self, rows: list[int]) -> Tensor:
        """Compute the loss with ``forward_process``."""
        batch = self.collate([self.work.rows[row] for row in rows]).to(self.work.device)
        return self.box.forward_process(batch)

    def train(self, clock: Clock) -> None:
        """Train for one epoch, as the example's ``train_one_epoch``."""
        self.box.pre_epoch_process(epoch=0)
        meters = MetricLogger(delimiter="  ")
        meters.add_meter("lr", SmoothedValue(window_size=1, fmt="{value}"))
        meters.add_meter("sample/s", SmoothedValue(window_size=10, fmt="{value}"))
        loader = clock.timed(self.box.train_data_loader)
        for batch in meters.log_every(loader, 500, "Epoch: [0]"):
            started = time.time()
            loss = self.box.forward_process(batch.to(self.work.device))
            self.box.post_forward_process(loss=loss)
            meters.update(loss=loss.item(), lr=self.box.optimizer.param_groups[0]["lr"])
            meters.meters["sample/s"].update(len(batch) / (time.time() - started))
        self.box.post_epoch_process()


prepare = Torchdistill
