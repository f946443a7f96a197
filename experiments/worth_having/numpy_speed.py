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
from pathlib import Path

from distill.export.export import check_export
from distill.export.formats import EXPORT_FORMATS, ExportSource
from distill.modeling.architectures.cnn import CnnConfig, CnnForSequenceClassification
from distill.modeling.architectures.ngram import NgramConfig, NgramForSequenceClassification
from distill.modeling.architectures.static import StaticConfig, StaticForSequenceClassification
from distill.modeling.loading import load_tokenizer, resolve_model_path

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
            source = ExportSource(network.eval(), tokenizer, ["a", "b"], 128)
            EXPORT_FORMATS["numpy"].write(source, Path(folder))
            check = check_export(source, EXPORT_FORMATS["numpy"], Path(folder), texts)
            starts = []
            for _ in range(3):
                done = subprocess.run(
                    [sys.executable, "-c", START, folder, texts[0]],
                    capture_output=True, text=True, check=True,
                )  # fmt: skip
                starts.append(tuple(map(float, done.stdout.split())))
                time.sleep(0.1)
            wall, used = (min(values) for values in zip(*starts, strict=True))
            factor = check.torch_cpu_ms / check.export_cpu_ms
            print(
                f"{name}: {check.torch_cpu_ms:.3f}, {check.export_cpu_ms:.3f}, {factor:.1f}, "
                f"{wall:.2f}, {used:.2f}; largest difference {check.largest_difference:.1g}"
            )


if __name__ == "__main__":
    main()
