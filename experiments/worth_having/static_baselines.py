"""What others' fastest classifiers reach on the same labels: frozen embeddings and a linear head.

    pip install 'model2vec[distill]'
    python experiments/worth_having/static_baselines.py FOLDER [DATA ...]

FOLDER and the data sets are those of `grid.py`, which draws the same labeled subsets. Two
baselines, each with a logistic regression whose strength is chosen on validation:

- model2vec: static vectors of the packaged teacher (PCA to 256, SIF weights), made without text;
- frozen teacher: the mean of the packaged teacher's last hidden states, never fine-tuned. It takes
  the teacher's own time for every text: what a frozen encoder with a linear head (SetFit without
  its contrastive training) reaches.
"""

import sys
import time
from pathlib import Path

import numpy as np
import torch
from hydra import compose, initialize_config_dir
from sklearn.linear_model import LogisticRegression
from transformers import AutoModel, AutoTokenizer

from distill.config.composition import set_up_hydra
from distill.config.resolvers import conf_dir
from distill.data.prepare import prepare_data
from distill.metrics.statistics import proportion_interval
from distill.modeling.loading import resolve_model_path
from distill.pipeline.components import RunComponents
from experiments.worth_having.grid import DATA, SUBSETS, overrides_of

STRENGTHS = (0.01, 0.1, 1.0, 10.0, 100.0)
MODEL = "package:minilm"


def splits_of(cell: str, folder: Path) -> dict[str, tuple[list[str], np.ndarray]]:
    """Return texts and classes of a cell's labeled training texts, validation and test."""
    set_up_hydra()
    with initialize_config_dir(conf_dir(), version_base="1.3"):
        config = compose("config", overrides_of(cell, folder))
    components = RunComponents.from_config(config)
    data = prepare_data(components.source, components.task.schema, components.cache_dir)
    found = {}
    for name in ("train", "validation", "test"):
        rows = data.splits[name]
        labels = np.array(rows["label"])
        known = np.flatnonzero(labels >= 0)  # texts without a label have -1
        texts = rows["text"]
        found[name] = [texts[int(index)] for index in known], labels[known]
    return found


def frozen_vectors(texts: list[str], length: int) -> np.ndarray:
    """Return means of the last hidden states, ``(N, H)``."""
    path = resolve_model_path(MODEL, "teacher.path")
    model, tokenizer = AutoModel.from_pretrained(path).eval(), AutoTokenizer.from_pretrained(path)
    order = np.argsort([len(text) for text in texts])
    rows = np.empty((len(texts), model.config.hidden_size), np.float32)
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        for start in range(0, len(order), 64):
            batch = order[start : start + 64]
            inputs = tokenizer(
                [texts[index] for index in batch],
                padding=True, truncation=True, max_length=length, return_tensors="pt",
            )  # fmt: skip
            mask = inputs["attention_mask"].unsqueeze(-1)
            states = model(**inputs).last_hidden_state.float()
            rows[batch] = ((states * mask).sum(1) / mask.sum(1)).numpy()
    return rows


def linear_accuracy(
    vectors: dict[str, np.ndarray], labels: dict[str, np.ndarray]
) -> tuple[float, float]:
    """Return validation and test accuracy of the strength that is best on validation."""
    found = []
    for strength in STRENGTHS:
        model = LogisticRegression(C=strength, max_iter=2000)
        model.fit(vectors["train"], labels["train"])
        scores = [model.score(vectors[name], labels[name]) for name in ("validation", "test")]
        found.append((scores[0], -strength, scores[1]))
    best = max(found)
    return best[0], best[2]


def main() -> None:
    """Print a row for each data set and subset."""
    from model2vec.distill import distill

    folder = Path(sys.argv[1])
    clock = time.process_time()
    static = distill(model_name=str(resolve_model_path(MODEL, "teacher.path")), pca_dims=256)
    print(f"model2vec: made in {time.process_time() - clock:.0f} s of processor time", flush=True)
    for data in sys.argv[2:] or DATA:
        for subset in SUBSETS:
            splits = splits_of(f"{data}/fastest/{subset}", folder)
            labels = {name: classes for name, (_, classes) in splits.items()}
            length = 256 if data.startswith("imdb") else 64
            cells = []
            for embed in (lambda texts: static.encode(texts, max_length=512),
                          lambda texts, length=length: frozen_vectors(texts, length)):  # fmt: skip
                vectors = {name: embed(texts) for name, (texts, _) in splits.items()}
                _, accuracy = linear_accuracy(vectors, labels)
                count = len(labels["test"])
                low, high = proportion_interval(round(accuracy * count), count)[1:]
                cells.append(f"{accuracy:.3f} [{low:.3f}, {high:.3f}]")
            sizes = ", ".join(f"{len(one):,}" for one in labels.values())
            print(f"| {data}, subset {subset} | {sizes} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
