import json

import pytest
from huggingface_hub import ModelCard

from distill.reporting.card import Provenance, write_model_card
from distill.reporting.schema import Report
from tests.reporting.example_reports import report, typed_report

PROVENANCE = Provenance(
    origin="layers 0, 2, 4 of the teacher's 6",
    base_models=("sentence-transformers/all-MiniLM-L6-v2",),
    dataset="nyu-mll/glue",
    license="apache-2.0",
    objective="kd: soft_targets (weight 1)",
)


def card_of(folder, typed, role="student", provenance=PROVENANCE, **config):
    (folder / "config.json").write_text(json.dumps(config))
    write_model_card(folder, typed, typed.model(role), provenance)
    return ModelCard.load(folder / "README.md")


def test_head_is_what_the_hub_reads(tmp_path):
    data = card_of(tmp_path, typed_report()).data
    assert data.library_name == "transformers"
    assert data.pipeline_tag == "text-classification"
    assert data.license == "apache-2.0"
    assert data.base_model == ["sentence-transformers/all-MiniLM-L6-v2"]
    assert data.datasets == ["nyu-mll/glue"]
    assert data.metrics == ["accuracy", "macro_f1"]
    results = {result.metric_type: result for result in data.eval_results}
    assert results["accuracy"].metric_value == 0.871
    assert results["accuracy"].dataset_type == "nyu-mll/glue"
    assert results["accuracy"].dataset_split == "test"
    named = results["accuracy"].metric_name
    assert named == "accuracy (95 % interval 0.8550 to 0.8870)"


def test_text(tmp_path):
    text = card_of(tmp_path, typed_report(teacher=0.9)).text
    assert "# half, distilled from minilm\n" in text
    assert "- Task: sequence_classification, classes: numpy, torch\n" in text
    assert "- Data: docstrings, 12,482 training examples\n" in text
    assert "- First weights: layers 0, 2, 4 of the teacher's 6\n" in text
    assert "- Objective: kd: soft_targets (weight 1)\n" in text
    assert "- Fingerprint of the test data: `" in text and "\nLimits: these figures hold" in text
    assert "- 17,390,000 parameters, 69.6 MB;\n  the teacher has 22,713,216\n" in text
    assert "On 1,616 examples (test split), with 95 % intervals:" in text
    assert "| accuracy | 0.8710 [0.8550, 0.8870] | 0.9000 [0.8840, 0.9160] |\n" in text
    assert 'classify = pipeline("text-classification", model="PATH/TO/THIS/FOLDER")\n' in text
    assert "Made by distill 0.1.0; the whole report stands beside this folder.\n" in text
    assert "\n\n\n" not in text


def test_a_control_is_called_one(tmp_path):
    card = card_of(tmp_path, typed_report(), role="control")
    assert "fine-tuned without a teacher, as the control of what minilm taught" in card.text


@pytest.mark.parametrize(
    ("task", "tag"),
    [
        ("token_classification", "token-classification"),
        ("question_answering", "question-answering"),
        ("masked_lm", "fill-mask"),
        ("regression", "text-classification"),
        ("a_task_from_elsewhere", "text-classification"),
    ],
)
def test_every_task_has_code_that_compiles(tmp_path, task, tag):
    card = card_of(tmp_path, typed_report(task=task))
    assert card.data.pipeline_tag == tag
    compile(card.text.split("```python\n")[1].split("```")[0], "card", "exec")


def test_code_of_its_own_is_mentioned(tmp_path):
    text = card_of(tmp_path, typed_report(), auto_map={"AutoModel": "bilstm.X"}).text
    assert "trust_remote_code=True)" in text
    assert "The folder carries the model's code" in text
    assert "\n\n\n" not in text


def test_what_is_not_known_is_left_out(tmp_path):
    content = report()
    content["models"] = content["models"][1:2]
    content["models"][0] |= {"size": None, "calibration": None}
    content["models"][0]["quality"]["accuracy"] = {"value": None, "low": None, "high": None}
    content["data"] = {"name": 'odd: "name"'}
    content["environment"] = None
    card = card_of(tmp_path, Report.from_dict(content), provenance=Provenance(origin="scratch"))
    assert card.data.base_model is None
    assert card.data.license is None
    assert [result.metric_type for result in card.data.eval_results] == ["macro_f1"]
    assert card.data.eval_results[0].dataset_name == 'odd: "name"'
    assert "| accuracy | – | – |" in card.text


def test_a_model_of_images(tmp_path):
    typed = Report.from_dict(report() | {"task": "image_classification"})
    card = card_of(tmp_path, typed, problem_type="single_label_classification")
    assert card.data.pipeline_tag == "image-classification"
    assert 'pipeline("image-classification", model="PATH/TO/THIS/FOLDER")' in card.text
    assert 'print(classify("PATH/TO/AN/IMAGE.png"))' in card.text
