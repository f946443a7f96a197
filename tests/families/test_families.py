"""Families as teachers and as students: whole runs on tiny models, or one line before training."""

import json
import math
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

import distill
from distill.core.errors import UserError
from distill.modeling import loading
from distill.pipeline.components import FULL_PRECISION
from tests.factories import make_tokenizer, sentences, write_csv
from tests.families.models import FAMILIES, WORDS, make_family

# What cannot work, and what is said before anything is trained.
REFUSED = {("albert", "teacher"): "no single stack of layers"}


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """A folder with data in ``d`` and a BERT in ``bert``."""
    root = tmp_path_factory.mktemp("families")
    for split, count in (("train", 64), ("validation", 16), ("test", 24)):
        write_csv(root / "d" / f"{split}.csv", sentences(count, len(split)))
        pairs = [row | {"text_pair": row["text"]} for row in sentences(count, len(split))]
        write_csv(root / "pairs" / f"{split}.csv", pairs)
    make_family("bert", root / "bert")
    return root


@pytest.fixture
def run(place, monkeypatch):
    monkeypatch.chdir(place)

    def run(*overrides: str, data: str = "d"):
        return distill.run(
            [
                "data=files", f"data.path={place / data}", f"cache_dir={place}/cache",
                "data.max_length=24", "control=false", "trainer.max_epochs=1", "teacher.epochs=1",
                "trainer.accelerator=cpu", "trainer.precision=bf16-mixed", *overrides,
            ]
        )  # fmt: skip

    return run


@pytest.mark.slow
@pytest.mark.parametrize("role", ["teacher", "student"])
@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_in_every_role(place, run, family, role, monkeypatch):
    model = place / family
    if not model.exists():
        make_family(family, model)
    options = (
        [f"teacher.path={model}", "student=half"]
        if role == "teacher"
        else [f"teacher.path={place}/bert", "student=hub", f"student.path={model}"]
    )
    if (family, role) in REFUSED:
        monkeypatch.setattr("distill.training.trainer.TrainerFactory.fit", None)
        with pytest.raises(UserError, match=REFUSED[family, role]):
            run(*options)
        return
    if family in FULL_PRECISION:
        with pytest.raises(UserError, match=r"set trainer\.precision=32-true"):
            run(*options)
        options.append("trainer.precision=32-true")
    report = run(*options, f"output_dir={place}/runs/{family}-{role}")
    assert [each.role for each in report.models] == ["teacher", "student"]
    for each in report.models:
        assert all(math.isfinite(value.value) for value in each.quality.values())
        assert each.size.multiply_accumulates > 0
    folder = place / "runs" / f"{family}-{role}" / "student"
    accuracy = report.models[1].quality["accuracy"].value
    assert transformers_accuracy(folder, place / "d" / "test.csv") == accuracy


def transformers_accuracy(folder: Path, file: Path) -> float:
    """Return the accuracy of a saved student, by transformers alone."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    rows = [line.rsplit(",", 1) for line in file.read_text().splitlines()[1:]]
    right = 0
    for text, label in rows:
        inputs = tokenizer(text, truncation=True, max_length=24, return_tensors="pt")
        if "token_type_ids" not in model.forward.__code__.co_varnames:
            inputs.pop("token_type_ids", None)
        with torch.no_grad():
            best = int(model(**inputs).logits.argmax())
        right += model.config.id2label[best] == label
    return right / len(rows)


@pytest.mark.slow
@pytest.mark.parametrize("family", ["roberta", "xlm-roberta", "longformer"])
def test_one_token_type_and_a_tokenizer_that_makes_two(place, run, tmp_path, family):
    """KLUE's RoBERTa has the tokenizer of a BERT, which marks the second text of a pair."""
    make_family(family, tmp_path / "model", vocab_size=40)
    make_tokenizer(WORDS).save_pretrained(tmp_path / "model")
    run(f"teacher.path={tmp_path}/model", "student=half", f"output_dir={family}", data="pairs")
    inputs = AutoTokenizer.from_pretrained(f"{family}/student")("a film", "a story")
    assert "token_type_ids" not in inputs


@pytest.mark.parametrize(
    ("family", "positions"),
    [("bert", 64), ("distilbert", 64), ("roberta", 62), ("camembert", 62), ("mpnet", 62),
     ("longformer", 62), ("xlm-roberta", 62), ("electra", 64), ("modernbert", 64)],
)  # fmt: skip
def test_the_longest_text_that_a_family_reads(tmp_path, family, positions):
    make_family(family, tmp_path)
    config = loading.load_config(str(tmp_path), "it")
    assert loading.max_positions(config) == positions
    tokenizer = loading.fit_processor(loading.load_tokenizer(str(tmp_path), "it"), config)
    assert tokenizer.model_max_length == positions
    model = AutoModelForSequenceClassification.from_pretrained(tmp_path).eval()
    words = " ".join(["film"] * 100)
    inputs = tokenizer(words, truncation=True, return_tensors="pt")
    assert inputs["input_ids"].shape == (1, positions)
    assert loading.call_model(model, dict(inputs)).logits.isfinite().all()


def test_a_tokenizer_with_more_tokens_than_the_model(place, run, tmp_path, monkeypatch):
    monkeypatch.setattr("distill.training.trainer.TrainerFactory.fit", None)
    make_family("bert", tmp_path / "model")
    make_tokenizer([*WORDS, "more", "words"]).save_pretrained(tmp_path / "model")
    for options in (
        [f"teacher.path={tmp_path}/model", "student=half"],
        [f"teacher.path={place}/bert", "student=hub", f"student.path={tmp_path}/model"],
    ):
        with pytest.raises(UserError, match="its tokenizer has 29 tokens"):
            run(*options)


@pytest.mark.parametrize(
    ("family", "layers", "says"),
    [
        ("modernbert", "[1,3]", "layer 1 of modernbert has other parts than its layer 0"),
        ("modernbert", "[2,0]", "other parts"),
    ],
)
def test_layers_that_are_not_alike(run, tmp_path, monkeypatch, family, layers, says):
    monkeypatch.setattr("distill.training.trainer.TrainerFactory.fit", None)
    make_family(family, tmp_path / "model")
    with pytest.raises(UserError, match=says):
        run(f"teacher.path={tmp_path}/model", "student=half", f"student.layers={layers}")


def test_a_tokenizer_without_padding(run, tmp_path, monkeypatch):
    monkeypatch.setattr("distill.training.trainer.TrainerFactory.fit", None)
    make_family("bert", tmp_path / "model")
    file = tmp_path / "model" / "tokenizer_config.json"
    config = json.loads(file.read_text())
    config["pad_token"] = None
    file.write_text(json.dumps(config))
    (tmp_path / "model" / "special_tokens_map.json").unlink(missing_ok=True)
    if loading.AutoTokenizer.from_pretrained(tmp_path / "model").pad_token is not None:
        config["tokenizer_class"] = "PreTrainedTokenizerFast"
        file.write_text(json.dumps(config))
    with pytest.raises(UserError, match="has no padding token"):
        run(f"teacher.path={tmp_path}/model")
