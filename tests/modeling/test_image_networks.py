"""Networks for images: shapes, sizes, what they cannot read."""

import pytest
import torch
from transformers import AutoModelForImageClassification

from distill.core.errors import UserError
from distill.modeling.image_networks import SHAPES, check_image_size, network_config
from distill.modeling.size import multiply_accumulates

# Parameters of the reference code's networks for 100 classes, as its tables and printed sizes have
# them (Tian et al. 2020); its VGGs also have biases before batch normalization, one a channel.
PUBLISHED = {
    "resnet20": (278_324, 0), "resnet32": (472_756, 0), "resnet56": (861_620, 0),
    "resnet110": (1_736_564, 0), "resnet8x4": (1_233_540, 0), "resnet32x4": (7_433_860, 0),
    "vgg8": (3_965_028, 64 + 128 + 256 + 512 + 512),
    "vgg13": (9_462_180, 2 * (64 + 128 + 256 + 512 + 512)),
}  # fmt: skip


def build(shape: str, size: int = 32, channels: int = 3, **settings):
    config = network_config(shape, settings, "student", (size, size), channels)
    torch.manual_seed(0)
    return AutoModelForImageClassification.from_config(config).eval()


@pytest.mark.parametrize("shape", PUBLISHED)
def test_shapes_are_those_of_the_reference(shape):
    config = network_config(shape, {}, "student", (32, 32), 3)
    config.num_labels = 100
    with torch.device("meta"):
        model = AutoModelForImageClassification.from_config(config)
    count, biases = PUBLISHED[shape]
    assert sum(parameter.numel() for parameter in model.parameters()) == count - biases


@pytest.mark.parametrize("shape", SHAPES)
def test_every_shape_is_a_classifier_of_images(shape):
    config = network_config(shape, {}, "student", (64, 64), 3)
    check_image_size(config, (64, 64), 3, shape)


def test_multiply_accumulates_of_convolutions_by_hand():
    config = network_config("vgg_tiny", {}, "student", (8, 8), 3)
    config.num_labels = 10
    model = AutoModelForImageClassification.from_config(config)
    # Maps of 8x8, 4x4 and 2x2, kernels of 3x3, and the head.
    by_hand = 3 * 8 * 9 * 64 + 8 * 16 * 9 * 16 + 16 * 32 * 9 * 4 + 32 * 10
    assert multiply_accumulates(model, {"pixel_values": torch.zeros(1, 3, 8, 8)}) == by_hand


@pytest.mark.parametrize("shape", ["vgg_tiny", "resnet8"])
def test_hidden_states_are_the_maps_of_the_stages(shape):
    model = build(shape)
    pixels = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        output = model(pixel_values=pixels, output_hidden_states=True)
        plain = model(pixel_values=pixels)
    sizes = [(width, 32 // 2**index) for index, width in enumerate(model.config.hidden_sizes)]
    if shape == "vgg_tiny":  # pooled at the end of a stage
        sizes = [(8, 16), (16, 8), (32, 8)]
    assert [(state.shape[1], state.shape[2]) for state in output.hidden_states] == sizes
    assert plain.hidden_states is None
    torch.testing.assert_close(output.logits, plain.logits)


@pytest.mark.parametrize(
    ("shape", "side", "reason"),
    [
        ("vit_small", 8, "stride 16"),
        ("convnext_atto", 8, "stride 2"),
        ("vgg8", 4, "stride 2"),
        # In bf16 torch leaves parts of the gradient of such a convolution unset.
        ("resnet_small", 8, "1x1 of them are left, too few for its stride 2"),
    ],
)
def test_images_too_small_for_the_strides_are_refused(shape, side, reason):
    config = network_config(shape, {}, "student", (side, side), 3)
    with pytest.raises(UserError, match=f"^{shape} cannot read images of {side}x{side}.*{reason}"):
        check_image_size(config, (side, side), 3, shape)


def test_other_channels_are_refused():
    config = network_config("vgg8", {}, "student", (32, 32), 1)
    with pytest.raises(UserError, match="reads images of 1 channels, its processor makes 3"):
        check_image_size(config, (32, 32), 3, "the student")


@pytest.mark.parametrize(
    ("shape", "settings", "message"),
    [
        ("vgg9", {}, r"student.shape=vgg9: choose one of .*vgg8"),
        ("vgg8", {"depth": 3}, r"student.settings.depth: VggConfig has no such field"),
        ("vgg8", {"depths": [1, 2]}, r"student.settings="),
    ],
)
def test_shapes_and_fields_that_do_not_exist(shape, settings, message):
    with pytest.raises(UserError, match=message):
        network_config(shape, settings, "student", (32, 32), 3)


def test_a_transformer_reads_squares_alone():
    with pytest.raises(UserError, match="square images, these have 32x48"):
        network_config("vit_tiny", {}, "teacher", (32, 48), 3)
    assert network_config("resnet8", {}, "teacher", (32, 48), 3).image_size == [32, 48]
