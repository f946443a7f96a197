"""Forward passes over a whole split, outside of training."""

from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import nn

from distill.data.batches import Batches
from distill.hardware import Hardware
from distill.models import forward
from distill.processes import share


def logits_of(
    model: nn.Module,
    examples: Batches,
    hardware: Hardware,
    batch_size: int = 64,
    progress: Callable[[Iterator], Iterator] = iter,
) -> Iterator[tuple[list[int], np.ndarray]]:
    """Logits of every example, computed in evaluation mode and the run's precision.

    Processes that work together each yield their parts of the same batches.

    Yields:
        Indices of a batch's examples and their logits ``(B, ...)`` in fp32; the longest first, so
        that what does not fit into memory shows at once.
    """
    model = model.to(hardware.device).eval()
    rank, count = share()
    loader = examples.loader(batch_size * count, seed=None)
    with torch.inference_mode(), hardware.autocast():
        for indices, batch in progress(zip(loader.sampler, loader, strict=True)):
            inputs = {key: value.to(hardware.device) for key, value in batch["student"].items()}
            own = indices[rank::count]
            yield own, forward(model, inputs).logits[: len(own)].float().cpu().numpy()


def collect_logits(
    model: nn.Module, examples: Batches, hardware: Hardware, batch_size: int = 64
) -> np.ndarray:
    """All logits of a split in the order of its rows, ``(N, ...)``."""
    result: np.ndarray | None = None
    for indices, logits in logits_of(model, examples, hardware, batch_size):
        if result is None:
            result = np.empty((len(examples), *logits.shape[1:]), dtype=np.float32)
        result[indices] = logits
    assert result is not None, "a split without examples is refused when the data are prepared"
    return result
