"""Whole runs on images: the default digits, their report, and the student in transformers alone."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from transformers import AutoModelForImageClassification, pipeline

import distill
from distill.data.images import decode
from distill.data.sources.digits import DigitsSource
from distill.modeling.features import forward_with_features
from distill.modeling.image_networks import network_config
from distill.objectives.objective import Objective
from distill.objectives.pair import ModelPair
from distill.objectives.terms.soft_targets import SoftTargets
from distill.tasks.image_classification import ImageClassification
from distill.training.module import DistillationModule
from distill.training.optimizer import AdamW
from tests.factories import losses as mean_losses
from tests.images import write_folder

SHORT = [
    "task=image_classification", "teacher.shape=resnet8", "teacher.epochs=5",
    "trainer.max_epochs=5", "trainer.accelerator=cpu", "trainer.precision=32-true", "repeats=1",
    "data.limit=400", "data.batch_size=32", "teacher.batch_size=32",
]  # fmt: skip


def run(folder: Path, cache: Path, *overrides: str):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("distill.evaluation.speed.EXAMPLES", 4)
        return distill.run([*SHORT, f"output_dir={folder}", f"cache_dir={cache}", *overrides])


@pytest.fixture(scope="module")
def cache(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def vgg(tmp_path_factory, cache) -> Path:
    """A run with the default student, which is saved with code of its own."""
    folder = tmp_path_factory.mktemp("vgg") / "run"
    run(folder, cache)
    return folder


@pytest.fixture(scope="module")
def resnet(tmp_path_factory, cache, vgg) -> Path:
    """A run with transformers' own ResNet, after that of the VGG; most images have no labels."""
    folder = tmp_path_factory.mktemp("resnet") / "run"
    run(
        folder, cache, "student=resnet", "student.shape=resnet_small", "control=false",
        "student.settings={embedding_size:16,hidden_sizes:[16,32],depths:[1,1]}", "baselines=[]",
        "data.unlabeled=train",
    )  # fmt: skip
    return folder


def report_of(folder: Path) -> dict:
    return json.loads((folder / "report.json").read_text())


def by_role(folder: Path) -> dict:
    return {model["role"]: model for model in report_of(folder)["models"]}


def test_the_report(vgg):
    report, models = report_of(vgg), by_role(vgg)
    assert [*models] == ["teacher", "student", "control"]
    baselines = {model["role"]: model for model in report["baselines"]}
    assert [*baselines] == ["majority", "pixels"]
    for model in (*models.values(), *baselines.values()):
        quality = model["quality"]
        assert set(quality) == {
            "accuracy", "macro_f1", "matthews_correlation", "top_5_accuracy",
        }  # fmt: skip
        assert quality["accuracy"]["value"] <= quality["top_5_accuracy"]["value"] <= 1
        assert quality["accuracy"]["low"] < quality["accuracy"]["value"]
    assert models["student"]["quality"]["accuracy"]["value"] > 0.8
    assert baselines["majority"]["quality"]["accuracy"]["value"] < 0.2
    by_hand = 3 * 8 * 9 * 64 + 8 * 16 * 9 * 16 + 16 * 32 * 9 * 4 + 32 * 10
    assert models["student"]["size"]["multiply_accumulates"] == by_hand
    assert models["teacher"]["size"]["parameters"] > 10 * models["student"]["size"]["parameters"]
    assert report["comparison"]["difference_to_words"]["value"] is not None
    assert "a linear model on pixels" in (vgg / "report.md").read_text()
    assert not any("lives on text" in note for note in report["data"]["notes"])


def digits() -> tuple[list[Image.Image], list[str]]:
    rows = DigitsSource(name="digits").read(Path())["test"]
    return [decode(cell) for cell in rows["image"][:]], rows["label"][:]


def accuracy_of_pipeline(folder: Path, **settings) -> float:
    classify = pipeline("image-classification", model=str(folder), top_k=1, **settings)
    images, labels = digits()
    answers = classify(images, batch_size=100)
    return float(
        np.mean([one["label"] == label for (one,), label in zip(answers, labels, strict=True)])
    )


@pytest.mark.parametrize("name", ["student", "control"])
def test_a_pipeline_with_the_code_repeats_the_accuracy(vgg, name):
    reported = by_role(vgg)[name]["quality"]["accuracy"]["value"]
    assert accuracy_of_pipeline(vgg / name, trust_remote_code=True) == pytest.approx(reported)


def test_transformers_alone_repeats_the_accuracy(resnet):
    reported = by_role(resnet)["student"]["quality"]["accuracy"]["value"]
    assert "auto_map" not in json.loads((resnet / "student" / "config.json").read_text())
    assert accuracy_of_pipeline(resnet / "student") == pytest.approx(reported)


def test_the_teacher_is_trained_once(vgg, resnet):
    assert report_of(resnet)["reused"]["teacher"] and not report_of(vgg)["reused"]["teacher"]
    assert by_role(vgg)["teacher"]["quality"] == by_role(resnet)["teacher"]["quality"]


def test_images_without_labels_join(resnet):
    assert report_of(resnet)["data"]["examples"]["unlabelled"] == 600
    assert any("600 images without labels" in note for note in report_of(resnet)["data"]["notes"])


def test_running_statistics_are_those_of_training(vgg):
    weights = load_file(vgg / "student" / "model.safetensors")
    counted = [value for name, value in weights.items() if name.endswith("num_batches_tracked")]
    # 400 images in batches of 32 are 13 steps; the best epoch is one of five.
    assert {int(value) % 13 for value in counted} == {0} and 13 <= int(counted[0]) <= 65
    means = [value for name, value in weights.items() if name.endswith("running_mean")]
    assert all(value.abs().max() > 0 for value in means)


def test_a_live_teacher_stays_as_it_is():
    """In training mode its running statistics would follow the student's batches."""
    task = ImageClassification()
    config = network_config("vgg_tiny", {"hidden_sizes": [4, 4, 4]}, "student", (8, 8), 3)
    teacher, student = (AutoModelForImageClassification.from_config(config) for _ in range(2))
    objective = Objective("kd", soft_targets=SoftTargets(weight=1.0))
    objective.bind(ModelPair(task, 2))
    module = DistillationModule(student, objective, task, AdamW(), teacher=teacher)
    module.train()
    before = {name: value.clone() for name, value in teacher.state_dict().items()}
    pixels = torch.randn(16, 3, 8, 8)
    batch = {"student": {"pixel_values": pixels}, "teacher": {"pixel_values": pixels}}
    outputs = module.teacher_outputs(batch)
    forward_with_features(student, batch["student"], objective.needs)
    assert not teacher.training and outputs.logits.shape == (16, 2)
    assert all(torch.equal(before[name], value) for name, value in teacher.state_dict().items())
    assert int(student.state_dict()["encoder.stages.0.1.num_batches_tracked"]) == 1


def test_folders_of_jpegs(tmp_path, cache):
    folder = write_folder(tmp_path / "photos", 80, suffix="jpg", colors=True)
    report = run(
        tmp_path / "run", cache, "data=images", f"data.path={folder}", "data.limit=null",
        "control=false", "baselines=[pixels]", "teacher.image_size=[12,8]",
    )  # fmt: skip
    assert report.data.name == "photos"
    assert report.student.metric("accuracy").value > 0.8
    saved = json.loads((tmp_path / "run" / "student" / "preprocessor_config.json").read_text())
    assert saved["size"] == {"height": 12, "width": 8}
    assert "top_5_accuracy" not in report.student.quality  # two classes


def test_other_commands(vgg, cache, tmp_path):
    report = distill.evaluate(
        vgg,
        [
            "task=image_classification", f"cache_dir={cache}", "baselines=[]",
            f"output_dir={tmp_path / 'measured'}", "trainer.accelerator=cpu",
        ],
    )  # fmt: skip
    expected = by_role(vgg)["student"]["quality"]["accuracy"]["value"]
    assert report.student.metric("accuracy").value == expected
    with pytest.raises(distill.UserError, match="reads images, and only models of texts predict"):
        distill.Predictor(vgg)
    card = (vgg / "student" / "README.md").read_text()
    assert 'pipeline("image-classification", model=' in card and "trust_remote_code=True" in card


def test_views_are_stored_as_a_live_teacher_sees_them(cache, vgg, tmp_path):
    """The teacher's outputs for every view: the student learns the same, up to rounding."""
    losses = []
    for outputs in ("cached", "live"):
        folder = tmp_path / outputs
        run(
            folder, cache, "task.augmentation=crop_flip", "task.views=2", "control=false",
            f"teacher.outputs={outputs}", "baselines=[]", "trainer.max_epochs=1", "data.limit=96",
            "teacher.epochs=1",
        )  # fmt: skip
        losses.append(mean_losses(folder)[0])
    assert losses[0] == pytest.approx(losses[1], abs=2e-4)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("task.augmentation=flip", "task.augmentation=flip: choose null, crop or crop_flip"),
        ("task.views=0", "task.views=0: it must be 1 or more"),
        ("data.max_length=64", "there is no option data.max_length with this data"),
        ("student.vocabulary=corpus", "there is no option student.vocabulary with this student"),
        ("student=half", "has no transformer layers to copy"),
        ("student=tiny", "student=tiny has no head for task=image_classification: choose "
         "student=vgg"),
        ("student=cnn", "student=cnn has no head for task=image_classification"),
        ("objective=pkd", "the student has no layers"),
        ("objective=minilm", "no single stack of layers"),
        ("student.settings={depth:1}", "student.settings.depth: VggConfig has no such field"),
    ],
)  # fmt: skip
def test_what_does_not_suit_images_is_one_line(override, message, command, cache):
    code, _, err = command(*SHORT, f"cache_dir={cache}", override)
    lines = [line for line in err.splitlines() if line.startswith("error: ")]
    assert code == 2 and len(lines) == 1 and message in lines[0]


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["data=files", "data.path={texts}"], "data.image=image: train has no such column"),
        (["data=files", "data.path={texts}", "data.text=text"], "data.text=text: it says nothing"),
    ],
)
def test_data_of_texts(overrides, message, command, cache, corpus):
    given = [one.format(texts=corpus) for one in overrides]
    code, _, err = command("task=image_classification", f"cache_dir={cache}", *given)
    lines = [line for line in err.splitlines() if line.startswith("error: ")]
    assert code == 2 and len(lines) == 1 and message in lines[0]


def test_options_of_texts_on_files_of_images(command, tmp_path, cache):
    (tmp_path / "train.csv").write_text("image,label\nx,a\n")
    code, _, err = command(
        "task=image_classification", "data=files", f"data.path={tmp_path}", f"cache_dir={cache}",
        "data.max_length=64",
    )  # fmt: skip
    assert code == 2
    assert "error: data.max_length=64: it says nothing about the images of" in err
