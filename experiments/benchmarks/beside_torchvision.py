"""Makes torchvision importable with a CPU build of torch. Import this before transformers.

torchdistill needs torchvision, and the package index has it for CUDA only: with a CPU build of
torch its operators do not load, and importing it, which transformers does if it is installed, fails
because two operators are not declared. Here they are declared; they are never called.
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
        # Keep a reference: the operators disappear with the library object.
        torch.ops.declared_for_torchvision = library = torch.library.Library("torchvision", "DEF")
        for name in ("nms", "qnms"):
            library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        importlib.import_module("torchvision")
