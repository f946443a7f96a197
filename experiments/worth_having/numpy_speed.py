"""Time of one text, and of start and first answer, in numpy and in torch, measured in one run.

    python experiments/worth_having/numpy_speed.py TEXTS.csv

Untrained networks of the presets' sizes over the packaged teacher's tokenizer: time does not depend
on the weights. Processor time of tokenizing and answering, one thread, median of the texts, each
with the fastest of five rounds.
"""

import csv
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from distill.export.formats.numpy_folder import write_folder
from distill.modeling.architectures.cnn import CnnConfig, CnnForSequenceClassification
from distill.modeling.architectures.ngram import NgramConfig, NgramForSequenceClassification
from distill.modeling.architectures.static import StaticConfig, StaticForSequenceClassification
from distill.modeling.loading import call_model, load_tokenizer, resolve_model_path
from distill.runtime.numpy_runtime import Predictor

START = """
import resource, sys, time
wall = time.perf_counter()
sys.path.insert(0, sys.argv[1])
from predictor import Predictor
Predictor(sys.argv[1]).predict([sys.argv[2]])
used = resource.getrusage(resource.RUSAGE_SELF)
print(time.perf_counter() - wall, used.ru_utime + used.ru_stime)
"""


def main() -> None:
    """Measure every kind of small network."""
    with Path(sys.argv[1]).open(encoding="utf-8") as lines:
        texts = [row["text"] for row in csv.DictReader(lines)]
    texts = texts[:: max(1, len(texts) // 200)]
    tokenizer = load_tokenizer(resolve_model_path("package:minilm", "teacher.path"), "the teacher")
    special = sorted(set(tokenizer("")["input_ids"]))
    shared = {"vocab_size": len(tokenizer), "skipped_ids": special, "num_labels": 2}
    networks = {
        "static": StaticForSequenceClassification(StaticConfig(pooling="mean_max", **shared)),
        "cnn, width 5": CnnForSequenceClassification(
            CnnConfig(widths=[5], pooling="max", **shared)
        ),
        "ngram": NgramForSequenceClassification(
            NgramConfig(orders=[2, 3], character_buckets=2**14, **shared)
        ),
    }
    print("student, ms in torch, ms in numpy, factor, start to first answer: wall s, processor s")
    for name, network in networks.items():
        with tempfile.TemporaryDirectory() as folder:
            write_folder(network.eval(), tokenizer, ["a", "b"], 128, Path(folder))
            exported = Predictor(folder)

            def in_torch(text: str, network: Any = network) -> np.ndarray:
                inputs = tokenizer(text, truncation=True, max_length=128, return_tensors="pt")
                with torch.inference_mode():
                    return call_model(network, inputs).logits.numpy()

            def in_numpy(text: str, exported: Predictor = exported) -> np.ndarray:
                return exported.logits([text])

            torch_ms, numpy_ms = median_cpu_ms([in_torch, in_numpy], texts[:50])
            difference = max(float(np.abs(in_torch(t) - in_numpy(t)).max()) for t in texts)
            starts = []
            for _ in range(3):
                done = subprocess.run(
                    [sys.executable, "-c", START, folder, texts[0]],
                    capture_output=True, text=True, check=True,
                )  # fmt: skip
                starts.append(tuple(map(float, done.stdout.split())))
                time.sleep(0.1)
            wall, used = (min(values) for values in zip(*starts, strict=True))
            print(
                f"{name}: {torch_ms:.3f}, {numpy_ms:.3f}, {torch_ms / numpy_ms:.1f}, "
                f"{wall:.2f}, {used:.2f}; largest difference {difference:.1g}"
            )


def median_cpu_ms(
    predictors: Sequence[Callable[[str], np.ndarray]], texts: Sequence[str]
) -> list[float]:
    """Return each one's processor time of one text: the fastest of its rounds, median of texts.

    In each round every predictor passes over all texts: whoever runs right after another finds
    the processor's caches full of the other's code and weights, see `distill.evaluation.speed`.
    """
    torch.set_num_threads(1)
    times = np.empty((5, len(predictors), len(texts)))
    for turn in range(-1, len(times)):  # the first round warms up
        for place, predict in enumerate(predictors):
            for index, text in enumerate(texts):
                start = time.thread_time()
                predict(text)
                if turn >= 0:
                    times[turn, place, index] = time.thread_time() - start
    medians: list[float] = (np.median(times.min(axis=0), axis=1) * 1e3).tolist()
    return medians


if __name__ == "__main__":
    main()
