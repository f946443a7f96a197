"""How fast the processor multiplies matrices, and how many operations a training step takes."""

import time
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F

SQUARE = 2048
OWN = "the model's own products"


def products(config, tokens: int) -> dict[str, tuple[int, int, int]]:
    """The model's linear layers on so many tokens, and a large square product: ``(M, K, N)``."""
    width, inner = config.hidden_size, config.intermediate_size
    return {
        f"attention {tokens}x{width}x{width}": (tokens, width, width),
        f"feed-forward {tokens}x{width}x{inner}": (tokens, width, inner),
        f"feed-forward {tokens}x{inner}x{width}": (tokens, inner, width),
        f"square {SQUARE}": (SQUARE, SQUARE, SQUARE),
    }


def rates(
    shapes: dict[str, tuple[int, int, int]], dtype: torch.dtype, device: str, repeats: int = 7
) -> dict[str, float]:
    """GFLOP/s of each product, the fastest of some tries: neighbours only ever slow one down.

    On a CPU a second is one of processor time, all threads' together, as it has to be for the step
    that is compared. The last of the products is the square; ``the model's own products`` is what
    the others come to together, in the numbers in which a layer has them.
    """
    result, operations, needed = {}, 0.0, 0.0
    for name, (m, k, n) in shapes.items():
        left = torch.randn(m, k, device=device).to(dtype)
        right = torch.randn(n, k, device=device).to(dtype)
        flops = 2.0 * m * k * n
        times = max(1, round(2e10 / flops))  # 0.05 to 0.2 s on such processors
        seconds = [
            seconds_of(lambda x=left, w=right: F.linear(x, w), times, device)
            for _ in range(repeats)
        ]
        result[name] = flops * times / min(seconds) / 1e9
        if not name.startswith("square"):
            share = 4 * flops if k == n else flops  # query, key, value and output
            operations, needed = operations + share, needed + share / result[name]
    return result | {OWN: operations / needed}


def seconds_of(work: Callable[[], object], times: int, device: str) -> float:
    """Seconds for doing it so many times, on a CPU of processor time: neighbours take none."""
    clock = time.perf_counter if device == "cuda" else time.process_time
    work()
    if device == "cuda":
        torch.cuda.synchronize()
    started = clock()
    for _ in range(times):
        work()
    if device == "cuda":
        torch.cuda.synchronize()
    return clock() - started


def step_flops(config, shapes: Sequence[tuple[int, int]], whole: bool = False) -> float:
    """Operations of forward and backward passes over batches, padding included.

    Counted by hand: torch's counter sees none in the attention kernel of a CPU. A product of
    matrices is done once forward and twice backward (the gradient of either factor); what is not a
    product of matrices is not counted.

    Args:
        config: of a BERT.
        shapes: batches, ``(B, L)``.
        whole: of the whole model; or else of what this program computes of a classifier, whose last
            layer has keys and values for every token and the rest for the first alone.
    """
    width, inner = config.hidden_size, config.intermediate_size
    total = 0.0
    for count, length in shapes:
        head = 2 * count * (width * width + width * config.num_labels)
        layers = config.num_hidden_layers if whole else config.num_hidden_layers - 1
        linear = 2 * count * length * (4 * width * width + 2 * width * inner)
        attention = 2 * 2 * count * length * length * width
        total += 3.0 * (layers * (linear + attention) + head)
        if not whole:
            keys = 2 * count * length * 2 * width * width
            others = 2 * count * (2 * width * width + 2 * width * inner)
            total += 3.0 * (keys + others + attention / length)
    return total
