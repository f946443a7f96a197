"""Device, precision and memory allocation for the machine at hand."""

import ctypes
import functools
import os
import sys
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path

import torch

from distill.core.errors import UserError

PRECISIONS = ("auto", "32-true", "bf16-mixed", "16-mixed")
ACCELERATORS = ("auto", "cpu", "gpu", "cuda", "mps")
# From glibc's malloc.h. Freed blocks of up to 1 GiB are kept and reused.
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, LARGEST_KEPT = -1, -3, 2**30


@dataclass(frozen=True)
class Hardware:
    """Device and precision of a run, resolved once.

    Attributes:
        device: device of models that run outside of a Lightning trainer.
        precision: Lightning's name of the precision, never ``"auto"``.
    """

    device: torch.device
    precision: str

    @property
    def accelerator(self) -> str:
        """Lightning's name of the device type: ``cpu``, ``cuda`` or ``mps``."""
        return self.device.type

    def autocast(self) -> AbstractContextManager[object]:
        """Return the trainer's mixed precision, for forward passes outside of it."""
        if self.precision == "32-true":
            return nullcontext()
        dtype = torch.bfloat16 if self.precision == "bf16-mixed" else torch.float16
        return torch.autocast(self.device.type, dtype=dtype)


def resolve_hardware(accelerator: str = "auto", precision: str | int = "auto") -> Hardware:
    """Choose the device and the precision.

    ``auto`` precision is bf16 if the processor multiplies bf16 matrices natively (AVX512-BF16
    or AMX on a CPU, compute capability 8.0 and later on a GPU) and fp32 otherwise: emulated bf16
    is slower than fp32.

    Args:
        accelerator: one of ``ACCELERATORS``.
        precision: one of ``PRECISIONS``, or Lightning's short forms ``32`` and ``bf16``.

    Raises:
        UserError: for an unknown name or a device that this machine does not have.
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
    missing = {"gpu": not (cuda or mps), "cuda": not cuda, "mps": not mps}.get(accelerator, False)
    if missing:
        raise UserError(
            f"trainer.accelerator={accelerator}: torch finds no such device, use auto or cpu"
        )
    if accelerator == "cpu" or not (cuda or mps):
        return torch.device("cpu")
    return torch.device("cuda" if cuda and accelerator != "mps" else "mps")


def _multiplies_bf16(device: torch.device) -> bool:
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device.type == "cpu":
        return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())
    return False


@functools.cache
def mkl_is_slow() -> bool:
    """Return whether oneDNN multiplies fp32 matrices faster than MKL on this processor.

    MKL takes its AVX2 code on processors of other makers than Intel. Whether that is slower follows
    from maker and instructions, and is not measured: the same machine always computes the same.
    """
    return bool(
        torch.backends.mkl.is_available()
        and hasattr(torch.ops.mkldnn, "_linear_pointwise")
        and torch.cpu._is_avx512_supported()
        and "GenuineIntel" not in processor_field("vendor_id")
    )


def processor_field(name: str) -> str:
    """Return a field of the first processor in /proc/cpuinfo; empty where there is none."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return ""
    values = (line.split(":", 1)[1].strip() for line in lines if line.startswith(name))
    return next(values, "")


def keep_freed_memory() -> bool:
    """Let glibc keep large freed blocks for the next training step, which allocates the same.

    By default it returns every block above 32 MiB to the system and allocates it anew, page by
    page, each of them zeroed. Logits over a vocabulary and the gradient of an embedding table are
    such blocks; without this overhead a step of masked language modeling takes half as long
    (experiments/benchmarks). The process then keeps its peak size. Nothing is changed if the user
    has configured malloc (``MALLOC_MMAP_THRESHOLD_``, ``MALLOC_TRIM_THRESHOLD_``) or without glibc.

    Returns:
        Whether freed blocks are kept from now on.
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
