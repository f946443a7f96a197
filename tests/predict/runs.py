"""Folders of runs without their training: data, config.yaml and a student with random weights."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from hydra.utils import instantiate

from distill.core.hardware import Hardware
from distill.data.dataset import DistillationDataset
from distill.data.prepare import PreparedData, prepare_data
from distill.pipeline.run_directory import RunDirectory
from distill.tasks.base import Task
from distill.training.inference import predict_logits
from tests.factories import BAD, FILLER, GOOD, composed, make_model, make_tokenizer, sentences
from tests.student.test_small_nets import bilstm, cnn, ngram, static
from tests.tasks.questions import asked
from tests.tasks.test_token_classification import PIECES, tagged_sentences
from tests.tasks.texts import rated, tagged

TOKENIZER = make_tokenizer(FILLER + GOOD + BAD + PIECES)
VOCABULARY = len(TOKENIZER)
MAX_LENGTH = 14
CPU = Hardware(torch.device("cpu"), "32-true")


def pairs(count: int, seed: int) -> list[dict]:
    """Two sentences each, and the label of the first."""
    first, second = sentences(count, seed), sentences(count, seed + 50)
    return [
        {"text": a["text"], "text_pair": b["text"], "label": a["label"]}
        for a, b in zip(first, second, strict=True)
    ]


def plain(count: int, seed: int) -> list[dict]:
    return [{"text": row["text"]} for row in sentences(count, seed)]


def questions(count: int, seed: int) -> list[dict]:
    return asked(count, seed, unanswerable=True)


ROWS = {
    "sequence_classification": sentences,
    "regression": rated,
    "multi_label": tagged,
    "token_classification": tagged_sentences,
    "question_answering": questions,
    "masked_lm": plain,
    "pairs": pairs,
}


@dataclass
class Run:
    """A run's folder, and what made it."""

    folder: Path
    task: Task
    data: PreparedData
    model: Any
    rows: list[dict]
    """The test split as it was written."""

    def examples(self) -> DistillationDataset:
        encoder = self.task.encoder(self.data, self.folder.parent / "cache")
        splits = {split: encoder.encode(split, TOKENIZER, MAX_LENGTH) for split in self.data.splits}
        transform = self.task.preprocessor.batch_transform(TOKENIZER, splits["train"])
        return DistillationDataset(
            splits["test"], encoder.collator(TOKENIZER, transform), source=self.data.splits["test"]
        )

    def logits(self):
        """What evaluation computes."""
        return predict_logits(
            self.model, self.examples(), CPU, reduce_logits=self.task.evaluator.reduce_logits
        )


def build_student(kind: str, task: Task, names: list[str], is_pair: bool) -> Any:
    """A student with random weights large enough that answers differ."""
    small = {"bilstm": bilstm, "static": static, "cnn": cnn, "ngram": ngram}
    if kind in small:
        model = small[kind](
            vocab_size=VOCABULARY, num_labels=max(1, len(names)), pairs=is_pair,
            architectures=[f"{kind}ForSequenceClassification"],
        )  # fmt: skip
    else:
        config = make_model(
            layers=2, vocab_size=VOCABULARY, initializer_range=0.3,
            max_position_embeddings=32,
        ).config  # fmt: skip
        config.update(task.head.config_settings(names))
        torch.manual_seed(0)
        model = task.head.build(config)
        if kind == "narrow":
            from distill.modeling.compact import as_compact, head_name

            torch.manual_seed(0)
            model = as_compact(config, head_name(model), attention_head_size=12, embedding_rank=8)
    model.config.update(task.head.config_settings(names))
    return model.eval()


def make_run(folder: Path, case: str = "sequence_classification", student: str = "half") -> Run:
    """Write a run's folder below ``folder``."""
    task_name = "sequence_classification" if case == "pairs" else case
    source = folder / "data"
    source.mkdir(parents=True)
    rows = {}
    for split, count, seed in (("train", 40, 1), ("validation", 20, 2), ("test", 40, 3)):
        rows[split] = ROWS[case](count, seed)
        lines = "".join(json.dumps(row) + "\n" for row in rows[split])
        (source / f"{split}.jsonl").write_text(lines, encoding="utf-8")
    config = composed(
        "data=files", f"data.path={source}", f"task={task_name}", f"cache_dir={folder / 'cache'}",
        f"data.max_length={MAX_LENGTH}", "student=half", "objective=kd",
        *(["objective=distilbert"] if case == "masked_lm" else []),
    )  # fmt: skip
    run = folder / "run"
    RunDirectory(run).write_config(config)
    task = instantiate(config.task, _convert_="all")
    data = prepare_data(instantiate(config.data, _convert_="all"), task.schema, folder / "cache")
    model = build_student(student, task, data.label_names, case == "pairs")
    model.save_pretrained(run / "student")
    TOKENIZER.save_pretrained(run / "student")
    return Run(run, task, data, model, rows["test"])
