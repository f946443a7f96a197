"""Makes torchvision importable beside a torch for CPUs. To be imported before transformers.

torchdistill needs torchvision, and the package index has it for CUDA only: beside a torch for CPUs
its operators do not load, and importing it, which transformers does wherever it is installed, fails
for two that nobody declared. Declared and never called, they do no harm.
"""

import importlib.util
import sys

import torch


def make_importable() -> None:
    """Declare the operators if importing fails without them."""
    if importlib.util.find_spec("torchvision") is None:
        return
    try:
        importlib.import_module("torchvision")
    except RuntimeError:
        for name in [name for name in sys.modules if name.split(".")[0] == "torchvision"]:
            del sys.modules[name]
        # Kept: it takes its operators along when it goes.
        torch.ops.declared_for_torchvision = library = torch.library.Library("torchvision", "DEF")
        for name in ("nms", "qnms"):
            library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        importlib.import_module("torchvision")
