"""The model card that a saved student carries: what it is, what it reaches, how to run it."""

import json
from pathlib import Path
from typing import Any


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
    own_code = ", trust_remote_code=True" if "auto_map" in config else ""
    note = (
        "\nThe folder carries the model's code, one file, which `trust_remote_code=True` runs.\n"
        if own_code
        else ""
    )
    folder.joinpath("README.md").write_text(
        f"""---
library_name: transformers
pipeline_tag: text-classification
metrics:
- {metric}
---
# {model["name"]}, {how}

- Task: {report["task"]}, classes: {", ".join(data["labels"])}
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

classify = pipeline("text-classification", model="PATH/TO/THIS/FOLDER"{own_code})
print(classify("Your text."))
```
{note}
Made by distill {report["environment"]["distill"]}; the whole report stands beside this folder.
""",
        encoding="utf-8",
    )


def _interval(value: dict[str, float | None]) -> str:
    if value["low"] is None:
        return f"{value['value']:.4f}"
    return f"{value['value']:.4f} [{value['low']:.4f}, {value['high']:.4f}]"
