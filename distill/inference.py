"""Forward passes over a whole split, outside of training."""

from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import nn

from distill.data.batches import Batches
from distill.hardware import Hardware
from distill.processes import share
from distill.ragged import Rows, empty
from distill.reading import read


def logits_of(
    model: nn.Module,
    examples: Batches,
    hardware: Hardware,
    batch_size: int = 64,
    progress: Callable[[Iterator], Iterator] = iter,
    condense: Callable[[torch.Tensor, torch.Tensor], torch.Tensor] | None = None,
) -> Iterator[tuple[list[int], np.ndarray]]:
    """Logits of every example, computed in evaluation mode and the run's precision.

    Processes that work together each yield their parts of the same batches.

    Args:
        model: moved to the device.
        examples: of a split.
        hardware: where and how precisely to compute.
        batch_size: examples at once.
        progress: wraps the batches.
        condense: what is left of a batch's logits, given its labels; ``None``: all of them.

    Yields:
        Indices of a batch's examples and their logits ``(B, ...)`` in fp32, or ``(U, ...)`` where
        each has several; the longest first, so that what does not fit into memory shows at once.
    """
    model = model.to(hardware.device).eval()
    rank, count = share()
    loader = examples.loader(batch_size * count, seed=None)
    with torch.inference_mode(), hardware.autocast():
        for indices, batch in progress(zip(loader.sampler, loader, strict=True)):
            inputs = {key: value.to(hardware.device) for key, value in batch["student"].items()}
            logits = read(model, inputs).logits.float()
            if condense is not None:
                logits = condense(logits, batch["labels"].to(hardware.device))
            own = indices[rank::count]
            yield own, (logits if own else logits[:0]).cpu().numpy()


def collect_logits(
    model: nn.Module,
    examples: Batches,
    hardware: Hardware,
    batch_size: int = 64,
    condense: Callable[[torch.Tensor, torch.Tensor], torch.Tensor] | None = None,
) -> Rows:
    """All logits of a split in the order of its rows, ``(N, ...)`` or ragged."""
    result: Rows | None = None
    for indices, logits in logits_of(model, examples, hardware, batch_size, condense=condense):
        if result is None:
            result = empty(examples.units, len(examples), logits)
        result[indices] = logits
    assert result is not None, "a split without examples is refused when the data are prepared"
    return result
