"""Export a model of a run, check it on the run's test split and refuse it where it is not equal."""

import importlib.metadata
import json
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from distill import __version__
from distill.answers.tokenizer import TextTokenizer
from distill.core.errors import UserError
from distill.export import checks
from distill.export.checks import Check, ExportRefusedError, FormOutputs
from distill.export.formats import EXPORT_FORMATS, ExportFormat
from distill.export.measure import (
    TORCH,
    MeasuredForm,
    add_to_report,
    agreement,
    cpu_ms,
    measure_forms,
)
from distill.export.quantize import BY_BATCH, candidates
from distill.export.source import ExportSource, load_source
from distill.modeling.loading import weights_hash
from distill.predict.exported import FORMAT, RECORD, exported_forms, file_hash
from distill.predict.runtimes import NumpyRuntime, OnnxRuntime, Runtime
from distill.predict.saved import TorchRuntime
from distill.reporting.card import write_exported_forms
from distill.reporting.schema import Report, Speed

INT8, INT8_FILE = "int8", "model_int8.onnx"
PACKAGES = ("torch", "transformers", "tokenizers", "numpy", "onnx", "onnxruntime", "onnxscript")


@dataclass(frozen=True)
class ExportOptions:
    """What is exported, and how.

    Attributes:
        what: ``student``, ``control`` or ``teacher``.
        format: name of the format.
        quantize: ``none`` or ``int8``.
        neighbors: ``independent``, or ``fast``: an answer may depend on others of its batch.
        accept: whether an int8 form that has lost quality is kept.
        output: the new folder; ``None``: one below the model's, named after the format.
        allow_code: packages whose classes the run's config may name beside this one's.
    """

    what: str = "student"
    format: str = "onnx"
    quantize: str = "none"
    neighbors: str = "independent"
    accept: bool = False
    output: Path | None = None
    allow_code: Sequence[str] = ()

    def check(self) -> None:
        """Raise a ``UserError`` for options that do not go together."""
        if self.quantize != "none" and self.format != "onnx":
            raise UserError(f"--quantize {self.quantize} is for --format onnx")
        if self.quantize == "none" and (self.neighbors != "independent" or self.accept):
            raise UserError("--neighbors and --accept are about --quantize int8: give it, too")


@dataclass(frozen=True)
class Exported:
    """A finished export.

    Attributes:
        folder: where it lies.
        record: content of its ``export.json``.
        report: the run's report with the new models; ``None`` where it is as it was.
    """

    folder: Path
    record: dict[str, Any]
    report: Report | None


def export_model(run: Path, options: ExportOptions) -> Exported:
    """Export a model of a run.

    Raises:
        UserError: if there is no such run or model, or the format cannot hold it.
        ExportRefusedError: if the export is not equal to the model; what was there before is as it
            was.
    """
    options.check()
    format_ = EXPORT_FORMATS[options.format]
    folder = options.output or run / options.what / format_.name
    own = options.output is None
    if folder.exists() and not (own and (folder / RECORD).is_file()):
        raise UserError(f"{folder} exists: name another folder with -o, or remove it")
    source = load_source(run, options.what, options.allow_code)
    if (obstacle := format_.obstacle(source)) is not None:
        raise UserError(obstacle)
    partial = folder.with_name(folder.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        format_.write(source, partial)
        write_tokenizer(source, partial / format_.tokenizer_file)
        forms = check_forms(source, format_, partial, options)
        record = _record(source, format_, partial, options, forms)
        text = json.dumps(record, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
        (partial / RECORD).write_text(text, encoding="utf-8")
        _replace(partial, folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    if own:
        model = folder.parent
        write_exported_forms(
            model,
            {
                str(form.file.relative_to(model)): form.entry
                for form in exported_forms(model).values()
            },
        )
    return Exported(folder, record, add_to_report(source, forms, folder) if own else None)


def write_tokenizer(source: ExportSource, file: Path) -> None:
    """Write ``tokenizer.json`` unless the format has done so."""
    if file.exists():
        return
    backend = source.processor.backend_tokenizer
    tokenizer = type(backend).from_str(backend.to_str())
    tokenizer.no_padding()
    tokenizer.enable_truncation(source.settings.max_length)
    tokenizer.save(str(file))


def check_forms(
    source: ExportSource, format_: ExportFormat, folder: Path, options: ExportOptions
) -> list[MeasuredForm]:
    """Check the form that was written, and make, check and choose one in int8 if asked for.

    Raises:
        ExportRefusedError: for the first check that fails.
    """
    reference = TorchRuntime(source.model, source.settings)
    expected = checks.compute(reference, source)
    tokenizer = TextTokenizer.from_file(folder / format_.tokenizer_file, source.settings)
    runtime = _load(format_, folder, source)
    found, made = check_exact(source, reference, expected, runtime)
    made = [checks.check_tokens(source, tokenizer), *made]
    if isinstance(runtime, NumpyRuntime):
        made.append(checks.check_standalone(source, runtime))
    checks.refuse_failed(made)
    fp32: dict[str, Any] = {"neighbors": "independent"}
    if options.quantize == "none":
        speeds = measure_forms(source, {format_.name: runtime})
        kept = {format_.name: (found, made, fp32)}
    else:
        content = (folder / format_.file).read_bytes()
        tried, speeds = _try_candidates(source, expected, content, options, runtime)
        chosen = _choose(tried, speeds, options)
        (folder / INT8_FILE).write_bytes(chosen.content)
        speeds[INT8] = speeds[chosen.name]
        details: dict[str, Any] = {
            "neighbors": "fast" if chosen.name in BY_BATCH else "independent",
            "candidate": chosen.name,
            "candidates": {one.name: one.to_dict(speeds) for one in tried},
        }
        assert chosen.outputs is not None
        kept = {
            format_.name: (found, made, fp32),
            INT8: (chosen.outputs, list(chosen.checks), details),
        }
    files = {format_.name: folder / format_.file, INT8: folder / INT8_FILE}
    return [
        MeasuredForm(
            name, outputs, speeds[name],
            _entry(files[name], checked, speeds[name], speeds[TORCH], agreement(expected, outputs))
            | details,
        )
        for name, (outputs, checked, details) in kept.items()
    ]  # fmt: skip


def check_exact(
    source: ExportSource, reference: Runtime, expected: FormOutputs, runtime: Runtime
) -> tuple[FormOutputs, list[Check]]:
    """Check a form in fp32 against the model in torch.

    Returns:
        What it computes, and the checks.

    Raises:
        ExportRefusedError: if it does not run.
    """
    found = checks.compute(runtime, source)
    return found, [
        checks.check_logits(source, expected, found),
        checks.check_shapes(source, reference, runtime),
        checks.check_neighbors(source, runtime, checks.TOLERANCE),
    ]


def check_int8(
    source: ExportSource, expected: FormOutputs, runtime: Runtime, neighbors: str
) -> tuple[FormOutputs, list[Check]]:
    """Check a form in int8: quality and answers on the test split, neighbors, shapes.

    Raises:
        ExportRefusedError: if it does not run.
    """
    found = checks.compute(runtime, source)
    return found, [
        checks.check_quality(source, expected, found),
        checks.check_agreement(expected, found),
        checks.check_neighbors(
            source, runtime, checks.NEIGHBOR_TOLERANCE, neighbors == "independent"
        ),
        checks.check_shapes(source, None, runtime),
    ]


@dataclass(frozen=True)
class _Candidate:
    """An int8 model that was tried; without outputs if it does not run."""

    name: str
    content: bytes
    outputs: FormOutputs | None
    checks: Sequence[Check]

    @property
    def passed(self) -> bool:
        """Whether it passed every check."""
        return all(check.passed for check in self.checks)

    @property
    def is_acceptable(self) -> bool:
        """Whether it fails nothing but what ``--accept`` accepts."""
        return all(check.passed or check.acceptable for check in self.checks)

    def to_dict(self, speeds: dict[str, Speed]) -> dict[str, Any]:
        """Return what ``export.json`` says of it."""
        return {
            "passed": self.passed,
            "bytes": len(self.content),
            "cpu_ms": cpu_ms(speeds[self.name]) if self.name in speeds else None,
            "checks": [check.to_dict() for check in self.checks],
        }


def _try_candidates(
    source: ExportSource,
    expected: FormOutputs,
    model: bytes,
    options: ExportOptions,
    fp32: Runtime,
) -> tuple[list[_Candidate], dict[str, Speed]]:
    """Make and check every int8 model, and time those that run beside the others."""
    tried, runtimes = [], {"onnx": fp32}
    for name, content in candidates(model, source, options.neighbors):
        try:
            runtime = OnnxRuntime(content, source.settings, threads=1)
            outputs, made = check_int8(source, expected, runtime, options.neighbors)
        except (ExportRefusedError, UserError) as error:
            tried.append(_Candidate(name, content, None, [Check("runs", False, str(error))]))
            continue
        runtime.name = "onnxruntime cpu int8"
        tried.append(_Candidate(name, content, outputs, made))
        runtimes[name] = runtime
    return tried, measure_forms(source, runtimes)


def _choose(
    tried: Sequence[_Candidate], speeds: dict[str, Speed], options: ExportOptions
) -> _Candidate:
    """Return the fastest candidate that passed.

    Raises:
        ExportRefusedError: if none did, with the first reason of each.
    """

    def processor_time(candidate: _Candidate) -> float:
        return cpu_ms(speeds[candidate.name])["p50"] or 0.0

    passed = [one for one in tried if one.passed]
    if not passed and options.accept:
        passed = [one for one in tried if one.is_acceptable]
    if passed:
        return min(passed, key=processor_time)
    reasons = [
        f"{one.name}: {next(check.reason for check in one.checks if not check.passed)}"
        for one in tried
    ]
    hint = (
        "" if options.accept or not any(one.is_acceptable for one in tried)
        else " (--accept keeps the fastest all the same)"
    )  # fmt: skip
    raise ExportRefusedError(f"no int8 model passes{hint}: {'; '.join(reasons)}")


def _load(format_: ExportFormat, folder: Path, source: ExportSource) -> Runtime:
    try:
        return format_.load(folder, source.settings)
    except UserError as error:
        raise ExportRefusedError(str(error)) from error


def _entry(
    file: Path, checked: Sequence[Check], speed: Speed, in_torch: Speed, agreed: float | None
) -> dict[str, Any]:
    own, other = cpu_ms(speed), cpu_ms(in_torch)
    return {
        "file": file.name,
        "bytes": file.stat().st_size,
        "sha256": file_hash(file),
        "passed": all(check.passed for check in checked),
        "checks": [check.to_dict() for check in checked],
        "agreement": agreed,
        "cpu_ms": own,
        "cpu_ms_torch": other,
        "times_faster_than_torch": (other["p50"] or 0) / (own["p50"] or 1),
    }


def _record(
    source: ExportSource,
    format_: ExportFormat,
    folder: Path,
    options: ExportOptions,
    forms: Sequence[MeasuredForm],
) -> dict[str, Any]:
    """Return the content of ``export.json``."""
    tokenizer = folder / format_.tokenizer_file
    return {
        "export_format": FORMAT,
        "distill": __version__,
        "run": source.run.resolve().name,
        "model": source.what,
        "task": source.task.name,
        "format": format_.name,
        "source": {
            "weights": weights_hash(source.model),
            "files": {file.name: file_hash(file) for file in source.weights},
        },
        "versions": {name: version for name in PACKAGES if (version := _version(name))},
        "opset": _opset(folder / format_.file),
        "tokenizer": asdict(source.settings),
        "tokenizer_file": format_.tokenizer_file,
        "tokenizer_sha256": file_hash(tokenizer),
        "reader": source.reader.settings,
        "accept": options.accept,
        "forms": {form.name: dict(form.entry) for form in forms},
    }


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _opset(file: Path) -> int | None:
    if file.suffix != ".onnx":
        return None
    import onnx

    opsets = onnx.load(str(file), load_external_data=False).opset_import
    return next((one.version for one in opsets if not one.domain), None)


def _replace(partial: Path, folder: Path) -> None:
    """Put the new folder in the place of an old one, which is there until the new one is whole."""
    old = folder.with_name(folder.name + ".old")
    shutil.rmtree(old, ignore_errors=True)
    if folder.exists():
        folder.replace(old)
    partial.replace(folder)
    shutil.rmtree(old, ignore_errors=True)
