"""ONNX: ``model.onnx``, where the hub and transformers.js look for it."""

import importlib.util
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from distill.answers.base import Window, pad
from distill.answers.tokenizer import TokenizerSettings
from distill.core.errors import UserError
from distill.export.formats.base import ExportFormat, register_export_format
from distill.export.quiet import quiet
from distill.export.source import ExportSource
from distill.modeling.forward import forward_at_positions
from distill.predict.runtimes import EXTRA, OnnxRuntime

# Of an example batch; 0 and 1 would be taken for constants.
EXAMPLE_BATCH, EXAMPLE_LENGTH = 3, 7
LIMIT = 2 * 10**9
"""Bytes of weights that a single file of ONNX can hold."""
PACKAGES = ("onnx", "onnxruntime", "onnxscript")


@register_export_format
class OnnxFormat(ExportFormat):
    """``model.onnx`` in fp32; inputs and outputs are named as in transformers."""

    name = "onnx"
    file = "model.onnx"
    tokenizer_file = "tokenizer.json"

    def obstacle(self, source: ExportSource) -> str | None:
        """Name what is not installed, or a model too large for a file."""
        missing = [name for name in PACKAGES if importlib.util.find_spec(name) is None]
        if missing:
            return f"{EXTRA} ({', '.join(missing)})"
        size = sum(4 * parameter.numel() for parameter in source.model.parameters())
        if size > LIMIT:
            return f"the model has {size / 1e9:.1f} GB of weights, a file of ONNX holds 2 GB"
        return None

    def write(self, source: ExportSource, folder: Path) -> None:
        """Write the model with named dynamic batch and length."""
        (folder / self.file).write_bytes(export_onnx(source.model, source.settings))

    def load(self, folder: Path, settings: TokenizerSettings) -> OnnxRuntime:
        """Open the model on one thread."""
        return OnnxRuntime(folder / self.file, settings, threads=1)


class _ExportedForward(nn.Module):
    """The forward pass that computes the last layer only where the head reads it."""

    def __init__(self, model: PreTrainedModel):
        super().__init__()
        self.model = model

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor | None = None
    ) -> Tensor | tuple[Tensor, Tensor]:
        """Return the logits, ``(B, C)`` or ``(B, L, C)``; start and end logits ``(B, L)`` each."""
        inputs = {"input_ids": input_ids, "attention_mask": attention_mask}
        if token_type_ids is not None:
            inputs["token_type_ids"] = token_type_ids
        result = forward_at_positions(self.model, inputs)
        if "logits" in result:
            logits: Tensor = result.logits
            return logits
        return result.start_logits, result.end_logits


def export_onnx(model: PreTrainedModel, settings: TokenizerSettings) -> bytes:
    """Return the content of ``model.onnx``.

    Raises:
        UserError: if torch cannot export the model.
    """
    width = EXAMPLE_LENGTH
    ids = list(range(1, 1 + width))
    windows = [Window(ids[: width - row], [0] * (width - row)) for row in range(EXAMPLE_BATCH)]
    inputs = {name: torch.from_numpy(value) for name, value in pad(windows, settings).items()}
    axes = {0: "batch", 1: "length"}
    answers_span = type(model).__name__.endswith("ForQuestionAnswering")
    outputs = ["start_logits", "end_logits"] if answers_span else ["logits"]
    with quiet(), torch.no_grad():
        try:
            program: Any = torch.onnx.export(
                _ExportedForward(model).eval(), (), kwargs=inputs, dynamo=True, verbose=False,
                input_names=list(inputs), output_names=outputs,
                dynamic_shapes=dict.fromkeys(inputs, axes),
            )  # fmt: skip
        except torch.onnx.errors.OnnxExporterError as error:
            reason = " ".join(str(error.__cause__ or error).split())[:200]
            raise UserError(f"torch cannot export {type(model).__name__}: {reason}") from error
    content: bytes = program.model_proto.SerializeToString()
    return content
