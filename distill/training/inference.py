"""Forward passes over a whole split, outside of training."""

from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import nn

from distill.core.hardware import Hardware
from distill.core.jagged import ArrayOrJagged, allocate_rows
from distill.data.dataset import DistillationDataset
from distill.distributed.collectives import rank_and_world_size
from distill.modeling.forward import forward_at_positions


def iter_logits(
    model: nn.Module,
    examples: DistillationDataset,
    hardware: Hardware,
    batch_size: int = 64,
    progress: Callable[[Iterator], Iterator] = iter,
    reduce_logits: Callable[[torch.Tensor, torch.Tensor], torch.Tensor] | None = None,
) -> Iterator[tuple[list[int], np.ndarray]]:
    """Logits of every example, computed in evaluation mode and the run's precision.

    Processes that work together each yield their parts of the same batches.

    Args:
        model: moved to the device.
        examples: of a split.
        hardware: where and how precisely to compute.
        batch_size: examples at once.
        progress: wraps the batches.
        reduce_logits: what is left of a batch's logits, given its labels; ``None``: all of them.

    Yields:
        Indices of a batch's examples and their logits ``(B, ...)`` in fp32, or ``(U, ...)`` where
        each has several; the longest first, so that what does not fit into memory shows at once.
    """
    model = model.to(hardware.device).eval()
    rank, count = rank_and_world_size()
    loader = examples.loader(batch_size * count, seed=None)
    with torch.inference_mode(), hardware.autocast():
        for indices, batch in progress(zip(loader.sampler, loader, strict=True)):
            inputs = {key: value.to(hardware.device) for key, value in batch["student"].items()}
            logits = forward_at_positions(model, inputs).logits.float()
            if reduce_logits is not None:
                logits = reduce_logits(logits, batch["labels"].to(hardware.device))
            own = indices[rank::count]
            yield own, (logits if own else logits[:0]).cpu().numpy()


def predict_logits(
    model: nn.Module,
    examples: DistillationDataset,
    hardware: Hardware,
    batch_size: int = 64,
    reduce_logits: Callable[[torch.Tensor, torch.Tensor], torch.Tensor] | None = None,
) -> ArrayOrJagged:
    """All logits of a split in the order of its rows, ``(N, ...)`` or ragged."""
    result: ArrayOrJagged | None = None
    for indices, logits in iter_logits(
        model, examples, hardware, batch_size, reduce_logits=reduce_logits
    ):
        if result is None:
            result = allocate_rows(examples.position_counts, len(examples), logits)
        result[indices] = logits
    assert result is not None, "a split without examples is refused when the data are prepared"
    return result
