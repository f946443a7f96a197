"""Small networks in numpy: the answers of torch, whatever the text; the folder by itself."""

import json
import os
import random
import subprocess
import sys

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

from distill.export.formats.numpy_folder import write_folder
from distill.modeling.loading import call_model
from distill.runtime.numpy_runtime import Predictor, TextEncoder
from tests.factories import BAD, FILLER, GOOD, make_tokenizer
from tests.student.test_small_nets import cnn, ngram, static

LABELS = ["a", "b", "c"]
MAX_LENGTH = 12
LETTERS = "abcdefghijklmnopqrstuvwxyz"
MAKERS = {
    "static": static,
    "cnn": cnn,
    "cnn of one and many": lambda **settings: cnn(widths=[1, 4, 7], **settings),
    "ngram": ngram,
    "tokens alone": lambda **settings: ngram(orders=[], character_buckets=0, **settings),
    "linear": lambda **settings: static(head_size=0, **settings),
}


@pytest.fixture(scope="module")
def words():
    return make_tokenizer([*FILLER, *GOOD, *BAD, *LETTERS, *(f"##{letter}" for letter in LETTERS)])


def texts(pairs: bool) -> list:
    """Return texts of every length, with known and unknown words; also empty and too long."""
    draw = random.Random(0)
    known = [*FILLER, *GOOD, *BAD, "zebra", "ß", "[SEP]", "日本", "!?"]
    single = ["", " ", "good", *(" ".join(draw.choices(known, k=k)) for k in range(1, 30))]
    if not pairs:
        return single
    return [(first, draw.choice(single)) for first in single]


def in_torch(model, tokenizer, given) -> np.ndarray:
    """Logits of texts, one at a time, by the model itself."""
    rows = []
    with torch.inference_mode():
        for text in given:
            first, second = (text, None) if isinstance(text, str) else text
            inputs = tokenizer(
                first, second, truncation=True, max_length=MAX_LENGTH, return_tensors="pt"
            )
            rows.append(call_model(model.eval(), inputs).logits.numpy())
    return np.concatenate(rows)


@pytest.mark.parametrize("pairs", [False, True])
@pytest.mark.parametrize("pooling", ["mean", "max", "mean_max"])
@pytest.mark.parametrize("kind", MAKERS)
def test_answers_are_those_of_torch(kind, pooling, pairs, words, tmp_path):
    model = MAKERS[kind](vocab_size=len(words), pooling=pooling, pairs=pairs)
    write_folder(model, words, LABELS, MAX_LENGTH, tmp_path)
    given = texts(pairs)
    expected = in_torch(model, words, given)
    found = Predictor(tmp_path).logits(given)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)
    assert found.dtype == np.float32
    # Once more, in another order: an answer depends on nothing but its text.
    again = Predictor(tmp_path).logits(given[::-1])[::-1]
    np.testing.assert_array_equal(again, found)


@pytest.mark.parametrize("lowercase", [True, False])
@pytest.mark.parametrize("kind", ["bert", "roberta"])
def test_ids_are_those_of_the_tokenizer(kind, lowercase, words, tmp_path):
    backend = Tokenizer.from_str(words.backend_tokenizer.to_str())
    backend.normalizer = normalizers.BertNormalizer(lowercase=lowercase)
    if kind == "roberta":
        backend = Tokenizer(models.BPE({"a": 0, "<s>": 1, "</s>": 2, "b": 3}, [], unk_token="<s>"))
        backend.pre_tokenizer = pre_tokenizers.ByteLevel()
    backend.save(str(tmp_path / "tokenizer.json"))
    backend.enable_truncation(MAX_LENGTH)
    encode = TextEncoder(tmp_path / "tokenizer.json", MAX_LENGTH)
    assert encode.separable == (kind == "bert")
    draw = random.Random(1)
    signs = "ab  cdefgzZGÀéß日\t\n\r\x00\x7f\u200b.,;:!?-_'\"[]{}()@#$%^&*+=|\\/<>~`0123456789"
    parts = [*FILLER, *GOOD, "Good", "the-film", "[SEP]", "[sep]", "[MASK", "x" * 120, "can't"]
    given = texts(False) + [
        "".join(draw.choices(signs, k=draw.randrange(12))) + " ".join(draw.choices(parts, k=k % 9))
        for k in range(2000)
    ]
    for text in given:
        expected = backend.encode(text).ids
        assert encode(text) == expected, text
        assert encode(text) == expected, text  # from words that are known by now
    assert encode(("good film", "bad")) == backend.encode("good film", "bad").ids


@pytest.mark.parametrize(
    ("problem_type", "labels"),
    [("single_label_classification", 3), ("multi_label_classification", 3), ("regression", 1)],
)
def test_answers_read_as_the_task_means_them(problem_type, labels, words, tmp_path):
    model = static(vocab_size=len(words), num_labels=labels, problem_type=problem_type)
    write_folder(model, words, LABELS[:labels], MAX_LENGTH, tmp_path)
    logits = in_torch(model, words, ["the good film"])[0].astype(float)
    (answer,) = Predictor(tmp_path).predict(["the good film"])
    if problem_type == "regression":
        assert answer == {"label": "a", "value": pytest.approx(logits[0], rel=1e-4)}
        return
    if problem_type.startswith("multi"):
        scores = dict(zip(LABELS, 1 / (1 + np.exp(-logits)), strict=True))
        assert answer["labels"] == [name for name in LABELS if scores[name] > 0.5]
    else:
        scores = dict(zip(LABELS, np.exp(logits) / np.exp(logits).sum(), strict=True))
        assert answer["label"] == max(scores, key=scores.__getitem__)
        assert answer["score"] == pytest.approx(max(scores.values()), rel=1e-4)
    assert answer["scores"] == pytest.approx(scores, rel=1e-4)


def test_the_folder_needs_numpy_and_tokenizers_alone(words, tmp_path):
    model = cnn(vocab_size=len(words))
    folder = tmp_path / "exported"
    folder.mkdir()
    write_folder(model, words, LABELS, MAX_LENGTH, folder)
    code = (
        "import sys\n"
        "for name in ('torch', 'transformers', 'distill'): sys.modules[name] = None\n"
        "import predictor\n"
        "sys.exit(predictor.main([]))\n"
    )
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=folder, input="the good film\n\nzebra\n",
        env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    assert answers == Predictor(folder).predict(["the good film", "", "zebra"])


def test_the_temperature_calibrates_and_changes_no_answer(words, tmp_path):
    model, found = static(vocab_size=len(words)), []
    for temperature in (1.0, 2.0):
        (tmp_path / str(temperature)).mkdir()
        write_folder(model, words, LABELS, MAX_LENGTH, tmp_path / str(temperature), temperature)
        found += Predictor(tmp_path / str(temperature)).predict(["the good film"])
    odds = [np.log(one["scores"]["a"] / one["scores"]["b"]) for one in found]
    assert (
        odds[0] == pytest.approx(2 * odds[1], rel=1e-4) and found[0]["label"] == found[1]["label"]
    )


def test_a_folder_of_a_later_version_is_refused(words, tmp_path):
    write_folder(static(vocab_size=len(words)), words, LABELS, MAX_LENGTH, tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"format": 99}))
    with pytest.raises(ValueError, match="format 99"):
        Predictor(tmp_path)
