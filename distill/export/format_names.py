"""Names of the export formats, for help texts that import none of them."""

NAMES = ("numpy", "onnx")
