"""What this machine is good at: the device, the precision that pays on it, how memory is had."""

import ctypes
import os
import sys
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch

from distill.core.errors import UserError

PRECISIONS = ("auto", "32-true", "bf16-mixed", "16-mixed")
ACCELERATORS = ("auto", "cpu", "gpu", "cuda", "mps")
# Of glibc's malloc.h; blocks of up to 1 GiB come from memory that was used before.
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, LARGEST_KEPT = -1, -3, 2**30


@dataclass(frozen=True)
class Hardware:
    """Where and how precisely to compute, resolved once a run.

    Attributes:
        device: where models that are not held by a Lightning trainer run.
        precision: a precision by Lightning's name, never ``"auto"``.
    """

    device: torch.device
    precision: str

    @property
    def accelerator(self) -> str:
        """The device's kind by Lightning's name: ``cpu``, ``cuda`` or ``mps``."""
        return self.device.type

    def autocast(self) -> AbstractContextManager:
        """The same mixed precision that the trainer uses, for forward passes outside of it."""
        if self.precision == "32-true":
            return nullcontext()
        dtype = torch.bfloat16 if self.precision == "bf16-mixed" else torch.float16
        return torch.autocast(self.device.type, dtype=dtype)


def resolve_hardware(accelerator: str = "auto", precision: str | int = "auto") -> Hardware:
    """Choose the device and the precision.

    ``auto`` precision is bf16 where the processor multiplies bf16 matrices natively (AVX512-BF16
    or AMX on a CPU, compute capability 8.0 and later on a GPU) and fp32 elsewhere: emulated bf16
    is slower than fp32.

    Raises:
        UserError: for a name that does not exist or a device that this machine lacks.
    """
    if accelerator not in ACCELERATORS:
        raise UserError(
            f"trainer.accelerator={accelerator}: choose one of {', '.join(ACCELERATORS)}"
        )
    precision = {"32": "32-true", "bf16": "bf16-mixed"}.get(str(precision), str(precision))
    if precision not in PRECISIONS:
        raise UserError(f"trainer.precision={precision}: choose one of {', '.join(PRECISIONS)}")
    device = _device(accelerator)
    if precision == "auto":
        precision = "bf16-mixed" if _multiplies_bf16(device) else "32-true"
    if precision == "16-mixed" and device.type == "cpu":
        raise UserError(
            "trainer.precision=16-mixed needs a GPU: use bf16-mixed or 32-true on a CPU"
        )
    return Hardware(device, precision)


def _device(accelerator: str) -> torch.device:
    cuda, mps = torch.cuda.is_available(), torch.backends.mps.is_available()
    if accelerator in ("gpu", "cuda") and not cuda and not (accelerator == "gpu" and mps):
        raise UserError(f"trainer.accelerator={accelerator}: torch sees no such device here")
    if accelerator == "mps" and not mps:
        raise UserError("trainer.accelerator=mps: torch sees no such device here")
    if accelerator == "cpu" or not (cuda or mps):
        return torch.device("cpu")
    return torch.device("cuda" if cuda and accelerator != "mps" else "mps")


def _multiplies_bf16(device: torch.device) -> bool:
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device.type == "cpu":
        return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return False


def keep_freed_memory() -> bool:
    """Let glibc keep large blocks that are freed for the next step, which asks for the same.

    By itself it gives every block above 32 MiB back to the system, and takes it anew: page by page,
    each of them zeroed. Logits over a vocabulary are such blocks, a word table's gradient is one; a
    step of masked language modelling takes half as long without (experiments/benchmarks). The
    process then stays as large as it once was. Left alone where the user has said how memory is to
    be had (``MALLOC_MMAP_THRESHOLD_``, ``MALLOC_TRIM_THRESHOLD_``), and where there is no glibc.

    Returns:
        Whether it does from now on.
    """
    if not sys.platform.startswith("linux") or any(
        name in os.environ for name in ("MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_")
    ):
        return False
    try:
        mallopt = ctypes.CDLL("libc.so.6").mallopt
    except (OSError, AttributeError):
        return False
    return bool(mallopt(M_MMAP_THRESHOLD, LARGEST_KEPT) and mallopt(M_TRIM_THRESHOLD, 2**31 - 1))
