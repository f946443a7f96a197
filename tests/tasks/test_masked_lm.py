"""Masked language modelling: what is learnt, measured and left behind, through the real command."""

import gzip
import json
import math
import random
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForMaskedLM, AutoTokenizer, BertConfig, BertForMaskedLM, pipeline

from distill.core import hardware
from distill.data.dataset import DistillationDataset
from distill.data.sampler import BatchIndices
from distill.data.token_masking import TokenMasking
from distill.distributed.environment import ProcessRank
from distill.evaluation import speed
from distill.metrics.statistics import bootstrap_interval
from distill.modeling import features, size
from distill.modeling import forward as forward_module
from distill.modeling.forward import forward_at_positions
from distill.student import narrow
from distill.student.narrow import Widths
from distill.tasks.masked_lm import MaskedLM
from distill.training import inference
from distill.training import module as training
from distill.training.inference import predict_logits
from distill.training.module import DistillationModule
from tests.cli import test_bad_input
from tests.data.test_token_masking import rows_of
from tests.factories import (
    collator,
    curves,
    losses,
    make_model,
    make_tokenizer,
    report_of,
    sentences,
    write_csv,
)

refused = test_bad_input.refused
CPU = hardware.resolve_hardware("cpu", "32-true")
WORDS = [f"w{i}" for i in range(12)]


def language(count: int, seed: int) -> list[str]:
    """Every word is followed by one of two: what stands between two words is nearly certain."""
    draw = random.Random(seed)
    texts = []
    for _ in range(count):
        word, words = draw.randrange(12), []
        for _ in range(draw.randint(8, 20)):
            words.append(WORDS[word])
            word = (word + draw.choice((1, 1, 1, 2))) % 12
        texts.append(" ".join(words))
    return texts


@pytest.fixture(scope="session")
def plain_text(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("data") / "language"
    folder.mkdir()
    for split, count, seed in (("train", 600, 1), ("validation", 80, 2), ("test", 100, 3)):
        (folder / f"{split}.txt").write_text("\n".join(language(count, seed)) + "\n")
    return folder


@pytest.fixture(scope="session")
def encoder(tmp_path_factory) -> Path:
    """A pretrained encoder whose checkpoint has no head, as sentence encoders have none."""
    folder = tmp_path_factory.mktemp("models") / "encoder"
    torch.manual_seed(0)
    model = BertForMaskedLM(
        BertConfig(
            vocab_size=17, hidden_size=48, num_hidden_layers=4, num_attention_heads=2,
            intermediate_size=96, max_position_embeddings=32, hidden_dropout_prob=0.0,
            attention_probs_dropout_prob=0.0,
        )
    )  # fmt: skip
    model.bert.save_pretrained(folder)
    make_tokenizer(WORDS).save_pretrained(folder)
    return folder


@pytest.fixture
def given(plain_text, encoder, shared_cache) -> list[str]:
    return [
        "task=masked_lm", "data=files", f"data.path={plain_text}", f"teacher.path={encoder}",
        f"cache_dir={shared_cache}", "data.max_length=24", "trainer.precision=32-true",
        "trainer.accelerator=cpu", "optimizer.learning_rate=3e-3", "teacher.epochs=24",
        "teacher.learning_rate=3e-3", "student=half", "trainer.max_epochs=6",
        "trainer.patience=null", "task.mlm_probability=0.25",
    ]  # fmt: skip


def fast(given: list[str]) -> list[str]:
    """For runs that only have to go through."""
    return [*given, "teacher.epochs=1", "debug=fast", "data.max_length=24", "output_dir=run"]


def chance(plain_text: Path) -> float:
    """Always the most frequent word."""
    counts = Counter((plain_text / "test.txt").read_text().split())
    return counts.most_common(1)[0][1] / counts.total()


def test_a_student_of_plain_text_and_its_tasks(command, given, plain_text, encoder, tmp_path):
    """The upstream task, then labelled ones by its student's path, as student and as teacher."""
    code, _, err = command(*given, "output_dir=run")
    assert code == 0, err
    report = report_of(Path("run"))
    assert report["task"] == "masked_lm"
    assert report["data"]["labels"] == []
    assert report["comparison"]["metric"] == "accuracy"
    guess = chance(plain_text)
    for model in report["models"]:
        assert list(model["quality"]) == ["accuracy", "perplexity"]
        assert set(model["calibration"]) == {
            "expected_calibration_error", "negative_log_likelihood",
        }  # fmt: skip
        nll = model["calibration"]["negative_log_likelihood"]
        perplexity = model["quality"]["perplexity"]
        assert perplexity["value"] == pytest.approx(math.exp(nll))
        assert perplexity["low"] < perplexity["value"] < perplexity["high"]
        assert model["per_class"] is None
    teacher, student, _ = report["models"]
    assert teacher["quality"]["accuracy"]["value"] > guess + 0.3  # its head was trained first
    assert student["quality"]["accuracy"]["low"] > guess + 0.2
    assert student["quality"]["perplexity"]["high"] < 8  # of 12 words
    assert set(student["fidelity"]) == {"agreement", "kl_divergence"}
    assert student["fidelity"]["kl_divergence"] is None
    falling = losses(Path("run"))
    assert falling[-1] < 0.9 * falling[0]
    tags = curves(Path("run")).Tags()["scalars"]
    assert {
        "train/loss", "validation/accuracy", "validation/perplexity", "final/accuracy",
        "measures/perplexity",
    } <= set(tags)  # fmt: skip
    assert "perplexity" in Path("run/report.md").read_text()
    config = json.loads(Path("run/student/config.json").read_text())
    assert config["architectures"] == ["BertForMaskedLM"]
    assert len(config.get("id2label", {})) <= 2  # not the vocabulary
    saved = AutoModelForMaskedLM.from_pretrained("run/student")
    assert saved.get_output_embeddings().weight is saved.get_input_embeddings().weight
    card = Path("run/student/README.md").read_text()
    assert "pipeline_tag: fill-mask" in card
    fill = pipeline("fill-mask", model="run/student")
    (best, *_) = fill("w3 w4 [MASK] w6 w7 w8")
    assert best["token_str"] == "w5"

    # What it can do now serves a task with labels.
    for split, count, seed in (("train", 120, 4), ("validation", 40, 5), ("test", 40, 6)):
        write_csv(
            tmp_path / "labelled" / f"{split}.csv",
            [
                {"text": text, "label": ("low", "high")[int(text.split()[0][1:]) >= 6]}
                for text in language(count, seed)
            ],
        )
    downstream = [
        *(one for one in given if not one.startswith(("task", "data.path=", "teacher."))),
        f"data.path={tmp_path}/labelled", "trainer.max_epochs=2", "teacher.epochs=2",
        "teacher.learning_rate=1e-3",
    ]  # fmt: skip
    code, _, err = command(
        *downstream, f"teacher.path={encoder}", "student=hub", "student.path=run",
        "optimizer.learning_rate=1e-9", "optimizer.warmup=0", "control=false", "output_dir=second",
    )  # fmt: skip
    assert code == 0, err
    second = load_file("second/student/model.safetensors")
    # (At a learning rate of next to nothing it still has the weights that it came with.)
    for key, weight in load_file("run/student/model.safetensors").items():
        if key.startswith("bert.encoder"):
            torch.testing.assert_close(second[key], weight, rtol=0, atol=1e-5)
    assert json.loads(Path("second/student/config.json").read_text())["id2label"] == {
        "0": "high", "1": "low",
    }  # fmt: skip
    code, _, err = command(
        *downstream,
        "teacher.path=run",
        "student=half",
        "output_dir=third",
        "control=false",
        "teacher.epochs=4",
    )
    assert code == 0, err
    assert "teacher: fine-tuning" in Path("third/run.log").read_text()
    third = json.loads(Path("third/report.json").read_text())
    assert third["models"][0]["quality"]["accuracy"]["value"] > 0.8

    # And it teaches plain text as it is.
    code, _, err = command(*fast(given), "teacher.path=run", "control=false", "output_dir=fourth")
    assert code == 0, err
    assert "is used as it is" in Path("fourth/run.log").read_text()


def test_quality_against_a_loop(tokenizer):
    """Every masked token by itself, from the whole model's logits, in plain arithmetic."""
    task, rows, model, examples = measured(tokenizer)
    masked = TokenMasking(tokenizer)(rows[:], None)
    nll, right, each = [], [], []
    with torch.no_grad():
        for ids, at, labels in zip(
            masked["input_ids"], masked["positions"], masked["label"], strict=True
        ):
            logits = model(torch.tensor(ids).unsqueeze(0)).logits[0].double().numpy()
            sums = [0.0, 0]
            for place, label in zip(at, labels, strict=True):
                odds = np.exp(logits[place])
                nll.append(-math.log(odds[label] / odds.sum()))
                right.append((int(np.argmax(odds)) == label, odds.max() / odds.sum()))
                sums = [sums[0] + nll[-1], sums[1] + right[-1][0]]
            each.append(sums)
    said = predict_logits(model, examples, CPU, reduce_logits=task.evaluator.reduce_logits)
    sums, units = task.evaluator.metric_inputs(said, examples)
    np.testing.assert_allclose(sums, each, rtol=1e-5)
    assert units.tolist() == [len(at) for at in masked["positions"]]
    metrics = {name: metric(sums, units) for name, metric in task.evaluator.metrics.items()}
    assert list(metrics) == ["accuracy", "perplexity"]
    assert metrics["accuracy"] == pytest.approx(sum(hit for hit, _ in right) / len(right))
    assert 0 < metrics["accuracy"] < 1
    assert metrics["perplexity"] == pytest.approx(math.exp(sum(nll) / len(nll)), rel=1e-5)
    calibration = task.evaluator.calibration(said, examples.labels)
    assert calibration["negative_log_likelihood"] == pytest.approx(sum(nll) / len(nll), rel=1e-5)
    bins: dict[int, list[float]] = {}
    for hit, confidence in right:
        bins.setdefault(math.ceil(confidence * 15), []).append(hit - confidence)
    error = sum(abs(sum(one)) for one in bins.values()) / len(right)
    assert calibration["expected_calibration_error"] == pytest.approx(error, rel=1e-4)
    assert task.evaluator.fidelity(said, said) == {"agreement": 1.0, "kl_divergence": None}
    interval = bootstrap_interval(
        task.evaluator.metrics["perplexity"].function, sums, units, resamples=200
    )
    assert interval.low < metrics["perplexity"] < interval.high


def measured(tokenizer):
    task = MaskedLM()
    rows = rows_of(tokenizer, [row["text"] for row in sentences(60, 3)])
    torch.manual_seed(0)
    model = AutoModelForMaskedLM.from_config(make_model(layers=2, initializer_range=0.5).config)
    collate = collator(tokenizer, task.preprocessor.batch_transform(tokenizer, rows))
    return task, rows, model.eval(), DistillationDataset(rows, collate)


def test_neither_padding_nor_batches_change_what_is_said(tokenizer):
    task, _, model, examples = measured(tokenizer)
    alone, together = (
        predict_logits(model, examples, CPU, batch, task.evaluator.reduce_logits)
        for batch in (1, 60)
    )
    np.testing.assert_allclose(alone.values, together.values, atol=1e-5)
    subset = examples.select(range(7, 20))
    part = predict_logits(model, subset, CPU, reduce_logits=task.evaluator.reduce_logits)
    np.testing.assert_allclose(part.values, together[range(7, 20)], atol=1e-5)


def test_processes_share_the_masked_tokens(tokenizer):
    _, _, _, examples = measured(tokenizer)
    whole = examples[BatchIndices(range(7), pass_seed=(0, 3))]
    parts = [examples[BatchIndices(range(7), ProcessRank(rank, 2), (0, 3))] for rank in range(2)]
    assert sum(len(part["labels"]) for part in parts) == len(whole["labels"])
    for part in parts:
        assert part["batch_share"] == pytest.approx(2 * len(part["labels"]) / len(whole["labels"]))
    shared = torch.cat([part["labels"] for part in parts]).sort().values
    assert torch.equal(shared, whole["labels"].sort().values)


def test_no_logits_of_tokens_that_nobody_asks_about(command, given, monkeypatch):
    """Of teacher and student, in training, validation and measuring (latency is the user's)."""
    asked, made, timing, masked_at_once = [], [], [], []

    def forward(model, inputs, **settings):
        asked.append(int((inputs["positions"] >= 0).sum()))
        return original(model, inputs, **settings)

    def count(module, arguments, output):
        if isinstance(module, torch.nn.Linear) and module.out_features == 17 and not timing:
            made.append(output.shape[:-1].numel())

    def untimed(function):
        def call(*arguments, **named):
            timing.append(True)
            try:
                return function(*arguments, **named)
            finally:
                timing.pop()

        return call

    def labels(self):
        masked_at_once.append(len(self))
        return all_labels(self)

    original, all_labels = forward_at_positions, DistillationDataset._transformed_labels
    # A training split may be larger than memory: only what is measured is masked as a whole.
    monkeypatch.setattr(DistillationDataset, "_transformed_labels", labels)
    for module in (features, forward_module, inference, training):
        monkeypatch.setattr(module, "forward_at_positions", forward)
    monkeypatch.setattr(speed, "measure_speed", untimed(speed.measure_speed))
    monkeypatch.setattr(size, "multiply_accumulates", untimed(size.multiply_accumulates))
    hook = torch.nn.modules.module.register_module_forward_hook(count)
    try:
        code, _, err = command(*fast(given), "objective=distilbert")
    finally:
        hook.remove()
    assert code == 0, err
    # Two batches of each training and one of each validation at least; three models are measured.
    assert len(made) > 12
    assert made == asked
    assert masked_at_once and max(masked_at_once) <= 100 < 600


def test_resume_continues_to_the_bit(command, small, monkeypatch):
    """Stopped within the second pass, whose masks are drawn anew; a file of another task's."""
    given = [*small, "task=masked_lm", "task.smoothing=0.7", "trainer.max_epochs=3"]
    code, _, err = command(*given, "output_dir=whole")
    assert code == 0, err
    step, stopped = DistillationModule.training_step, []

    def stop(self, batch, index):
        if not self.prefix and self.trainer.current_epoch == 1 and index == 3:
            stopped.append(True)
            raise KeyboardInterrupt
        return step(self, batch, index)

    with monkeypatch.context() as patch:
        patch.setattr(DistillationModule, "training_step", stop)
        code, _, _ = command(*given, "output_dir=stopped")
    assert (code, stopped) == (130, [True])
    code, _, err = command("resume=stopped")
    assert code == 0, err
    first, second = (
        torch.load(f"{name}/checkpoints/last.ckpt", weights_only=True)["state_dict"]
        for name in ("whole", "stopped")
    )
    assert all(torch.equal(first[key], second[key]) for key in first)
    for role in ("student", "control"):
        first, second = (
            load_file(f"{name}/{role}/model.safetensors") for name in ("whole", "stopped")
        )
        assert all(torch.equal(first[key], second[key]) for key in first), role


@pytest.mark.parametrize(
    "objective",
    ["distilbert", "minilm", "minilmv2", "tinybert", "pkd", "kd_mse", "dkd", "dist"],
)
def test_objectives(command, given, objective):
    whole = [f"objective.{name}.epochs=null" for name in ("intermediate", "prediction")]
    code, _, err = command(
        *fast(given), f"objective={objective}", *(whole if objective == "tinybert" else []),
        *(["objective.hidden_states.tokens=all"] if objective == "pkd" else []), "control=false",
    )  # fmt: skip
    assert code == 0, err
    assert json.loads(Path("run/report.json").read_text())["task"] == "masked_lm"


@pytest.mark.parametrize(
    "student",
    ["third", "single", "tiny", "narrow", "half student.layers=[3,1]"],
)
def test_students(command, given, student):
    code, _, err = command(*fast(given), *f"student={student}".split(), "control=false")
    assert code == 0, err
    model = AutoModelForMaskedLM.from_pretrained("run/student")
    assert model.get_output_embeddings().weight is model.get_input_embeddings().weight
    tokens = AutoTokenizer.from_pretrained("run/student")(["w1 [MASK] w3"], return_tensors="pt")
    assert model(**tokens).logits.shape == (1, 5, 17)


def test_an_ensemble(command, given, encoder):
    code, _, err = command(
        *(one for one in fast(given) if not one.startswith("teacher.path")), "teacher=ensemble",
        f"teacher.paths=[{encoder},{encoder}]", "teacher.seeds=[0,1]", "teacher.epochs=1",
        "task.whole_word=true", "control=false",
    )  # fmt: skip
    assert code == 0, err


def test_what_is_masked_is_part_of_what_was_measured_and_kept(command, given, tmp_path):
    fingerprints = set()
    for option in ("mlm_probability=0.2", "mlm_probability=0.3", "smoothing=0.7"):
        code, _, err = command(
            *fast(given),
            f"task.{option}",
            f"cache_dir={tmp_path}/cache",
            "control=false",
            "overwrite=true",
        )
        assert code == 0, err
        report = json.loads(Path("run/report.json").read_text())
        assert not report["reused"]["teacher"]  # each has a teacher trained on its own masks
        fingerprints.add(report["data"]["fingerprint"])
    assert len(fingerprints) == 3  # the first has 0.2, the last 0.25


@pytest.mark.parametrize("family", ["bert", "roberta", "electra", "distilbert"])
def test_a_narrower_model_with_its_head(family):
    torch.manual_seed(0)
    model = AutoModelForMaskedLM.from_config(make_model(family, layers=2).config).eval()
    ids = {"input_ids": torch.tensor([[2, 7, 9, 3]]), "attention_mask": torch.ones(1, 4).long()}
    same = narrow.narrow_model(model, Widths.from_config(model.config), "magnitude").eval()
    assert torch.equal(same(**ids).logits, model(**ids).logits)
    small = narrow.narrow_model(model, Widths(16, 1, 20), "magnitude")
    assert small(**ids).logits.shape == (1, 4, 32)
    assert small.get_output_embeddings().weight is small.get_input_embeddings().weight


def test_a_head_of_the_teacher_is_not_drawn_anew(command, small, pretrained):
    """Trained on, where that is asked for: from what it has, tied as it is."""
    code, _, err = command(
        *small, "task=masked_lm", "teacher.fine_tune=true", "teacher.learning_rate=1e-9",
        "debug=fast", "data.max_length=24", "control=false", "student.layers=[0,1,2,3]",
        "optimizer.learning_rate=1e-9", "output_dir=run",
    )  # fmt: skip
    assert code == 0, err
    first, last = (
        load_file(f"{folder}/model.safetensors") for folder in (pretrained, Path("run/student"))
    )
    assert first.keys() == last.keys()
    for key, weight in first.items():
        torch.testing.assert_close(last[key], weight, rtol=0, atol=1e-5)


def test_rows_of_a_long_text(command, given, tmp_path):
    """One paragraph a line, gzipped; long ones continue."""
    with gzip.open(tmp_path / "text.txt.gz", "wt") as file:
        file.write("\n".join(" ".join(language(6, seed)) for seed in range(60)))
    code, _, err = command(
        *fast(given), f"data.path={tmp_path}/text.txt.gz", "data.limit=30", "control=false"
    )
    assert code == 0, err
    report = json.loads(Path("run/report.json").read_text())
    assert report["data"]["examples"] == {"train": 30, "validation": 6, "test": 6}
    notes = report["data"]["notes"]
    assert not any("tokens: what goes beyond is cut" in note for note in notes)
    assert any("a text that is longer continues in a further row" in note for note in notes)


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("task.metric=perplexity", "it is always reported"),
        ("task.metric=f1", "choose one of accuracy"),
        ("task.mlm_probability=0", "task.mlm_probability=0: it must lie between 0 and 1"),
        ("task.mlm_probability=1.5", "task.mlm_probability=1.5: it must lie between 0 and 1"),
        ("task.mask_share=0.95", "sum to more than 1"),
        ("task.random_share=-1", "task.random_share=-1: it is a share"),
        ("task.smoothing=-1", "task.smoothing=-1: it must be 0 or above"),
        ("data.max_length=3", "needs room for 2 special tokens and two others, 4 or more"),
        ("data.labels=[a,b]", "data.labels names classes"),
        ("data.text_pair=other", "data.text_pair=other: task=masked_lm has no such input"),
        ("data.unlabeled=more.txt", "data.unlabeled gives texts without labels"),
        ("augmentation=deletion", "data.augmentation gives texts without labels"),
        ("teacher.outputs=cached", "too many to be stored"),
        ("teacher.labels=[a]", "teacher.labels names classes"),
        ("teacher.fine_tune=false", "has no head trained for masked tokens"),
        ("student=bilstm", "student=bilstm gives one answer to a whole text"),
        ("student=static", "to a whole text, and task=masked_lm needs one per token"),
        (
            "student.embedding_size=8",
            "the output layer of task=masked_lm is tied to the word table",
        ),
        ("student.vocabulary=corpus", "teacher and student tokenize differently"),
    ],
)
def test_mistakes(refused, given, override, says):
    refused(*given, override, says=says)


def test_a_tokenizer_without_a_mask(refused, given, tmp_path):
    tokenizer = make_tokenizer(WORDS)
    tokenizer.mask_token = None
    AutoModelForMaskedLM.from_config(
        make_model(layers=2, vocab_size=17, max_position_embeddings=32).config
    ).save_pretrained(tmp_path / "maskless")
    tokenizer.save_pretrained(tmp_path / "maskless")
    refused(*given, f"teacher.path={tmp_path}/maskless", says="has no mask token")


def test_texts_of_which_the_tokenizer_knows_nothing(refused, given, tmp_path):
    (tmp_path / "foreign.txt").write_text("".join(f"zzz yyy {'x' * i}\n" for i in range(1, 60)))
    refused(*given, f"data.path={tmp_path}/foreign.txt", says="knows no token of it")


def test_a_student_of_another_vocabulary(refused, given, tmp_path):
    AutoModelForMaskedLM.from_config(
        make_model(layers=2, vocab_size=24, max_position_embeddings=32).config
    ).save_pretrained(tmp_path / "wider")
    make_tokenizer(WORDS).save_pretrained(tmp_path / "wider")
    refused(
        *given, "student=hub", f"student.path={tmp_path}/wider",
        says="one has 24 tokens, the teacher 17",
    )  # fmt: skip
