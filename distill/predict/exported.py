"""Exported models on disk: what ``export.json`` says, and whether the files are those it names."""

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from distill.core.errors import UserError

RECORD = "export.json"
FORMAT = 1
FOLDERS = {"onnx": "onnx", "int8": "onnx", "numpy": "numpy"}
"""Folder below the model's that each form lies in."""


@dataclass(frozen=True)
class ExportedForm:
    """One file that a model was exported to.

    Attributes:
        name: ``onnx``, ``int8`` or ``numpy``.
        folder: where ``export.json`` lies.
        record: its content.
    """

    name: str
    folder: Path
    record: Mapping[str, Any]

    @property
    def entry(self) -> Mapping[str, Any]:
        """What the record says of this form."""
        entry: Mapping[str, Any] = self.record["forms"][self.name]
        return entry

    @property
    def file(self) -> Path:
        """The exported weights."""
        return self.folder / self.entry["file"]

    @property
    def tokenizer_file(self) -> Path:
        """The ``tokenizer.json``."""
        return self.folder / self.record["tokenizer_file"]

    @property
    def cpu_ms(self) -> float:
        """Processor time of one text by the export's own measurement, median."""
        return float(self.entry["cpu_ms"]["p50"])

    def verify(self) -> None:
        """Raise a ``UserError`` unless the files have the content that was checked."""
        expected = {
            self.file: self.entry["sha256"],
            self.tokenizer_file: self.record["tokenizer_sha256"],
        }
        for file, digest in expected.items():
            if not file.is_file():
                raise UserError(f"{file} is missing: export the model again")
            if file_hash(file) != digest:
                raise UserError(
                    f"{file} is not the file that was checked when it was exported: export the "
                    "model again"
                )


def file_hash(file: Path) -> str:
    """Return the SHA-256 of a file."""
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def exported_forms(folder: Path) -> dict[str, ExportedForm]:
    """Return the forms of a model by name.

    Args:
        folder: the model's folder, with ``onnx`` or ``numpy`` below it, or one of these.

    Raises:
        UserError: for a folder that a later version has written, or whose record is damaged.
    """
    return {
        form.name: form
        for place in dict.fromkeys((folder, *(folder / name for name in FOLDERS.values())))
        for form in _forms_in(place)
    }


def _forms_in(folder: Path) -> Iterator[ExportedForm]:
    file = folder / RECORD
    if not file.is_file():
        return
    try:
        record = json.loads(file.read_text(encoding="utf-8"))
        written = record.get("export_format", 0)
    except (ValueError, AttributeError) as error:
        raise UserError(f"{file} is damaged ({error}): export the model again") from error
    if written != FORMAT:
        raise UserError(
            f"{file} has format {written}, this version reads {FORMAT}: export the model again"
        )
    for name in record["forms"]:
        yield ExportedForm(name, folder, record)


def fastest(forms: Mapping[str, ExportedForm]) -> ExportedForm | None:
    """Return the form of the least processor time among those that passed every check."""
    passed = [form for form in forms.values() if form.entry["passed"]]
    return min(passed, key=lambda form: form.cpu_ms, default=None)
