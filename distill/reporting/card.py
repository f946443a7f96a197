"""The model card that a saved student carries: what it is, what it reaches, how to run it."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Answer:
    """How a saved model is asked, and how what it says is read.

    Attributes:
        names: what the names of its outputs are.
        verb: the pipeline's name in the example.
        options: further arguments of the call.
        reading: a sentence on the answer.
        pipeline: transformers' name of what answers.
        text: what it is asked in the example.
    """

    names: str
    verb: str
    options: str = ""
    reading: str = ""
    pipeline: str = "text-classification"
    text: str = '"Your text."'


# By what transformers calls a model's task in its configuration; by the task where it has no name.
ANSWERS = {
    "single_label_classification": Answer("classes", "classify"),
    "multi_label_classification": Answer(
        "classes",
        "classify",
        ", top_k=None",
        "\nEach class has a probability of its own: those of 0.5 or more are the answer.\n",
    ),
    "regression": Answer(
        "output",
        "rate",
        "",
        "\nThe score is a number in the units of the labels (divided, where the output's name says "
        "so).\n",
    ),
    "masked_lm": Answer(
        "tokens",
        "fill",
        "",
        "\nIts encoder serves other tasks: `AutoModelForSequenceClassification` and the like load "
        "it,\nand so does `distill student=hub student.path=PATH/TO/THIS/FOLDER`.\n",
        "fill-mask",
        'f"Your {fill.tokenizer.mask_token}."',
    ),
}


def write(folder: Path, report: dict[str, Any], model: dict[str, Any], origin: str) -> None:
    """Write README.md beside a saved model.

    Args:
        folder: of the saved model.
        report: the run's report.
        model: its entry among the report's models.
        origin: where the first weights came from.
    """
    data, teacher = report["data"], report["models"][0]
    metric = report["comparison"]["metric"]
    taught = model["role"] != "control"
    how = (
        f"distilled from {teacher['name']}"
        if taught
        else f"fine-tuned without a teacher, as the control of what {teacher['name']} taught"
    )
    quality = model["quality"]
    rows = "\n".join(
        f"| {name} | {_interval(value)} | {_interval(teacher['quality'][name])} |"
        for name, value in quality.items()
    )
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    kind = config.get("problem_type") or report["task"]
    answer = ANSWERS.get(kind, ANSWERS["single_label_classification"])
    names = f", {answer.names}: {', '.join(data['labels'])}" if data["labels"] else ""
    own_code = ", trust_remote_code=True" if "auto_map" in config else ""
    note = (
        "\nThe folder carries the model's code, one file, which `trust_remote_code=True` runs.\n"
        if own_code
        else ""
    )
    folder.joinpath("README.md").write_text(
        f"""---
library_name: transformers
pipeline_tag: {answer.pipeline}
metrics:
- {metric}
---
# {model["name"]}, {how}

- Task: {report["task"]}{names}
- Data: {data["name"]}, {data["examples"]["train"]:,} training examples
- First weights: {origin}
- {model["size"]["parameters"]:,} parameters, {model["size"]["bytes"] / 1e6:.1f} MB;
  the teacher has {teacher["size"]["parameters"]:,}

On {data["examples"]["test"]:,} examples ({data["evaluated_on"]} split), with 95 % intervals:

| | this model | teacher |
|---|---|---|
{rows}

```python
from transformers import pipeline

{answer.verb} = pipeline("{answer.pipeline}", model="PATH/TO/THIS/FOLDER"{own_code})
print({answer.verb}({answer.text}{answer.options}))
```
{answer.reading}{note}
Made by distill {report["environment"]["distill"]}; the whole report stands beside this folder.
""",
        encoding="utf-8",
    )


def _interval(value: dict[str, float | None]) -> str:
    if value["low"] is None:
        return f"{value['value']:.4f}"
    return f"{value['value']:.4f} [{value['low']:.4f}, {value['high']:.4f}]"
