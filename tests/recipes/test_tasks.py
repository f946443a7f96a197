"""Recipe: a task. An image task and a decoder, whole runs, without touching the package."""

import json
from pathlib import Path

import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    AutoModelForImageClassification,
    GPT2Config,
    GPT2LMHeadModel,
    ResNetConfig,
    ResNetForImageClassification,
)

from tests.factories import BAD, FILLER, GOOD, make_tokenizer, sentences
from tests.recipes.task_image.toy_image import SIDE, PixelScaler, toy_rows

HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def images(tmp_path_factory) -> Path:
    """A folder with images as lists of pixels."""
    folder = tmp_path_factory.mktemp("images")
    for split, count, seed in (("train", 160, 1), ("validation", 40, 2), ("test", 60, 3)):
        toy_rows(count, seed).to_json(folder / f"{split}.jsonl")
    return folder


def resnet(folder: Path, width: int, processor: PixelScaler) -> Path:
    torch.manual_seed(0)
    config = ResNetConfig(
        num_channels=1, embedding_size=width, hidden_sizes=[width, 2 * width], depths=[1, 1],
        layer_type="basic", downsample_in_first_stage=False,
    )  # fmt: skip
    model = ResNetForImageClassification(config)
    model.base_model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


def run_settings(tmp_path: Path, recipe: str, data: Path) -> list[str]:
    return [
        "--config-dir", str(HERE / recipe), f"task={recipe.replace('task_', 'toy_')}",
        "data=files", f"data.path={data}", f"cache_dir={tmp_path / 'cache'}", "output_dir=run",
        "trainer.accelerator=cpu", "trainer.precision=32-true", "optimizer.learning_rate=5e-3",
        "teacher.learning_rate=5e-3", "teacher.epochs=4", "trainer.max_epochs=4",
        "allow_code=[tests]",
    ]  # fmt: skip


def test_images_go_through_the_whole_program(command, images, tmp_path):
    scaler = PixelScaler(100.0, 50.0)
    teacher, student = (
        resnet(tmp_path / name, width, scaler) for name, width in (("teacher", 8), ("small", 4))
    )
    code, _, err = command(
        *run_settings(tmp_path, "task_image", images), f"teacher.path={teacher}", "student=hub",
        f"student.path={student}",
    )  # fmt: skip
    assert code == 0, err
    report = json.loads(Path("run/report.json").read_text())
    models = {model["role"]: model for model in report["models"]}
    assert models["teacher"]["quality"]["accuracy"]["value"] > 0.9
    assert models["student"]["quality"]["accuracy"]["value"] > 0.9
    assert models["student"]["size"]["multiply_accumulates"] > 0
    assert models["student"]["size"]["parameters"] < models["teacher"]["size"]["parameters"]
    loaded = AutoModelForImageClassification.from_pretrained("run/student").eval()
    rows = toy_rows(20, 9)
    own = PixelScaler.from_pretrained("run/student")
    pixels = (torch.tensor(rows["image"][:]).float() - own.mean) / own.std
    with torch.no_grad():
        logits = loaded(pixel_values=pixels.view(-1, 1, SIDE, SIDE)).logits
    predicted = [loaded.config.id2label[index] for index in logits.argmax(-1).tolist()]
    assert sum(a == b for a, b in zip(predicted, rows["label"][:], strict=True)) >= 18


def test_images_are_refused_where_there_are_none(command, corpus, tmp_path):
    teacher = resnet(tmp_path / "teacher", 4, PixelScaler(0.0, 1.0))
    code, _, err = command(
        *run_settings(tmp_path, "task_image", corpus), f"teacher.path={teacher}", "student=hub",
        f"student.path={teacher}",
    )  # fmt: skip
    assert code == 2 and "data.image=image: train has no such column" in err


@pytest.fixture(scope="module")
def lines(tmp_path_factory) -> Path:
    """A folder with plain text."""
    folder = tmp_path_factory.mktemp("lines")
    for split, count, seed in (("train", 160, 1), ("validation", 40, 2), ("test", 40, 3)):
        text = "\n".join(row["text"] for row in sentences(count, seed))
        (folder / f"{split}.txt").write_text(text + "\n")
    return folder


def test_a_decoder_goes_through_the_whole_program(command, lines, tmp_path):
    tokenizer = make_tokenizer(FILLER + GOOD + BAD)
    torch.manual_seed(0)
    config = GPT2Config(
        vocab_size=len(tokenizer), n_positions=32, n_embd=32, n_layer=4, n_head=2,
        bos_token_id=2, eos_token_id=3, pad_token_id=0,
    )  # fmt: skip
    model = GPT2LMHeadModel(config)
    model.base_model.save_pretrained(tmp_path / "decoder")
    tokenizer.save_pretrained(tmp_path / "decoder")
    code, _, err = command(
        *run_settings(tmp_path, "task_decoder", lines), f"teacher.path={tmp_path / 'decoder'}",
        "student=half", "data.max_length=16",
    )  # fmt: skip
    assert code == 0, err
    report = json.loads(Path("run/report.json").read_text())
    assert report["comparison"]["metric"] == "perplexity"
    models = {model["role"]: model for model in report["models"]}
    teacher, student = (
        models[role]["quality"]["perplexity"]["value"] for role in ("teacher", "student")
    )
    assert teacher < len(tokenizer)
    # Smaller is better: what is kept is the teacher's over the student's.
    assert report["comparison"]["retention"] == pytest.approx(teacher / student)
    best = report["training"]["student"]["best"]
    assert best > 1 and report["training"]["student"]["best_epoch"] >= 1
    loaded = AutoModelForCausalLM.from_pretrained("run/student")
    assert loaded.config.num_hidden_layers == 2


def test_a_decoder_keeps_the_epoch_with_the_lowest_perplexity(command, lines, tmp_path):
    """The selection metric's direction reaches early stopping and the best checkpoint."""
    from tests.factories import curves

    tokenizer = make_tokenizer(FILLER + GOOD + BAD)
    torch.manual_seed(0)
    config = GPT2Config(
        vocab_size=len(tokenizer), n_positions=32, n_embd=32, n_layer=2, n_head=2,
        bos_token_id=2, eos_token_id=3, pad_token_id=0,
    )  # fmt: skip
    GPT2LMHeadModel(config).base_model.save_pretrained(tmp_path / "decoder")
    tokenizer.save_pretrained(tmp_path / "decoder")
    code, _, err = command(
        *run_settings(tmp_path, "task_decoder", lines), f"teacher.path={tmp_path / 'decoder'}",
        "student=single", "data.max_length=16", "control=false",
    )  # fmt: skip
    assert code == 0, err
    values = [event.value for event in curves(Path("run")).Scalars("validation/perplexity")]
    training = json.loads(Path("run/report.json").read_text())["training"]["student"]
    assert training["best"] == pytest.approx(min(values))
    assert training["best_epoch"] == values.index(min(values)) + 1


def test_the_search_refuses_metrics_to_be_minimized(lines, tmp_path, monkeypatch, capsys):
    from distill.cli.search import main

    tokenizer = make_tokenizer(FILLER + GOOD + BAD)
    config = GPT2Config(
        vocab_size=len(tokenizer), n_positions=32, n_embd=32, n_layer=2, n_head=2, pad_token_id=0
    )
    GPT2LMHeadModel(config).base_model.save_pretrained(tmp_path / "decoder")
    tokenizer.save_pretrained(tmp_path / "decoder")
    monkeypatch.chdir(tmp_path)
    settings = run_settings(tmp_path, "task_decoder", lines)
    arguments = [
        *settings,
        f"teacher.path={tmp_path / 'decoder'}",
        "search.trials=1",
        "student=half",
    ]
    monkeypatch.setattr("sys.argv", ["distill-search", *arguments])
    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == 2
    assert "task.metric=perplexity is better when lower" in capsys.readouterr().err
