"""Memory and time of losses over a large vocabulary: whole logits against chunks of rows.

    python experiments/benchmarks/vocabulary_chunks.py [--rows 512] [--words 128256] [--width 256]

Soft targets at T = 2 and hard labels of one batch, with a live teacher; forward and backward pass,
one thread. Each way is measured in a process of its own: peak memory beyond that of the arguments
and their gradients, and processor time, the fastest of several rounds. Ways take turns.
"""

import argparse
import resource
import subprocess
import sys
import time

import torch

from distill.modeling import head_rows
from distill.modeling.head_rows import HeadRows
from distill.modeling.outputs import ModelOutputs
from distill.objectives.objective import Objective
from distill.objectives.terms.hard_labels import HardLabels
from distill.objectives.terms.soft_targets import SoftTargets
from distill.tasks.masked_lm.criterion import MaskedLMCriterion


def main() -> None:
    """Measure whole and chunks of several sizes, and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=512)
    parser.add_argument("--words", type=int, default=128_256)
    parser.add_argument("--width", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--chunk", type=int, help="measure this way alone, 0 for whole")
    options = parser.parse_args()
    if options.chunk is not None:
        measure(options)
        return
    results: dict[int, list[tuple[float, float]]] = {}
    for _ in range(options.rounds):
        for chunk in (0, 16, 32, 64):
            sizes = (f"--{name}={getattr(options, name)}" for name in ("rows", "words", "width"))
            command = [sys.executable, __file__, *sizes, f"--chunk={chunk}"]
            line = subprocess.run(command, check=True, capture_output=True, text=True).stdout
            megabytes, seconds = map(float, line.split())
            results.setdefault(chunk, []).append((megabytes, seconds))
    whole_memory, whole_seconds = map(min, zip(*results[0], strict=True))
    for chunk, found in results.items():
        memory, seconds = map(min, zip(*found, strict=True))
        print(
            f"{f'chunks of {chunk}' if chunk else 'whole':14} {memory:7.0f} MB "
            f"({memory / whole_memory:.2f}) {seconds:6.2f} s ({seconds / whole_seconds:.2f})"
        )


def measure(options: argparse.Namespace) -> None:
    """Print peak extra memory in MB and seconds of one way."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    hidden = torch.randn(options.rows, options.width, requires_grad=True)
    weight = (torch.randn(options.words, options.width) * 0.05).requires_grad_()
    of_teacher = HeadRows(torch.randn(options.rows, options.width), weight.detach().clone())
    labels = torch.randint(0, options.words, (options.rows,))
    terms = {"soft": SoftTargets(), "hard": HardLabels()}
    terms["hard"].loss = MaskedLMCriterion().hard_label_loss
    objective = Objective("measured", **terms)
    hidden.grad, weight.grad = torch.zeros_like(hidden), torch.zeros_like(weight)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    clock = time.process_time()
    rows = HeadRows(hidden, weight)
    if options.chunk:
        head_rows.CHUNK_LOGITS = options.chunk * options.words
        student = ModelOutputs(rows.placeholder, head_rows=rows)
        teacher = ModelOutputs(of_teacher.placeholder, head_rows=of_teacher)
    else:
        student = ModelOutputs(rows.logits(slice(None)))
        teacher = ModelOutputs(of_teacher.logits(slice(None)))
    objective(student, teacher, {"labels": labels})["loss"].backward()
    seconds = time.process_time() - clock
    # Both ways make the weight's gradient before it is added to what is there.
    extra = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    print(extra / 1024, seconds)


if __name__ == "__main__":
    main()
