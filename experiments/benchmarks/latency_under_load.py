"""Ranking of models by latency on an idle machine and beside busy processes.

    python experiments/benchmarks/latency_under_load.py [--neighbors 2] [--repeats 3]

Measures the embedded teacher and students of 5, 4, 3, 2 and 1 of its layers with the measurement of
distill, alternately alone and beside processes that only compute. Prints a table of the fastest
round, the median round and processor time, and how often each of them ranks the models correctly.
"""

import argparse
import multiprocessing
import statistics
from pathlib import Path

import torch
from transformers import AutoTokenizer

from distill.data.dataset import DistillationDataset
from distill.data.prepare import prepare_data
from distill.data.sources.docstrings import DocstringSource
from distill.evaluation.speed import measure_speed
from distill.modeling.loading import resolve_model_path
from distill.student.base import StudentContext
from distill.student.from_layers import LayersFactory
from distill.tasks.sequence_classification import SequenceClassification
from distill.teacher.prepare import Teacher

LAYERS = (6, 5, 4, 3, 2, 1)
# Fields of the report's speed.
KINDS = ("latency_ms", "latency_ms_median_round", "cpu_ms")


def busy() -> None:
    """Compute forever."""
    while True:
        sum(range(100_000))


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--neighbors", type=int, default=2, help="number of busy processes")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--cache", default=".latency-cache", help="folder for prepared data")
    arguments = parser.parse_args()

    cache, task = Path(arguments.cache), SequenceClassification()
    data = prepare_data(DocstringSource(name="docstrings"), task.schema, cache)
    path = resolve_model_path("package:minilm", "teacher.path")
    tokenizer = AutoTokenizer.from_pretrained(path)
    model = task.head.load(path, data.label_names)
    teacher = Teacher("minilm", model, tokenizer, "", 0.0, True)
    context = StudentContext(teacher, task, data, cache)
    models = {
        str(count): LayersFactory(name=str(count), layers=list(range(count))).build(context).model
        for count in LAYERS
    }
    encoder = task.encoder(data, cache)
    rows = encoder.encode("test", tokenizer, 128)
    examples = dict.fromkeys(models, DistillationDataset(rows, encoder.collator(tokenizer)))

    measured: dict[tuple[str, str], list[dict[str, float]]] = {}
    for _ in range(arguments.repeats):
        for neighbors in (0, arguments.neighbors):
            processes = [
                multiprocessing.Process(target=busy, daemon=True) for _ in range(neighbors)
            ]
            for process in processes:
                process.start()
            speeds = measure_speed(models, examples, torch.device("cpu"))
            for process in processes:
                process.terminate()
            load = f"{neighbors} busy" if neighbors else "idle"
            for kind in KINDS:
                values = {name: getattr(speed, kind).p50 for name, speed in speeds.items()}
                measured.setdefault((kind, load), []).append(values)

    print(
        "| p50 in ms | machine | "
        + " | ".join(f"{n} layers" for n in LAYERS)
        + " | correct ranking |"
    )
    print("|---|---|" + "---:|" * (len(LAYERS) + 1))
    for (kind, load), repeats in sorted(measured.items()):
        cells = [f"{statistics.median(r[str(n)] for r in repeats):.2f}" for n in LAYERS]
        correct = sum(sorted(r, key=r.get, reverse=True) == list(map(str, LAYERS)) for r in repeats)
        print(f"| {kind} | {load} | {' | '.join(cells)} | {correct} of {len(repeats)} |")


if __name__ == "__main__":
    main()
