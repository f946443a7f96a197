"""Small networks as arrays and the file that runs them, with numpy and tokenizers alone."""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import PreTrainedModel

from distill.answers.tokenizer import TokenizerSettings
from distill.export.formats.base import ExportFormat, register_export_format
from distill.export.source import ExportSource
from distill.modeling.architectures.small_network import SmallNetwork
from distill.predict.runtimes import NumpyRuntime
from distill.runtime import numpy_runtime

# Modules without weights of their own in the exported folder: folded into others.
_FOLDED = ("encoder.characters.weight", "encoder.pieces")


@register_export_format
class NumpyFormat(ExportFormat):
    """``config.json``, ``weights.npz``, ``tokenizer.json`` and ``predictor.py``."""

    name = "numpy"
    file = "weights.npz"
    tokenizer_file = "tokenizer.json"

    def obstacle(self, source: ExportSource) -> str | None:
        """Name the students that numpy can run where the model is none of them."""
        model = source.model
        if source.windows[0].positions is not None:
            return f"task={source.task.name} does not run in numpy: there is one answer per token"
        if not isinstance(model, SmallNetwork) or (
            model.config.model_type not in numpy_runtime.ENCODERS
        ):
            return (
                f"{type(model).__name__} does not run in numpy: student=fastest, fast, static, cnn "
                "and ngram do"
            )
        if getattr(source.processor, "backend_tokenizer", None) is None:
            return f"{type(source.processor).__name__} is no fast tokenizer, which it takes"
        return None

    def write(self, source: ExportSource, folder: Path) -> None:
        """Write configuration, weights, tokenizer and runtime."""
        write_folder(
            source.model, source.processor, source.labels, source.settings.max_length, folder,
            source.reader.temperature,
        )  # fmt: skip

    def load(self, folder: Path, settings: TokenizerSettings) -> NumpyRuntime:
        """Return the exported network."""
        return NumpyRuntime(folder)


def write_folder(
    model: PreTrainedModel,
    processor: Any,
    labels: Sequence[str],
    max_length: int,
    folder: Path,
    temperature: float = 1.0,
) -> None:
    """Write configuration, weights, tokenizer and runtime of a small network.

    Args:
        model: a network that numpy can run.
        processor: its tokenizer.
        labels: names of its outputs in their order.
        max_length: maximum number of tokens of an example.
        folder: an empty folder.
        temperature: what logits are divided by before they become probabilities.
    """
    config: Any = model.config
    own = {name: getattr(config, name) for name in ("widths", "orders") if hasattr(config, name)}
    settings = {
        "format": numpy_runtime.FORMAT,
        "labels": list(labels),
        "problem_type": config.problem_type or "single_label_classification",
        "max_length": max_length,
        "temperature": temperature,
        "network": {
            "architecture": config.model_type,
            "pooling": config.pooling,
            "pairs": config.pairs,
            "separator_id": config.separator_id,
            "skipped_ids": config.skipped_ids,
            **own,
        },
    }
    text = json.dumps(settings, indent=2, ensure_ascii=False) + "\n"
    (folder / "config.json").write_text(text, encoding="utf-8")
    np.savez(folder / "weights.npz", allow_pickle=False, **network_weights(model))
    tokenizer = processor.backend_tokenizer
    tokenizer = type(tokenizer).from_str(tokenizer.to_str())
    tokenizer.no_padding()
    tokenizer.enable_truncation(max_length)
    tokenizer.save(str(folder / "tokenizer.json"))
    shutil.copyfile(numpy_runtime.__file__, folder / "predictor.py")


def network_weights(model: Any) -> dict[str, np.ndarray]:
    """Return the arrays that :class:`~distill.runtime.numpy_runtime.Network` reads.

    The mean of a token's character n-grams is the same in every text: it is added to the token's
    embedding.
    """
    weights = {
        name.removeprefix("encoder."): value.detach().cpu().float().numpy()
        for name, value in model.state_dict().items()
        if name not in _FOLDED
    }
    embeddings = torch.from_numpy(weights.pop("embeddings.weight"))
    if hasattr(model.base_model, "characters"):
        with torch.no_grad():
            tokens = torch.arange(len(embeddings))
            embeddings = embeddings + model.character_part(tokens).cpu()
    weights["embeddings"] = embeddings.numpy()
    if "ngrams.weight" in weights:
        weights["ngrams"] = weights.pop("ngrams.weight")
    return weights
