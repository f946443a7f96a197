"""One predictor: its answers are those of evaluation, for every task and student."""

import json
import subprocess
import sys

import numpy as np
import pytest

from distill.answers.base import RecordError
from distill.core.errors import UserError
from distill.metrics.fidelity import log_softmax
from distill.predict import Predictor
from tests.predict.runs import ROWS, TOKENIZER, make_run


@pytest.mark.parametrize("case", [case for case in ROWS if case != "masked_lm"])
def test_tokens_are_those_of_evaluation(case, runs):
    run = runs(case)
    predictor, examples = Predictor(run.folder), run.examples()
    parsed = [predictor.reader.parse(row) for row in run.rows]
    encoded = predictor.reader.encode(predictor.tokenizer, parsed)
    windows = [window for record in encoded for window in record.windows]
    assert [list(window.ids) for window in windows] == examples.student["input_ids"][:]
    assert [list(window.type_ids) for window in windows] == examples.student["token_type_ids"][:]
    if windows[0].positions is not None:
        assert [list(one.positions) for one in windows] == examples.student["positions"][:]


@pytest.mark.parametrize("case", ["sequence_classification", "pairs"])
def test_a_class_is_that_of_evaluation_with_its_probability(case, runs):
    run = runs(case)
    logits = run.logits()
    answers = Predictor(run.folder)(run.rows, everything=True)
    p = np.exp(log_softmax(logits))
    names = run.data.label_names
    assert [answer["label"] for answer in answers] == [names[i] for i in logits.argmax(-1)]
    assert len({answer["label"] for answer in answers}) == 2
    np.testing.assert_allclose([a["score"] for a in answers], p.max(-1), atol=2e-6)
    np.testing.assert_allclose([list(a["scores"].values()) for a in answers], p, atol=2e-6)


def test_labels_and_numbers_are_those_of_evaluation(runs):
    run = runs("multi_label")
    answers = Predictor(run.folder)(run.rows)
    expected = [
        [name for name, z in zip(run.data.label_names, row, strict=True) if z >= 0]
        for row in run.logits()
    ]
    assert [answer["labels"] for answer in answers] == expected
    assert all(list(answer["scores"]) == answer["labels"] for answer in answers)
    run = runs("regression")
    values = [answer["value"] for answer in Predictor(run.folder)(run.rows)]
    np.testing.assert_allclose(values, run.logits()[:, 0], atol=1e-5)


def test_words_have_the_tags_of_evaluation_and_their_place_in_the_text(runs):
    run = runs("token_classification")
    predictor = Predictor(run.folder)
    rows = run.logits().split()
    for row, logits, answer in zip(run.rows, rows, predictor(run.rows), strict=True):
        text = " ".join(row["tokens"])
        assert [word["word"] for word in answer["words"]] == row["tokens"]
        assert all(text[w["start"] : w["end"]] == w["word"] for w in answer["words"])
        read = [word["label"] for word in answer["words"]][: len(logits)]
        assert read == [run.data.label_names[i] for i in logits.argmax(-1)]
        assert all(text[e["start"] : e["end"]] == e["text"] for e in answer["entities"])
    # A text is split into words and signs; places are those in the text as it was given.
    text = "  the film,the  plot"
    answer = predictor(text)
    assert [word["word"] for word in answer["words"]] == ["the", "film", ",", "the", "plot"]
    assert all(text[word["start"] : word["end"]] == word["word"] for word in answer["words"])


def test_spans_are_those_of_evaluation(runs):
    run = runs("question_answering")
    examples = run.examples()
    expected = run.task.evaluator.predict_answers(run.logits(), examples)
    assert len(examples) > len(run.rows), "some contexts have several windows"
    answers = Predictor(run.folder)(run.rows)
    assert [answer["answer"] for answer in answers] == list(expected.values())
    for row, answer in zip(run.rows, answers, strict=True):
        if answer["answer"]:
            assert row["context"][answer["start"] : answer["end"]] == answer["answer"]
        assert 0 <= answer["score"] <= 1


def test_masks_are_filled_in(runs):
    import torch

    run = runs("masked_lm")
    text = "the [MASK] was [MASK] good"
    answer = Predictor(run.folder)(text, everything=True)
    inputs = TOKENIZER(text, return_tensors="pt")
    with torch.inference_mode():
        p = run.model(**inputs).logits[0].softmax(-1)
    for mask, position in zip(answer["masks"], (2, 4), strict=True):
        assert mask["token"] == TOKENIZER.decode([int(p[position].argmax())])
        assert mask["score"] == pytest.approx(float(p[position].max()), abs=1e-5)
        assert len(mask["candidates"]) == 5
        assert text[mask["start"] : mask["end"]] == "[MASK]"
    first, second = (mask["token"] for mask in answer["masks"])
    assert answer["text"] == f"the {first} was {second} good"
    with pytest.raises(RecordError, match="no mask"):
        Predictor(run.folder)("the film")


def test_the_temperature_of_the_run_calibrates(runs, tmp_path):
    run = make_run(tmp_path)
    before = Predictor(run.folder)("the good film")
    models = [{"role": "student", "temperature_scaling": {"temperature": 2.5}}]
    (run.folder / "report.json").write_text(json.dumps({"models": models}))
    after = Predictor(run.folder)("the good film")
    odds = [np.log(one["score"] / (1 - one["score"])) for one in (before, after)]
    assert odds[0] / odds[1] == pytest.approx(2.5, rel=1e-3) and before["label"] == after["label"]


def test_a_bad_record_leaves_the_others_as_they_are(runs):
    predictor = Predictor(runs().folder)
    good = predictor("the good film")
    records = ["the good film", "  ", {"txt": "x"}, {"text": 3}, None, "a \ud800", ["a", "b", "c"]]
    first, *bad = predictor.answers(records)
    assert first == good
    reasons = [str(error) for error in bad]
    assert all(isinstance(error, RecordError) for error in bad)
    assert "is empty" in reasons[0] and "there is no 'text'" in reasons[1]
    assert "a number, not a text" in reasons[2] and "not null" in reasons[3]
    assert "UTF-8" in reasons[4] and "not a list" in reasons[5]
    with pytest.raises(RecordError, match="is empty"):
        predictor([" "])
    assert predictor([]) == []


def test_columns_have_the_names_of_the_data_or_the_usual_ones(runs):
    predictor = Predictor(runs("question_answering").folder)
    row = {"question": "was the film", "context": "the film was good"}
    named = predictor({"text": row["question"], "text_pair": row["context"]})
    assert predictor(row) == named == predictor(tuple(row.values()))
    with pytest.raises(RecordError, match="there is no 'context' or 'text_pair'"):
        predictor({"question": "was the film"})


def test_what_is_no_model_is_said_in_one_line(tmp_path, runs):
    for path, message in ((tmp_path / "no", "no such folder"), (tmp_path, "there is no model")):
        with pytest.raises(UserError, match=message):
            Predictor(path)
    with pytest.raises(UserError, match="has no control"):
        Predictor(runs().folder, model="control")
    with pytest.raises(UserError, match="has no form int8"):
        Predictor(runs().folder, form="int8")


def test_a_saved_model_without_a_run(runs, tmp_path):
    run = runs("multi_label")
    run.model.save_pretrained(tmp_path / "alone")
    TOKENIZER.save_pretrained(tmp_path / "alone")
    records = [row["text"] for row in run.rows if len(row["text"].split()) < 10]
    assert Predictor(tmp_path / "alone")(records) == Predictor(run.folder / "student")(records)


def test_importing_it_needs_no_torch():
    code = "import sys, distill.predict; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], timeout=60).returncode == 0
