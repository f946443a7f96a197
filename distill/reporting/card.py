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
        pipeline: which of transformers' pipelines asks it, and the hub's tag.
        text: what it is asked in the example.
        code: how to ask, where there is no such pipeline.
    """

    names: str
    verb: str
    options: str = ""
    reading: str = ""
    pipeline: str = "text-classification"
    text: str = '"Your text."'
    code: str | None = None


_ASK_FOR_A_SPAN = """\
import torch
from transformers import AutoModelForQuestionAnswering, AutoTokenizer

folder, question, context = "PATH/TO/THIS/FOLDER", "Your question?", "Where the answer stands."
tokenizer = AutoTokenizer.from_pretrained(folder)
model = AutoModelForQuestionAnswering.from_pretrained(folder)
encoded = tokenizer(
    question, context, truncation="only_second", return_offsets_mapping=True, return_tensors="pt"
)
place = encoded.pop("offset_mapping")[0]
inside = torch.tensor([part == 1 for part in encoded.sequence_ids()])
with torch.no_grad():
    said = model(**encoded)
# The best sum of start and end in the context, of at most 30 tokens.
score = said.start_logits[0][:, None] + said.end_logits[0]
allowed = (inside[:, None] & inside).triu().tril(29)
score = score.masked_fill(~allowed, -torch.inf)
start, end = divmod(int(score.argmax()), len(inside))
print(context[place[start, 0] : place[end, 1]])"""

# By task, or by what transformers calls a classifier's in its configuration.
ANSWERS = {
    "token_classification": Answer(
        "tags",
        "tag",
        ', aggregation_strategy="first"',
        "\nWords are read off their first pieces, which is what `first` means; it joins them to\n"
        "entities where the tags mark any.\n",
        "token-classification",
    ),
    "question_answering": Answer(
        "outputs",
        "",
        "",
        "\nLonger contexts are read in overlapping windows, the best span of all of them counts.\n"
        "Where the first token scores higher, the model says that there is no answer here.\n",
        "question-answering",
        code=_ASK_FOR_A_SPAN,
    ),
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
    kinds = [report["task"], config.get("problem_type"), "single_label_classification"]
    answer = next(ANSWERS[kind] for kind in kinds if kind in ANSWERS)
    names = f", {answer.names}: {', '.join(data['labels'])}" if data["labels"] else ""
    own_code = ", trust_remote_code=True" if "auto_map" in config else ""
    note = (
        "\nThe folder carries the model's code, one file, which `trust_remote_code=True` runs.\n"
        if own_code
        else ""
    )
    code = answer.code or (
        "from transformers import pipeline\n\n"
        f'{answer.verb} = pipeline("{answer.pipeline}", model="PATH/TO/THIS/FOLDER"{own_code})\n'
        f"print({answer.verb}({answer.text}{answer.options}))"
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
{code}
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
