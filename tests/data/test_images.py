"""Images in rows, and how a processor and a batch make numbers of them."""

import io

import numpy as np
import pytest
from PIL import Image

from distill.core.errors import UserError
from distill.data.image_preprocessor import ImagePreprocessor, load_pixels, output_shape
from distill.data.images import (
    ImageInput,
    array_cell,
    common_size,
    decode,
    mean_and_deviation,
)
from tests.images import image_array, image_processor

NOISE = image_array(1, 9)[0]


def file_cell(image: Image.Image, form: str = "PNG", name: str = "cat/1.png") -> dict:
    content = io.BytesIO()
    image.save(content, form)
    return {"bytes": content.getvalue(), "path": name}


@pytest.mark.parametrize("colors", [False, True])
def test_arrays_come_back(colors):
    image = image_array(1, 1, side=6, colors=colors)[0, :4]  # no square
    assert np.array_equal(np.asarray(decode(array_cell(image))), image)


def test_equal_images_have_equal_keys():
    first, second = (array_cell(image) for image in image_array(2, 1))
    key = ImageInput().key
    assert key(first) == key(dict(first, path="elsewhere")) != key(second)


@pytest.mark.parametrize(
    ("cell", "fault"),
    [
        ({"bytes": b"no image", "path": "cat/7.png"},
         "the image cat/7.png cannot be read: it is no image file that Pillow reads"),
        ({"bytes": file_cell(Image.fromarray(NOISE))["bytes"][:90], "path": ""},
         "the image cannot be read: "),
        (file_cell(Image.fromarray(np.full((4, 4), 999, np.uint16))),
         "the image cat/1.png has more than 8 bits a channel"),
        ({"bytes": None, "path": "no/such.png"}, "the image no/such.png cannot be read: "),
        (file_cell(Image.new("RGB", (4, 4))), None),
        (file_cell(Image.new("P", (4, 4))), None),
    ],
)  # fmt: skip
def test_faults(cell, fault):
    found = ImageInput().fault(cell)
    assert found == fault or (found is not None and found.startswith(fault) and "\n" not in found)


def test_a_camera_turned_on_its_side():
    image, turned = Image.fromarray(image_array(1, 2, side=6)[0, :4]), Image.Exif()
    turned[0x0112] = 6  # turn by 90 degrees to see it upright
    content = io.BytesIO()
    image.save(content, "PNG", exif=turned)
    upright = decode({"bytes": content.getvalue(), "path": None})
    assert upright.size == (4, 6)


@pytest.mark.parametrize("side", [8, 5])
def test_numbers_are_those_of_transformers(side):
    """Bytes that are normalized in the batch equal what the processor gives by itself."""
    processor, preprocessor = image_processor(side), ImagePreprocessor("images")
    cells = [array_cell(image) for image in image_array(6, 3, colors=True)]
    encoded = preprocessor.encode(processor, {"image": cells, "label": [0] * 6}, 0)
    (field,) = preprocessor.fields(processor)
    expected = processor([decode(cell) for cell in cells], return_tensors="np")["pixel_values"]
    pixels = field.decode(encoded["pixel_values"])
    assert pixels.dtype == np.float32 and pixels.shape == (6, 3, side, side)
    np.testing.assert_allclose(pixels, expected, atol=1e-6)
    assert preprocessor.cost(encoded) == [3 * side * side] * 6
    assert output_shape(processor, "x") == (3, side, side)


def test_one_channel():
    processor = image_processor(5)
    processor.image_mean, processor.image_std = [0.4], [0.25]
    image = image_array(1, 4, colors=True)[0]
    (pixels,) = load_pixels(processor, [array_cell(image)])
    grey = Image.fromarray(image).convert("L").resize((5, 5), Image.Resampling.BILINEAR)
    assert np.array_equal(pixels, np.asarray(grey)[None])
    (field,) = ImagePreprocessor("images").fields(processor)
    expected = (pixels[None] / 255 - 0.4) / 0.25
    np.testing.assert_allclose(field.decode([pixels.tobytes()]), expected, atol=1e-6)


def test_processors_that_keep_sizes_are_refused():
    processor = image_processor(8)
    processor.do_resize = False
    with pytest.raises(UserError, match="cannot stand in one batch"):
        output_shape(processor, "the teacher")


def test_processors_are_loaded_from_their_folder_alone(tmp_path):
    preprocessor = ImagePreprocessor("images")
    with pytest.raises(UserError, match="the teacher: there is no image processor in it"):
        preprocessor.load_processor(str(tmp_path), "the teacher")
    first, second = image_processor(8), image_processor(8, mean=0.5)
    first.save_pretrained(tmp_path)
    loaded = preprocessor.load_processor(str(tmp_path), "the teacher")
    assert preprocessor.same_inputs(first, loaded)
    assert preprocessor.processor_hash(first) == preprocessor.processor_hash(loaded)
    assert not preprocessor.same_inputs(first, second)


def test_statistics():
    images = image_array(5, 5, colors=True)
    mean, deviation = mean_and_deviation(image.transpose(2, 0, 1) for image in images)
    np.testing.assert_allclose(mean, (images / 255).mean((0, 1, 2)), atol=1e-4)
    np.testing.assert_allclose(deviation, (images / 255).std((0, 1, 2)), atol=1e-4)
    black = [np.zeros((1, 3, 3), np.uint8)]
    assert mean_and_deviation(black) == ([0.0], [round(1 / 255, 4)])


def test_common_size():
    cells = [array_cell(image[:3]) for image in image_array(3, 1)]
    assert common_size(cells) == (3, 8)
    assert common_size([*cells, array_cell(image_array(1, 1)[0])]) is None
