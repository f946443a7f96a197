"""Multi-label data whose labels are rare, as emotions or kinds of toxic comments are."""

import json
import random
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score
from sklearn.multiclass import OneVsRestClassifier
from torch import nn
from transformers import BertConfig, BertForMaskedLM

import distill
from distill.data.labels import IGNORED_LABEL
from distill.pipeline.components import RunComponents
from distill.tasks.multi_label import MultiLabel
from distill.tasks.sequence_classification import SequenceClassification
from distill.tasks.token_classification import TokenClassification
from tests.factories import composed, make_tokenizer

LABELS = [f"emotion_{number}" for number in range(28)]


def made_up(count: int, draw: random.Random, words: dict[str, list[str]]) -> list[dict]:
    """Return texts in which each label shows by one of four words; the rates fall from 12 %."""
    rows = []
    for _ in range(count):
        rates = [max(0.015, 0.12 / (rank + 1) ** 0.7) for rank in range(len(LABELS))]
        labels = [label for label, rate in zip(LABELS, rates, strict=True) if draw.random() < rate]
        text = draw.choices(words["filler"], k=draw.randint(6, 18))
        for label in labels:
            if draw.random() < 0.9:
                text.insert(draw.randrange(len(text)), draw.choice(words[label]))
        rows.append({"text": " ".join(text), "label": labels})
    return rows


@pytest.mark.slow
def test_sparse_labels_are_learned_better_than_by_tf_idf(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    draw = random.Random(0)
    words = {"filler": ["".join(draw.choices("aeiounrst", k=6)) for _ in range(300)]}
    words |= {label: [f"{label[8:]}cue{number}" for number in range(4)] for label in LABELS}
    sizes = {"train": 1000, "validation": 200, "test": 300}
    splits = {split: made_up(count, draw, words) for split, count in sizes.items()}
    for split, rows in splits.items():
        Path(f"{split}.jsonl").write_text("\n".join(map(json.dumps, rows)))
    tokenizer = make_tokenizer(sorted({word for each in words.values() for word in each}))
    torch.manual_seed(0)
    BertForMaskedLM(
        BertConfig(
            vocab_size=len(tokenizer),
            hidden_size=64,
            num_hidden_layers=2,
            num_attention_heads=2,
            intermediate_size=128,
            max_position_embeddings=64,
        )
    ).save_pretrained("bert")
    tokenizer.save_pretrained("bert")
    report = distill.run(
        [
            "data=files",
            f"data.path={tmp_path}",
            "task=multi_label",
            "teacher.path=./bert",
            "student=half",
            "control=false",
            "teacher.epochs=25",
            "teacher.learning_rate=1e-3",
            "optimizer.learning_rate=1e-3",
            "trainer.max_epochs=8",
            f"cache_dir={tmp_path}/cache",
            "trainer.accelerator=cpu",
            "data.max_length=48",
        ]
    )
    labeled = {
        split: np.array([[label in row["label"] for label in LABELS] for row in rows])
        for split, rows in splits.items()
    }
    vectorizer = TfidfVectorizer()
    texts = {split: [row["text"] for row in rows] for split, rows in splits.items()}
    train, test = vectorizer.fit_transform(texts["train"]), vectorizer.transform(texts["test"])
    linear = OneVsRestClassifier(LogisticRegression(max_iter=1000)).fit(train, labeled["train"])
    baseline = f1_score(labeled["test"], linear.predict(test), average="micro", zero_division=0.0)
    for model in report.models:
        assert model.quality["micro_f1"].value > max(baseline, 0.1), model.role


@pytest.mark.parametrize(
    ("task", "labels", "expected"),
    [
        (SequenceClassification, [0, 0, 0, 1], [3.5 / 5.5, 1.5 / 5.5, 0.5 / 5.5]),
        (TokenClassification, [0, 0, IGNORED_LABEL, 2], [2.5 / 4.5, 0.5 / 4.5, 1.5 / 4.5]),
        (MultiLabel, [[0, 1, 0], [0, 1, 0], [0, 1, 1]], [0.5 / 4, 3.5 / 4, 1.5 / 4]),
    ],
)
def test_a_new_head_starts_at_the_share_of_the_labels(task, labels, expected):
    layer = nn.Linear(4, 3)
    task().head.initialize(layer, np.array(labels))
    found = layer(torch.zeros(4))
    if task is MultiLabel:
        assert torch.allclose(found.sigmoid(), torch.tensor(expected), atol=1e-6)
    else:
        assert torch.allclose(found.softmax(-1), torch.tensor(expected), atol=1e-6)


@pytest.mark.parametrize(
    ("examples", "overrides", "teacher", "student"),
    [
        (1000, [], 10, 38),
        (1000, ["student=fastest", "seed=1"], 10, 38),
        (43000, [], 3, 4),
        (1000, ["teacher.epochs=3"], 3, 38),
        (1000, ["trainer.max_epochs=4"], 10, 4),
        (1000, ["+trainer.max_epochs=4", "debug=fast"], 3, 4),
        (40, [], 150, 300),
    ],
)
def test_few_examples_of_rare_labels_are_trained_on_for_longer(
    examples, overrides, teacher, student, pretrained
):
    """32 examples a step of the teacher, 128 of the student; at least 300 steps."""
    components = RunComponents.from_config(
        composed("task=multi_label", "data=files", "data.path=x", f"teacher.path={pretrained}")
    )
    data = SimpleNamespace(sizes={"train": examples, "validation": 10, "test": 10})
    found = components.with_min_steps(data, overrides)
    assert (found.teacher.epochs, found.trainer.max_epochs) == (teacher, student)
    assert (components.teacher.epochs, components.trainer.max_epochs) == (3, 4)
