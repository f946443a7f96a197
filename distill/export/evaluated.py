"""Exported models for ``distill-evaluate``: measured on any data set like models in torch."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel

from distill.core.errors import UserError
from distill.core.jagged import ArrayOrJagged
from distill.data.dataset import DistillationDataset
from distill.data.prepare import PreparedData
from distill.evaluation.evaluator import ExportedModule
from distill.export.checks import compute
from distill.export.measure import RuntimeModule
from distill.export.source import make_source
from distill.predict.exported import RECORD, ExportedForm, exported_forms
from distill.predict.predictor import Predictor
from distill.tasks.base import Task


@dataclass(frozen=True)
class ExportedModel:
    """An exported form beside the model that it was made of.

    Attributes:
        form: the form.
        saved: folder of the model in torch, which names labels and parameters.
        predictor: runs the form.
    """

    form: ExportedForm
    saved: Path
    predictor: Predictor

    @property
    def module(self) -> ExportedModule:
        """The form as it is timed."""
        runtime = self.predictor.runtime
        return ExportedModule(RuntimeModule(runtime), f"{runtime.name} {self.form.name}")

    @property
    def files(self) -> Sequence[Path]:
        """What it weighs on the disk."""
        return [self.form.file]

    def logits(
        self,
        model: PreTrainedModel,
        processor: Any,
        task: Task,
        data: PreparedData,
        examples: DistillationDataset,
        max_length: int,
    ) -> ArrayOrJagged:
        """Compute the logits of the evaluated split, as the task's evaluator reduces them."""
        source = make_source(
            self.saved.parent, self.saved.name, model, processor, task, data, examples, max_length
        )
        return compute(self.predictor.runtime, source).reduced


def open_exported(path: str, form: str | None) -> ExportedModel | None:
    """Return the exported model that a path, or a path and a form, name; ``None``: it is in torch.

    Args:
        path: a folder with ``export.json``, or a model's or run's folder with exports below it.
        form: ``onnx``, ``int8`` or ``numpy``; ``None``: the only one of the folder.

    Raises:
        UserError: there is no such form, or several and none is named.
    """
    folder = Path(path).expanduser()
    if not (folder / RECORD).is_file() and form is None:
        return None
    if not folder.is_dir():
        raise UserError(f"form={form}: model={path} is no folder on this machine")
    if (folder / "config.yaml").is_file():
        folder = folder / "student"
    forms = exported_forms(folder)
    if form is None and len(forms) > 1:
        raise UserError(f"model={path} holds {', '.join(forms)}: choose one with form=NAME")
    name = form or next(iter(forms), None)
    if name not in forms:
        there = ", ".join(forms) or "none"
        raise UserError(
            f"form={name}: model={path} has no such form (exported: {there}): make it with "
            "distill-export"
        )
    chosen = forms[name]
    saved = chosen.folder.parent
    if not (saved / "config.json").is_file():
        raise UserError(
            f"model={path}: the model it was exported from is not beside it ({saved} has no "
            "config.json), which names its labels: evaluate it where it was exported"
        )
    return ExportedModel(chosen, saved, Predictor(chosen.folder, form=name, threads=1))
