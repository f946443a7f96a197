"""``distill-export``: round trips of every task and student, what it refuses, and the command."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper

from distill.cli.export import main
from distill.core.errors import UserError
from distill.export import checks
from distill.export.checks import Check, ExportRefusedError, FormOutputs
from distill.export.export import ExportOptions, check_exact, check_int8, export_model
from distill.export.format_names import NAMES
from distill.export.formats import EXPORT_FORMATS
from distill.export.formats.onnx_folder import _ExportedForward, export_onnx
from distill.export.quantize import candidates, quantize_tables
from distill.export.quiet import quiet
from distill.export.source import load_source
from distill.predict import Predictor
from distill.predict.runtimes import OnnxRuntime
from distill.predict.saved import TorchRuntime
from distill.reporting.schema import load_report

slow = pytest.mark.slow
CASES = [
    ("sequence_classification", "half"),
    *(
        pytest.param(case, student, marks=slow)
        for case, student in (
            ("sequence_classification", "narrow"), ("sequence_classification", "bilstm"),
            ("pairs", "half"), ("pairs", "ngram"), ("pairs", "cnn"), ("multi_label", "static"),
            ("regression", "half"), ("token_classification", "half"),
            ("question_answering", "half"), ("masked_lm", "half"),
        )
    ),
]  # fmt: skip


@pytest.fixture(scope="module")
def source(runs):
    return load_source(runs().folder, "student")


@pytest.fixture(scope="module")
def reference(source):
    """The model in torch, what it computes, and the content of a good export."""
    runtime = TorchRuntime(source.model, source.settings)
    return runtime, checks.compute(runtime, source), export_onnx(source.model, source.settings)


def test_names_in_the_help_are_the_formats():
    assert set(NAMES) == set(EXPORT_FORMATS)


def flat(answer):
    """Every number of an answer, and everything else."""
    numbers, others = [], []

    def walk(value):
        if isinstance(value, dict):
            for name, part in value.items():
                others.append(name)
                walk(part)
        elif isinstance(value, list):
            for part in value:
                walk(part)
        elif isinstance(value, float):
            numbers.append(value)
        else:
            others.append(value)

    walk(answer)
    return numbers, others


def assert_same(answers, others, tolerance=1e-4):
    assert len(answers) == len(others) > 0
    for answer, other in zip(answers, others, strict=True):
        numbers, rest = flat(answer)
        expected, same = flat(other)
        assert rest == same
        np.testing.assert_allclose(numbers, expected, atol=tolerance)


@pytest.mark.parametrize(("case", "student"), CASES)
def test_an_export_gives_the_answers_of_the_model(case, student, runs, exported):
    run = runs(case, student)
    records = [{"text": "the [MASK] was good"}] if case == "masked_lm" else run.rows
    predictor = Predictor(exported(case, student))
    assert predictor.form == "onnx"
    in_torch = Predictor(run.folder, form="torch")
    assert_same(predictor(records, everything=True), in_torch(records, everything=True))


@slow
@pytest.mark.parametrize("case", ["sequence_classification", "question_answering"])
def test_int8_is_smaller_and_answers_alike_whatever_stands_beside(case, runs, exported):
    folder, run = exported(case, quantize="int8"), runs(case)
    record = json.loads((folder / "export.json").read_text())
    sizes = {name: form["bytes"] for name, form in record["forms"].items()}
    assert sizes["int8"] < sizes["onnx"]
    form = record["forms"]["int8"]
    assert form["passed"] and form["neighbors"] == "independent"
    assert set(form["candidates"]) == {"blocks_32", "blocks_128", "static"}
    assert {check["name"] for check in form["checks"]} == {
        "quality", "agreement", "neighbors", "shapes",
    }  # fmt: skip
    predictor = Predictor(folder, form="int8")
    alone = [predictor(row) for row in run.rows]
    assert_same(predictor(run.rows), alone, tolerance=checks.NEIGHBOR_TOLERANCE)


def test_embedding_tables_are_rounded_row_by_row(source, reference):
    *_, content = reference
    model = onnx.load_from_string(quantize_tables(onnx.load_from_string(content)))
    tables = {one.name: numpy_helper.to_array(one) for one in model.graph.initializer}
    names = [name for name in tables if name.endswith("_int8")]
    assert len(names) == 2  # words and positions; token types are two rows
    words = next(name for name in names if "word_embeddings" in name)
    restored = tables[words] * tables[words.replace("_int8", "_scales")]
    table = source.model.get_input_embeddings().weight.detach().numpy()
    assert tables[words].dtype == np.int8
    step = np.abs(table).max(axis=1, keepdims=True) / 127
    assert (np.abs(restored - table) <= step / 2 + 1e-7).all()


def test_dynamic_is_tried_where_answers_may_depend_on_neighbors(source, reference):
    *_, content = reference
    tried = dict(candidates(content, source, "fast"))
    assert list(tried) == ["blocks_32", "blocks_128", "static", "dynamic"]
    runtime = OnnxRuntime(tried["dynamic"], source.settings, threads=1)
    _, made = check_int8(source, reference[1], runtime, "independent")
    neighbors = next(check for check in made if check.name == "neighbors")
    assert not neighbors.passed and neighbors.values["largest_difference"] > 0.01
    _, made = check_int8(source, reference[1], runtime, "fast")
    neighbors = next(check for check in made if check.name == "neighbors")
    assert neighbors.passed and not neighbors.values["required"]


# --- planted faults -----------------------------------------------------------------------------


def edited(content: bytes, name: str, change) -> bytes:
    """A model with one of its weights changed, which may stand there transposed."""
    model = onnx.load_from_string(content)
    found = [one for one in model.graph.initializer if name in one.name]
    assert found
    for one in found:
        one.CopyFrom(numpy_helper.from_array(change(numpy_helper.to_array(one).copy()), one.name))
    return model.SerializeToString()


def swap(values):
    return values[::-1].copy()


def zero_channel(values):
    values[:, 3] = 0
    return values


def flip_byte(values):
    values.view(np.uint8).reshape(-1)[3] ^= 0x40  # in the exponent of the first weight
    return values


@pytest.mark.parametrize(
    ("weight", "fault", "check"),
    [
        ("classifier.weight", swap, "logits"), ("classifier.weight", zero_channel, "logits"),
        ("classifier.weight", flip_byte, "logits"),
    ],
)  # fmt: skip
def test_a_damaged_head_is_refused(weight, fault, check, source, reference):
    runtime, expected, content = reference
    _, made = check_exact(source, runtime, expected, OnnxRuntime(content, source.settings, 1))
    assert all(one.passed for one in made)
    bad = OnnxRuntime(edited(content, weight, fault), source.settings, 1)
    _, made = check_exact(source, runtime, expected, bad)
    assert check in {one.name for one in made if not one.passed}
    with pytest.raises(ExportRefusedError, match="differs from the model's by"):
        checks.refuse_failed(made)


def test_a_dropped_mask_is_refused(source, reference, monkeypatch):
    runtime, expected, _ = reference
    forward = _ExportedForward.forward

    def without_mask(self, input_ids, attention_mask, token_type_ids=None):
        return forward(self, input_ids, torch.ones_like(input_ids), token_type_ids)

    monkeypatch.setattr(_ExportedForward, "forward", without_mask)
    content = export_onnx(source.model, source.settings)
    model = onnx.load_from_string(content)
    assert not any("attention_mask" in node.input for node in model.graph.node)
    _, made = check_exact(source, runtime, expected, OnnxRuntime(content, source.settings, 1))
    failed = {one.name for one in made if not one.passed}
    assert {"logits", "shapes", "neighbors"} <= failed


def test_a_batch_size_that_is_burned_in_is_refused(source, reference):
    runtime, expected, _ = reference
    ids = torch.ones((3, 7), dtype=torch.long)
    inputs = dict.fromkeys(source.settings.inputs, ids)
    with quiet():
        program = torch.onnx.export(
            _ExportedForward(source.model).eval(), (), kwargs=inputs, dynamo=True, verbose=False,
            input_names=list(inputs), output_names=["logits"],
        )  # fmt: skip
    bad = OnnxRuntime(program.model_proto.SerializeToString(), source.settings, 1)
    with pytest.raises(ExportRefusedError, match="does not run on a batch of"):
        check_exact(source, runtime, expected, bad)


def test_other_tokens_than_those_that_were_evaluated_are_refused(source):
    from dataclasses import replace

    from distill.answers.tokenizer import TextTokenizer

    backend = source.processor.backend_tokenizer.to_str()
    assert checks.check_tokens(source, TextTokenizer(backend, source.settings)).passed
    other = backend.replace('"lowercase":true', '"lowercase":false').replace('"film"', '"fulm"')
    found = checks.check_tokens(source, TextTokenizer(other, source.settings))
    assert not found.passed and found.values["texts"] == 40
    shorter = replace(source.settings, max_length=6)
    assert not checks.check_tokens(source, TextTokenizer(backend, shorter)).passed


def test_lost_quality_is_refused_and_can_be_accepted(source, reference):
    _, expected, _ = reference
    worse = expected.reduced.copy()
    right = expected.reduced.argmax(-1) == source.examples.label_values
    worse[right] = worse[right][:, ::-1]
    found = FormOutputs(list(worse), worse, worse.argmax(-1), expected.margins)
    quality = checks.check_quality(source, expected, found)
    agreement = checks.check_agreement(expected, found)
    assert not quality.passed and quality.values["difference"]["high"] < -0.005
    assert not agreement.passed and agreement.values["agreement_of_clear"] < 0.9
    with pytest.raises(ExportRefusedError, match="quality: accuracy changes by"):
        checks.refuse_failed([quality])
    checks.refuse_failed([quality, agreement], accept=True)
    with pytest.raises(ExportRefusedError, match="neighbors"):
        checks.refuse_failed([Check("neighbors", False, "some")], accept=True)


def test_answers_near_a_tie_do_not_count_against_it():
    margins = np.array([0.05] * 10 + [1.0] * 90)
    decisions = np.zeros(100, np.int64)
    changed = decisions.copy()
    changed[:10] = 1
    rows = [np.zeros(2)]
    outputs = [FormOutputs(rows, np.zeros((1, 2)), one, margins) for one in (decisions, changed)]
    found = checks.check_agreement(*outputs)
    assert found.passed and found.values["agreement"] == pytest.approx(0.9)
    assert found.values["agreement_of_clear"] == 1


def test_a_file_that_was_changed_afterwards_is_not_opened(exported, tmp_path):
    import shutil

    shutil.copytree(exported(), tmp_path / "copy")
    for name in ("model.onnx", "tokenizer.json"):
        file = tmp_path / "copy" / name
        content = bytearray(file.read_bytes())
        content[len(content) // 2] ^= 1
        file.write_bytes(bytes(content))
        with pytest.raises(UserError, match=f"{name} is not the file that was checked"):
            Predictor(tmp_path / "copy")
        content[len(content) // 2] ^= 1
        file.write_bytes(bytes(content))
    assert Predictor(tmp_path / "copy")("the film")


def test_an_exported_model_is_used_without_torch(exported):
    code = (
        "import sys, json; from distill import Predictor; "
        f"print(json.dumps(Predictor({str(exported())!r})('the good film'))); "
        "sys.exit(any(name in sys.modules for name in ('torch', 'transformers')))"
    )
    found = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False
    )
    assert found.returncode == 0, found.stderr
    assert set(json.loads(found.stdout)) == {"label", "score"}


# --- numpy --------------------------------------------------------------------------------------


def test_a_transformer_does_not_run_in_numpy(source):
    assert "BertForSequenceClassification" in EXPORT_FORMATS["numpy"].obstacle(source)


@pytest.mark.parametrize("fault", ["embeddings", "classifier.bias", "hidden.weight"])
def test_a_numpy_export_that_differs_is_refused(fault, runs, tmp_path):
    source, format_ = load_source(runs("pairs", "cnn").folder, "student"), EXPORT_FORMATS["numpy"]
    format_.write(source, tmp_path)
    runtime = TorchRuntime(source.model, source.settings)
    expected = checks.compute(runtime, source)
    _, made = check_exact(source, runtime, expected, format_.load(tmp_path, source.settings))
    assert all(one.passed for one in made)
    with np.load(tmp_path / "weights.npz") as stored:
        weights = {name: stored[name].copy() for name in stored.files}
    weights[fault] += 0.05
    np.savez(tmp_path / "weights.npz", **weights)
    _, made = check_exact(source, runtime, expected, format_.load(tmp_path, source.settings))
    with pytest.raises(ExportRefusedError, match="differs from the model's by"):
        checks.refuse_failed(made)


# --- the command --------------------------------------------------------------------------------


def test_options_that_do_not_go_together():
    for options, message in (
        (ExportOptions(format="numpy", quantize="int8"), "is for --format onnx"),
        (ExportOptions(neighbors="fast"), "are about --quantize int8"),
        (ExportOptions(accept=True), "are about --quantize int8"),
    ):
        with pytest.raises(UserError, match=message):
            options.check()


@slow
def test_the_command(command, small, corpus, capsys, monkeypatch):
    code, _, err = command(
        *small, "student=fastest", "student.hidden_size=8", "debug=fast", "control=false",
        "output_dir=run",
    )  # fmt: skip
    assert code == 0, err
    assert main(["run", "--format", "numpy", "-o", "exported"]) == 0
    said = capsys.readouterr().out
    assert "wrote exported" in said and "0 of 80 answers change" in said
    record = json.loads(Path("exported/export.json").read_text())
    assert record["model"] == "student" and record["forms"]["numpy"]["passed"]
    assert {file.name for file in Path("exported").iterdir()} == {
        "config.json", "weights.npz", "tokenizer.json", "predictor.py", "export.json",
    }  # fmt: skip

    # Forms in the run's own folder become models of its report, which names the fastest.
    assert main(["run", "--quantize", "int8", "--accept"]) == 0
    said = capsys.readouterr().out
    assert "chosen of blocks_32, blocks_128, static" in said and "Serve it as student_" in said
    assert main(["run", "--format", "numpy"]) == 0
    report = load_report("run")
    roles = [model.role for model in report.models]
    assert roles == ["teacher", "student", "student_onnx", "student_int8", "student_numpy"]
    form = report.model("student_onnx")
    assert form.quality["accuracy"] == report.student.quality["accuracy"] or (
        form.quality["accuracy"].value == report.student.quality["accuracy"].value
    )
    assert (
        form.speed.cpu_ms.p50 > 0
        and form.size.bytes == Path("run/student/onnx/model.onnx").stat().st_size
    )
    served = min(
        (m for m in report.models if m.extra.get("export", {}).get("passed")),
        key=lambda model: model.speed.cpu_ms.p50,
    )
    assert Predictor("run").form == served.role.removeprefix("student_")
    assert f"Serve it as {served.role}" in Path("run/report.md").read_text()
    capsys.readouterr()
    from distill.cli.report import main as report_main

    assert report_main(["run"]) == 0
    assert "int8" in capsys.readouterr().out
    assert_same(
        Predictor("run")(["the good film"]), Predictor("run", form="torch")(["the good film"])
    )

    # An export without int8 takes the place of the one with it.
    assert main(["run"]) == 0
    assert not Path("run/student/onnx/model_int8.onnx").exists()
    assert load_report("run").model("student_int8") is None

    # What is there is kept; what does not exist is said in one line.
    capsys.readouterr()
    for arguments, message in (
        (["run", "-o", "exported"], "exported exists"),
        (["run", "--what", "control"], "has no control"),
        (["nowhere"], "no such folder"),
        (["exported", "-o", "other"], "config.yaml is missing"),
    ):
        assert main(arguments) == 2
        assert message in capsys.readouterr().err

    # The teacher comes from the cache.
    assert main(["run", "--what", "teacher", "-o", "teacher"]) == 0
    assert Predictor("teacher")("the good film")["label"] in ("negative", "positive")

    # A refused export leaves what was there before, and nothing of itself.
    before = Path("run/student/onnx/export.json").read_bytes()
    capsys.readouterr()
    monkeypatch.setattr(checks, "TOLERANCE", -1.0)
    monkeypatch.setattr(checks.check_logits, "__defaults__", (-1.0,))
    assert main(["run", "-o", "refused"]) == 1
    assert "refused: logits: a logit differs" in capsys.readouterr().err
    assert not list(Path().glob("refused*"))
    with pytest.raises(ExportRefusedError):
        export_model(Path("run"), ExportOptions())
    assert Path("run/student/onnx/export.json").read_bytes() == before
    assert {file.name for file in Path("run/student").glob("onnx*")} == {"onnx"}
