"""Speed of matrix products on this processor, and number of operations of a training step."""

import time
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F

SQUARE = 2048
ALL_LAYERS = "weighted mean of the model's products"


def products(config, tokens: int) -> dict[str, tuple[int, int, int]]:
    """Return the shapes ``(M, K, N)`` of the model's linear layers and of a large square."""
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
    """Measure GFLOP/s of each product: the fastest of several tries, because load only slows down.

    On a CPU per second of processor time, summed over threads, as for the training step that is
    compared. The last product is the square one; ``ALL_LAYERS`` is the rate of the others together,
    as often as each occurs in a layer.
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
    return result | {ALL_LAYERS: operations / needed}


def seconds_of(work: Callable[[], object], times: int, device: str) -> float:
    """Return the seconds of ``times`` calls: processor time on a CPU, wall time on a GPU."""
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
    """Return the number of operations of training steps over batches, including padding.

    By formula, because torch's counter does not see the attention kernel of a CPU. A matrix product
    is computed once in the forward and twice in the backward pass (gradients of both factors);
    other operations are not counted.

    Args:
        config: Config of a BERT.
        shapes: Batches, ``(B, L)``.
        whole: Count the whole model; otherwise what distill computes of a classifier, whose last
            layer has keys and values for every token and everything else for the first token only.
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
