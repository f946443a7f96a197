"""Is the ranking of models by latency the same on an idle machine and beside busy neighbours?

    python experiments/benchmarks/latency_under_load.py [--neighbours 2] [--repeats 3]

Measures the embedded teacher and students of 5, 4, 3, 2 and 1 of its layers, with the program's own
measurement, in turn alone and beside processes that do nothing but compute. Prints a table: the
fastest round, the median round and processor time, and how often each ranked the models right.
"""

import argparse
import multiprocessing
import statistics

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
FIGURES = {"fastest": "latency_ms", "median": "latency_ms_median_round", "cpu": "cpu_ms"}


def busy() -> None:
    """Compute for ever."""
    while True:
        sum(range(100_000))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--neighbours", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--cache", default=".latency-cache", help="folder for prepared data")
    arguments = parser.parse_args()

    from pathlib import Path

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
        for neighbours in (0, arguments.neighbours):
            processes = [
                multiprocessing.Process(target=busy, daemon=True) for _ in range(neighbours)
            ]
            for process in processes:
                process.start()
            speeds = measure_speed(models, examples, torch.device("cpu"))
            for process in processes:
                process.terminate()
            where = f"{neighbours} busy" if neighbours else "idle"
            for what in ("latency_ms", "latency_ms_median_round", "cpu_ms"):
                values = {name: getattr(speed, what).p50 for name, speed in speeds.items()}
                measured.setdefault((what, where), []).append(values)

    print(
        "| p50 in ms | machine | " + " | ".join(f"{n} layers" for n in LAYERS) + " | ranked right |"
    )
    print("|---|---|" + "---:|" * (len(LAYERS) + 1))
    for (what, where), repeats in sorted(measured.items()):
        cells = [f"{statistics.median(r[str(n)] for r in repeats):.2f}" for n in LAYERS]
        right = sum(sorted(r, key=r.get, reverse=True) == list(map(str, LAYERS)) for r in repeats)
        print(f"| {what} | {where} | {' | '.join(cells)} | {right} of {len(repeats)} |")


if __name__ == "__main__":
    main()
