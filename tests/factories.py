"""Factories of tiny tokenizers, models, data and runs: offline, in seconds."""

import csv
import hashlib
import json
import random
import re
from pathlib import Path

import numpy as np
import torch
from datasets import Dataset
from hydra import compose, initialize_config_dir
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    BertTokenizerFast,
    DistilBertConfig,
    DistilBertForSequenceClassification,
    ElectraConfig,
    ElectraForSequenceClassification,
    RobertaConfig,
    RobertaForSequenceClassification,
)

from distill.config.composition import set_up_hydra
from distill.config.resolvers import conf_dir
from distill.data.collate import PaddingCollator
from distill.data.dataset import DistillationDataset
from distill.data.prepare import PreparedData
from distill.data.preprocessor import BatchTransform
from distill.data.sources.base import DataSource
from distill.data.text_preprocessor import TextPreprocessor
from distill.modeling.size import multiply_accumulates
from distill.student.base import StudentContext
from distill.tasks.base import Task
from distill.tasks.sequence_classification import SequenceClassification
from distill.teacher.prepare import Teacher

GOOD = ["good", "great", "lovely", "fine", "bright", "warm"]


BAD = ["bad", "awful", "dull", "poor", "cold", "weak"]


FILLER = ["the", "film", "story", "was", "and", "a", "very", "rather", "plot", "cast"]


SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]


# Settings of a BERT whose training does not depend on the number of processes.
NO_DROPOUT = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}


def make_tokenizer(words: list[str]) -> BertTokenizerFast:
    vocabulary = {token: index for index, token in enumerate(SPECIAL + words)}
    backend = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    backend.normalizer = normalizers.BertNormalizer(lowercase=True)
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    backend.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", 2), ("[SEP]", 3)],
    )
    return BertTokenizerFast(
        tokenizer_object=backend, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]",
        sep_token="[SEP]", mask_token="[MASK]",
    )  # fmt: skip


def make_model(family: str = "bert", labels=("negative", "positive"), layers: int = 4, **settings):
    """Return a tiny classifier of a model family with random weights."""
    shape = {"vocab_size": 32, "max_position_embeddings": 64} | settings
    head = {
        "num_labels": len(labels),
        "id2label": dict(enumerate(labels)),
        "label2id": {name: index for index, name in enumerate(labels)},
    }
    usual = {
        "hidden_size": 32, "num_hidden_layers": layers, "num_attention_heads": 2,
        "intermediate_size": 64, "pad_token_id": 0,
    }  # fmt: skip
    distilbert = {"dim": 32, "n_layers": layers, "n_heads": 2, "hidden_dim": 64, "pad_token_id": 0}
    config, model = {
        "bert": (BertConfig, BertForSequenceClassification),
        "roberta": (RobertaConfig, RobertaForSequenceClassification),
        "electra": (ElectraConfig, ElectraForSequenceClassification),
        "distilbert": (DistilBertConfig, DistilBertForSequenceClassification),
    }[family]
    if family == "electra":
        shape["embedding_size"] = 32
    torch.manual_seed(0)
    return model(config(**(distilbert if family == "distilbert" else usual) | shape | head))


def sentences(count: int, seed: int) -> list[dict[str, str]]:
    """Return sentences whose label is determined by a single word."""
    draw = random.Random(seed)
    rows = []
    for index in range(count):
        label = ("negative", "positive")[index % 2]
        words = draw.choices(FILLER, k=draw.randint(3, 12))
        words.insert(draw.randrange(len(words)), draw.choice(GOOD if label == "positive" else BAD))
        rows.append({"text": " ".join(words), "label": label})
    return rows


def write_csv(file: Path, rows: list[dict[str, str]]) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("w", newline="", encoding="utf-8") as lines:
        writer = csv.DictWriter(lines, rows[0].keys())
        writer.writeheader()
        writer.writerows(rows)
    return file


def encoded(tokenizer, count: int, seed: int = 1) -> Dataset:
    rows = sentences(count, seed)
    ids = tokenizer([row["text"] for row in rows], return_attention_mask=False)
    labels = [int(row["label"] == "positive") for row in rows]
    lengths = [len(row) for row in ids["input_ids"]]
    return Dataset.from_dict({**ids, "label": labels, "length": lengths})


def collator(tokenizer, transform: BatchTransform | None = None) -> PaddingCollator:
    """Return a collator of texts encoded by a tokenizer."""
    return PaddingCollator(TextPreprocessor("text").fields(tokenizer), transform)


def prepared(rows: list[dict], names=("negative", "positive")) -> PreparedData:
    """Return prepared data with the same rows in every split."""
    splits = {split: Dataset.from_list(rows) for split in ("train", "validation", "test")}
    content = hashlib.sha256(repr(rows).encode()).hexdigest()
    return PreparedData("films", splits, list(names), "test", "f", dict.fromkeys(splits, content))


def student_context(
    teacher: Teacher, cache_dir: Path, data: PreparedData | None = None, task: Task | None = None
) -> StudentContext:
    """Return the context of a student for the labels negative and positive."""
    data = data or prepared([row | {"label": 0} for row in sentences(4, 1)])
    return StudentContext(teacher, task or SequenceClassification(), data, cache_dir)


def counted_operations(model, tokens: int) -> int:
    """Return the multiply-accumulates of a text of ``tokens`` tokens."""
    return multiply_accumulates(
        model, TextPreprocessor("text").example_inputs(model.config, tokens)
    )


def teacher_logits(teacher, rows: Dataset, collate) -> np.ndarray:
    """Compute logits one example at a time, independently of the package's inference."""
    batches = DistillationDataset(rows, collate)
    with torch.no_grad():
        return np.concatenate(
            [teacher(**batches[[i]]["student"]).logits.numpy() for i in range(len(rows))]
        )


class Given(DataSource):
    """A source of given splits."""

    def __init__(self, splits, **settings):
        super().__init__(name="given", **settings)
        self.splits = {
            split: rows if isinstance(rows, Dataset) else Dataset.from_list(rows)
            for split, rows in splits.items()
        }

    def read(self, cache_dir):
        return self.splits


def composed(*overrides):
    set_up_hydra()
    with initialize_config_dir(conf_dir(), version_base="1.3"):
        return compose("config", overrides=list(overrides))


def report_of(folder: Path) -> dict:
    report = json.loads((folder / "report.json").read_text())
    assert report["schema"] == 1
    assert [model["role"] for model in report["models"]] == ["teacher", "student", "control"]
    for model in report["models"]:
        assert {
            "role", "name", "size", "speed", "quality", "calibration", "fidelity", "per_class",
        } <= set(model)  # fmt: skip
        for score in model["quality"].values():
            assert set(score) == {"value", "low", "high"}
            assert np.isfinite(score["value"])
    assert report["models"][0]["fidelity"] is None
    comparison = report["comparison"]
    assert {"metric", "retention", "size_ratio", "speedup", "gain_over_control"} <= set(comparison)
    assert 0 < comparison["gain_over_control"]["p_value"] <= 1
    return report


def losses(folder: Path) -> list[float]:
    """Return the student's mean loss of each epoch."""
    lines = (folder / "run.log").read_text().splitlines()
    found = [re.search(r"student: epoch .* mean loss ([\d.]+)", line) for line in lines]
    return [float(match[1]) for match in found if match]


def curves(folder: Path) -> EventAccumulator:
    events = EventAccumulator(str(folder), size_guidance={"scalars": 0})
    events.Reload()
    return events
