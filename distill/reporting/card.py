"""The model card of a saved model: what it is, what it reaches, how to run it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from distill.core.checksums import written_beside
from distill.reporting.schema import MetricValue, ModelReport, Report, Role
from distill.reporting.templates import render_template
from distill.reporting.text import ABSENT

if TYPE_CHECKING:
    from huggingface_hub import ModelCardData


@dataclass(frozen=True)
class Usage:
    """How to run a saved model, and how to read its output.

    Attributes:
        names: What the names of its outputs are called.
        verb: Variable of the pipeline in the example.
        options: Further arguments of the call.
        reading: A sentence on the output.
        pipeline: The pipeline of transformers that runs it, and the hub's tag.
        text: Input of the example.
        code: The example, where there is no such pipeline.
    """

    names: str
    verb: str
    options: str = ""
    reading: str = ""
    pipeline: str = "text-classification"
    text: str = '"Your text."'
    code: str | None = None


@dataclass(frozen=True)
class Provenance:
    """Where a saved model comes from.

    Attributes:
        origin: Where its first weights came from, in words.
        base_models: Hub ids of the teachers that are on the hub.
        dataset: Hub id of the data set, if it is on the hub.
        license: The license as the hub spells it, if it is known.
        objective: Terms of the objective and their weights, in words.
    """

    origin: str
    base_models: tuple[str, ...] = ()
    dataset: str | None = None
    license: str | None = None
    objective: str | None = None


FORMS_HEADING = "\n## Exported forms\n"

_SPAN_CODE = """\
import torch
from transformers import AutoModelForQuestionAnswering, AutoTokenizer

folder, question, context = "PATH/TO/THIS/FOLDER", "Your question?", "Where the answer stands."
tokenizer = AutoTokenizer.from_pretrained(folder)
model = AutoModelForQuestionAnswering.from_pretrained(folder)
encoded = tokenizer(
    question, context, truncation="only_second", return_offsets_mapping=True, return_tensors="pt"
)
offsets = encoded.pop("offset_mapping")[0]
in_context = torch.tensor([sequence == 1 for sequence in encoded.sequence_ids()])
with torch.no_grad():
    outputs = model(**encoded)
# The best sum of start and end within the context, over spans of at most 30 tokens.
score = outputs.start_logits[0][:, None] + outputs.end_logits[0]
allowed = (in_context[:, None] & in_context).triu().tril(29)
score = score.masked_fill(~allowed, -torch.inf)
start, end = divmod(int(score.argmax()), len(in_context))
print(context[offsets[start, 0] : offsets[end, 1]])"""

# By task, or by transformers' problem_type of a classifier.
USAGES = {
    "token_classification": Usage(
        "tags",
        "tag",
        ', aggregation_strategy="first"',
        "\nA word has the tag of its first piece, which is what `first` means; words are joined\n"
        "to entities where the tags mark any.\n",
        "token-classification",
    ),
    "question_answering": Usage(
        "outputs",
        "",
        "",
        "\nLonger contexts are read in overlapping windows, the best span of all of them counts.\n"
        "Where the first token scores higher, the model finds no answer here.\n",
        "question-answering",
        code=_SPAN_CODE,
    ),
    "single_label_classification": Usage("classes", "classify"),
    "multi_label_classification": Usage(
        "classes",
        "classify",
        ", top_k=None",
        "\nEach class has a probability of its own: those of 0.5 or more are predicted.\n",
    ),
    "regression": Usage(
        "output",
        "rate",
        "",
        "\nThe score is a number in the units of the labels (divided, where the output's name says "
        "so).\n",
    ),
    "image_classification": Usage(
        "classes",
        "classify",
        "",
        "\nThe pipeline resizes and normalizes an image as `preprocessor_config.json` says.\n",
        "image-classification",
        '"PATH/TO/AN/IMAGE.png"',
    ),
    "masked_lm": Usage(
        "tokens",
        "fill",
        "",
        "\nIts encoder serves other tasks: `AutoModelForSequenceClassification` and the like load "
        "it,\nand so does `distill student=hub student.path=PATH/TO/THIS/FOLDER`.\n",
        "fill-mask",
        'f"Your {fill.tokenizer.mask_token}."',
    ),
}


def write_model_card(
    folder: Path, report: Report, model: ModelReport, provenance: Provenance
) -> None:
    """Write README.md beside a saved model.

    Args:
        folder: Of the saved model.
        report: The run's report.
        model: The model's entry in it.
        provenance: Where the model comes from.
    """
    from huggingface_hub import ModelCard  # slow to import

    usage, has_own_code = _usage(folder, report.task)
    head = _metadata(report, model, provenance, usage).to_yaml()
    text = render_template(
        "card.md",
        report=report,
        model=model,
        teacher=report.teacher,
        origin=provenance.origin,
        objective=provenance.objective,
        is_control=model.role == Role.CONTROL,
        usage=usage,
        has_own_code=has_own_code,
        scores=_scores(model, report.teacher),
    )
    ModelCard(f"---\n{head}\n---\n{text}").save(folder / "README.md")


def _usage(folder: Path, task: str) -> tuple[Usage, bool]:
    """Return how to run the model, and whether its folder carries code of its own."""
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    kinds = [task, config.get("problem_type"), "single_label_classification"]
    return next(USAGES[kind] for kind in kinds if kind in USAGES), "auto_map" in config


def _metadata(
    report: Report, model: ModelReport, provenance: Provenance, usage: Usage
) -> ModelCardData:
    """Return the head of the card, which the hub reads."""
    from huggingface_hub import EvalResult, ModelCardData

    data = report.data
    results = [
        EvalResult(
            task_type=usage.pipeline,
            dataset_type=provenance.dataset or data.name,
            dataset_name=data.name,
            dataset_split=data.evaluated_on,
            metric_type=name,
            metric_value=metric.value,
            metric_name=_metric_name(name, metric),
        )
        for name, metric in model.quality.items()
        if metric.value is not None
    ]
    return ModelCardData(
        library_name="transformers",
        pipeline_tag=usage.pipeline,
        license=provenance.license,
        base_model=list(provenance.base_models) or None,
        datasets=[provenance.dataset] if provenance.dataset else None,
        metrics=list(model.quality) or None,
        tags=["knowledge-distillation"] if model.role != Role.CONTROL else None,
        model_name=report.run.name,
        eval_results=results or None,
    )


def _metric_name(name: str, metric: MetricValue) -> str:
    """Return a metric's name with its interval, for which the hub has no field."""
    if metric.low is None or metric.high is None:
        return name
    return f"{name} (95 % interval {metric.low:.4f} to {metric.high:.4f})"


def write_exported_forms(folder: Path, forms: Mapping[str, Mapping[str, Any]]) -> None:
    """Name the exported forms of a model in its card, in place of those named before.

    Args:
        folder: Of the saved model; one without a card stays so.
        forms: What ``export.json`` says of each form, by its file below the folder.
    """
    card = folder / "README.md"
    if not card.is_file():
        return
    text, _, _ = card.read_text(encoding="utf-8").partition(FORMS_HEADING)
    section = render_template("card_forms.md", heading=FORMS_HEADING.strip(), forms=forms)
    with written_beside(card) as partial:
        partial.write_text(f"{text.rstrip()}\n\n{section.strip()}\n", encoding="utf-8")


def _scores(model: ModelReport, teacher: ModelReport | None) -> list[tuple[str, str, str]]:
    """Return name, value and the teacher's value of every metric."""
    return [
        (name, _interval(metric), _interval(teacher.metric(name) if teacher else MetricValue()))
        for name, metric in model.quality.items()
    ]


def _interval(metric: MetricValue) -> str:
    if metric.value is None:
        return ABSENT
    if metric.low is None or metric.high is None:
        return f"{metric.value:.4f}"
    return f"{metric.value:.4f} [{metric.low:.4f}, {metric.high:.4f}]"
