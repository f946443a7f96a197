"""Forward passes over a whole split, outside of training."""

from collections.abc import Callable, Iterator, Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from distill.core.errors import RunError
from distill.core.hardware import Hardware
from distill.core.jagged import ArrayOrJagged, allocate_rows
from distill.data.dataset import DistillationDataset
from distill.distributed.environment import SINGLE_PROCESS, ProcessRank
from distill.modeling.forward import forward_at_positions, forward_to_rows
from distill.modeling.inputs import POSITIONS
from distill.modeling.packed_linear import packed_linears

# Logits and labels of a batch -> what is kept of the logits.
LogitsReducer = Callable[[Tensor, Tensor], Tensor]


def iter_logits(
    model: nn.Module,
    examples: DistillationDataset,
    hardware: Hardware,
    batch_size: int = 64,
    reduce_logits: LogitsReducer | None = None,
    process: ProcessRank = SINGLE_PROCESS,
) -> Iterator[tuple[list[int], NDArray[np.float32]]]:
    """Compute the logits of every example, in evaluation mode and in fp32.

    That is the precision that models are saved in: whoever loads one gets the same numbers, while
    half precision would leave a regression a handful of distinct ones.

    Several processes each yield their parts of the same batches.

    Args:
        model: moved to the device.
        examples: a split.
        hardware: the device.
        batch_size: examples of a batch in one process.
        reduce_logits: computes what is kept of a batch's logits, given its labels; ``None``: all.
        process: whose part of each batch is computed.

    Yields:
        Indices of a batch's examples and their logits ``(B, ...)`` in fp32, or ``(U, ...)`` for
        examples of several positions; the longest first, so that a lack of memory shows at once.

    Raises:
        RunError: if a logit is not a finite number.
    """
    model = model.to(hardware.device).eval()
    loader = examples.loader(batch_size * process.world_size, seed=None, process=process)
    with torch.inference_mode(), packed_linears(model):
        for indices, batch in zip(loader.sampler, loader, strict=True):
            inputs = {key: value.to(hardware.device) for key, value in batch["student"].items()}
            if reduce_logits is None:
                logits = forward_at_positions(model, inputs).logits.float()
            else:
                labels = batch["labels"].to(hardware.device)
                logits = _reduced_logits(model, inputs, labels, reduce_logits)
            if not bool(logits.isfinite().all()):
                raise RunError(
                    f"{type(model).__name__}: an output is not a finite number: its weights are "
                    "too large, or its training diverged"
                )
            part = indices.rank_part
            yield part, (logits if part else logits[:0]).cpu().numpy()


def predict_logits(
    model: nn.Module,
    examples: DistillationDataset,
    hardware: Hardware,
    batch_size: int = 64,
    reduce_logits: LogitsReducer | None = None,
) -> ArrayOrJagged:
    """Compute all logits of a split in this process, in the order of its rows.

    Returns:
        ``(N, ...)``, or jagged for examples of several positions. Arguments as :func:`iter_logits`.
    """
    result: ArrayOrJagged | None = None
    for indices, logits in iter_logits(model, examples, hardware, batch_size, reduce_logits):
        if result is None:
            result = allocate_rows(examples.position_counts, len(examples), logits)
        result[indices] = logits
    assert result is not None, "a split without examples is refused when the data are prepared"
    return result


def _reduced_logits(
    model: nn.Module, inputs: Mapping[str, Tensor], labels: Tensor, reduce_logits: LogitsReducer
) -> Tensor:
    """Return what is kept of a batch's logits; of too many, a chunk of rows at a time."""
    if len(labels) != _count_positions(inputs):  # a label is not one row's
        return reduce_logits(forward_at_positions(model, inputs).logits.float(), labels)
    result, rows = forward_to_rows(model, inputs)
    if rows is None:
        return reduce_logits(result.logits.float(), labels)
    parts = [reduce_logits(rows.logits(part).float(), labels[part]) for part in rows.chunks()]
    return torch.cat(parts)


def _count_positions(inputs: Mapping[str, Tensor]) -> int | None:
    positions = inputs.get(POSITIONS)
    return None if positions is None else int((positions >= 0).sum())
