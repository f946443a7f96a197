"""Whoever loads a saved student with transformers alone finds every number that is reported.

The metrics are those of scikit-learn and scipy, or are written out here; nothing of the package
takes part in them, except the masks of masked language modeling, which are drawn.
"""

from __future__ import annotations

import json
import re
import string
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from scipy.stats import pearsonr, spearmanr
from sklearn.metrics import accuracy_score, f1_score, log_loss, matthews_corrcoef
from torch import Tensor

import distill
from distill.reporting.text import score

LENGTH = 28


class Saved:
    """A saved student and its tokenizer."""

    def __init__(self, folder: Path, head: str) -> None:
        self.tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
        self.model = getattr(transformers, f"AutoModelFor{head}").from_pretrained(folder).eval()
        self.names = self.model.config.id2label

    def outputs(self, *texts: Any, **named: Any) -> Any:
        inputs = self.tokenizer(
            *texts, truncation=True, max_length=LENGTH, return_tensors="pt", **named
        )
        with torch.no_grad():
            return inputs, self.model(**inputs)

    def logits(self, rows: list[dict]) -> Tensor:
        texts = [[row[name] for name in ("text", "text_pair") if name in row] for row in rows]
        return torch.cat([self.outputs(*each)[1].logits for each in texts]).double()


def classes(folder: Path, rows: list[dict], run: Any) -> dict[str, float]:
    saved = Saved(folder, "SequenceClassification")
    logits = saved.logits(rows)
    said = [saved.names[int(best)] for best in logits.argmax(1)]
    labels = [row["label"] for row in rows]
    probabilities = logits.softmax(1).numpy()
    order = [saved.names[index] for index in range(probabilities.shape[1])]
    assert order == sorted(order)  # as log_loss has them
    return {
        "accuracy": accuracy_score(labels, said),
        "macro_f1": f1_score(labels, said, average="macro"),
        "matthews_correlation": matthews_corrcoef(labels, said),
        "negative_log_likelihood": log_loss(labels, probabilities),
    }


def numbers(folder: Path, rows: list[dict], run: Any) -> dict[str, float]:
    said = Saved(folder, "SequenceClassification").logits(rows)[:, 0].numpy()
    labels = np.array([row["label"] for row in rows])
    return {
        "pearson": pearsonr(said, labels).statistic,
        "spearman": spearmanr(said, labels).statistic,
        "mean_squared_error": float(np.mean((said - labels) ** 2)),
    }


def label_sets(folder: Path, rows: list[dict], run: Any) -> dict[str, float]:
    saved = Saved(folder, "SequenceClassification")
    logits = saved.logits(rows)
    labels = np.array([[saved.names[i] in row["label"] for i in range(3)] for row in rows])
    said = (logits > 0).numpy()
    loss = torch.nn.functional.binary_cross_entropy_with_logits(logits, torch.tensor(labels) * 1.0)
    return {
        "micro_f1": f1_score(labels, said, average="micro"),
        "macro_f1": f1_score(labels, said, average="macro", zero_division=0),
        "exact_match": accuracy_score(labels, said),
        "negative_log_likelihood": float(loss),
    }


def entities(tags: list[str]) -> Iterator[tuple[int, int, str]]:
    """Yield first word, last word and type; an I- after another type or O begins one."""
    first = None
    for index, tag in enumerate([*tags, "O"]):
        before = tags[index - 1] if index else "O"
        continues = tag.startswith("I-") and before[2:] == tag[2:] and before != "O"
        if first is not None and not continues:
            yield first, index - 1, tags[first][2:]
            first = None
        if tag != "O" and not continues:
            first = index


def tags(folder: Path, rows: list[dict], run: Any) -> dict[str, float]:
    saved = Saved(folder, "TokenClassification")
    found, expected, right, losses = set(), set(), [], []
    ids = {name: index for index, name in saved.names.items()}
    for number, row in enumerate(rows):
        inputs, outputs = saved.outputs(row["tokens"], is_split_into_words=True)
        words = inputs.word_ids()
        firsts = [words.index(word) for word in range(len(row["tokens"]))]
        logits = outputs.logits[0, firsts].double()
        said = [saved.names[int(best)] for best in logits.argmax(1)]
        right += [one == other for one, other in zip(said, row["ner_tags"], strict=True)]
        target = torch.tensor([ids[tag] for tag in row["ner_tags"]])
        losses += torch.nn.functional.cross_entropy(logits, target, reduction="none").tolist()
        found |= {(number, *entity) for entity in entities(said)}
        expected |= {(number, *entity) for entity in entities(row["ner_tags"])}
    correct = len(found & expected)
    return {
        "f1": 2 * correct / (len(found) + len(expected)),
        "precision": correct / len(found),
        "recall": correct / len(expected),
        "accuracy": float(np.mean(right)),
        "negative_log_likelihood": float(np.mean(losses)),
    }


def normalized(text: str) -> list[str]:
    text = "".join(letter for letter in text.lower() if letter not in string.punctuation)
    return re.sub(r"\b(a|an|the)\b", " ", text).split()


def answers(folder: Path, rows: list[dict], run: Any) -> dict[str, float]:
    saved = Saved(folder, "QuestionAnswering")
    exact, overlaps = [], []
    for row in rows:
        inputs, outputs = saved.outputs(row["question"], row["context"])
        places = inputs.encodings[0].offsets
        start, end = outputs.start_logits[0], outputs.end_logits[0]
        context = [at for at, part in enumerate(inputs.sequence_ids(0)) if part == 1]
        spans = [
            (float(start[i]) + float(end[j]), i, j) for i in context for j in context if i <= j
        ]
        best, first, last = max(spans)
        answer = ""
        if float(start[0]) + float(end[0]) <= best:
            answer = row["context"][places[first][0] : places[last][1]]
        gold = row["answers"]["text"][0] if row["answers"]["text"] else ""
        one, other = normalized(answer), normalized(gold)
        common = sum((Counter(one) & Counter(other)).values())
        exact.append(one == other)
        both = len(one) + len(other)
        overlaps.append(2 * common / both if one and other else float(one == other))
    return {"exact_match": float(np.mean(exact)), "f1": float(np.mean(overlaps))}


def masked_tokens(folder: Path, rows: list[dict], run: Any) -> dict[str, float]:
    """Take the masked texts from the package, as they are drawn there, and nothing else."""
    saved = Saved(folder, "MaskedLM")
    examples = run.examples()
    right, losses = [], []
    for index in range(len(examples)):  # a long text is several
        batch = examples[[index]]["student"]
        ids, labels = batch["input_ids"], examples[[index]]["labels"]
        with torch.no_grad():
            logits = saved.model(input_ids=ids, attention_mask=batch["attention_mask"]).logits
        logits = logits[0, batch["positions"][0]].double()
        right += (logits.argmax(-1) == labels).tolist()
        losses += torch.nn.functional.cross_entropy(logits, labels, reduction="none").tolist()
    return {"accuracy": float(np.mean(right)), "perplexity": float(np.exp(np.mean(losses)))}


CASES: dict[str, Callable[[Path, list[dict], Any], dict[str, float]]] = {
    "sequence_classification": classes, "pairs": classes, "regression": numbers,
    "multi_label": label_sets, "token_classification": tags, "question_answering": answers,
    "masked_lm": masked_tokens,
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_every_reported_number(runs, case, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("distill.evaluation.speed.EXAMPLES", 2)
    run = runs(case)
    length = 14 if case == "masked_lm" else LENGTH
    distill.evaluate(
        run.folder,
        [
            "data=files", f"data.path={run.folder.parent / 'data'}", f"task={run.task.name}",
            f"data.max_length={length}", "baselines=[]", f"cache_dir={tmp_path}/cache",
            "trainer.precision=bf16-mixed", "trainer.accelerator=cpu", "output_dir=measured",
        ],
    )  # fmt: skip
    (model,) = json.loads(Path("measured/report.json").read_text())["models"]
    reported = {name: each["value"] for name, each in model["quality"].items()}
    if model["calibration"]:
        reported["negative_log_likelihood"] = model["calibration"]["negative_log_likelihood"]
    found = CASES[case](run.folder / "student", run.rows, run)
    found = {name: value for name, value in found.items() if name in reported}
    assert set(found) >= set(model["quality"])
    assert {n: score(v) for n, v in found.items()} == {n: score(reported[n]) for n in found}
    assert found == pytest.approx({name: reported[name] for name in found}, rel=1e-5)
