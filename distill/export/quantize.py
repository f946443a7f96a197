"""Several ways to int8, made from the same fp32 model; which is kept is measured.

- ``blocks_32``, ``blocks_128``: weights of matrix products in 8 bits with a scale for each 32 or
  128 of them; each row of activations is quantized by itself (onnxruntime's MatMulNBits).
- ``static``: weights by channel, activations with scales that were fixed on training texts.
- ``dynamic``: weights by channel, activations with one scale for a whole batch: an answer depends
  on its neighbors and on padding. Only where that is allowed.

In all of them embedding tables are in 8 bits with a scale for each row, which keeps a weight within
half a step of 1/127 of the row's largest.
"""

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from distill.answers.base import RecordError, Window, pad
from distill.answers.tokenizer import TextTokenizer
from distill.export.quiet import quiet
from distill.export.source import ExportSource

BY_BATCH = ("dynamic",)
"""Candidates whose answers depend on the other examples of a batch."""
CALIBRATION_TEXTS = 64
MIN_ROWS = 16
"""Tables with fewer rows, such as that of token types, stay as they are."""


def candidates(model: bytes, source: ExportSource, neighbors: str) -> Iterator[tuple[str, bytes]]:
    """Yield names and contents of int8 models.

    Args:
        model: the fp32 model.
        source: for calibration texts.
        neighbors: ``independent``, or ``fast``: answers may depend on others of their batch.
    """
    yield "blocks_32", quantize_blocks(model, 32)
    yield "blocks_128", quantize_blocks(model, 128)
    yield "static", quantize_static(model, source)
    if neighbors == "fast":
        yield "dynamic", quantize_dynamic(model)


def quantize_blocks(model: bytes, block_size: int) -> bytes:
    """Return a model with matrix products in blocks of 8 bits."""
    with quiet():
        from onnxruntime.quantization.matmul_nbits_quantizer import MatMulNBitsQuantizer

        quantizer = MatMulNBitsQuantizer(
            _proto(model), bits=8, block_size=block_size, is_symmetric=True, accuracy_level=4
        )
        quantizer.process()
    return quantize_tables(quantizer.model.model)


def quantize_dynamic(model: bytes) -> bytes:
    """Return a model whose activations have a scale for each batch."""
    from onnxruntime import quantization

    with quiet(), tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "model.onnx"
        quantization.quantize_dynamic(
            _proto(model), target, per_channel=True,
            weight_type=quantization.QuantType.QInt8,
            op_types_to_quantize=["MatMul", "Gemm", "LSTM"],
        )  # fmt: skip
        return quantize_tables(_proto(target.read_bytes()))


def quantize_static(model: bytes, source: ExportSource) -> bytes:
    """Return a model whose activations have scales fixed on training texts."""
    from onnxruntime import quantization

    class Reader(quantization.CalibrationDataReader):
        """Hands over a text at a time."""

        def __init__(self) -> None:
            self.batches = iter(calibration_batches(source))

        def get_next(self) -> Mapping[str, np.ndarray] | None:
            """Return the inputs of the next text; ``None`` at the end."""
            return next(self.batches, None)

    with quiet(), tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "model.onnx"
        quantization.quantize_static(
            _proto(model), target, Reader(), per_channel=True,
            activation_type=quantization.QuantType.QUInt8,
            weight_type=quantization.QuantType.QInt8, op_types_to_quantize=["MatMul", "Gemm"],
        )  # fmt: skip
        return quantize_tables(_proto(target.read_bytes()))


def calibration_batches(source: ExportSource) -> list[dict[str, np.ndarray]]:
    """Return the inputs of training texts, one at a time."""
    tokenizer = TextTokenizer(source.processor.backend_tokenizer.to_str(), source.settings)
    windows: list[Window] = []
    for row in source.data.splits["train"]:
        try:
            parsed = source.reader.parse(row)
        except RecordError:
            continue
        windows += source.reader.encode(tokenizer, [parsed])[0].windows
        if len(windows) >= CALIBRATION_TEXTS:
            break
    return [pad([window], source.settings) for window in windows[:CALIBRATION_TEXTS]]


def quantize_tables(model: Any) -> bytes:
    """Return a model with its embedding tables in 8 bits, a scale for each row.

    A table is looked up in int8, and the rows that were found are multiplied by their scales.
    """
    from onnx import TensorProto, helper, numpy_helper

    graph = model.graph
    tables = {one.name: one for one in graph.initializer if len(one.dims) == 2}
    readers: dict[str, list[Any]] = {}
    for node in graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)
    replaced: dict[str, Sequence[Any]] = {}
    for name, table in tables.items():
        nodes = readers.get(name, [])
        is_table = nodes and all(
            node.op_type == "Gather" and node.input[0] == name and _axis(node) == 0
            for node in nodes
        )
        if not is_table or table.data_type != TensorProto.FLOAT or table.dims[0] < MIN_ROWS:
            continue
        values = numpy_helper.to_array(table)
        scales = np.abs(values).max(axis=1, keepdims=True) / 127
        scales[scales == 0] = 1
        rows = np.rint(values / scales).astype(np.int8)
        graph.initializer.append(numpy_helper.from_array(rows, f"{name}_int8"))
        graph.initializer.append(
            numpy_helper.from_array(scales.astype(np.float32), f"{name}_scales")
        )
        for node in nodes:
            ids, output = node.input[1], node.output[0]
            replaced[output] = [
                helper.make_node("Gather", [f"{name}_int8", ids], [f"{output}_int8"], axis=0),
                helper.make_node("Gather", [f"{name}_scales", ids], [f"{output}_scales"], axis=0),
                helper.make_node("Cast", [f"{output}_int8"], [f"{output}_cast"], to=1),
                helper.make_node("Mul", [f"{output}_cast", f"{output}_scales"], [output]),
            ]
        graph.initializer.remove(table)
    nodes = [
        new
        for node in graph.node
        for new in (replaced.get(node.output[0], [node]) if len(node.output) else [node])
    ]
    del graph.node[:]
    graph.node.extend(nodes)
    content: bytes = model.SerializeToString()
    return content


def _axis(node: Any) -> int:
    return next((one.i for one in node.attribute if one.name == "axis"), 0)


def _proto(model: bytes) -> Any:
    import onnx

    return onnx.load_from_string(model)
