"""The workload of all tools: the same models, examples, loss and number of steps."""

import dataclasses
import functools
import json
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from datasets import Dataset
from hydra import compose, initialize_config_dir
from torch import Tensor
from transformers import AutoModelForSequenceClassification, AutoTokenizer, BertConfig

from distill.config.resolvers import conf_dir, register_resolvers
from distill.data.prepare import PreparedData, prepare_data
from distill.data.sources.files import FileSource
from distill.modeling import loading
from distill.pipeline.components import RunComponents
from distill.student.base import StudentContext
from distill.student.from_layers import LayersFactory
from distill.tasks.sequence_classification import SequenceClassification
from distill.teacher.prepare import Teacher, TeacherPreparation, prepare_teacher
from distill.training.loggers import TensorBoardLogger

BERT_BASE = "bert-base-shape"
# Number of validation and of test examples, which are not measured.
HELD_OUT = 32
# Factor of the weights of a new head.
HEAD_SCALE = 100.0


@dataclass(frozen=True)
class Work:
    """A workload, stored in a folder so that other processes can read it.

    Attributes:
        folder: Contains ``teacher``, ``student``, ``data`` and ``cache``.
        batch_size: Number of examples of a step.
        max_length: Maximum number of tokens; tools with fixed padding pad to it.
        layers: Indices of the teacher's layers that the student starts from.
        device: ``cpu`` or ``cuda``.
        seed: Of initial weights, order and dropout.
        temperature: Of the soft targets; their loss is scaled by its square.
        soft: Weight of the KL divergence to the teacher.
        hard: Weight of the cross-entropy with the hard labels.
        learning_rate: Maximum learning rate.
    """

    folder: Path
    batch_size: int = 32
    max_length: int = 128
    layers: list[int] = field(default_factory=lambda: [0, 2, 4])
    device: str = "cpu"
    seed: int = 0
    temperature: float = 2.0
    soft: float = 0.5
    hard: float = 0.5
    learning_rate: float = 1e-4

    @classmethod
    def read(cls, folder: Path) -> "Work":
        """Read the workload that ``lay_out`` wrote into a folder."""
        return cls(folder, **json.loads((folder / "work.json").read_text()))

    def write(self) -> None:
        """Write the settings into the folder."""
        settings = dataclasses.asdict(self)
        del settings["folder"]
        (self.folder / "work.json").write_text(json.dumps(settings))

    @property
    def steps(self) -> int:
        """Number of optimizer steps of one epoch."""
        return -(-len(self.rows) // self.batch_size)

    @functools.cached_property
    def data(self) -> PreparedData:
        """The examples as ``distill`` prepares them: rows and labels for all tools."""
        job = self.job()
        return prepare_data(job.source, job.task.schema, job.cache_dir)

    @functools.cached_property
    def tokenizer(self):
        """The tokenizer of teacher and student."""
        return AutoTokenizer.from_pretrained(self.folder / "teacher")

    @functools.cached_property
    def rows(self) -> list[dict[str, list[int] | int]]:
        """The tokenized training examples: token ids, masks and ``labels``."""
        split = self.data.splits["train"]
        texts = [split[name] for name in ("text", "text_pair") if name in split.column_names]
        encoded = self.tokenizer(*map(list, texts), truncation=True, max_length=self.max_length)
        columns = dict(encoded) | {"labels": list(split["label"])}
        return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]

    def teacher(self) -> torch.nn.Module:
        """Load the teacher with transformers, in evaluation mode."""
        return self._load("teacher").eval()

    def student(self) -> torch.nn.Module:
        """Load the student with transformers, in training mode."""
        return self._load("student").train()

    def _load(self, role: str) -> torch.nn.Module:
        model = AutoModelForSequenceClassification.from_pretrained(
            self.folder / role, dtype=torch.float32
        )
        return model.to(self.device)

    def job(self, *overrides: str) -> RunComponents:
        """Return the workload as components of a ``distill`` run."""
        register_resolvers()
        settings = [
            "data=files", f"data.path={self.folder / 'data'}", f"cache_dir={self.folder / 'cache'}",
            f"data.max_length={self.max_length}", f"data.batch_size={self.batch_size}",
            f"teacher.path={self.folder / 'teacher'}", "teacher.fine_tune=false",
            "student=half", f"student.layers={self.layers}".replace(" ", ""),
            f"objective.soft_targets.weight={self.soft}",
            f"objective.soft_targets.temperature={self.temperature}",
            f"objective.hard_labels.weight={self.hard}",
            f"optimizer.learning_rate={self.learning_rate}", f"seed={self.seed}",
            "trainer.max_epochs=1", "trainer.patience=null", f"trainer.accelerator={self.device}",
        ]  # fmt: skip
        with initialize_config_dir(conf_dir(), version_base="1.3"):
            return RunComponents.from_config(compose("config", [*settings, *overrides]))

    def reference_loss(self, rows: list[int]) -> tuple[Tensor, Tensor, torch.nn.Module]:
        """Compute the loss by an independent implementation, in fp32 and without dropout.

        Returns:
            The loss, the softened teacher's entropy times the weight of the soft targets (the
            difference between cross-entropy and KL divergence), and the student.
        """
        teacher, student = self.teacher(), self.student().eval()
        few = [self.rows[row] for row in rows]
        batch = self.tokenizer.pad(few, return_tensors="pt").to(self.device)
        with torch.no_grad():
            soft = (teacher(**batch).logits / self.temperature).softmax(-1)
        logits = student(**batch).logits
        softened = (logits / self.temperature).log_softmax(-1)
        weight = self.soft * self.temperature**2
        cross_entropy = -(soft * softened).sum(-1).mean()
        entropy = -(soft * soft.log()).sum(-1).mean()
        hard = F.cross_entropy(logits, batch["labels"])
        loss = weight * (cross_entropy - entropy) + self.hard * hard
        return loss, weight * entropy, student

    def correct_predictions(self, student: torch.nn.Module, split: Dataset) -> np.ndarray:
        """Return whether the student predicts each row of a split correctly, ``(N,)``; in fp32."""
        texts = [split[name] for name in ("text", "text_pair") if name in split.column_names]
        encoded = self.tokenizer(*map(list, texts), truncation=True, max_length=self.max_length)
        order = np.argsort([len(ids) for ids in encoded["input_ids"]])
        correct, student = np.empty(len(order), dtype=bool), student.eval()
        for start in range(0, len(order), 64):
            rows = order[start : start + 64]
            few = [{name: column[row] for name, column in encoded.items()} for row in rows]
            batch = self.tokenizer.pad(few, return_tensors="pt").to(self.device)
            with torch.inference_mode():
                predicted = student.to(self.device)(**batch).logits.argmax(-1).cpu().numpy()
            correct[rows] = predicted == np.asarray(split["label"])[rows]
        return correct


def lay_out(
    work: Work, data: Path, examples: int, teacher: str = "package:minilm", epochs: int = 0
) -> Work:
    """Write examples, teacher and student into the folder of the workload.

    Args:
        work: The settings.
        data: Folder of examples as ``data=files`` reads it.
        examples: Number of training examples.
        teacher: Path, or ``bert-base-shape``: BERT-base with random weights.
        epochs: Number of epochs the teacher is fine-tuned for; with 0 its head stays random, at the
            same speed.
    """
    folder, task = work.folder, SequenceClassification()
    cache = folder / "cache"
    source = FileSource(name=data.name, path=str(data), limit=examples)
    given = prepare_data(source, task.schema, cache)
    assert len(given.splits["train"]) == examples, f"{data} has fewer than {examples} examples"
    (folder / "data").mkdir(parents=True)
    for split, rows in given.splits.items():
        if split != "train":
            rows = rows.select(range(min(HELD_OUT, len(rows))))
        with (folder / "data" / f"{split}.jsonl").open("w", encoding="utf-8") as lines:
            for row in rows:
                named = row | {"label": given.label_names[row["label"]]}
                lines.write(json.dumps(named) + "\n")
    names = given.label_names
    torch.manual_seed(work.seed)
    path = loading.resolve_model_path(
        "package:minilm" if teacher == BERT_BASE else teacher, "--teacher"
    )
    tokenizer = loading.load_tokenizer(path, "--teacher")
    if teacher == BERT_BASE:
        config = BertConfig(vocab_size=len(tokenizer), **task.head.config_settings(names))
        model = AutoModelForSequenceClassification.from_config(config)
    else:
        model = task.head.load(path, names)
    if not epochs:
        # A new head predicts nearly the same for all texts, so an error in the soft targets would
        # hardly change the loss: scaled, it is as confident as a trained one.
        with torch.no_grad():
            model.classifier.weight.mul_(HEAD_SCALE)
    for role in ("teacher", "student"):
        (folder / role).mkdir()
        tokenizer.save_pretrained(folder / role)
    model.save_pretrained(folder / "teacher")
    work.write()
    made = Teacher("teacher", model, tokenizer, "", 0.0, True)
    if epochs:
        job = work.job("teacher.fine_tune=true", f"teacher.epochs={epochs}")
        logger = TensorBoardLogger(folder / "logs")
        preparation = TeacherPreparation(
            work.data, task, job.trainer, work.max_length, job.cache_dir, logger
        )
        made = prepare_teacher(job.teacher, preparation)
        made.model.save_pretrained(folder / "teacher")
    student = LayersFactory(name="student", layers=work.layers)
    context = StudentContext(made, task, given, cache)
    student.build(context).model.save_pretrained(folder / "student")
    return work
