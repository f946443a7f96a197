"""What computes the logits of encoded examples: onnxruntime, or numpy for small networks."""

import os
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from distill.answers.base import Inputs, Window, pad
from distill.answers.tokenizer import TokenizerSettings
from distill.core.errors import UserError
from distill.runtime import numpy_runtime

EXTRA = "exported ONNX models need onnxruntime: pip install 'distill[onnx]'"


class Runtime(ABC):
    """Computes logits.

    Attributes:
        name: for reports.
        batches: whether examples are computed together at all.
    """

    name: str
    batches: bool = True

    @abstractmethod
    def logits(self, windows: Sequence[Window]) -> list[np.ndarray]:
        """Return the logits of each example: ``(C,)``, or ``(P, C)`` of its positions."""


def onnx_session(model: Path | bytes, threads: int | None = None) -> "onnxruntime.InferenceSession":  # type: ignore[name-defined]  # noqa: F821 - imported below
    """Open a model in onnxruntime on the processor.

    Args:
        model: the file, or its content.
        threads: number of threads of one call; ``None``: ``OMP_NUM_THREADS``, or else all.

    Raises:
        UserError: if onnxruntime is not installed, or the file is no model that it can run.
    """
    try:
        import onnxruntime
    except ImportError:
        raise UserError(EXTRA) from None
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads or int(os.environ.get("OMP_NUM_THREADS") or 0)
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    # Idle threads of a session would take the time of the others.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    content = model if isinstance(model, bytes) else str(model)
    try:
        return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's own classes share no base
        name = model if isinstance(model, Path) else "the model"
        reason = " ".join(str(error).split())[:200]
        raise UserError(f"{name} cannot be run by onnxruntime: {reason}") from error


class OnnxRuntime(Runtime):
    """A model in onnxruntime.

    Args:
        model: the file, or its content.
        settings: how examples are padded.
        threads: number of threads of one call.
    """

    def __init__(
        self, model: Path | bytes, settings: TokenizerSettings, threads: int | None = None
    ):
        self.settings = settings
        self.session = onnx_session(model, threads)
        self.name = "onnxruntime cpu"
        self._inputs = {one.name for one in self.session.get_inputs()}

    def outputs(self, inputs: Inputs) -> np.ndarray:
        """Return the logits of a batch: ``(B, C)`` or ``(B, L, C)``; start and end are columns."""
        found = self.session.run(None, {name: inputs[name] for name in self._inputs})
        outputs: np.ndarray = found[0] if len(found) == 1 else np.stack(found, axis=-1)
        return outputs

    def logits(self, windows: Sequence[Window]) -> list[np.ndarray]:
        """Run a batch."""
        outputs = self.outputs(pad(windows, self.settings))
        return [
            row if window.positions is None else row[list(window.positions)]
            for row, window in zip(outputs, windows, strict=True)
        ]


class NumpyRuntime(Runtime):
    """A small network in numpy, one text at a time.

    Args:
        folder: exported by ``--format numpy``.
    """

    name = "numpy cpu"
    batches = False

    def __init__(self, folder: Path):
        self.model = numpy_runtime.Predictor(folder)

    def logits(self, windows: Sequence[Window]) -> list[np.ndarray]:
        """Run each example."""
        return [self.model.network(window.ids) for window in windows]
