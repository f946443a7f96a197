"""Load pretrained weights, and refuse those that do not fit the model that they are for.

transformers fills what a file lacks with random weights and skips what it does not know. Here only
a head that is to be trained may be new, and only the heads of other tasks may be left out.
"""

import logging
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel

from distill.core import hub
from distill.core.errors import UserError

log = logging.getLogger(__name__)

# Heads of pretraining that checkpoints carry beside the part that is used.
PRETRAINING_HEADS = re.compile(
    r"(cls|lm_head|vocab_(transform|layer_norm|projector)|generator_\w+|discriminator_predictions"
    r"|predictions|sop_classifier|lm_predictions|mask_predictions|decoder|mlm_head|nsp_head)\."
)
# Parts of the encoder that a head may do without, and buffers that older files hold.
UNUSED_PARTS = re.compile(
    r"(^|\.)(pooler\..*|position_ids|token_type_ids|inv_freq|rotary_emb\.\w+|masked_spec_embed)$"
)
# A part of the encoder that pretraining may not have trained: a new head comes with a new one.
NEW_PARTS = re.compile(r"(^|\.)pooler\.")
LFS_POINTER = b"version https://git-lfs"
# Names of weights in a message.
SHOWN = 3


def load_pretrained(
    model_class: Any, path: str | Path, *, new_head: bool, **settings: Any
) -> PreTrainedModel:
    """Load a model in fp32, every weight of it from the file.

    Args:
        model_class: a class of transformers with ``from_pretrained``.
        path: a folder or a hub id.
        new_head: whether the head is to be trained: it may be missing or of another size.
        settings: further arguments of ``from_pretrained``.

    Raises:
        UserError: if the files cannot be read, or hold weights that do not fit or are not finite.
    """
    for weights in (*Path(path).glob("*.safetensors"), *Path(path).glob("*.bin")):
        with weights.open("rb") as content:
            if content.read(len(LFS_POINTER)) == LFS_POINTER:
                raise UserError(
                    f"{weights} is a pointer of Git LFS, not the weights: fetch them with "
                    "git lfs pull"
                )
    reachable = Path(path).is_dir() or hub.hub_reachable()
    try:
        model, loaded = model_class.from_pretrained(
            path,
            dtype=torch.float32,
            output_loading_info=True,
            ignore_mismatched_sizes=True,
            trust_remote_code=False,
            weights_only=True,  # whatever the environment says
            **settings,
        )
    except Exception as error:  # whatever a reader of somebody's file raises
        reason = " ".join(str(error).split())[:200] or repr(error)
        if not reachable:
            reason = "there is no such folder, and the hub cannot be reached"
        raise UserError(f"the model in {path} cannot be loaded: {reason}") from error
    _check_fit(model, path, loaded, new_head)
    check_finite(model, f"the model in {path}")
    return model


def check_finite(model: nn.Module, description: str) -> None:
    """Refuse weights that are infinite or no numbers.

    Raises:
        UserError: naming the first of them.
    """
    for name, weight in model.state_dict().items():
        if weight.is_floating_point() and not bool(weight.isfinite().all()):
            raise UserError(
                f"{description} has weights that are not finite numbers ({name}): its training "
                "diverged, or the file is damaged"
            )


def _check_fit(
    model: PreTrainedModel, path: str | Path, loaded: dict[str, Any], new_head: bool
) -> None:
    missing = {name for name in loaded["missing_keys"] if not UNUSED_BUFFER.search(name)}
    mismatched = {name: (found, wanted) for name, found, wanted in loaded["mismatched_keys"]}
    unexpected = {
        name for name in loaded["unexpected_keys"] if not _is_harmless(name, model, new_head)
    }
    if new_head:
        missing = {name for name in missing if _in_base(name, model) and not NEW_PARTS.search(name)}
        mismatched = {name: sizes for name, sizes in mismatched.items() if _in_base(name, model)}
    unused = set(loaded["unexpected_keys"]) - unexpected
    if mismatched:
        name, (found, wanted) = next(iter(sorted(mismatched.items())))
        raise UserError(
            f"the model in {path}: {name} has the shape {list(found)} in the file and "
            f"{list(wanted)} by its config.json: the two do not belong together"
        )
    if missing:
        advice = "the weights do not belong to its config.json, or are not whole"
        if prefix := _prefix(missing, loaded["unexpected_keys"]):
            advice = f"they have the prefix {prefix} there: remove it from the names"
        raise UserError(f"the model in {path} lacks {_listed(missing)}: {advice}")
    if unexpected:
        raise UserError(
            f"the model in {path} has weights that its config.json has no place for "
            f"({_listed(unexpected)}): the two do not belong together"
        )
    if unused := {name.split(".")[0] for name in unused if not UNUSED_PARTS.search(name)}:
        log.debug("%s: heads that are not used: %s", path, ", ".join(sorted(unused)))


UNUSED_BUFFER = re.compile(r"(^|\.)(position_ids|token_type_ids|inv_freq)$")


def _is_harmless(name: str, model: PreTrainedModel, new_head: bool) -> bool:
    """Return whether a weight of the file may be left out."""
    if UNUSED_PARTS.search(name) or PRETRAINING_HEADS.match(name):
        return True
    return new_head and not _in_base(name, model)


def _in_base(name: str, model: PreTrainedModel) -> bool:
    """Return whether a weight belongs to the encoder, with or without its prefix."""
    prefix = f"{model.base_model_prefix}."
    parts = {child for child, _ in model.base_model.named_children()}
    return name.startswith(prefix) or (
        model.base_model is not model and name.split(".")[0] in parts
    )


def _prefix(missing: Iterable[str], unexpected: Iterable[str]) -> str | None:
    """Return what stands before the names of missing weights in the file."""
    name = min(missing)
    return next(
        (other.removesuffix(name) for other in sorted(unexpected) if other.endswith(f".{name}")),
        None,
    )


def _listed(names: Iterable[str]) -> str:
    ordered = sorted(names)
    more = f" and {len(ordered) - SHOWN} more" if len(ordered) > SHOWN else ""
    return ", ".join(ordered[:SHOWN]) + more
