"""Networks for images as students, and as teachers from random weights."""

from pathlib import Path

import numpy as np
import pytest
import torch
from datasets import Dataset, Features, Value

from distill.core.errors import UserError
from distill.data.image_preprocessor import output_shape
from distill.data.images import CELL, array_cell
from distill.data.prepare import PreparedData
from distill.modeling.loading import load_image_processor, weights_hash
from distill.modeling.shape import model_shape
from distill.student.base import StudentContext
from distill.student.network import NetworkFactory
from distill.tasks.image_classification import ImageClassification
from distill.teacher.network import NetworkTeacher
from distill.teacher.prepare import Teacher
from tests.images import CLASSES, image_array, image_processor

IMAGES = image_array(20, 1)


def prepared(images: np.ndarray = IMAGES, odd: bool = False) -> PreparedData:
    cells = [array_cell(image) for image in images]
    if odd:
        cells[3] = array_cell(images[3][:5])
    rows = Dataset.from_dict(
        {"image": cells, "label": [index % 2 for index in range(len(cells))]},
        features=Features({"image": CELL, "label": Value("int64")}),
    )
    splits = dict.fromkeys(("train", "validation", "test"), rows)
    return PreparedData("images", splits, list(CLASSES), "test", "f", dict.fromkeys(splits, "h"))


@pytest.fixture
def context(tmp_path) -> StudentContext:
    task, factory = ImageClassification(), NetworkFactory(shape="resnet8")
    model = task.head.build(factory._config((8, 8), 3))
    teacher = Teacher("teacher", model, image_processor(8), "hash", 0.0, True)
    return StudentContext(teacher, task, prepared(), tmp_path)


@pytest.mark.parametrize("shape", ["vgg_tiny", "resnet8", "vit_small_images"])
def test_a_student_is_built_saved_and_loaded(shape, context, tmp_path):
    factory = NetworkFactory(shape=shape)
    factory.check(context.teacher.model.config)
    factory.check_inputs(context.task, context.teacher.processor)
    torch.manual_seed(0)
    student = factory.build(context)
    torch.manual_seed(0)
    assert weights_hash(factory.build(context).model) == weights_hash(student.model)
    said = factory.architecture(context.teacher.model.config).shape
    assert said == model_shape(student.model.config)
    assert (student.name, student.new_head) == (shape, True)
    assert list(student.model.config.id2label.values()) == list(CLASSES)
    assert student.processor is context.teacher.processor
    student.model.save_pretrained(tmp_path / "saved")
    loaded = context.task.head.load_trained(tmp_path / "saved", CLASSES).eval()
    pixels = torch.randn(2, 3, 8, 8)
    with torch.no_grad():
        expected = student.model.eval()(pixel_values=pixels).logits
        torch.testing.assert_close(loaded(pixel_values=pixels).logits, expected)


def test_settings_change_the_shape(context):
    student = NetworkFactory(shape="vgg_tiny", settings={"hidden_sizes": [4, 4, 4]}).build(context)
    assert student.model.classifier.in_features == 4


def test_images_too_small_for_a_student(context):
    with pytest.raises(UserError, match=r"student.shape=vit_tiny cannot read images of 8x8"):
        NetworkFactory(shape="vit_tiny").check_inputs(context.task, context.teacher.processor)


# --- teachers -----------------------------------------------------------------------------------


def made(folder: Path, images: np.ndarray = IMAGES, odd: bool = False, **settings):
    return NetworkTeacher(**settings).for_data(prepared(images, odd), folder)


def test_a_teacher_takes_size_and_statistics_from_the_data(tmp_path):
    teacher = made(tmp_path, shape="resnet8")
    assert teacher.name == "resnet8" and not teacher.load_config().architectures
    processor = load_image_processor(teacher.path, "the teacher")
    assert output_shape(processor, "x") == (3, 8, 8)
    assert list(processor.image_mean) == [round(float((IMAGES / 255).mean()), 4)] * 3
    assert list(processor.image_std) == [round(float((IMAGES / 255).std()), 4)] * 3
    assert teacher.load_config().image_size == [8, 8]


def test_the_seed_decides_the_weights(tmp_path):
    state = torch.random.get_rng_state()
    weights = [
        (Path(made(tmp_path / name, shape="resnet8", seed=seed).path) / "model.safetensors")
        for name, seed in (("a", 0), ("b", 0), ("c", 1))
    ]
    first, again, other = (file.read_bytes() for file in weights)
    assert first == again != other
    assert torch.equal(torch.random.get_rng_state(), state)


def test_images_of_several_sizes_need_one_to_be_named(tmp_path):
    with pytest.raises(UserError, match="the images differ in size"):
        made(tmp_path, odd=True)
    teacher = made(tmp_path, odd=True, image_size=[6, 12])
    assert output_shape(load_image_processor(teacher.path, "x"), "x") == (3, 6, 12)


@pytest.mark.parametrize("channels", [1, 3])
def test_channels(tmp_path, channels):
    teacher = made(tmp_path, channels=channels)
    assert teacher.load_config().num_channels == channels
    assert output_shape(load_image_processor(teacher.path, "x"), "x")[0] == channels


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"shape": "resnet9"}, "teacher.shape=resnet9: choose one of"),
        ({"image_size": 0}, "teacher.image_size=0"),
        ({"image_size": [8, 8, 8]}, "teacher.image_size="),
        ({"channels": 2}, "teacher.channels=2: choose 1 or 3"),
        ({"fine_tune": False}, "has to be trained"),
        ({"seeds": 2}, "teacher.seeds"),
        ({"path": "some/model"}, "teacher=hub teacher.path=some/model is the pretrained one"),
        ({"epochs": 0}, "teacher.epochs=0"),
    ],
)
def test_refused_settings(settings, message):
    with pytest.raises(UserError, match=message):
        NetworkTeacher(**settings)


def test_images_too_small_for_a_teacher(tmp_path):
    with pytest.raises(UserError, match=r"teacher.shape=vit_tiny cannot read images of 8x8"):
        made(tmp_path, shape="vit_tiny")
